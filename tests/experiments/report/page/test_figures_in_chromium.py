# SPDX-License-Identifier: Apache-2.0
"""The figures of the page in a headless Chromium, with a mouse and a finger: one reads them."""

import base64

import chromium
import numpy as np
import pytest
from PIL import Image
from report_in_chromium import (
    APPROACH,
    MINIMUM,
    coloured,
    of_runs,
    place,
    place_of_run,
    see,
    tooltip,
)

from experiments.report.page.page import page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        chromium.COMMAND is None, reason="no Chromium here: make test-browser installs it"
    ),
]


def test_a_pointer_on_a_run_reads_it(opened, planted):
    opened.point(*place_of_run(opened))
    run = of_runs(opened, "run")[0]
    said = tooltip(opened, run)
    (point,) = [point for point in planted[1] if point.id == run]
    ratio = f"{point.n_tokens / point.params.total:.3g}"
    for text in (f"{point.params.total:,}", f"{point.n_tokens:,}", ratio, point.seeds, "1e11"):
        assert text in said


@pytest.mark.parametrize("width", [400, 1200])
def test_of_marks_on_one_another_one_is_read_within_the_window(opened, path, report, width):
    opened.open(path, width=width)
    front = report.analysis.frontiers["additive"]
    for x, y in zip(front.flops, front.n_params_opt.value, strict=True):
        opened.point(*place(opened, "frontier-1", x, y))
        assert f"{y:.3g}"[:3].rstrip(".") in tooltip(opened, "surface (additive)").replace(",", "")
    (judged,) = report.forecasts
    for y in (2.0, judged.outcome):
        opened.point(*place(opened, "forecast-1", judged.forecast.budget, y))
        said = tooltip(opened, "additive: 2.000 (1.900 to 2.100)")
        assert f"came out: {judged.outcome:.3f}" in said
        assert "conformal" not in said


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


@pytest.mark.parametrize("width", [400, 500])
def test_a_tap_on_a_run_selects_that_run(opened, path, width):
    opened.open(path, width=width)
    sizes = list(zip(*(of_runs(opened, name) for name in ("budget", "n_params")), strict=True))
    picked = "[...document.querySelectorAll('#runs tr.picked')]"
    for i in (0, len(sizes) // 2, len(sizes) - 1):
        opened.tap(*place_of_run(opened, i))
        opened.wait(f"{picked}.length")
        # A click that comes late.
        opened.see("new Promise((done) => setTimeout(done, 400))")
        # Repeats of one size lie on one another.
        wanted = {
            f"run-{run}"
            for run, size in zip(of_runs(opened, "run"), sizes, strict=True)
            if size == sizes[i]
        }
        assert set(opened.see(f"{picked}.map((row) => row.id)")) == wanted
        top = opened.see(f"{picked}[0].getBoundingClientRect().top")
        assert 0 < top < opened.see("innerHeight")


def test_a_shadow_says_that_a_picture_goes_on_and_beside_a_small_one_nothing_is_seen(
    opened, path, planted, manifest, report, tmp_path
):
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="576" height="300">%s</svg>'
    drawn = base64.b64encode(svg % b'<rect width="576" height="300" fill="white"/>').decode()
    study, points = planted
    path.write_text(page(study, manifest, points, report, {"surface": (drawn, "")}))
    box = "document.querySelector('#surface .scroll')"
    edges = []
    for width, move in ((400, "0"), (400, "1e6"), (1280, "0")):
        opened.open(path, width=width)
        opened.see(f"{box}.scrollIntoView({{ block: 'center' }}), {box}.scrollLeft = {move}")
        opened.settle()
        opened.picture(tmp_path / "shown.png")
        right, middle = see(opened, f"""
            const box = {box}.getBoundingClientRect()
            return [box.right, box.top + box.height / 2]
        """)  # fmt: skip
        with Image.open(tmp_path / "shown.png") as image:
            strip = image.convert("L").crop((right - 300, middle - 60, right, middle + 60))
            edges.append(np.median(np.asarray(strip), axis=0))
    assert edges[0][-4:].max() < 225
    assert min(edges[1].min(), edges[2].min()) == 255


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
