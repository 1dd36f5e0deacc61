# SPDX-License-Identifier: Apache-2.0
"""A study of one budget is answered by its best size: no law, no exponent."""

import dataclasses
import io
import json
import re

import pytest
from rich.console import Console

from experiments.plan.plan import plan
from experiments.report import rows
from experiments.report.answer import as_object, details, print_answer, warnings
from experiments.report.build import gather
from experiments.report.figures import drawing
from experiments.report.fits.analysis import analyse
from experiments.report.page.page import page
from experiments.study.study import Axis, Ladder
from tests.experiments.report.conftest import loss_at


@pytest.fixture
def one_budget(ledger, study, manifest, record):
    """Study, points and report of one budget, as a function of the widths."""

    def answered(*d_models, axes=()):
        sizes = Ladder(d_models=d_models, tokens_per_param=(0.3, 2000.0))
        asked = dataclasses.replace(study, budgets=(4e11,), sizes=sizes, axes=axes)
        points = list(plan(asked, manifest).points)
        ledger.write_plan("{}", points)
        for i, point in enumerate(points):
            loss = loss_at(point.params.total, point.n_tokens) + 2e-3 * (i % 3 - 1)
            ledger.write_result(point.id, record(loss))
        return asked, points, gather(ledger, points, analyse(ledger, asked, points), "byte")

    return answered


def shown(report):
    console = Console(file=io.StringIO(), width=80, markup=False, soft_wrap=True)
    print_answer(console, report)
    return console.file.getvalue()


def test_the_terminal_and_the_page_tell_the_minimum_and_no_exponent(one_budget, manifest):
    study, points, report = one_budget(16, 24, 32, 48, 64, 96)
    text = " ".join(shown(report).split())
    assert text == report.analysis.best.sentence("byte")
    assert text.startswith("At 4e11 FLOPs train ")
    assert "the minimum of a parabola through 12 runs at 6 sizes" in text
    assert max(map(len, shown(report).splitlines())) <= 80
    assert warnings(report) == []
    assert text in " ".join(details(report).split())
    html = page(study, manifest, points, report, {})
    assert f"<p>{text}</p>" in html
    for words in (text, html, details(report)):
        assert not re.search(r"[eE]xponent|N\* grows", words.partition("<h2>Figures")[0])
    told = json.loads(json.dumps(as_object(report), allow_nan=False))
    assert told["answer"] == text
    assert told["best_size"]["is_minimum"]
    assert (told["frontier"], told["exponents"], told["refusals"]) == (None, {}, {})


def test_too_few_sizes_give_the_best_tried_and_say_that_it_is_no_minimum(one_budget):
    _, _, report = one_budget(16, 32)
    text = " ".join(shown(report).split())
    assert "the best of 2 sizes tried has" in text
    assert "It is no minimum: 4 runs at 2 sizes, a parabola needs 5 runs at 4 sizes." in text


def test_settings_of_which_the_best_is_kept_are_not_said_to_be_fitted_as_repeats(one_budget):
    rates = Axis(field="recipe.optimizer.learning_rate", values=(0.5, 1.0, 2.0))
    _, _, report = one_budget(16, 32, axes=(rates,))
    findings = rows.findings(report.analysis)
    assert any("8 of 12 runs are left out: only the best setting" in one for one in findings)
    assert not any("--best-per" in one for one in findings)


def test_its_figures_have_the_parabola(one_budget):
    """Runs, parabola, interval and minimum."""
    _, _, report = one_budget(16, 24, 32, 48, 64, 96)
    (axes,) = drawing.drawn(report)["isoflop"].axes
    assert [len(line.get_xdata()) for line in axes.lines] == [12, 121, 2, 1]
    _, _, report = one_budget(16, 32)
    (axes,) = drawing.drawn(report)["isoflop"].axes
    assert [len(line.get_xdata()) for line in axes.lines] == [4]
