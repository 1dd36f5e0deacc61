# SPDX-License-Identifier: Apache-2.0
"""Schedules and the multi-power law: the reduced sum against the naive one, planted curves."""

import numpy as np
import pytest

from scaling.fit import FitError, FitStatus
from scaling.laws.schedule_laws import MULTI_POWER
from scaling.schedules.fit import block_labels, fit_schedules
from scaling.schedules.multi_power_law import (
    constant,
    cosine,
    schedule_columns,
    two_stage,
    warmup_stable_decay,
)
from scaling.schedules.predict import predict_schedule, rank_schedules, schedule_findings

# 25M of Luo et al. 2025, and two that move the knee of the loss drop.
PUBLISHED_25M = np.array([3.040, 0.525, 0.508, 363.788, 2.066, 0.583, 0.641])
PARAMETERS = (
    PUBLISHED_25M,
    PUBLISHED_25M * [1, 1, 1, 1, 5.0, 0.6, 1.3],
    PUBLISHED_25M * [1, 1, 1, 1, 0.1, 2.0, 0.5],
)
PEAK, LOW, WARMUP = 3e-4, 3e-5, 300


def cyclic(n_steps):
    """Rates that fall and rise again: both signs of the weights."""
    t = np.arange(n_steps + 1)
    return np.where(t < WARMUP, PEAK * t / WARMUP, PEAK * (0.55 + 0.45 * np.cos(t / 700.0)))


SCHEDULES = {
    "constant": constant(6000, PEAK, n_warmup=WARMUP),
    "cosine": cosine(6000, PEAK, final=LOW, n_warmup=WARMUP),
    "linear": warmup_stable_decay(6000, PEAK, final=LOW, decay_from=4500, n_warmup=WARMUP),
    "to zero": warmup_stable_decay(6000, PEAK, final=0.0, decay_from=4500, n_warmup=WARMUP),
    "exponential": warmup_stable_decay(
        6000, PEAK, final=LOW, decay_from=4500, n_warmup=WARMUP, shape="exponential"
    ),
    "two stages": two_stage(6000, PEAK, final=9e-5, switch_at=3000, n_warmup=WARMUP),
    "cyclic": cyclic(6000),
}


def naive(lr, t, parameters):
    """The law as printed, step by step."""
    L0, A, alpha, B, C, beta, gamma = parameters
    drop = 0.0
    for k in range(1, t + 1):
        if lr[k] > 0:  # A step of rate zero has reach zero and drops nothing yet.
            reach = float(np.sum(lr[k : t + 1]))
            drop += (lr[k - 1] - lr[k]) * (1 - (1 + C * lr[k] ** -gamma * reach) ** -beta)
    return L0 + A * float(np.sum(lr[: t + 1])) ** -alpha - B * drop


@pytest.mark.parametrize("name", SCHEDULES)
def test_reduced_sum_equals_the_naive_sum(name):
    lr, steps = SCHEDULES[name], np.array([1, 2, 301, 400, 3000, 3010, 4600, 5999, 6000])
    columns = schedule_columns([name] * len(steps), steps, SCHEDULES)
    assert columns["drop_weight"].shape[1] < 120
    for parameters in PARAMETERS:
        exact = [naive(lr, int(t), parameters) for t in steps]
        # 1e-5 nats: a hundredth of the scatter of a loss curve.
        np.testing.assert_allclose(MULTI_POWER.predict(parameters, columns), exact, atol=1e-5)


def test_the_weights_of_the_nodes_add_up_to_the_drop_of_the_rate():
    """Sum over k of lr_{k-1} - lr_k telescopes to lr_0 - lr_t = -lr_t after a warm-up from 0."""
    for name, lr in SCHEDULES.items():
        steps = np.array([50, 2000, 5000, 6000])
        columns = schedule_columns([name] * 4, steps, SCHEDULES)
        np.testing.assert_allclose(columns["drop_weight"].sum(axis=1), -lr[steps], atol=1e-15)
        np.testing.assert_allclose(
            np.exp(columns["log_lr_sum"]), [lr[: t + 1].sum() for t in steps], rtol=1e-12
        )


