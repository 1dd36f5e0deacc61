# SPDX-License-Identifier: Apache-2.0
"""Laws of learning rate and batch: planted surfaces, and the grid of Li et al. 2025."""

import csv

import numpy as np
import pytest

from scaling.fit import FitError, FitStatus
from scaling.hyperparameters.fit import best_cells, fit_hyperparameters, recommend
from scaling.hyperparameters.surface_law import Grid

# Published by Li et al. 2025: i, p, q, j, r.
LAW = {"i": 0.586, "p": -0.7129, "q": 0.3075, "j": -0.544, "r": 0.5709}
GROUPS = [(2e8, 4e9), (2e8, 4e10), (4e8, 8e9), (4e8, 5e10), (1e9, 2e10), (1e9, 6e10)]


def best(N, D):
    lr = np.exp(LAW["i"]) * N ** LAW["p"] * D ** LAW["q"]
    return lr, np.exp(LAW["j"]) * D ** LAW["r"]


def planted(sd=0.0, seed=0, bend=0.0, flatter=0.0):
    """Ten rates by nine batches per group on one common grid, factors of sqrt(2) and 2."""
    rng = np.random.default_rng(seed)
    rows = []
    for g, (N, D) in enumerate(GROUPS):
        best_lr, best_batch = best(N, D)
        for lr in 2.4e-4 * np.sqrt(2.0) ** np.arange(12):
            for batch in 2.0 ** np.arange(15, 23):
                u, v = np.log(lr / best_lr), np.log(batch / best_batch)
                u = np.expm1(bend * u) / bend if bend else u
                stiffness = (D / 2e10) ** -flatter
                bowl = stiffness * (0.011 * u**2 - 0.012 * u * v + 0.012 * v**2)
                rows.append((N, D, lr, batch, 2.6 - 0.05 * g + bowl + sd * rng.standard_normal()))
    names = ("n_params", "n_tokens", "lr", "batch_tokens", "loss_nats")
    return Grid.of(**dict(zip(names, np.array(rows).T, strict=True)))


@pytest.mark.parametrize(
    ("bend", "flatter"),
    [pytest.param(0.0, 0.0, marks=pytest.mark.slow(reason="fits of many replicates")), (0.3, 0.2)],
)
def test_noise_free_surface_gives_back_the_law(bend, flatter):
    fit = fit_hyperparameters(planted(bend=bend, flatter=flatter), n_bootstrap=0)
    assert fit.status is FitStatus.CONVERGED
    for name, value in LAW.items():
        assert fit.parameters[name] == pytest.approx(value, abs=1e-4)
    assert fit.shape["bend_lr"] == pytest.approx(bend, abs=1e-4)
    assert fit.shape["k_d"] == pytest.approx(-flatter, abs=1e-4)
    np.testing.assert_allclose(fit.floors, 2.6 - 0.05 * np.arange(6), atol=1e-6)


@pytest.mark.slow(reason="fits of many replicates")
def test_one_curvature_for_all_would_bend_the_exponents():
    """Why the shape is free: a surface that is flatter for long runs, forced to one curvature."""
    grid = planted(bend=0.3, flatter=0.4)
    stiff = {"k_n": 0.0, "k_d": 0.0, "bend_lr": 0.0, "bend_batch": 0.0}
    forced = fit_hyperparameters(grid, n_bootstrap=0, fixed=stiff)
    free = fit_hyperparameters(grid, n_bootstrap=0)
    assert abs(forced.parameters["q"] - LAW["q"]) > 0.02
    assert abs(free.parameters["q"] - LAW["q"]) < 1e-3


@pytest.mark.slow(reason="fits of many replicates")
def test_the_surface_knows_the_exponents_better_than_the_best_cells():
    errors = []
    for seed in range(6):
        grid = planted(sd=0.002, seed=seed, bend=0.2, flatter=0.1)
        ours, cells = fit_hyperparameters(grid, n_bootstrap=0).parameters, best_cells(grid)
        errors.append([[fit[name] - LAW[name] for name in "pqr"] for fit in (ours, cells)])
    ours, cells = np.sqrt(np.mean(np.square(errors), axis=0))
    assert np.all(ours < cells / 2)


@pytest.mark.slow(reason="simulated coverage")
def test_recommendation_holds_the_truth():
    fit = fit_hyperparameters(planted(sd=0.002, seed=3), n_bootstrap=64)
    advice = recommend(fit, 6e8, 3e10)
    lr, batch = best(6e8, 3e10)
    assert advice.lr_interval.lower < lr < advice.lr_interval.upper
    assert advice.batch_interval.lower < batch < advice.batch_interval.upper
    assert advice.lr == pytest.approx(lr, rel=0.1)
    # The planted bowl costs 0.001 nats at exp(sqrt(0.001/0.011)) times the best rate.
    assert advice.lr_slack == pytest.approx(np.exp(np.sqrt(0.001 / 0.011)), rel=0.1)
    assert not advice.is_extrapolated
    assert recommend(fit, 6e9, 3e10).is_extrapolated
    assert fit.bootstrap.method == "pairs by (N, D) group"


def test_best_cells_of_the_published_grid(published):
    """p = -0.82, q = 0.29, r = 0.50 by an independent implementation (data README)."""
    with (published / "steplaw_dense_lr_bs.csv").open() as stream:
        rows = list(csv.DictReader(stream))

    def column(name):
        return np.array([float(row[name]) for row in rows])

    grid = Grid.of(
        n_params=column("params_no_embed"),
        n_tokens=column("tokens"),
        lr=column("lr"),
        batch_tokens=2048 * column("batch_size_seqs"),
        loss_nats=column("smooth_loss"),
    )
    assert grid.n_groups == 17
    found = best_cells(grid)
    assert [round(found[name], 2) for name in "pqr"] == [-0.82, 0.29, 0.50]


def test_groups_that_cannot_tell_n_from_d_are_refused():
    grid = planted()
    on_a_ray = grid.select(np.isin(grid.group, [0, 2, 4]))
    with pytest.raises(FitError, match="at least 4"):
        fit_hyperparameters(on_a_ray)


def test_bad_rows_and_settings_are_refused_in_words():
    with pytest.raises(ValueError, match="row 1 with inf; leave out runs that diverged"):
        Grid.of(n_params=[1, 1], n_tokens=[1, 1], lr=[1, 1], batch_tokens=[1, 1],
                loss_nats=[2.0, np.inf])  # fmt: skip
    with pytest.raises(ValueError, match="window is 0"):
        fit_hyperparameters(planted(), window=0.0)
    with pytest.raises(ValueError, match="only k_n, k_d"):
        fit_hyperparameters(planted(), fixed={"p": 1.0})


@pytest.mark.slow(reason="fits of many replicates")
def test_an_optimum_beyond_the_grid_is_said():
    grid = planted()
    low_rates = grid.select(grid.lr < 1.3e-3)
    fit = fit_hyperparameters(low_rates, n_bootstrap=0)
    assert "lie outside the values tried" in " ".join(fit.findings)
