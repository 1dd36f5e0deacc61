# SPDX-License-Identifier: Apache-2.0
"""Clusters, scatter, and what the bootstraps draw."""

import numpy as np
import pytest

from scaling.laws.objectives import objective_named
from scaling.tables.runs import Runs
from scaling.uncertainty import bootstrap_draws
from scaling.uncertainty.bootstrap_choice import choose_method, passes_through_points
from scaling.uncertainty.groups import clusters, configurations
from scaling.uncertainty.noise import estimate_noise, local_scale

pytestmark = pytest.mark.usefixtures("quick_to_compile")


def grid(n_configurations=40, n_repeats=3, cluster_id=None):
    N = np.repeat(np.geomspace(1e5, 1e7, n_configurations), n_repeats)
    return Runs.from_columns(
        n_params=N, n_tokens=np.full(len(N), 1e8), loss_nats=np.full(len(N), 2.0),
        cluster_id=cluster_id,
    )  # fmt: skip


def test_repeats_and_shared_cluster_ids_are_one_cluster():
    runs = Runs.from_columns(
        n_params=[1, 1, 2, 3, 4],
        n_tokens=[9, 9, 9, 9, 9],
        loss_nats=[2, 2, 2, 2, 2],
        cluster_id=["a", "b", "b", "c", "d"],
    )
    assert configurations(runs).tolist() == [0, 0, 1, 2, 3]
    assert clusters(runs).tolist() == [0, 0, 0, 1, 2]


def test_run_noise_and_lack_of_fit_are_told_apart():
    runs = grid(400)
    rng = np.random.default_rng(0)
    shared = np.repeat(0.02 * rng.standard_normal(400), 3)
    noise = estimate_noise(runs, shared + 0.01 * rng.standard_normal(1200), 5)
    assert noise.run_sd == pytest.approx(0.01, rel=0.1)
    assert noise.misfit_sd == pytest.approx(0.02, rel=0.1)
    assert noise.dof == 395


def test_without_repeats_all_scatter_is_run_noise():
    runs = grid(400, 1)
    residuals = 0.01 * np.random.default_rng(0).standard_normal(400)
    noise = estimate_noise(runs, residuals, 5)
    assert noise.run_sd_nats is None
    assert noise.misfit_sd == 0.0
    assert noise.run_sd == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("misfit", [0.0, 0.02])
def test_residual_draws_have_the_spread_that_was_measured(misfit):
    runs = grid(200)
    rng = np.random.default_rng(1)
    shared = np.repeat(misfit * rng.standard_normal(200), 3)
    residuals = shared + 0.01 * rng.standard_normal(600)
    noise = estimate_noise(runs, residuals, 5)
    drawn = bootstrap_draws.residual_draws(runs, residuals, noise, 500, rng)
    assert drawn.std() == pytest.approx(noise.one_run_sd, rel=0.05)
    by_config = drawn.reshape(500, 200, 3)
    within = by_config.std(axis=2, ddof=1)
    assert np.sqrt(np.mean(within**2)) == pytest.approx(0.01, rel=0.07)


def test_wild_draws_keep_the_pattern_of_a_cluster():
    labels = np.repeat(np.arange(30), 4)
    residuals = np.random.default_rng(2).standard_normal(120)
    drawn = bootstrap_draws.wild_draws(residuals, labels, 5, 300, np.random.default_rng(3))
    ratio = (drawn / residuals).reshape(300, 30, 4)
    np.testing.assert_allclose(ratio, ratio[:, :, :1] * np.ones(4), rtol=1e-9)
    assert np.mean(ratio) == pytest.approx(0.0, abs=0.03)
    assert np.mean(ratio**2) == pytest.approx(30 / 25, rel=0.05)


def test_pairs_keep_clusters_whole():
    weights = bootstrap_draws.pairs_weights(
        np.repeat(np.arange(10), 3), 50, np.random.default_rng(4)
    )
    assert np.all(weights.reshape(50, 10, 3) == weights.reshape(50, 10, 3)[:, :, :1])
    assert np.all(weights.sum(axis=1) == 30)


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        (grid(60, 2), "pairs"),
        (grid(24, 2), "residual"),
        (grid(24, 2, cluster_id=[f"trunk{i // 8}" for i in range(48)]), "components"),
        # Repeats of one configuration under one name share nothing with others.
        (grid(24, 2, cluster_id=[f"repeat{i // 2}" for i in range(48)]), "residual"),
    ],
)
def test_the_bootstrap_suits_the_design(runs, expected):
    assert choose_method("auto", runs, 5) == expected


def test_unknown_bootstrap_is_refused():
    with pytest.raises(ValueError, match="choose one of auto, pairs"):
        choose_method("jackknife", grid(), 5)


def on_budgets(n_budgets, n_sizes):
    C = np.repeat(np.geomspace(1e17, 1e21, n_budgets), n_sizes)
    N = np.sqrt(C) * np.tile(np.geomspace(0.01, 1, n_sizes), n_budgets)
    return Runs.from_columns(
        n_params=N, n_tokens=C / 6 / N, budget=C, loss_nats=np.full(len(N), 2.0)
    )


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        (on_budgets(10, 7), "residual"),
        (on_budgets(8, 8), "pairs"),
        (on_budgets(4, 20), "pairs"),
        # A budget of its own for every run: nothing is resampled within budgets.
        (on_budgets(60, 1), "pairs"),
    ],
)
def test_pairs_need_eight_clusters_at_every_budget(runs, expected):
    assert choose_method("auto", runs, 5) == expected