def test_schedules_have_their_rates_at_the_ends():
    for name, final in (("cosine", LOW), ("linear", LOW), ("exponential", LOW), ("to zero", 0.0)):
        lr = SCHEDULES[name]
        assert lr[0] == 0.0
        assert lr[WARMUP // 2] == pytest.approx(PEAK / 2)
        assert lr[WARMUP] == pytest.approx(PEAK)
        assert lr[-1] == pytest.approx(final, abs=1e-18)
    assert SCHEDULES["two stages"][[2999, 3000]] == pytest.approx([PEAK, 9e-5])
    # Half-way down: the arithmetic mean of a line, the geometric one of an exponential.
    assert SCHEDULES["linear"][5250] == pytest.approx((PEAK + LOW) / 2)
    assert SCHEDULES["exponential"][5250] == pytest.approx(np.sqrt(PEAK * LOW))


FITTED = ("cosine", "constant", "two stages")


def planted_curves(sd=0.0, memory=0.0, seed=0, n=10):
    rng = np.random.default_rng(seed)
    steps = np.linspace(WARMUP + 60, 6000, n).astype(int)
    run, step = np.repeat(FITTED, n), np.tile(steps, len(FITTED))
    columns = schedule_columns(run, step, SCHEDULES)
    noise = rng.standard_normal((len(FITTED), n))
    for k in range(1, n):
        noise[:, k] = memory * noise[:, k - 1] + np.sqrt(1 - memory**2) * noise[:, k]
    loss = MULTI_POWER.predict(PUBLISHED_25M, columns) * np.exp(sd * noise.ravel())
    return run, step, loss


def test_noise_free_curves_give_back_the_law_and_every_other_schedule():
    run, step, loss = planted_curves()
    fit = fit_schedules(run, step, loss, SCHEDULES, n_bootstrap=0)
    assert fit.status is FitStatus.CONVERGED
    np.testing.assert_allclose(list(fit.parameters.values()), PUBLISHED_25M, rtol=1e-4)
    for name in ("linear", "exponential", "cyclic"):
        steps, band = predict_schedule(fit, SCHEDULES[name], step=[3000, 6000])
        exact = [naive(SCHEDULES[name], int(t), PUBLISHED_25M) for t in steps]
        np.testing.assert_allclose(band.value, exact, atol=1e-5)


@pytest.fixture(scope="module")
def noisy_fit():
    run, step, loss = planted_curves(sd=3e-4, memory=0.5)
    return fit_schedules(run, step, loss, SCHEDULES, n_bootstrap=32)


@pytest.mark.slow(reason="4 s of replicates; curves without noise are quick")
def test_new_schedules_lie_within_their_bands(noisy_fit):
    for name in ("linear", "exponential"):
        steps, band = predict_schedule(noisy_fit, SCHEDULES[name], step=[2000, 4600, 6000])
        exact = np.array([naive(SCHEDULES[name], int(t), PUBLISHED_25M) for t in steps])
        assert np.all((band.lower < exact) & (exact < band.upper))
    assert "3 of 3 curves are predicted from the others" in " ".join(noisy_fit.findings)


def test_schedules_are_ranked_by_their_final_loss(noisy_fit):
    names = ("constant", "cosine", "exponential")
    exact = {name: naive(SCHEDULES[name], 6000, PUBLISHED_25M) for name in names}
    ranking = rank_schedules(noisy_fit, {name: SCHEDULES[name] for name in names})
    assert list(ranking.names) == sorted(names, key=lambda name: exact[name])
    assert ranking.behind[0] == 0.0
    behind = [exact[name] - min(exact.values()) for name in ranking.names]
    np.testing.assert_allclose(ranking.behind, behind, atol=3e-3)
    assert sum(ranking.share_best) == pytest.approx(1.0)
    assert ranking.share_best[2] < 0.1


@pytest.mark.slow(reason="a program of its own; two curves are quick")
def test_one_curve_says_nothing_of_other_schedules():
    run, step, loss = planted_curves()
    one = run == "cosine"
    fixed = {"C": 2.066, "beta": 0.583, "gamma": 0.641}
    fit = fit_schedules(run[one], step[one], loss[one], SCHEDULES, fixed=fixed, n_bootstrap=0)
    assert np.isnan(fit.misfit_sd)
    assert "none can be predicted from the others" in " ".join(fit.findings)


def test_extrapolation_is_said(noisy_fit):
    assert schedule_findings(noisy_fit, SCHEDULES["linear"]) == []
    assert "extrapolation" in schedule_findings(noisy_fit, 2 * SCHEDULES["linear"])[1]
    longer = constant(12000, PEAK, n_warmup=WARMUP)
    assert "2.03 times the largest" in schedule_findings(noisy_fit, longer)[0]


def test_blocks_are_longer_where_residuals_remember():
    run, step = np.repeat(["a", "b"], 200), np.tile(np.arange(200), 2)
    rng = np.random.default_rng(0)
    white = rng.standard_normal(400)
    walk = np.convolve(rng.standard_normal(420), np.ones(20), mode="valid")[:400]
    n_white = block_labels(run, step, white).max() + 1
    labels = block_labels(run, step, walk)
    assert labels.max() + 1 < n_white / 4
    # No block holds two runs.
    assert not set(labels[:200]) & set(labels[200:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"run": ["x"] * 30}, "no schedule for run x"),
        ({"step": np.full(30, 6001)}, "1 to 6000"),
        ({"loss_nats": np.r_[np.full(29, 3.0), np.nan]}, "two stages step 6000: nan"),
        ({"cluster": "seed"}, "choose auto, run or block"),
    ],
)
def test_wrong_curves_are_refused_in_words(change, message):
    run, step, loss = planted_curves()
    given = {"run": run, "step": step, "loss_nats": loss, "schedules": SCHEDULES} | change
    with pytest.raises(ValueError, match=message):
        fit_schedules(**given)


def test_few_evaluations_are_refused():
    with pytest.raises(FitError, match="7 free parameters"):
        fit_schedules(["cosine"] * 8, np.arange(1000, 1008), np.full(8, 3.0), SCHEDULES)
