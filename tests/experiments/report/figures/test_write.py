# SPDX-License-Identifier: Apache-2.0
"""Figures are drawn once, and again when what they show, the code or a file has changed."""

import dataclasses

import pytest
from matplotlib.figure import Figure

from experiments.cost.planned_vs_real import Compared, Real
from experiments.report.figures import drawing
from experiments.report.figures.write import draw

SUFFIXES = (".png", ".svg", ".txt")


@pytest.fixture
def times_drawn(monkeypatch):
    """What was drawn, in place of figures that take seconds."""
    drawn = []

    def stand_in(report):
        drawn.append(report)
        names = ("curves", "isoflop", "forecast")
        return {name: Figure(figsize=(0.5, 0.5), label=name) for name in names}

    monkeypatch.setattr(drawing, "drawn", stand_in)
    return drawn


def files(ledger):
    return {
        path.name: path.read_bytes() for path in ledger.figures.iterdir() if path.suffix in SUFFIXES
    }


def test_what_is_the_same_is_drawn_once(ledger, report, times_drawn):
    first = draw(ledger, report)
    written = files(ledger)
    assert list(first) == ["isoflop", "forecast", "curves"]
    assert len(written) == 9
    # As it is after its parts were made anew.
    assert draw(ledger, dataclasses.replace(report)) == first
    assert len(times_drawn) == 1
    assert files(ledger) == written


def other_outcome(report):
    (judged,) = report.forecasts
    return dataclasses.replace(report, forecasts=(dataclasses.replace(judged, outcome=1.0),))


def other_costs(report):
    real = Real(run_id="a", role="grid", budget=1e9, d_model=8, device_seconds=1.0)
    return dataclasses.replace(report, compared=(Compared(real=real, planned_seconds=2.0),))


def other_rows(report):
    return dataclasses.replace(report, analysis=dataclasses.replace(report.analysis, of="other"))


def other_budgets(report):
    analysis = report.analysis
    fronts = {
        name: dataclasses.replace(front, flops=2.0 * front.flops)
        for name, front in analysis.frontiers.items()
    }
    return dataclasses.replace(report, analysis=dataclasses.replace(analysis, frontiers=fronts))


@pytest.mark.parametrize("change", [other_outcome, other_costs, other_rows, other_budgets])
def test_what_shows_something_else_is_drawn_again(ledger, report, times_drawn, change):
    draw(ledger, report)
    draw(ledger, change(report))
    assert len(times_drawn) == 2


@pytest.mark.parametrize("name", ["isoflop.png", "curves.svg", "forecast.txt", "made.json"])
@pytest.mark.parametrize("is_gone", [True, False])
def test_a_file_that_is_gone_or_changed_is_made_again(ledger, report, times_drawn, name, is_gone):
    draw(ledger, report)
    written = files(ledger)
    path = ledger.figures / name
    path.unlink() if is_gone else path.write_bytes(b"changed")
    draw(ledger, report)
    assert len(times_drawn) == 2
    assert files(ledger) == written
