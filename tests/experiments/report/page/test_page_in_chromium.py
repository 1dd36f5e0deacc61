# SPDX-License-Identifier: Apache-2.0
"""The page in a headless Chromium, with a mouse: one reads, switches, sorts and finds."""

import json
import time

import chromium
import numpy as np
import pytest
from PIL import Image

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        chromium.COMMAND is None, reason="no Chromium here: make test-browser installs it"
    ),
]
# Elements anywhere, those that Bokeh keeps in shadow roots too; the view of a panel.
HELP = """
const deep = (selector, root = document) => [
  ...root.querySelectorAll(selector),
  ...[...root.querySelectorAll("*")]
    .flatMap((element) => element.shadowRoot ? deep(selector, element.shadowRoot) : []),
]
const middle = (element) => {
  const box = element.getBoundingClientRect()
  return [box.x + box.width / 2, box.y + box.height / 2]
}
const panel = (id) => Bokeh.index.roots.find((view) => view.el.parentElement.id === id)
"""
# Of the envelope, for on planted losses the lines of the others lie on one another; of minima.
APPROACH, MINIMUM = np.array([0x00, 0x72, 0xB2]), np.array([0xD5, 0x5E, 0x00])


@pytest.fixture
def path(html, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(html)
    return path


@pytest.fixture
def opened(path, tmp_path):
    with chromium.browser(tmp_path / "profile") as browser:
        browser.open(path)
        yield browser
    assert browser.complaints == []
    asked = {address for address in browser.requests if not address.startswith(("data:", "blob:"))}
    assert asked == {path.as_uri()}


def see(browser, code: str):
    """What a body of JavaScript returns."""
    return browser.see(f"(() => {{ {HELP} {code} }})()")


def place(browser, panel: str, x: float, y: float) -> list[float]:
    """Where in the window a point of a panel is, which is brought there."""
    return see(browser, f"""
        const view = panel("{panel}")
        view.el.scrollIntoView({{ block: "center" }})
        const box = view.canvas_view.el.getBoundingClientRect()
        return [box.x + view.frame.x_scale.compute({x}), box.y + view.frame.y_scale.compute({y})]
    """)  # fmt: skip


def of_runs(browser, column: str) -> list:
    return browser.see(
        f"[...Bokeh.documents[0].get_model_by_name('runs').data[{json.dumps(column)}]]"
    )


def first_run(browser) -> list[float]:
    """Where the first run is in the isoFLOP panel."""
    x, y = (of_runs(browser, name)[0] for name in ("n_params", "loss_nats"))
    return place(browser, "isoflop-1", x, y)


def listed(browser, column: int = 0) -> list[str]:
    """A column of the table, of the rows that are not hidden."""
    return see(browser, f"""
        const rows = [...document.querySelectorAll("#runs tbody tr:not([hidden])")]
        return rows.map((row) => row.cells[{column}].textContent)
    """)  # fmt: skip


def coloured(browser, figure: str, tmp_path, colour=APPROACH) -> int:
    """Pixels of one colour in a figure."""
    browser.see(f"document.getElementById('{figure}').scrollIntoView()")
    browser.settle()
    browser.picture(tmp_path / "shown.png")
    x, y, width, height = see(browser, f"""
        const box = document.getElementById("{figure}").getBoundingClientRect()
        return [box.x, Math.max(box.y, 0), box.width, box.height]
    """)  # fmt: skip
    with Image.open(tmp_path / "shown.png") as image:
        pixels = np.asarray(image.convert("RGB").crop((x, y, x + width, y + height)), int)
    return int((np.abs(pixels - colour).max(axis=-1) < 16).sum())


def test_a_pointer_on_a_run_reads_it(opened, planted):
    opened.point(*first_run(opened))
    tip = "deep('.bk-Tooltip').map((tip) => tip.shadowRoot.textContent).join()"
    run = of_runs(opened, "run")[0]
    opened.wait(f"(() => {{ {HELP} return {tip}.includes('{run}') }})()")
    said = see(opened, f"return {tip}")
    (point,) = [point for point in planted[1] if point.id == run]
    ratio = f"{point.n_tokens / point.params.total:.3g}"
    for text in (f"{point.params.total:,}", f"{point.n_tokens:,}", ratio, point.seeds, "1e11"):
        assert text in said


def test_a_click_on_a_legend_hides_an_approach_in_every_figure_and_shows_it_again(opened, tmp_path):
    figures = ("frontier-1", "frontier-2", "forecast-1")
    before = {figure: coloured(opened, figure, tmp_path) for figure in figures}
    assert min(before.values()) > 50
    for share in ((0.0, 0.05), (0.9, 1.1)):
        opened.see("document.getElementById('frontier-1').scrollIntoView()")
        entry = "deep('.bk-item').find((item) => item.textContent.startsWith('envelope'))"
        opened.click(*see(opened, f"return middle({entry})"))
        for figure, was in before.items():
            assert share[0] <= coloured(opened, figure, tmp_path) / was <= share[1], figure


def test_the_table_sorts_and_finds(opened):
    heading = "deep('#runs th button').find((button) => button.textContent === 'parameters')"
    opened.see("document.getElementById('find').scrollIntoView({ block: 'center' })")
    as_planned = listed(opened)
    n_params = [int(cell.replace(",", "")) for cell in listed(opened, 4)]
    for _ in range(2):
        opened.click(*see(opened, f"return middle({heading})"))
    assert listed(opened, 4) == [f"{n:,}" for n in sorted(n_params, reverse=True)]
    assert sorted(listed(opened)) == sorted(as_planned)
    opened.click(*see(opened, "return middle(document.getElementById('find'))"))
    opened.write("DIVERGED grid")
    assert len(listed(opened)) == 2
    assert opened.see("document.getElementById('found').textContent") == (
        f"2 of {len(as_planned)} runs"
    )


def sought(browser, text: str) -> None:
    find = "document.getElementById('find')"
    browser.see(f"{find}.value = {json.dumps(text)}, {find}.dispatchEvent(new Event('input'))")


def test_a_value_is_found_by_its_column_and_a_number_from_its_beginning(opened):
    opened.see("document.querySelector('#runs tbody tr').cells[10].textContent = '0.8964'")
    rows = list(zip(*(listed(opened, column) for column in range(14)), strict=True))
    sought(opened, "d_model=64")
    assert set(listed(opened, 3)) == {"64"}
    assert len(listed(opened)) == sum(row[3] == "64" for row in rows) > 1
    sought(opened, f"parameters={rows[0][4].replace(',', '')} grid")
    assert listed(opened, 4) == [row[4] for row in rows if (row[1], row[4]) == ("grid", rows[0][4])]
    sought(opened, "964")
    assert rows[0][0] not in listed(opened)
    sought(opened, "0.89")
    assert listed(opened)[0] == rows[0][0]
    sought(opened, "d_model=")
    assert listed(opened) == []


def test_a_click_on_a_run_leads_to_its_row_and_back(opened):
    picked = "document.querySelector('#runs tr.picked')"
    opened.click(*first_run(opened))
    opened.wait(picked)
    first, second = of_runs(opened, "run")[:2]
    assert opened.see(f"{picked}.id") == f"run-{first}"
    top = opened.see(f"{picked}.getBoundingClientRect().top")
    assert 0 < top < opened.see("innerHeight")
    opened.click(*see(opened, f"return middle(document.getElementById('run-{second}').cells[0])"))
    assert opened.see(f"{picked}.id") == f"run-{second}"
    selected = "Bokeh.documents[0].get_model_by_name('runs').selected.indices"
    assert opened.see(f"[...{selected}]") == [1]
    top = see(opened, "return document.getElementById('isoflop').getBoundingClientRect().top")
    assert abs(top) < 2


def test_of_a_wide_table_the_first_column_stays_and_a_shadow_says_that_it_goes_on(
    opened, path, tmp_path
):
    opened.open(path, width=400)
    table = "document.querySelector('#runs').parentElement"
    places, edges = [], []
    for move in ("0", "90", "1e6"):
        opened.see(f"{table}.scrollIntoView({{ block: 'center' }}), {table}.scrollLeft = {move}")
        opened.settle()
        opened.picture(tmp_path / "shown.png")
        cell, right, middle = see(opened, f"""
            const box = {table}.getBoundingClientRect()
            const cell = document.querySelector("#runs tbody td").getBoundingClientRect()
            return [cell.left - box.left, box.right, box.top + box.height / 2]
        """)  # fmt: skip
        places.append(cell)
        with Image.open(tmp_path / "shown.png") as image:
            strip = image.convert("L").crop((right - 4, middle - 60, right, middle + 60))
            edges.append(np.median(np.asarray(strip)))
    assert places == [0, 0, 0]
    assert max(edges[:2]) < 225
    assert edges[2] > 250


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_button_saves_the_runs(opened, planted, tmp_path, kind):
    opened.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    name = f"{planted[0].name}.{kind}"
    button = f"""document.querySelector('[data-file="{name}"]')"""
    opened.see(f"{button}.scrollIntoView({{ block: 'center' }})")
    opened.click(*see(opened, f"return middle({button})"))
    end = time.monotonic() + 60
    while not (tmp_path / name).exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    assert (tmp_path / name).read_text() == json.loads(
        opened.see("document.getElementById('downloads').textContent")
    )[name]


@pytest.mark.parametrize("width", [400, 1200])
def test_every_figure_is_drawn_within_the_width_of_the_window(opened, path, width, tmp_path):
    opened.open(path, width=width)
    assert opened.see("document.documentElement.scrollWidth") == width
    for panel in ("isoflop-1", "frontier-1", "frontier-2", "forecast-1", "curves-1"):
        left, right, height = see(opened, f"""
            const box = panel("{panel}").frame_view.el.getBoundingClientRect()
            return [box.left, box.right, box.height]
        """)  # fmt: skip
        assert left >= 0
        assert right <= width
        assert right - left > 0.6 * min(width, 550)
        assert height > 200
        colour = MINIMUM if panel == "isoflop-1" else APPROACH
        assert coloured(opened, panel, tmp_path, colour) > 20 or panel == "curves-1"
