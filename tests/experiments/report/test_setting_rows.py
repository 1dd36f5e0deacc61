# SPDX-License-Identifier: Apache-2.0
"""A sweep is an answer of its own: on the terminal, as an object, on the page and as a figure."""

import dataclasses
import io
import json
import math
import re

import numpy as np
import pytest
from rich.console import Console

from experiments.plan.plan import plan
from experiments.report.answer import as_object, details, print_answer, warnings
from experiments.report.build import gather
from experiments.report.figures import drawing
from experiments.report.figures.write import draw
from experiments.report.fits.analysis import analyse
from experiments.report.page.page import page
from experiments.report.rows import run_rows
from experiments.report.setting_rows import as_objects, best_values, course, setting_rows, ties
from experiments.study.study import Axis, Ladder
from scaling.tables.loss_curves import LossCurve

RATE = "recipe.optimizer.learning_rate"
# By width: where the loss is lowest, of 0.5, 1, 2.
BEST = {16: 1.0, 32: 2.0}


@pytest.fixture
def swept(ledger, study, manifest, record):
    """A rate at one budget and two sizes, two seeds each; the larger network's is at the edge, and
    its smallest rate diverged. Study, points, report."""
    asked = dataclasses.replace(
        study,
        budgets=(1e11,),
        sizes=Ladder(d_models=(16, 32), tokens_per_param=(0.3, 2000.0)),
        axes=(Axis(field=RATE, values=(0.5, 1.0, 2.0)),),
    )
    points = list(plan(asked, manifest).points)
    ledger.write_plan("{}", points)
    for point in points:
        width, rate = point.spec.model.d_model, point.axes[RATE]
        loss = 2 + math.log(rate / BEST[width]) ** 2 + 0.01 * point.seed
        is_lost = (width, rate) == (32, 0.5)
        made = record(None, status="diverged", reason="step 3") if is_lost else record(loss)
        ledger.write_result(point.id, made)
    analysis = analyse(ledger, asked, points, allow_missing=0.2)
    return asked, points, gather(ledger, points, analysis, "byte")


def test_the_table_has_the_best_value_and_the_mean_of_each(swept):
    _, points, report = swept
    small, large = setting_rows(report.analysis.sweeps[RATE])
    n_params = sorted({point.params.total for point in points})
    assert {"small": small["best"], "large": large["best"]} == {
        "small": "1",
        "large": "2, at the edge",
    }
    means = [f"{2.005 + math.log(k) ** 2:.4f}" for k in (0.5, 1, 2)]
    assert [small[name] for name in ("0.5", "1", "2")] == means
    assert [large[name] for name in ("0.5", "1", "2")] == ["-", means[0], "2.0050"]
    assert [row["FLOPs"] for row in (small, large)] == ["1e11", "1e11"]
    assert small["parameters"] == f"{n_params[0] / 1e3:.3g}k"


def test_a_sentence_says_how_often_each_value_is_best(swept):
    _, _, report = swept
    small, large = report.analysis.sweeps[RATE]
    assert best_values(RATE, [small, small, large]) == (
        "The best learning_rate is 1 at 2, 2 at 1 of 3 budgets and sizes."
    )
    lost = dataclasses.replace(small, losses=np.full(3, np.nan))
    assert best_values(RATE, [lost]) == ""


def test_without_a_law_the_sweep_is_what_the_terminal_shows(swept):
    _, _, report = swept
    assert report.main is None
    console = Console(file=io.StringIO(), width=80, markup=False, soft_wrap=True)
    print_answer(console, report)
    text = console.file.getvalue()
    assert text.startswith(f"Mean loss by {RATE}, nats per byte:\nFLOPs")
    assert "2, at the edge" in text
    assert "No approach gave an answer" not in text
    assert max(map(len, text.splitlines())) <= 80
    (warning,) = warnings(report)
    assert f"the best {RATE} is the first or the last value at 1 of 2" in warning
    assert "the best of 2 sizes tried has" in text
    assert f"{RATE} | FLOPs 1e11 | " in details(report)


def test_values_that_are_equal_to_the_best_are_marked_and_told(swept):
    """The mean of two seeds that are 0.01 apart has a standard error of 0.005, and their difference
    one of 0.0071."""
    _, _, report = swept
    small, _ = report.analysis.sweeps[RATE]
    assert small.errors == pytest.approx([0.005] * 3)
    console = Console(file=io.StringIO(), width=80, markup=False, soft_wrap=True)
    print_answer(console, report)
    said = "No other learning_rate is within a standard error of the best at 2 budgets and sizes."
    assert said in " ".join(console.file.getvalue().split())
    near = dataclasses.replace(small, losses=np.array([2.05, 2.0, 2.007]))
    far = dataclasses.replace(small, losses=np.array([2.05, 2.0, 2.0072]))
    (row,) = setting_rows([near])
    assert (row["best"], row["1"], row["2"]) == ("1", "2.0000", "2.0070 =")
    assert ties(RATE, [near, far]) == (
        "= is another learning_rate within a standard error of the best: at 1 of 2 budgets and "
        "sizes."
    )
    assert as_objects([near])[0]["equal_to_best"] == [2.0]
    alone = dataclasses.replace(small, errors=np.full(3, np.nan))
    assert "is not known" in ties(RATE, [alone])


