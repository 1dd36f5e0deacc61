# SPDX-License-Identifier: Apache-2.0
"""Trunks, lack of fit and own noise: dense likelihoods, Student's t, and what nothing tells."""

import numpy as np
import pytest
from scipy.linalg import null_space
from scipy.stats import t as student

from scaling.uncertainty.variance_components import variance_posterior

pytestmark = pytest.mark.usefixtures("quick_to_compile")


def crossed(n_sizes, n_budgets, n_seeds):
    """Trunk and configuration of each run: every size and seed is a trunk with all budgets."""
    size, budget, seed = np.indices((n_sizes, n_budgets, n_seeds)).reshape(3, -1)
    return size * n_seeds + seed, size * n_budgets + budget


def drawn(trunks, configurations, trunk, misfit, own, rng):
    """Residuals with these standard deviations."""
    of_trunks = trunk * rng.standard_normal(trunks.max() + 1)[trunks]
    of_misfit = misfit * rng.standard_normal(configurations.max() + 1)[configurations]
    return of_trunks + of_misfit + own * rng.standard_normal(len(trunks))


def test_weights_are_the_dense_restricted_likelihood():
    """An unbalanced design: K'r with K'J = 0 under V = 1 + g_t ZZ' + g_m MM', written out."""
    rng = np.random.default_rng(0)
    trunks, configurations = crossed(4, 3, 2)
    kept = rng.permutation(len(trunks))[:19]
    trunks, configurations = trunks[kept], np.unique(configurations[kept], return_inverse=True)[1]
    slopes = np.column_stack([np.ones(19), configurations, configurations**2, 2.0 * configurations])
    r = drawn(trunks, configurations, 0.7, 0.3, 0.5, rng)
    found = variance_posterior(r, slopes, trunks, configurations)
    K = null_space(slopes.T, rcond=1e-10)
    assert found.dof == K.shape[1] == 16
    Z, M = (np.equal.outer(label, label).astype(float) for label in (trunks, configurations))
    most_per_trunk, most_per_config = np.bincount(trunks).max(), np.bincount(configurations).max()
    for ratio, most in ((found.trunk, most_per_trunk), (found.misfit, most_per_config)):
        steps = np.diff(np.unique(np.log1p(most * ratio).round(9)))
        np.testing.assert_allclose(steps, steps[0], rtol=1e-6)
    expected = []
    for g, h in zip(found.trunk, found.misfit, strict=True):
        V = K.T @ (np.eye(19) + g * Z + h * M) @ K
        squares = (K.T @ r) @ np.linalg.solve(V, K.T @ r)
        # Even in the log of 1 + c g: no prior to be seen. V must have a root.
        least = 1 + most_per_trunk * min(g, 0) + most_per_config * min(h, 0)
        density = np.exp(-0.5 * np.linalg.slogdet(V)[1]) * squares ** (-16 / 2)
        expected.append(density if least >= 0.01 else 0.0)
    expected = np.array(expected) / np.sum(expected)
    # The floor under own noise is 1e-6 of the residuals' squares.
    np.testing.assert_allclose(found.weights, expected, rtol=1e-3, atol=1e-12)


@pytest.mark.parametrize("n_branches", [2, 6])
def test_branches_that_do_not_differ_count_as_one_run_per_trunk(n_branches):
    """The mean of G trunks has the interval of Student's t with G - 1, however many branches."""
    rng = np.random.default_rng(1)
    trunks = np.repeat(np.arange(6), n_branches)
    of_trunks = rng.standard_normal(6)
    runs = np.arange(len(trunks))
    found = variance_posterior(of_trunks[trunks], np.ones((len(trunks), 1)), trunks, runs)
    assert found.trunk_dof == 5
    means = found.draws(40_000, rng).mean(axis=1)
    for level in (0.8, 0.95):
        expected = student.ppf((1 + level) / 2, 5) * of_trunks.std(ddof=1) / np.sqrt(6)
        assert np.quantile(means, (1 + level) / 2) == pytest.approx(expected, rel=0.05)
    sd, misfit, dof = found.one_run
    assert (misfit, dof) == (0.0, 5)
    assert sd == pytest.approx(of_trunks.std(ddof=1), rel=0.01)


MORE = pytest.mark.slow(reason="5 s of draws each; the ends are in the quick suite")