def test_one_thin_budget_is_enough_to_keep_the_design():
    full = on_budgets(4, 20)
    thin = full.select(np.concatenate([np.arange(60), np.arange(60, 67)]))
    assert choose_method("auto", thin, 5) == "residual"


@pytest.mark.parametrize("method", ["residual", "wild"])
def test_draws_have_none_of_the_residuals_that_an_l1_fit_made_zero(method):
    """Of 40 normal residuals ten were absorbed: draws have the spread of those left over."""
    runs = grid(40, 1)
    residuals = 0.01 * np.random.default_rng(0).standard_normal(40)
    residuals[:10] = 0.0
    drawn = {}
    for absorbs in (False, True):
        drawn[absorbs], _ = bootstrap_draws.draw_data(
            method, runs, np.zeros(40), residuals, 10, 2000, np.random.default_rng(1),
            absorbs=absorbs,
        )  # fmt: skip
    # A quarter are exactly zero before, none after.
    assert np.mean(drawn[False] == 0) == pytest.approx(0.25, abs=0.02)
    assert np.mean(drawn[True] == 0) == 0
    assert drawn[True].std() == pytest.approx(residuals[10:].std(), rel=0.15)


def planted(growth, n_configurations, n_repeats, rng):
    """Fitted log losses over a range of 1 and residuals whose sd grows along it by a factor."""
    fitted = np.repeat(np.linspace(1.6, 0.6, n_configurations), n_repeats)
    sd = 0.005 * growth ** (fitted - 0.6)
    return fitted, sd * rng.standard_normal(len(fitted))


@pytest.mark.parametrize("method", ["residual", "wild"])
@pytest.mark.parametrize("n_repeats", [1, 2])
@pytest.mark.parametrize("absorbs", [False, True])
@pytest.mark.parametrize("growth", [1.0, 4.0, 0.25])
def test_draws_spread_along_the_fit_as_the_noise_does(growth, absorbs, n_repeats, method):
    """The spread at the two ends has the planted ratio, and is flat where none was planted."""
    runs, rng = grid(400, n_repeats), np.random.default_rng(5)
    fitted, residuals = planted(growth, 400, n_repeats, rng)
    drawn, _ = bootstrap_draws.draw_data(
        method, runs, fitted, residuals, 5, 100, rng, absorbs=absorbs
    )
    spread = (drawn - fitted).std(axis=0)
    # Wild draws keep each residual in its place: mean squares over a twentieth tell little, so
    # the ratio comes from a line through all of them.
    slope = np.polyfit(fitted, np.log(np.maximum(spread, 1e-9)), 1)[0]
    assert np.exp(slope) == pytest.approx(growth, rel=0.3)


def test_a_few_residuals_of_one_scale_stay_nearly_flat():
    """Thirty runs cannot tell a slope, ten of them even less: it is drawn towards zero."""
    rng = np.random.default_rng(6)
    slopes = []
    for n in (10, 30, 300):
        drawn = [planted(1.0, n, 1, rng) for _ in range(200)]
        logs = [np.log(local_scale(f, r, 5)[[0, -1]]) for f, r in drawn]
        slopes.append(np.std([(a - b) / 3.4 for a, b in logs]))
    # An undrawn slope has the standard error sqrt(0.571/n) for normal noise: 0.24, 0.14, 0.044.
    assert slopes[2] == pytest.approx(0.044, rel=0.25)
    assert slopes[1] < 0.15
    assert slopes[0] < 0.24


@pytest.mark.parametrize(
    ("fitted", "residuals", "n_parameters"),
    [
        (np.zeros(20), np.ones(20), 5),
        (np.arange(20.0), np.zeros(20), 5),
        (np.arange(20.0), np.ones(20), 20),
    ],
)
def test_data_without_a_slope_have_one_scale(fitted, residuals, n_parameters):
    assert np.all(local_scale(fitted, residuals, n_parameters) == 1.0)


def test_means_of_repeats_are_drawn_with_the_spread_they_have():
    """Repeats that scatter more than their means allow do not widen what the fit depends on."""
    runs, rng = grid(200, 2), np.random.default_rng(7)
    deviation = 0.01 * rng.standard_normal(200)
    mean = 0.001 * rng.standard_normal(200)
    residuals = np.stack([mean + deviation, mean - deviation], axis=1).reshape(-1)
    noise = estimate_noise(runs, residuals, 5)
    drawn = bootstrap_draws.residual_draws(runs, residuals, noise, 500, rng)
    means = drawn.reshape(500, 200, 2).mean(axis=2)
    assert means.std() == pytest.approx(mean.std(), rel=0.05)


@pytest.mark.parametrize(
    ("objective", "expected"),
    [("lad", True), ("huber:0.001", True), ("huber:0.1", False), ("least_squares", False),
     ("student_t", False), ("quantile:0.1", False)],
)  # fmt: skip
def test_only_l1_like_fits_have_their_residuals_filled_in(objective, expected):
    noise = estimate_noise(grid(40, 1), np.full(40, 0.01), 5)
    assert passes_through_points(objective_named(objective), noise) == expected


def test_residuals_about_a_fit_without_the_run_are_those_of_that_fit():
    rng = np.random.default_rng(3)
    slopes, y, weights = (
        rng.standard_normal((12, 3)),
        rng.standard_normal(12),
        rng.uniform(1, 9, 12),
    )
    root = np.sqrt(weights)

    def off(rows):
        solved = np.linalg.lstsq(root[rows, None] * slopes[rows], root[rows] * y[rows])[0]
        return y - slopes @ solved

    expected = [off(np.arange(12) != i)[i] for i in range(12)]
    found = bootstrap_draws.left_out_residuals(off(np.arange(12)), slopes, weights)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
