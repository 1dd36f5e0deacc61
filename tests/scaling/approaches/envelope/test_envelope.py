# SPDX-License-Identifier: Apache-2.0
"""The envelope of training curves: a planted law, noise shared along a curve, refusals."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from scaling.approaches.envelope.fit import fit_envelope
from scaling.approaches.envelope.grid import lower_hull
from scaling.fit import FitError
from scaling.laws.closed_form_optimum import optimal_params
from scaling.laws.registry import law_named
from scaling.tables.runs import Curves, Runs

LAW = (1.69, 406.4, 410.7, 0.34, 0.28)


def study(sizes=16, repeats=1, sd=0.0, seed=0):
    rng = np.random.default_rng(seed)
    N = np.repeat(np.geomspace(1e6, 1e9, sizes), repeats)
    # Long enough that every inner size wins somewhere along its curve.
    D = 6e9 * (N / 1e6) ** 0.9
    noise = np.exp(sd * rng.standard_normal(len(N)))
    loss = law_named("additive").loss(LAW, N, D) * noise
    runs = Runs.from_columns(n_params=N, n_tokens=D, loss_nats=loss)
    tokens = D[:, None] * np.geomspace(1e-3, 1, 40)
    along = law_named("additive").loss(LAW, N[:, None], tokens) * noise[:, None]
    curves = Curves(
        run_id=np.repeat(runs.run_id, 40),
        step=np.tile(np.arange(40), len(N)),
        n_tokens=tokens.ravel(),
        flops=(6 * N[:, None] * tokens).ravel(),
        loss_nats=along.ravel(),
    )
    return runs, curves


def test_planted_optimum_is_recovered():
    """The envelope steps from size to size, so its slope is near the law's, not equal to it."""
    fit = fit_envelope(*study(sizes=25), smoothing=0.0, n_bootstrap=0)
    assert fit.exponent_a == pytest.approx(0.28 / 0.62, abs=0.02)
    assert fit.exponent_a + fit.exponent_b == pytest.approx(1.0, abs=1e-9)
    truth = optimal_params(LAW, fit.parameters["flops_ref"])
    assert fit.parameters["n_params_ref"] == pytest.approx(truth, rel=0.05)


def test_smoothing_leaves_a_power_law_alone():
    rough = fit_envelope(*study(), smoothing=0.0, n_bootstrap=0)
    smooth = fit_envelope(*study(), smoothing=1.5, n_bootstrap=0)
    assert smooth.exponent_a == pytest.approx(rough.exponent_a, abs=0.02)


def test_noise_is_taken_from_repeats_and_widens_the_interval():
    fit = fit_envelope(*study(repeats=3, sd=0.004), n_bootstrap=100)
    assert fit.bootstrap.method == "run-to-run shifts"
    assert fit.noise.run_sd == pytest.approx(0.004, rel=0.4)
    interval = fit.intervals["exponent_a"]
    assert interval.lower < 0.28 / 0.62 < interval.upper
    assert interval.upper - interval.lower > 0.01


def test_without_repeats_curves_are_resampled():
    fit = fit_envelope(*study(sd=0.002), n_bootstrap=60)
    assert fit.bootstrap.method == "curves resampled"
    assert fit.intervals["exponent_a"].is_known


def test_points_that_are_not_annealed_are_said_to_be():
    fit = fit_envelope(*study(), n_bootstrap=0)
    assert any("had not decayed" in sentence for sentence in fit.findings)
    assert any("FLOP values are left out" in sentence for sentence in fit.findings)


def test_runs_without_a_curve_are_listed():
    runs, curves = study()
    keep = curves.run_id != "run3"
    thinned = Curves(
        **{name: getattr(curves, name)[keep] for name in ("run_id", "step", "n_tokens")},
        flops=curves.flops[keep],
        loss_nats=curves.loss_nats[keep],
    )
    assert fit_envelope(runs, thinned, n_bootstrap=0).left_out == {"run3": "no curve"}


def test_too_few_sizes_are_refused():
    with pytest.raises(FitError, match="3 sizes, an envelope needs at least 4"):
        fit_envelope(*study(sizes=3))


def test_an_envelope_of_end_sizes_is_refused():
    runs, curves = study(sizes=5)
    worst = np.isin(curves.run_id, ["run1", "run2", "run3"])
    spoiled = Curves(
        run_id=curves.run_id,
        step=curves.step,
        n_tokens=curves.n_tokens,
        flops=curves.flops,
        loss_nats=np.where(worst, curves.loss_nats + 5, curves.loss_nats),
    )
    with pytest.raises(FitError, match="no interior part"):
        fit_envelope(runs, spoiled, n_bootstrap=0)


def final_points_of(curves):
    """Last row of each run, taken without the code under test."""
    rows = {run: i for i, run in enumerate(curves.run_id)}
    return {run: (curves.n_tokens[i], curves.flops[i]) for run, i in rows.items()}


