# SPDX-License-Identifier: Apache-2.0
"""Branches of one trunk: every interval respects cluster_id, or says that it does not."""

from dataclasses import replace

import numpy as np
import pytest

from experiments.benchmarks.coverage.studies import SimulatedStudy
from scaling.answers.compute_multiplier import compute_multiplier
from scaling.answers.holdout import hold_out
from scaling.answers.loss_forecast import predict_loss
from scaling.approaches.envelope import fit as envelope_module
from scaling.approaches.envelope.fit import fit_envelope
from scaling.approaches.isoflop.draws import pooled_share
from scaling.approaches.isoflop.fit import fit_isoflop
from scaling.approaches.isoflop.per_budget import fit_per_budget
from scaling.approaches.surface.fit import fit_surface
from scaling.fit import Fit, FitError
from scaling.profiles.profile import profile
from scaling.tables.runs import Runs
from scaling.uncertainty import bootstrap_draws
from scaling.uncertainty import noise as noise_module
from scaling.uncertainty.groups import configurations
from scaling.uncertainty.variance_components import variance_posterior

pytestmark = pytest.mark.usefixtures("quick_to_compile")

CHINCHILLA = (1.69, 406.4, 410.7, 0.34, 0.28)


def branched(n_seeds: int, trunk: float, *, seed: int = 0, n_sizes: int = 5) -> Runs:
    """Sizes x five budgets x seeds; every size and seed is one trunk."""
    study = of_branches(n_seeds, trunk, n_sizes=n_sizes)
    runs = study.runs()
    noise = study.noise_draws(runs.loss_nats, 1, np.random.default_rng(seed))[0]
    return replace(runs, loss_nats=runs.loss_nats * np.exp(noise))


def of_branches(n_seeds: int, trunk: float, *, n_sizes: int = 5) -> SimulatedStudy:
    return SimulatedStudy(
        name="branches", law="additive", parameters=CHINCHILLA, width=6.0, sd=0.003,
        budgets=(1e19, 2e19, 4e19, 8e19, 1.6e20), n_sizes=n_sizes, n_seeds=n_seeds, trunk=trunk,
    )  # fmt: skip


def alone(runs: Runs) -> Runs:
    """The same runs, each a cluster of its own."""
    return replace(runs, cluster_id=runs.run_id)


def surface(runs: Runs, **settings) -> Fit:
    return fit_surface(runs, **({"n_bootstrap": 40, "replicate_starts": 1} | settings))


def envelope(runs: Runs) -> Fit:
    return fit_envelope(runs, select="final_hull", n_bootstrap=40)


FITS = {
    "surface": surface,
    "isoflop": fit_isoflop,
    "per budget": fit_per_budget,
    "envelope": envelope,
}


@pytest.mark.slow(reason="simulated coverage")
@pytest.mark.parametrize("n_seeds", [1, 2])
def test_approach_2_of_branches_holds_the_truth_as_often_as_it_says(n_seeds):
    """Fifty simulations, nine tenths of the noise in trunks; standard error 6 points at 80 %."""
    study = of_branches(n_seeds, 0.9)
    runs, rng = study.runs(), np.random.default_rng(1)
    truth = fit_isoflop(runs, n_bootstrap=0).exponent_a
    hits = {"auto": 0, "residual": 0}
    for seed, noise in enumerate(study.noise_draws(runs.loss_nats, 50, rng)):
        noisy = replace(runs, loss_nats=runs.loss_nats * np.exp(noise))
        for method in hits:
            fit = fit_isoflop(noisy, bootstrap=method, n_bootstrap=79, level=0.8, seed=seed)
            interval = fit.intervals["exponent_a"]
            hits[method] += interval.lower <= truth <= interval.upper
    assert 0.68 <= hits["auto"] / 50 <= 0.98
    assert hits["residual"] < hits["auto"]


@pytest.mark.parametrize(
    ("n_seeds", "trunk", "low", "high"),
    # One seed: two degrees of freedom tell trunks, and less than no shared noise is not believed.
    [
        (1, 0.9, 0.74, 0.86),
        pytest.param(1, 0.0, 0.8, 1.0, marks=pytest.mark.slow(reason="simulated coverage")),
        pytest.param(3, 0.0, 0.74, 0.86, marks=pytest.mark.slow(reason="simulated coverage")),
        (3, 0.9, 0.74, 0.86),
    ],
)
def test_intervals_of_a_line_through_sizes_hold_its_slope(n_seeds, trunk, low, high):
    """Least squares of five columns, as a surface has; 200 simulations, standard error 3 points."""
    study = of_branches(n_seeds, trunk)
    runs, rng = study.runs(), np.random.default_rng(2)
    x, y = (v - v.mean() for v in (np.log(runs.n_params), np.log(runs.budget)))
    slopes = np.column_stack([np.ones(len(runs)), x, x**2, y, x * y])
    of_slope = np.linalg.pinv(slopes)[1]
    left = np.eye(len(runs)) - slopes @ np.linalg.pinv(slopes)
    hits, fitted = 0, np.zeros(len(runs))
    for noise in study.noise_draws(runs.loss_nats, 200, rng):
        drawn, _ = bootstrap_draws.draw_data(
            "components", runs, fitted, left @ noise, 5, 199, rng, slopes=slopes
        )
        ends = np.quantile(drawn @ of_slope, [0.1, 0.9], method="weibull")
        hits += ends[0] <= -of_slope @ noise <= ends[1]
    assert low <= hits / 200 <= high


