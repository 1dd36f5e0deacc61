# SPDX-License-Identifier: Apache-2.0
"""What runs tell of N*: the spread of N* among studies that were simulated and fitted."""

from dataclasses import replace

import numpy as np
import pytest

from experiments.benchmarks.saving_worth import covariance, evidence, sd_log_n_opt, world
from scaling.frontier import frontier
from scaling.runs import Runs
from scaling.surface import fit_surface

LAW = (1.69, 406.4, 410.7, 0.34, 0.28)
TARGET = 1e21


def grid(seeds, budgets=(1e18, 3e18, 1e19, 3e19, 1e20), n_sizes=5):
    """Sizes about the optimum of every budget; a size and a seed are a trunk."""
    n = np.geomspace(2e7, 2e9, 9)
    rows = [
        (size, budget / (6 * size), budget, seed)
        for k, budget in enumerate(budgets)
        for size in n[k : k + n_sizes]
        for seed in seeds
    ]
    size, tokens, budget, seed = np.array(rows).T
    E, A, B, alpha, beta = LAW
    return Runs.from_columns(
        n_params=size, n_tokens=tokens, budget=budget, flops=budget,
        loss_nats=E + A * size**-alpha + B * tokens**-beta,
        run_id=[f"r{i}" for i in range(len(rows))],
        cluster_id=[f"{s:.0f} {one:.0f}" for s, one in zip(size, seed, strict=True)],
    )  # fmt: skip


def noisy(runs, V, rng):
    return replace(
        runs, loss_nats=runs.loss_nats * np.exp(rng.multivariate_normal(np.zeros(len(runs)), V))
    )


NOISE = [[2e7, 0.006, 50], [2e9, 0.002, 50]]


def test_it_is_the_spread_among_studies_that_were_fitted():
    """Least squares loses little against generalised ones; 60 studies tell an sd to 9 percent."""
    runs, rng = grid((0, 1)), np.random.default_rng(0)
    known = world(runs, "additive", NOISE, TARGET)
    assert known.misfit == 0.0
    V = covariance(known, runs)
    found = [
        frontier(
            fit_surface(noisy(runs, V, rng), "additive", objective="least_squares", n_bootstrap=0),
            TARGET,
        ).n_params_opt.value[0]
        for _ in range(60)
    ]
    said = sd_log_n_opt(known, runs)
    assert 0.8 * said < np.std(np.log(found)) < 1.35 * said


def test_noise_is_that_of_the_size_and_of_the_tokens_in_common():
    runs = grid((0, 1), budgets=(1e18, 3e18, 1e19), n_sizes=2)
    V = covariance(world(grid((0, 1)), "additive", NOISE, TARGET), runs)
    sd = np.sqrt(np.diag(V))
    assert sd == pytest.approx(np.exp(np.interp(
        np.log(runs.n_params), np.log([2e7, 2e9]), np.log([0.006, 0.002])
    )))  # fmt: skip
    R = V / sd / sd[:, None]
    for i in range(len(runs)):
        for j in range(len(runs)):
            same = runs.cluster_id[i] == runs.cluster_id[j]
            d = sorted((runs.n_tokens[i], runs.n_tokens[j]))
            assert R[i, j] == pytest.approx(d[0] / d[1] if same else 0.0)


def test_what_configurations_miss_is_told_by_their_repeats():
    seeds, rng = range(12), np.random.default_rng(1)
    runs = grid(seeds)
    noise = [[2e7, 0.004, 50], [2e9, 0.004, 50]]
    missed = 0.01 * rng.standard_normal(25)
    loss = runs.loss_nats * np.exp(np.repeat(missed, 12) + 0.004 * rng.standard_normal(300))
    found = world(replace(runs, loss_nats=loss), "additive", noise, TARGET).misfit
    # Of 25 configurations the fit takes five; twenty tell a variance to a third, two sd here.
    assert found == pytest.approx(1e-4 * 20 / 25, rel=0.6)
    again = world(runs, "additive", noise, TARGET)
    some = runs.select(np.arange(0, 300, 3))
    assert sd_log_n_opt(replace(again, misfit=found), some) > 1.5 * sd_log_n_opt(again, some)


def test_evidence_per_second_counts_the_square():
    sds, seconds = {"alone": 0.2, "next": 0.1}, {"alone": 100.0, "next": 200.0}
    assert evidence(sds, seconds, "next", "alone") == pytest.approx(2.0)