def test_corners_of_the_hull_are_those_of_scipy():
    rng = np.random.default_rng(3)
    x, y = np.sort(rng.uniform(0, 10, 60)), rng.standard_normal(60)
    far = np.stack([np.append(x, 5.0), np.append(y, 1e6)], axis=1)
    expected = set(ConvexHull(far).vertices) - {60}
    assert set(np.flatnonzero(lower_hull(x, y))) == expected


def test_points_without_a_loss_are_no_corners():
    y = np.array([3.0, np.inf, 1.0, 0.5, np.nan, 0.4])
    assert lower_hull(np.arange(6.0), y).tolist() == [True, False, True, True, False, True]


def test_the_hull_of_planted_curves_recovers_the_optimum():
    """A corner of the hull touches the frontier, so N* = truth up to the steps of the ladder."""
    fit = fit_envelope(*study(sizes=25), select="hull", smoothing=0.0, n_bootstrap=20)
    assert fit.exponent_a == pytest.approx(0.28 / 0.62, abs=0.02)
    truth = optimal_params(LAW, fit.parameters["flops_ref"])
    assert fit.parameters["n_params_ref"] == pytest.approx(truth, rel=0.05)
    assert any("corners of the convex hull" in sentence for sentence in fit.findings)


def isoflop_study(sizes=25):
    """Final points on five budgets, their FLOPs off by up to 0.3 % as steps are rounded."""
    rng = np.random.default_rng(0)
    C = np.repeat([1e17, 1e18, 1e19, 1e20, 1e21], sizes) * (1 + 0.003 * rng.uniform(-1, 1))
    C *= 1 + 0.003 * rng.uniform(-1, 1, len(C))
    N = optimal_params(LAW, C) * np.tile(np.geomspace(1 / 8, 8, sizes), 5)
    D = C / (6 * N)
    return Runs.from_columns(
        n_params=N, n_tokens=D, loss_nats=law_named("additive").loss(LAW, N, D)
    )


def test_the_hull_of_final_points_needs_no_curves_and_is_annealed():
    fit = fit_envelope(isoflop_study(), select="final_hull", n_bootstrap=0)
    assert fit.exponent_a == pytest.approx(0.28 / 0.62, abs=0.03)
    assert all(optimum.is_annealed for optimum in fit.optima)
    assert not any("had not decayed" in sentence for sentence in fit.findings)


def test_a_poor_run_at_the_smallest_budget_is_no_optimum():
    """The first point is a corner of the hull whatever its loss."""
    runs = isoflop_study()
    N = np.append(runs.n_params, 1e9)
    D = np.append(runs.n_tokens, 0.5e17 / 6e9)
    more = Runs.from_columns(
        n_params=N, n_tokens=D, loss_nats=law_named("additive").loss(LAW, N, D)
    )
    fit = fit_envelope(more, select="final_hull", n_bootstrap=0)
    assert fit.optima[0].n_params_opt < 1e9
    assert fit.exponent_a == pytest.approx(0.28 / 0.62, abs=0.03)


def test_curves_are_needed_for_the_envelope():
    with pytest.raises(ValueError, match="needs curves; without them take 'final_hull'"):
        fit_envelope(isoflop_study())
    with pytest.raises(ValueError, match="unknown select='top'"):
        fit_envelope(*study(), select="top")


def test_each_optimum_says_whether_its_run_had_ended():
    runs, curves = study()
    ends = final_points_of(curves)
    fit = fit_envelope(runs, curves, n_bootstrap=0)
    assert any(not optimum.is_annealed for optimum in fit.optima)
    for optimum in fit.optima:
        name = min(
            ends, key=lambda run: abs(ends[run][1] / (6 * ends[run][0]) / optimum.n_params_opt - 1)
        )
        assert optimum.is_annealed == (optimum.n_tokens_opt >= 0.99 * ends[name][0])
    assert type(fit).from_json(fit.to_json()).optima == fit.optima


def test_runs_can_be_resampled_where_there_are_repeats():
    fit = fit_envelope(*study(repeats=3, sd=0.004), n_bootstrap=100, bootstrap="runs")
    assert fit.bootstrap.method == "curves resampled"
    assert fit.intervals["exponent_a"].lower < 0.28 / 0.62 < fit.intervals["exponent_a"].upper


def test_branches_of_one_trunk_are_resampled_together():
    """With every run in one cluster each replicate is the estimate itself."""
    runs, curves = study(sd=0.002)
    one = replace(runs, cluster_id=np.full(len(runs), "trunk"))
    fit = fit_envelope(one, curves, n_bootstrap=5)
    assert fit.replicates["exponent_a"] == pytest.approx(np.full(5, fit.exponent_a), abs=1e-12)
