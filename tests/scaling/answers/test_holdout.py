# SPDX-License-Identifier: Apache-2.0
"""Hold-out by compute: a published error, planted laws, and the paired bootstrap."""

from dataclasses import replace

import numpy as np
import pytest

from scaling.answers.holdout import hold_out
from scaling.fit import FitError
from scaling.laws import registry
from scaling.laws.closed_form_optimum import optimal_params
from scaling.laws.loss_laws import ADDITIVE
from scaling.plots.holdout import figure_hold_out
from scaling.plots.style import save
from scaling.tables.read_tables import read_runs
from scaling.tables.runs import Runs

TRUTH = (1.69, 406.4, 410.7, 0.34, 0.28)


@pytest.fixture(scope="module")
def planted_runs():
    """Five budgets of seven sizes, 0.1 % noise."""
    budget = np.repeat([1e17, 1e18, 1e19, 1e20, 1e21], 7)
    N = optimal_params(TRUTH, budget) * np.tile(np.geomspace(1 / 8, 8, 7), 5)
    D = budget / (6 * N)
    noise = np.exp(0.001 * np.random.default_rng(1).standard_normal(len(N)))
    loss = ADDITIVE.loss(TRUTH, N, D) * noise
    return Runs.from_columns(n_params=N, n_tokens=D, loss_nats=loss, budget=budget)


@pytest.fixture(scope="module")
def found(planted_runs):
    return hold_out(planted_runs, ["power_n_params", "additive"], below=3e19)


def test_published_hold_out_error_is_met(published):
    """217 of 240 points below 1e21 FLOPs: A 342.81, B 3820.1, error 1.051 % on the 23 others.

    An independent implementation's numbers: the data README of results/published.
    """
    columns = {"n_params": "params", "n_tokens": "tokens", "loss_nats": "loss", "flops": "flops"}
    path = published / "chinchilla_epoch245.csv"
    runs = read_runs(path, columns=columns, where=["fit_240=1"])
    found = hold_out(runs, ["additive"], below=1e21)
    (one,) = found.predictions
    assert (len(found.train), len(found.held)) == (217, 23)
    assert 100 * one.error == pytest.approx(1.051, abs=5e-4)
    assert one.fit.parameters["A"] == pytest.approx(342.81, abs=5e-3)
    assert one.fit.parameters["B"] == pytest.approx(3820.1, abs=5e-2)
    assert one.fit.parameters["E"] == pytest.approx(1.82054, abs=5e-6)


def test_the_planted_law_wins_over_one_that_ignores_tokens(found):
    assert [p.law for p in found.predictions] == ["additive", "power_n_params"]
    best, other = found.predictions
    assert best.error < 0.004
    assert other.is_beaten
    assert other.excess == pytest.approx(other.error - best.error, rel=1e-12)
    assert best.excess == 0.0


def test_no_run_above_c_is_seen_by_a_fit(found, planted_runs):
    """Losses above C are changed; fits stay, errors do not."""
    loss = np.where(planted_runs.flops > 3e19, 2 * planted_runs.loss_nats, planted_runs.loss_nats)
    other = hold_out(replace(planted_runs, loss_nats=loss), ["additive"], below=3e19)
    expected = next(p for p in found.predictions if p.law == "additive")
    assert other.predictions[0].fit.parameters == expected.fit.parameters
    assert other.predictions[0].error > 0.4


def test_paired_interval_has_the_width_of_the_mean_difference(found):
    """Independent runs: half-width 1.96 sd/sqrt(n) of the differences, to resampling error."""
    observed = found.held.loss_nats
    errors = {p.law: np.abs(p.predicted / observed - 1.0) for p in found.predictions}
    difference = errors["power_n_params"] - errors["additive"]
    half = 1.96 * difference.std() / np.sqrt(len(difference))
    interval = found.predictions[1].excess_interval
    assert interval.upper - interval.lower == pytest.approx(2 * half, rel=0.1)


def test_equal_laws_differ_by_nothing_in_every_resample(planted_runs, monkeypatch):
    """What makes a run hard for both cancels: the paired interval has no width."""
    monkeypatch.setattr(registry, "LAWS", dict(registry.LAWS))
    one = registry.law_named("power_n_params")
    found = hold_out(planted_runs, [one, replace(one, name="twin")], below=3e19)
    other = found.predictions[1]
    assert other.interval.upper - other.interval.lower > 0.001
    assert abs(other.excess_interval.lower) < 1e-9
    assert abs(other.excess_interval.upper) < 1e-9


def test_runs_of_one_cluster_are_resampled_together(planted_runs, found):
    """All seven sizes of a budget in one cluster: two clusters above C, and it is said."""
    labels = np.array([f"{budget:.0e}" for budget in planted_runs.budget])
    other = hold_out(replace(planted_runs, cluster_id=labels), ["additive"], below=3e19)
    assert any("only 2 independent runs are held out" in s for s in other.findings)
    errors = np.abs(other.predictions[0].predicted / other.held.loss_nats - 1.0)
    per_budget = [errors[other.held.budget == b].mean() for b in other.held.budgets]
    interval = other.predictions[0].interval
    assert interval.lower == pytest.approx(min(per_budget), rel=1e-9)
    assert interval.upper == pytest.approx(max(per_budget), rel=1e-9)


def test_default_split_holds_out_whole_budgets(planted_runs):
    found = hold_out(planted_runs, ["additive"])
    assert set(found.held.budget) == {1e21}
    assert not set(found.held.budget) & set(found.train.budget)


def test_a_law_without_its_columns_is_listed_and_the_others_are_judged(planted_runs):
    found = hold_out(planted_runs, ["additive", "width_depth"], below=3e19)
    assert [p.law for p in found.predictions] == ["additive"]
    assert "needs the column" in found.refusals["width_depth"]
    with pytest.raises(FitError, match=r"no law can be fitted.*width_depth: "):
        hold_out(planted_runs, ["width_depth"], below=3e19)


def test_what_cannot_be_held_out_is_refused(planted_runs):
    with pytest.raises(ValueError, match="leave 0 runs below and 35 above"):
        hold_out(planted_runs, ["additive"], below=1e10)
    with pytest.raises(ValueError, match="named once each"):
        hold_out(planted_runs, ["additive", "additive"], below=3e19)
    one = planted_runs.select(planted_runs.budget == 1e19)
    with pytest.raises(ValueError, match="one value of FLOPs"):
        hold_out(one, ["additive"])


def test_figure_is_drawn_and_result_is_json(found, tmp_path):
    for path in save(figure_hold_out(found), tmp_path / "holdout"):
        assert path.stat().st_size > 5000
    body = found.to_dict()
    assert body["predictions"][0]["law"] == "additive"
    assert len(body["predictions"][0]["predicted"]) == len(body["held"]) == 14
