// SPDX-License-Identifier: Apache-2.0
// Shows the figures; ties their points to the rows of the table; sorts, filters and saves the table.
"use strict"
{
  const held = (id) => JSON.parse(document.getElementById(id).textContent)
  const table = document.getElementById("runs")
  const body = table.tBodies[0]
  const rows = [...body.rows]

  const pick = (names) => {
    for (const row of rows) row.classList.toggle("picked", names.includes(row.cells[0].textContent))
  }

  const { figures, document: figured } = held("explorable")
  const places = Object.entries(figures).flatMap(([name, panels]) =>
    panels.map(({ id }, i) => [id, `${name}-${i + 1}`]))
  const shown = { docid: "study", roots: Object.fromEntries(places), root_ids: places.map(([id]) => id) }
  Bokeh.embed.embed_items({ study: figured }, [shown]).then(() => {
    const source = Bokeh.documents[0].get_model_by_name("runs")
    const names = source.data.run
    let moves = false
    source.selected.properties.indices.change.connect(() => {
      pick(source.selected.indices.map((i) => names[i]))
      moves = true
    })
    // A finger selects before its click comes: that would fall on the row that is there by then.
    for (const figure of document.querySelectorAll("figure")) {
      figure.addEventListener("click", () => {
        const row = rows.find((row) => row.matches(".picked:not([hidden])"))
        if (moves) row?.scrollIntoView({ block: "center" })
        moves = false
      })
    }
    body.addEventListener("click", ({ target }) => {
      const name = target.closest("tr").cells[0].textContent
      source.selected.indices = names.flatMap((other, i) => (other === name ? [i] : []))
      pick([name])
      moves = false
      if (source.selected.indices.length) document.querySelector("figure").scrollIntoView()
    })
    document.documentElement.dataset.ready = "yes"
  })

  const value = (row, column) => row.cells[column].textContent
  const number = (text) => (text === "" ? NaN : Number(text.replaceAll(",", "")))
  const order = (a, b) => {
    const [x, y] = [number(a), number(b)]
    if (isNaN(x) || isNaN(y)) return isNaN(y) - isNaN(x) || a.localeCompare(b, "en")
    return x - y
  }
  for (const heading of table.tHead.rows[0].cells) {
    heading.addEventListener("click", () => {
      const turned = heading.ariaSort === "ascending" ? "descending" : "ascending"
      for (const other of table.tHead.rows[0].cells) other.ariaSort = "none"
      heading.ariaSort = turned
      const sign = turned === "ascending" ? 1 : -1
      const column = heading.cellIndex
      rows.sort((a, b) => sign * order(value(a, column), value(b, column)))
      body.append(...rows)
    })
  }

  const headings = [...table.tHead.rows[0].cells].map(({ textContent }) =>
    textContent.toLowerCase().replaceAll(" ", "_"))
  // COLUMN=VALUE is that value; any other word begins a word or a number of a cell.
  const test = (word) => {
    const [name, wanted] = word.split("=")
    const column = wanted ? headings.indexOf(name) : -1
    if (column >= 0) return (row) => {
      const cell = value(row, column).toLowerCase()
      return cell === wanted || number(cell) === number(wanted)
    }
    const begins = new RegExp(`(?<![\\w.,])${word.replace(/\W/g, "\\$&")}`, "i")
    return (row) => [...row.cells].some(({ textContent }) => begins.test(textContent))
  }
  document.getElementById("find").addEventListener("input", ({ target }) => {
    const tests = target.value.toLowerCase().trim().split(/\s+/).map(test)
    for (const row of rows) row.hidden = !tests.every((holds) => holds(row))
    const n = rows.filter((row) => !row.hidden).length
    document.getElementById("found").textContent = `${n} of ${rows.length} runs`
  })

  const files = held("downloads")
  for (const button of document.querySelectorAll("[data-file]")) {
    button.addEventListener("click", () => {
      const name = button.dataset.file
      const link = document.createElement("a")
      link.href = URL.createObjectURL(new Blob([files[name]]))
      link.download = name
      link.click()
      URL.revokeObjectURL(link.href)
    })
  }
}
