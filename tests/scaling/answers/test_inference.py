# SPDX-License-Identifier: Apache-2.0
"""Optimum with inference: identities, and brute force by scipy."""

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar

from scaling.answers.frontier import frontier
from scaling.answers.inference import cheapest_for_loss
from scaling.approaches.isoflop.fit import fit_isoflop
from scaling.approaches.surface.fit import fit_surface

E, A, B, ALPHA, BETA = 1.69, 406.4, 410.7, 0.34, 0.28
SERVED = 3e12


def loss(N, D):
    return E + A / N**ALPHA + B / D**BETA


@pytest.fixture(scope="module")
def exact(planted_named):
    """The planted Chinchilla law, C = 6ND."""
    return fit_surface(planted_named("chinchilla").runs(), n_bootstrap=0)


@pytest.fixture(scope="module")
def noisy(planted_named):
    return fit_surface(planted_named("chinchilla").runs(sd=0.003, seed=1), n_bootstrap=64)


def brute_force(target, served):
    """log N of least 6ND + 2 N D_inf on the contour: closed-form D, bounded scalar search."""

    def cost(log_n):
        N = np.exp(log_n)
        rest = target - E - A / N**ALPHA
        return np.log(6 * N * (B / rest) ** (1 / BETA) + 2 * N * served) if rest > 0 else 1e3

    smallest = (A / (target - E)) ** (1 / ALPHA)
    found = minimize_scalar(
        cost,
        bounds=(np.log(smallest * 1.0001), np.log(smallest * 1e5)),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return np.exp(found.x), np.exp(found.fun)


@pytest.mark.parametrize("served", [0.0, 1e11, SERVED, 1e14])
def test_no_model_of_that_loss_is_cheaper(exact, served):
    found = cheapest_for_loss(exact, 2.2, served)
    N, total = brute_force(2.2, served)
    # The cost is flat at its minimum: N is known to the square root of the cost's precision.
    assert found.best.n_params.value == pytest.approx(N, rel=2e-5)
    assert found.best.total_flops.value == pytest.approx(total, rel=1e-8)
    assert loss(found.best.n_params.value, found.best.n_tokens.value) == pytest.approx(
        2.2, rel=1e-8
    )


def test_without_inference_it_is_the_training_optimum(exact):
    found = cheapest_for_loss(exact, 2.2, 0.0)
    budget = found.best.training_flops.value
    front = frontier(exact, budget)
    assert found.best.n_params.value == pytest.approx(front.n_params_opt.value[0], rel=1e-5)
    assert front.loss_opt.value[0] == pytest.approx(2.2, rel=1e-9)
    assert found.flops_saved.value == pytest.approx(0.0, abs=1e-12)
    assert found.params_ratio.value == pytest.approx(1.0, rel=1e-5)


def test_the_multiplier_is_stationary(exact):
    """Sardana et al. 2024: d cost/dN : d cost/dD = dL/dN : dL/dD at the optimum."""
    best = cheapest_for_loss(exact, 2.2, SERVED).best
    N, D = best.n_params.value, best.n_tokens.value
    cost_ratio = (6 * D + 2 * SERVED) / (6 * N)
    slope_ratio = (ALPHA * A * N ** (-ALPHA - 1)) / (BETA * B * D ** (-BETA - 1))
    assert cost_ratio == pytest.approx(slope_ratio, rel=1e-4)


def test_serving_makes_models_smaller_and_training_longer(exact):
    found = [cheapest_for_loss(exact, 2.2, served) for served in (1e11, 1e12, 1e13)]
    for name, sign in (("params_ratio", -1), ("tokens_ratio", 1), ("flops_saved", 1)):
        assert np.all(sign * np.diff([getattr(f, name).value for f in found]) > 0)
    assert 0 < found[0].flops_saved.value < found[-1].flops_saved.value < 1
    saved = 1 - found[1].best.total_flops.value / found[1].training_only.total_flops.value
    assert found[1].flops_saved.value == pytest.approx(saved)


def test_another_flop_convention_is_followed(planted_named):
    """flops_per_token = 6 N (1 + 60 N^-1/2) along the ladder: brute force under the same count."""
    problem = planted_named("quickstart")
    fit = fit_surface(problem.runs(), n_bootstrap=0)
    served, target = 1e9, 2.2

    def tokens(N):
        return np.exp(brentq(lambda x: float(_law(problem, N, np.exp(x))) - target, 0, 60))

    def cost(log_n):
        N = np.exp(log_n)
        return np.log(problem.flops_per_token(N) * tokens(N) + 2 * N * served)

    best = cheapest_for_loss(fit, target, served).best
    log_n = np.log(best.n_params.value)
    found = minimize_scalar(cost, bounds=(log_n - 0.3, log_n + 0.5), method="bounded")
    # The ladder is a cubic through rungs here: 1 % of flops_per_token is its tolerance.
    assert best.n_params.value == pytest.approx(np.exp(found.x), rel=0.02)
    assert best.total_flops.value == pytest.approx(np.exp(found.fun), rel=0.01)


def _law(problem, N, D):
    E, A, B, alpha, beta = problem.parameters
    return E + A / N**alpha + B / D**beta


def test_intervals_hold_the_truth_and_ratios_are_paired(noisy):
    found = cheapest_for_loss(noisy, 2.2, SERVED)
    N, total = brute_force(2.2, SERVED)
    alone, _ = brute_force(2.2, 0.0)
    for estimated, truth in (
        (found.best.n_params, N),
        (found.best.total_flops, total),
        (found.params_ratio, N / alone),
    ):
        assert estimated.interval.lower < truth < estimated.interval.upper
    # What best and training_only share cancels in their ratio.
    width = found.params_ratio.interval.upper / found.params_ratio.interval.lower
    n_params = found.best.n_params.interval
    assert width < n_params.upper / n_params.lower


def test_what_cannot_be_is_refused_in_words(exact, planted_named):
    with pytest.raises(ValueError, match=r"no cheapest model of 1\.6 nats"):
        cheapest_for_loss(exact, 1.6, SERVED)
    with pytest.raises(ValueError, match="inference_tokens is -1"):
        cheapest_for_loss(exact, 2.2, -1.0)
    with pytest.raises(ValueError, match="no loss surface"):
        cheapest_for_loss(fit_isoflop(planted_named("chinchilla").runs()), 2.2, 0.0)


def test_models_beyond_the_runs_are_marked(exact):
    assert not cheapest_for_loss(exact, 2.6, 0.0).is_extrapolated
    found = cheapest_for_loss(exact, 2.0, 1e14)
    assert found.is_extrapolated
    assert "outside the runs" in found.findings[0]