@pytest.mark.parametrize("name", FITS)
def test_estimates_do_not_move_and_the_noise_is_named(name):
    runs = branched(2, 0.9)
    found, other = FITS[name](runs), FITS[name](alone(runs))
    assert found.parameters == other.parameters
    assert found.exponent_a == other.exponent_a
    assert any("branches of 10 trunks" in s for s in found.findings)
    assert not any("trunks" in s for s in other.findings)
    assert not np.array_equal(
        found.replicates["exponent_a"], other.replicates["exponent_a"], equal_nan=True
    )


@pytest.mark.parametrize("name", FITS)
def test_names_of_clusters_do_not_matter(name):
    runs = branched(2, 0.5)
    names = np.unique(runs.cluster_id)
    renamed = dict(zip(names, np.random.default_rng(1).permutation(len(names)), strict=True))
    other = replace(runs, cluster_id=np.array([f"c{renamed[c]}" for c in runs.cluster_id]))
    found, again = FITS[name](runs), FITS[name](other)
    assert found.intervals == again.intervals
    for key, values in found.replicates.items():
        np.testing.assert_array_equal(values, again.replicates[key])


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("together", ["runs", "repeats"])
def test_runs_that_share_no_noise_never_meet_trunks(name, together, monkeypatch):
    """Clusters of one run, or of repeats of one configuration, are drawn as ever."""
    runs = alone(branched(2, 0.5))
    if together == "repeats":
        labels = configurations(runs)
        runs = replace(runs, cluster_id=np.array([f"c{k}" for k in labels]))

    def never(*_):
        raise AssertionError("trunks were asked for")

    for module in (noise_module, bootstrap_draws):
        monkeypatch.setattr(module, "variance_posterior", never)
    found = FITS[name](runs)
    assert found.bootstrap.method in ("residual", "run-to-run shifts")
    assert found.intervals["exponent_a"].is_known


def test_curves_of_one_size_are_shifted_together_where_branches_do_not_differ(monkeypatch):
    """All noise in trunks: every replicate moves the budgets of a size by the same amount."""
    runs, shifts = branched(3, 1.0), []
    winners = envelope_module.winners

    def seen(grid, log_loss, **settings):
        # Every configuration has one FLOP value of its own.
        own = np.isfinite(log_loss)
        shifts.append((grid.n_params, log_loss[own] - grid.mean()[own]))
        return winners(grid, log_loss, **settings)

    monkeypatch.setattr(envelope_module, "winners", seen)
    envelope(runs)
    sizes, moved = shifts[0][0], np.array([move for _, move in shifts if np.any(move != 0)])
    assert len(moved) == 40
    # The least own noise that is drawn is a thousandth of the trunks'.
    within = [np.std(moved[:, sizes == size], axis=1).max() for size in np.unique(sizes)]
    assert max(within) < 0.01 * moved.std()


def test_identical_branches_tell_no_more_of_a_level_than_their_trunks():
    """Every branch of a trunk has its noise: the interval of a level is Student's of trunks."""
    rng = np.random.default_rng(2)
    of_trunks = 0.01 * rng.standard_normal(8)
    runs = Runs.from_columns(
        n_params=np.repeat(np.geomspace(1e6, 1e8, 8), 4),
        n_tokens=np.tile([1e8, 2e8, 4e8, 8e8], 8),
        loss_nats=3.0 * np.exp(np.repeat(of_trunks, 4)),
        cluster_id=[f"trunk{i // 4}" for i in range(32)],
    )
    targets, _ = bootstrap_draws.draw_data(
        "components", runs, np.full(32, np.log(3.0)), np.log(runs.loss_nats / 3.0), 1, 20000, rng,
        slopes=np.ones((32, 1)),
    )  # fmt: skip
    # 2.365 and 1.415: quantiles of Student's t with 7 degrees of freedom.
    standard_error = of_trunks.std(ddof=1) / np.sqrt(8)
    upper = np.quantile(targets.mean(axis=1) - np.log(3.0), [0.9, 0.975])
    np.testing.assert_allclose(upper, [1.415 * standard_error, 2.365 * standard_error], rtol=0.06)


