# SPDX-License-Identifier: Apache-2.0
"""The page holds what the fits and the table say, in the same bytes each time."""

import dataclasses
import json
import re
import sys

import msgspec
import numpy as np
import pytest

from experiments.ledger.forecasts import Conformal
from experiments.report import rows
from experiments.report.build import gather
from experiments.report.fits.analysis import analyse
from experiments.report.page.interactive import document
from experiments.report.page.page import page
from scaling.plots.style import approach_styles


def held(html: str, name: str):
    """What a script element of the page holds."""
    return json.loads(re.search(rf'id="{name}">(.*?)</script>', html, re.DOTALL)[1])


def models(node) -> list[dict]:
    """Every object of a Bokeh document in the order in which it is read, and the references."""
    if isinstance(node, list):
        return [found for item in node for found in models(item)]
    if not isinstance(node, dict):
        return []
    mine = [node] if "id" in node else []
    return [*mine, *(found for item in node.values() for found in models(item))]


def columns(model: dict) -> dict:
    return dict(model["attributes"]["data"]["entries"])


def test_the_same_ledger_gives_the_same_bytes(ledger, planted, manifest, report, html):
    study, points = planted
    # Other objects in between, and fits that were read back from where they are kept.
    document(report, rows.run_rows(points, report.verdicts))
    again = gather(ledger, points, analyse(ledger, study, points), "byte")
    assert page(study, manifest, points, again, {}) == html


def test_fits_that_are_kept_need_neither_jax_nor_scipy(
    ledger, planted, manifest, report, html, monkeypatch
):
    study, points = planted
    heavy = {name.split(".")[0] for name in sys.modules} & {"jax", "jaxlib", "scipy"}
    assert heavy
    for name in [name for name in sys.modules if name.split(".")[0] in heavy]:
        monkeypatch.setitem(sys.modules, name, None)
    again = gather(ledger, points, analyse(ledger, study, points), "byte")
    assert page(study, manifest, points, again, {}) == html


def test_objects_are_defined_once_before_they_are_referred_to(report, html):
    seen: set[str] = set()
    for model in models(held(html, "explorable")["document"]):
        if "name" in model:
            assert model["id"] not in seen
            seen.add(model["id"])
        assert model["id"] in seen
    assert len(seen) > 300


def test_a_pointer_reads_of_a_run_what_the_table_says(planted, report, html):
    (runs,) = (
        columns(model)
        for model in models(held(html, "explorable")["document"])
        if model.get("attributes", {}).get("name") == "runs"
    )
    table = {row["run"]: row for row in rows.run_rows(planted[1], report.verdicts)}
    assert len(runs["run"]) == len(table) - 3  # Two diverged, one beyond the grid.
    for i, name in enumerate(runs["run"]):
        said = [runs[column][i] for column in ("N", "D", "D / N", "seed", "loss")]
        wanted = ("parameters", "tokens", "tokens per parameter", "seed", "loss")
        assert said == [table[name][column] for column in wanted]


def test_the_figures_hold_the_numbers_of_the_fits(report, html):
    drawn = [
        columns(model)
        for model in models(held(html, "explorable")["document"])
        if model.get("name") == "ColumnDataSource"
    ]
    stars = [source for source in drawn if "N*" in source and "lower" in source]
    optima = [o for o in report.analysis.fits["isoflop"].optima if not o.reason]
    found = {(*star["x"], *star["y"]) for star in stars}
    assert found == {(o.n_params_opt, o.loss_opt) for o in optima}
    assert len(found) == 3
    fronts = [report.analysis.frontiers[name] for name in ("envelope", "isoflop", "additive")]
    bands = {(s["approach"][0], f"{s['y'][0]:.4g}"): s for s in drawn if "approach" in s}
    assert len(bands) == 3 * len(fronts)
    for front in fronts:
        for known in (front.n_params_opt, front.n_tokens_opt, front.loss_opt):
            band = bands[front.approach, f"{known.value[0]:.4g}"]
            np.testing.assert_allclose(band["x"], front.flops, rtol=1e-5)
            np.testing.assert_allclose(band["y"], known.value, rtol=1e-5)
            for end in ("lower", "upper"):
                # An unknown end is drawn where the value is.
                ends = np.where(np.isfinite(known.lower), getattr(known, end), known.value)
                np.testing.assert_allclose(band[end], ends, rtol=1e-5)


def test_the_files_to_save_hold_every_run_that_ended(planted, html):
    study, points = planted
    files = held(html, "downloads")
    assert list(files) == [f"{study.name}.csv", f"{study.name}.json"]
    saved = json.loads(files[f"{study.name}.json"])
    assert saved["runs"]["run_id"] == [point.id for point in points]
    assert saved["runs"]["n_params"] == [point.params.total for point in points]
    assert saved["frontier"]["flops"] == list(study.budgets)
    lines = files[f"{study.name}.csv"].splitlines()
    assert len(lines) == 1 + len(points)
    assert sum("</script><b>at step 3</b>" in line for line in lines) == 2


def test_the_buttons_say_that_they_save_every_run(html):
    buttons = re.findall(r'<button data-file=".*?">(.*?)</button>', html)
    assert buttons == ["all runs as CSV", "all runs as JSON"]


def test_conformal_intervals_are_shown_where_there_are_some(planted, manifest, report, html):
    assert "<th>conformal</th>" not in html
    (judged,) = report.forecasts
    found = Conformal(lower=1.75, upper=2.25, level=0.75, n_budgets=3)
    known = msgspec.structs.replace(judged.forecast, conformal=found)
    told = dataclasses.replace(report, forecasts=(dataclasses.replace(judged, forecast=known),))
    study, points = planted
    said = page(study, manifest, points, told, {})
    assert "<th>conformal</th>" in said
    # In the table, and at both marks of the figure.
    assert said.count("1.750 to 2.250 (75%)") == 3


def test_a_reason_ends_no_script_of_the_page(html):
    assert html.count("</script>") == html.count("<script") == 4
    assert html.count("&lt;/script&gt;&lt;b&gt;at step 3") == 2


def test_the_page_is_small_and_describes_the_data(html, manifest):
    assert len(html.encode()) < 2.5e6
    described = dict(re.findall(r"<tr><th>(.*?)</th><td>(.*?)</td></tr>", html))
    assert described["bytes"] == "100,000,000"
    assert described["documents to validate"] == "2"
    assert described["source: validation_fraction"] == "0.02"


def test_what_documents_see_is_said_once(planted, manifest, report):
    """By the notes of the data; by the study where it has them apart."""
    study, points = planted
    told = "Documents in one window see those before them, unless a study has documents_apart."
    known = dataclasses.replace(manifest, notes=(told,))
    assert page(study, known, points, report, {}).count("Documents in one window") == 1


@pytest.mark.parametrize("name", ["envelope", "isoflop", "surface (additive)", "surface (curved)"])
def test_an_approach_looks_the_same_whatever_stands_beside_it(name):
    alone = approach_styles([name])[name]
    for others in (["envelope", name], ["another", name, "isoflop"], ["surface (curved)", name]):
        styles = approach_styles(list(dict.fromkeys(others)))
        assert styles[name] == alone
        assert len({style["marker"] for style in styles.values()}) == len(styles)