@pytest.mark.parametrize(
    ("trunk", "misfit"),
    [
        (0.0, 0.0),
        (0.95, 0.5),
        *(pytest.param(*c, marks=MORE) for c in [(0.5, 0.0), (0.95, 0.0), (0.0, 0.5), (0.5, 0.5)]),
    ],
)
def test_planted_components_are_found(trunk, misfit):
    rng = np.random.default_rng(2)
    trunks, configurations = crossed(24, 6, 3)
    r = drawn(trunks, configurations, np.sqrt(trunk), misfit, np.sqrt(1 - trunk), rng)
    found = variance_posterior(r, np.ones((len(r), 1)), trunks, configurations)
    assert found.shares[0] == pytest.approx(trunk, abs=0.1)
    assert found.shares[1] <= found.shares[0] <= found.shares[2]
    sd, misfit_sd, _ = found.one_run
    assert sd == pytest.approx(1.0, rel=0.1)
    # 139 means tell a variance of 0.25 among 0.58 to 0.07.
    assert misfit_sd**2 == pytest.approx(misfit**2, abs=0.14)
    draws = found.draws(200, rng).reshape(200, 24, 6, 3)
    assert draws.std() == pytest.approx(np.hypot(1.0, misfit), rel=0.1)
    # Seeds of a configuration have its misfit in common, and nothing else.
    assert np.mean(draws[..., 0] * draws[..., 1]) == pytest.approx(misfit_sd**2, abs=0.06)
    # Budgets of a trunk move together by its share of what is not common to all seeds.
    own = draws - draws.mean(axis=3, keepdims=True)
    together = np.mean(own[:, :, 0] * own[:, :, 1]) / np.mean(own**2)
    assert together == pytest.approx(trunk, abs=0.1)


def test_one_seed_tells_trunks_by_what_the_fit_leaves_of_sizes():
    """Five sizes, of which a parabola takes three: two degrees of freedom, as Student's t has."""
    rng = np.random.default_rng(3)
    trunks, configurations = crossed(5, 5, 1)
    x = np.linspace(-1, 1, 5)[trunks]
    budget = configurations % 5
    slopes = np.concatenate([np.vander(x, 3) * (budget == b)[:, None] for b in range(5)], axis=1)
    r = drawn(trunks, configurations, 1.0, 0.0, 0.01, rng)
    found = variance_posterior(r, slopes, trunks, configurations)
    assert (found.dof, found.trunk_dof) == (10, 2)
    assert found.one_run[2] == 2


def test_means_of_trunks_that_scatter_less_than_their_runs_are_drawn_as_they_scatter():
    """Two seeds of a size in opposition: the mean of a size moves less than its runs allow."""
    rng = np.random.default_rng(6)
    trunks, configurations = crossed(12, 4, 2)
    r = rng.standard_normal(96)
    r -= 0.95 * (np.bincount(trunks, r) / 4)[trunks]
    found = variance_posterior(r, np.ones((96, 1)), trunks, configurations)
    of_trunks = found.draws(4000, rng).reshape(4000, 12, 4, 2).mean(axis=2)
    measured = (np.bincount(trunks, r) / 4).std(ddof=1)
    assert measured < 0.05
    assert np.median(of_trunks.std(axis=(1, 2))) < 0.2
    assert found.shares[0] == 0.0


def test_a_fit_that_follows_every_trunk_leaves_nothing_to_tell():
    trunks, configurations = crossed(3, 5, 1)
    slopes = np.eye(3)[trunks]
    r = np.random.default_rng(4).standard_normal(15)
    assert variance_posterior(r, slopes, trunks, configurations).trunk_dof == 0


def test_noise_free_residuals_have_no_spread():
    trunks, configurations = crossed(5, 4, 2)
    found = variance_posterior(np.zeros(40), np.ones((40, 1)), trunks, configurations)
    assert np.max(np.abs(found.draws(50, np.random.default_rng(5)))) < 1e-20


def test_checkpoints_that_a_law_fits_badly_are_drawn_as_large_as_their_residuals():
    """A slope that is nearly constant along every trunk leaves 0.0003 of one combination of them;
    a misfit along it would have to be trunks that differ by 36 times as much."""
    rng = np.random.default_rng(0)
    trunks, step = (label.reshape(-1) for label in np.indices((20, 30)))
    log_n, log_d = np.linspace(-1.5, 1.5, 20)[trunks], np.linspace(-1.5, 1.5, 30)[step]
    along = log_n * np.sin(2 * np.pi * log_d / 3)
    slopes = np.column_stack([np.ones(600), log_n + 0.025 * along, log_d])
    r = drawn(trunks, np.arange(600), 0.01, 0.0, 0.002, rng) + 0.01 * along
    found = variance_posterior(r, slopes, trunks, np.arange(600))
    size = np.sqrt(np.mean(found.draws(400, rng) ** 2))
    assert 0.8 < size / np.sqrt(np.mean(r**2)) < 1.6
