# SPDX-License-Identifier: Apache-2.0
"""The envelope of training curves: a planted law, noise shared along a curve, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from scaling.envelope import fit_envelope
from scaling.fit import FitError
from scaling.laws import law_named, optimal_params
from scaling.runs import Curves, Runs

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
    interval = fit.intervals["a"]
    assert interval.lower < 0.28 / 0.62 < interval.upper
    assert interval.upper - interval.lower > 0.01


def test_without_repeats_curves_are_resampled():
    fit = fit_envelope(*study(sd=0.002), n_bootstrap=60)
    assert fit.bootstrap.method == "curves resampled"
    assert fit.intervals["a"].is_known


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
