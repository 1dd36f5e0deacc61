# SPDX-License-Identifier: Apache-2.0
"""The page in a headless Chromium, with a mouse: one sorts, finds and saves."""

import json
import time

import chromium
import numpy as np
import pytest
from PIL import Image
from report_in_chromium import listed, of_runs, place_of_run, see

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        chromium.COMMAND is None, reason="no Chromium here: make test-browser installs it"
    ),
]


def test_the_table_sorts_and_finds(opened):
    heading = "deep('#runs th').find((heading) => heading.textContent === 'parameters')"
    opened.see("document.getElementById('find').scrollIntoView({ block: 'center' })")
    as_planned = listed(opened)
    n_params = [int(cell.replace(",", "")) for cell in listed(opened, 4)]
    for _ in range(2):
        # All of the cell sorts, not only the word in it.
        right, top = see(opened, f"""
            const box = {heading}.getBoundingClientRect()
            return [box.right, box.top + box.height / 2]
        """)  # fmt: skip
        opened.click(right - 2, top)
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
    # A name of two words as the note beneath the field has it.
    assert "C_asked=2e10" in opened.see("document.body.innerText")
    sought(opened, "C_asked=1e11")
    assert set(listed(opened, 2)) == {"1e11"}


def test_a_click_on_a_run_leads_to_its_row_and_back(opened):
    picked = "document.querySelector('#runs tr.picked')"
    opened.click(*place_of_run(opened))
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