def test_variances_are_told_by_what_all_parameters_of_the_surface_leave(monkeypatch):
    """E, A, B, alpha and beta: five directions, of noise as it is and divided by its scale."""
    ranks = []

    def seen(residuals, slopes, *labels):
        ranks.append(int(np.linalg.matrix_rank(slopes / np.linalg.norm(slopes, axis=0), tol=1e-7)))
        return variance_posterior(residuals, slopes, *labels)

    for module in (noise_module, bootstrap_draws):
        monkeypatch.setattr(module, "variance_posterior", seen)
    found = surface(branched(2, 0.5))
    assert ranks == [5, 5]
    assert found.bootstrap.method == "components"


@pytest.mark.parametrize(("trunk", "low", "high"), [(1.0, 0.19, 0.21), (0.0, 0.8, 1.0)])
def test_budgets_that_share_trunks_tell_their_scatter_once(trunk, low, high):
    """Of five budgets with the same trunks only one counts, and all where noise is their own."""
    runs = branched(1, trunk, n_sizes=40)
    curves = [fit_one(runs, budget) for budget in runs.budgets]
    assert low <= pooled_share(runs, curves) <= high
    assert pooled_share(alone(runs), curves) == 1.0


def fit_one(runs, budget):
    from scaling.approaches.isoflop.curves import fit_curve

    rows = runs.budget == budget
    return fit_curve("parabola", runs.n_params[rows], runs.loss_nats[rows])


def test_intervals_of_single_minima_widen_where_budgets_share_trunks():
    runs = branched(1, 0.9)
    found, other = (fit_per_budget(r, n_bootstrap=0) for r in (runs, alone(runs)))
    assert [o.n_params_opt for o in found.optima] == [o.n_params_opt for o in other.optima]
    for one, two in zip(found.optima, other.optima, strict=True):
        assert one.interval_n_params.lower < two.interval_n_params.lower
        assert one.interval_n_params.upper > two.interval_n_params.upper


def test_a_forecast_of_a_new_run_holds_the_noise_of_a_new_trunk():
    """One seed: a fit absorbs most of what five trunks do, and their noise is larger than left."""
    runs = branched(1, 0.95, seed=3)
    found, other = surface(runs), surface(alone(runs))
    assert found.noise.dof <= 4 < other.noise.dof
    wide, narrow = (predict_loss(f, 3e9, 1e10).interval for f in (found, other))
    assert wide.upper - wide.lower > 1.5 * (narrow.upper - narrow.lower)


def test_three_sizes_of_one_seed_give_no_interval_and_say_why():
    """E, A and alpha follow three sizes wherever their trunks lie."""
    runs = branched(1, 0.5, n_sizes=3)
    found = surface(runs)
    assert found.bootstrap.n_replicates == 0
    assert not found.intervals["exponent_a"].is_known
    assert any("nothing tells what their shared noise does" in s for s in found.findings)
    with pytest.raises(FitError, match="add sizes, or a second seed"):
        profile(surface(runs, objective="least_squares"), "E")


@pytest.mark.slow(reason="10 s of profiles")
def test_profiles_of_branches_are_wider_than_those_of_independent_runs():
    runs = branched(2, 0.9)
    found, other = (
        profile(surface(r, objective="least_squares", n_bootstrap=0), "a", n_points=9,
                n_bootstrap=80)
        for r in (runs, alone(runs))
    )  # fmt: skip
    assert "components" in found.calibration
    assert found.estimate == pytest.approx(other.estimate, rel=1e-9)
    assert found.threshold > 1.5 * other.threshold


def test_what_does_not_respect_shared_noise_says_so():
    runs = branched(2, 0.9)
    given = fit_per_budget(runs, seed_noise=0.01, n_bootstrap=20)
    assert any("do not respect it" in s for s in given.findings)
    asked = surface(runs, bootstrap="residual", n_bootstrap=20)
    assert any("takes them for independent" in s for s in asked.findings)
    one = surface(runs, n_bootstrap=20)
    both = compute_multiplier(one, one)
    assert any("10 trunks (cluster_id) have runs of A and of B" in s for s in both.findings)
    single = surface(alone(runs), n_bootstrap=20)
    assert not any("trunks" in s for s in compute_multiplier(single, single).findings)
    held = hold_out(runs, ["additive"], below=1.1e20)
    assert any("10 of 10 held-out runs share noise" in s for s in held.findings)
    assert not any("share noise" in s for s in hold_out(alone(runs), ["additive"]).findings)


def test_akima_minima_of_branches_draw_trunks_from_repeats():
    runs = branched(3, 0.9)
    found, other = (fit_per_budget(r, curve="akima", n_bootstrap=200) for r in (runs, alone(runs)))
    assert any("branches of 15 trunks" in s for s in found.findings)
    # A trunk moves its size at all budgets: minima of neighbours move together, those of the ends
    # of the range against one another, and the exponent with them.
    width, narrow = (np.nanstd(f.replicates["exponent_a"]) for f in (found, other))
    assert width > 1.3 * narrow