def test_the_object_has_null_for_what_diverged(swept):
    _, _, report = swept
    found = json.loads(json.dumps(as_object(report), allow_nan=False))
    small, large = found["settings"][RATE]
    assert (small["best"], small["is_at_edge"]) == (1.0, False)
    assert (large["best"], large["is_at_edge"]) == (2.0, True)
    assert large["values"] == [0.5, 1.0, 2.0]
    assert large["losses"][0] is None
    assert large["losses"][2] == pytest.approx(2.005)


def test_page_and_figures_show_the_sweep_and_the_sizes(swept, ledger, manifest, no_drawing):
    study, points, report = swept
    assert {"settings", "isoflop", "curves"} <= set(drawing.drawn(report))
    names = list(draw(ledger, report))
    assert {"settings", "isoflop"} <= set(names)
    html = page(study, manifest, points, report, {"settings": ("AAAA", "means")})
    assert re.findall("<h2>(.*?)</h2>", html)[:2] == ["Answer", f"Mean loss by {RATE}"]
    assert "In nats per byte, over the repeats" in html
    assert "<td>2, at the edge</td>" in html
    assert '<figure id="settings">' in html


def test_the_table_of_runs_has_a_column_for_each_axis(swept, manifest):
    study, points, report = swept
    html = page(study, manifest, points, report, {})
    head = re.findall("<th[^>]*><button>(.*?)</button>", html)
    assert head[:6] == ["run", "role", "C asked", "d_model", "learning_rate", "parameters"]
    rows = re.findall(r'<tr id="run-.*?">(.*?)</tr>', html)
    cells = [re.findall("<td>(.*?)</td>", row) for row in rows]
    assert [row[4] for row in cells] == [f"{point.axes[RATE]:g}" for point in points]
    assert {len(row) for row in cells} == {len(head)}


def test_an_axis_without_a_name_of_its_own_has_its_whole_path(swept):
    """One ends like a column, two end alike; a forecast has no setting."""
    _, points, report = swept
    axes = {"recipe.seed": 1.0, "recipe.a.kind": "<b>", "recipe.b.kind": True}
    some = [dataclasses.replace(point, axes=axes) for point in points[:2]]
    beyond = dataclasses.replace(points[2], axes={}, role="forecast")
    one, _, last = run_rows([*some, beyond], report.verdicts)
    assert [one[field] for field in axes] == ["1", "<b>", "True"]
    assert [last[field] for field in axes] == ["", "", ""]
    assert one["seed"] == points[0].seeds
    assert list(one) == list(last)


def test_active_parameters_stand_beside_all_where_they_are_fewer(swept):
    _, points, report = swept
    assert "active" not in run_rows(points, report.verdicts)[0]
    sparse = dataclasses.replace(points[0].params, active=1234)
    some = [dataclasses.replace(points[0], params=sparse), points[1]]
    rows = run_rows(some, report.verdicts)
    assert [row["active"] for row in rows] == ["1,234", f"{points[1].params.total:,}"]
    head = list(rows[0])
    assert head.index("active") == head.index("parameters") + 1


def test_figures_are_drawn_again_where_only_a_setting_that_is_not_fitted_changed(
    swept, ledger, no_drawing, monkeypatch
):
    _, _, report = swept
    draw(ledger, report)
    times = []
    draw_all = drawing.drawn
    monkeypatch.setattr(drawing, "drawn", lambda report: times.append(1) or draw_all(report))
    draw(ledger, report)
    assert not times
    curve, *others = report.analysis.sweeps[RATE]
    worse = dataclasses.replace(curve, losses=curve.losses * [1.1, 1.0, 1.0])
    analysis = dataclasses.replace(report.analysis, sweeps={RATE: [worse, *others]})
    draw(ledger, dataclasses.replace(report, analysis=analysis))
    assert times


def test_a_study_without_axes_of_numbers_has_no_sweep(report):
    assert report.analysis.sweeps == {}
    assert "settings" not in drawing.drawn(report)


def test_a_sentence_says_how_the_loss_of_each_named_setting_goes():
    def curve(budget, setting, losses):
        values, losses = np.array([10.0, 66.0]), np.array(losses)
        return LossCurve(
            at={"budget": budget}, values=values, losses=losses, errors=losses, setting=setting
        )

    curves = [curve(1e9, "one", [9.0, 9.0]), curve(1e10, "one", [0.1, 0.2])]
    curves.append(curve(1e10, "other", [1.5, 3.0]))
    assert course("seq_len", curves) == (
        "At 1e10 FLOPs, from seq_len 10 to 66, the loss goes from 0.1000 to 0.2000 (one), "
        "from 1.5000 to 3.0000 (other)."
    )
    assert course("seq_len", [dataclasses.replace(one, setting="") for one in curves]) == ""
