# SPDX-License-Identifier: Apache-2.0
"""Curves at one budget: their minima, intervals that stay honest when flat, and the options."""

import itertools

import numpy as np
import pytest
from scipy.interpolate import Akima1DInterpolator
from scipy.optimize import minimize, minimize_scalar
from scipy.stats import t as student

from scaling.approaches.isoflop.curves import fit_curve, minima
from scaling.approaches.isoflop.intervals import polynomial_minimum, scatters
from scaling.approaches.isoflop.per_budget import fit_per_budget
from scaling.fit import FitError
from scaling.tables.runs import Runs

SIZES = np.geomspace(1e7, 4e8, 9)


def noisy(curvature=0.05, sd=0.003, seed=0, sizes=SIZES):
    rng = np.random.default_rng(seed)
    return 3.0 + curvature * np.log(sizes / 6e7) ** 2 + sd * rng.standard_normal(len(sizes))


def fieller(sizes, loss, level):
    """Ends of the interval of ln N* from the quadratic of Fieller 1954, by hand."""
    x = np.log(sizes)
    (c2, c1, c0), covariance = np.polyfit(x, loss, 2), np.polyfit(x, loss, 2, cov="unscaled")[1]
    rest = loss - np.polyval([c2, c1, c0], x)
    covariance = covariance * np.sum(rest**2) / (len(x) - 3)
    t2 = student.ppf((1 + level) / 2, len(x) - 3) ** 2
    quadratic = (
        4 * (c2**2 - t2 * covariance[0, 0]),
        4 * (c1 * c2 - t2 * covariance[0, 1]),
        c1**2 - t2 * covariance[1, 1],
    )
    return quadratic[0], np.sort(np.roots(quadratic).real)


def minimum_of(kind, loss, level=0.95, sizes=SIZES):
    curve = fit_curve(kind, sizes, loss)
    return curve, polynomial_minimum(curve, scatters([curve], [loss])[0], level)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_interval_of_a_parabola_is_fiellers(level):
    loss = noisy()
    _, found = minimum_of("parabola", loss, level)
    leading, ends = fieller(SIZES, loss, level)
    assert leading > 0
    assert np.log([found.size.lower, found.size.upper]) == pytest.approx(ends, abs=1e-7)
    assert found.is_open == (False, False)


def test_a_flat_curve_has_an_open_interval_and_says_so():
    loss = noisy(curvature=0.0003)
    _, found = minimum_of("parabola", loss)
    assert fieller(SIZES, loss, 0.95)[0] < 0, "Fieller's set is unbounded"
    assert (found.size.lower, found.size.upper) == pytest.approx((SIZES[0], SIZES[-1]))
    assert found.is_open == (True, True)
    assert found.sentence == "the interval is open beyond the smallest and the largest size"


KINDS, CURVATURES = ("parabola", "cubic", "quartic"), (0.001, 0.005, 0.05)
QUICK = [*zip(KINDS, CURVATURES, strict=True)]


@pytest.mark.parametrize(
    ("kind", "curvature"),
    [
        *QUICK,
        *(
            pytest.param(*each, marks=pytest.mark.slow(reason="simulated coverage, as of others"))
            for each in itertools.product(KINDS, CURVATURES)
            if each not in QUICK
        ),
    ],
)
def test_intervals_of_size_and_loss_cover_however_flat_the_curve(kind, curvature):
    hits = np.zeros(2)
    n = 200
    for seed in range(n):
        _, found = minimum_of(kind, noisy(curvature, seed=seed))
        hits += (
            found.size.lower <= 6e7 <= found.size.upper,
            found.loss.lower <= 3.0 <= found.loss.upper,
        )
    # 95 % of 200 is 190 +- 3.1.
    assert np.all(hits >= 183), hits


def test_interval_of_the_loss_is_its_profile():
    """At its ends the best parabola with that minimum is t^2 s^2 worse: scipy's minimiser."""
    loss = noisy(curvature=0.01, sd=0.004) + 0.01 * np.log(SIZES / 6e7)
    x = np.log(SIZES / 6e7)
    best = np.polyfit(x, loss, 2, full=True)[1][0]
    worse = best * (1 + student.ppf(0.975, 6) ** 2 / 6)
    _, found = minimum_of("parabola", loss)
    assert found.is_open == (False, False)
    for lowest in (found.loss.lower, found.loss.upper):
        squares = [
            minimize(
                lambda p, at=lowest: np.sum((loss - at - p[1] * (x - p[0]) ** 2) ** 2),
                begin,
                method="Nelder-Mead",
                options={"xatol": 1e-9, "fatol": 1e-14, "maxiter": 4000},
            ).fun
            for begin in ((-0.5, 0.01), (0.3, 0.01))
        ]
        assert min(squares) == pytest.approx(worse, rel=1e-3)


def test_a_clear_maximum_is_no_plausible_minimum():
    _, found = minimum_of("parabola", noisy(curvature=-0.05))
    assert not found.size.is_known
    assert found.curvature.upper < 0


def test_scatter_among_repeats_is_no_lack_of_fit():
    """Means on a parabola and repeats far apart: nothing is said against the parabola."""
    loss = np.repeat(noisy(sd=0.0), 2) + np.tile([-0.01, 0.01], 9)
    curve = fit_curve("parabola", np.repeat(SIZES, 2), loss)
    assert scatters([curve], [loss])[0][0] == pytest.approx(0.0, abs=1e-12)


def test_repeats_of_a_size_count_once_for_its_lack_of_fit():
    """Doubling every run copies no information: the interval stays as it was."""
    loss = noisy()
    _, single = minimum_of("parabola", loss)
    _, double = minimum_of("parabola", np.repeat(loss, 2), sizes=np.repeat(SIZES, 2))
    assert double.size.lower == pytest.approx(single.size.lower, rel=1e-6)
    assert double.loss.upper == pytest.approx(single.loss.upper, rel=1e-9)


def test_few_sizes_borrow_the_scatter_of_all_budgets():
    curves = [fit_curve("parabola", SIZES[:5], noisy(seed=s)[:5]) for s in range(4)]
    losses = [noisy(seed=s)[:5] for s in range(4)]
    by_hand = sum(np.polyfit(np.log(SIZES[:5]), y, 2, full=True)[1][0] for y in losses)
    for sd, dof in scatters(curves, losses):
        assert dof == 8
        assert sd == pytest.approx(np.sqrt(by_hand / 8))


def test_minimum_of_a_quartic_is_that_of_scipy():
    x = np.log(SIZES / 6e7)
    loss = noisy(sd=0.002, curvature=0.02) - 0.1 * x + 0.02 * x**4
    curve = fit_curve("quartic", SIZES, loss)
    polynomial = np.polynomial.Polynomial.fit(np.log(SIZES), loss, 4)
    found = minimize_scalar(polynomial, bounds=(16.8, 19), options={"xatol": 1e-10})
    assert curve.centre + curve.minimum == pytest.approx(found.x, abs=1e-6)
    assert curve.loss(np.array(curve.minimum)) == pytest.approx(found.fun, rel=1e-10)
    # Newton's steps end at rounding error, where a grid or a false curvature would not.
    assert abs(polynomial.deriv()(curve.centre + curve.minimum)) < 1e-12


def test_minimum_of_akima_curves_is_that_of_a_fine_grid():
    targets = np.stack([noisy(sd=0.05, seed=s) for s in range(40)])
    curve = fit_curve("akima", SIZES, targets[0])
    point, loss = minima(curve, targets, np.ones_like(targets), edges="kept")
    grid = np.linspace(curve.x[0], curve.x[-1], 40001)
    for found, lowest, y in zip(point, loss, targets, strict=True):
        values = np.exp(Akima1DInterpolator(curve.x, np.log(y))(grid))
        assert lowest <= values.min() + 1e-12
        assert lowest == pytest.approx(values.min(), abs=1e-8)
        assert found == pytest.approx(grid[np.argmin(values)], abs=2e-3)


@pytest.mark.parametrize("kind", ["parabola", "cubic", "quartic", "akima"])
def test_weights_count_runs(kind):
    """A replicate with weights is the curve through rows repeated that often."""
    rng = np.random.default_rng(1)
    sizes, loss = np.repeat(SIZES, 2), np.repeat(noisy(), 2) + 0.002 * rng.standard_normal(18)
    weights = rng.integers(1, 4, 18)
    point, lowest = minima(fit_curve(kind, sizes, loss), loss[None], weights[None], edges="lost")
    copied = fit_curve(kind, np.repeat(sizes, weights), np.repeat(loss, weights))
    shift = copied.centre - np.log(sizes).mean()
    assert point[0] == pytest.approx(copied.minimum + shift, abs=1e-7)
    assert lowest[0] == pytest.approx(copied.loss(np.array(copied.minimum)), abs=1e-10)


def test_a_resample_without_all_sizes_has_no_akima_curve_and_one_of_two_sizes_no_parabola():
    curve = fit_curve("akima", SIZES, noisy())
    weights = np.ones((1, 9))
    weights[0, 4] = 0
    assert np.isnan(minima(curve, noisy()[None], weights, edges="kept")[0][0])
    weights[0, 2:] = 0
    parabola = fit_curve("parabola", SIZES, noisy())
    assert np.isnan(minima(parabola, noisy()[None], weights, edges="kept")[0][0])


@pytest.mark.parametrize("kind", ["parabola", "cubic", "quartic", "akima"])
def test_a_falling_curve_has_no_minimum(kind):
    loss = 3.0 - 0.1 * np.log(SIZES / 1e7) - 0.001 * np.log(SIZES / 1e7) ** 2
    curve = fit_curve(kind, SIZES, loss)
    assert np.isnan(curve.minimum)
    kept, lowest = minima(curve, loss[None], np.ones((1, 9)), edges="kept")
    assert kept[0] == pytest.approx(curve.x[-1])
    assert lowest[0] == pytest.approx(loss[-1])
    assert np.isnan(minima(curve, loss[None], np.ones((1, 9)), edges="lost")[0][0])


BUDGETS = np.array([1e17, 1e18, 1e19, 1e20])


def grid(a=0.45, b=0.62, sd=0.0, seed=0, repeats=1, skew=0.0, n_sizes=9):
    """Losses that are parabolas of ln N and of ln D about N* ~ C^a and D* ~ C^b, a + b != 1."""
    rng = np.random.default_rng(seed)
    steps = np.repeat(np.log(np.geomspace(1 / 6, 6, n_sizes)), repeats)
    x, C = np.tile(steps, 4), np.repeat(BUDGETS, len(steps))
    loss = 1.7 + (C / 1e18) ** -0.1 + 0.05 * x**2 + skew * x**3
    return Runs.from_columns(
        n_params=1e8 * (C / 1e18) ** a * np.exp(x),
        n_tokens=2e9 * (C / 1e18) ** b * np.exp(-x),
        flops=C,
        loss_nats=loss * np.exp(sd * rng.standard_normal(len(x))),
        budget=C,
        flops_convention="matmul_full",
    )


def test_tokens_from_their_own_curve_need_no_flop_convention():
    fit = fit_per_budget(grid(), tokens="curve", n_bootstrap=20)
    assert (fit.exponent_a, fit.exponent_b) == pytest.approx((0.45, 0.62), abs=1e-9)
    assert fit.parameters["n_tokens_ref"] == pytest.approx(2e9 * 10 ** (0.5 * 0.62), rel=1e-8)


def test_interval_of_tokens_is_that_of_their_curve():
    fit = fit_per_budget(grid(sd=0.002), tokens="curve", n_bootstrap=0)
    for optimum in fit.optima:
        assert optimum.interval_n_tokens.lower < optimum.n_tokens_opt
        assert optimum.n_tokens_opt < optimum.interval_n_tokens.upper
        assert optimum.interval_loss.lower < optimum.loss_opt < optimum.interval_loss.upper


@pytest.mark.parametrize(
    ("curve", "error"), [("parabola", 0.3), ("quartic", 1e-6), ("akima", 0.05)]
)
def test_skewed_losses_need_more_than_a_parabola(curve, error):
    fit = fit_per_budget(grid(skew=0.01), curve=curve, accept="any", n_bootstrap=0)
    assert fit.exponent_a == pytest.approx(0.45, abs=1e-4)
    found = fit.optima[1].n_params_opt / 1e8 - 1
    assert abs(found) < error
    assert curve != "parabola" or abs(found) > 0.05


def test_akima_draws_the_noise_that_is_given():
    fit = fit_per_budget(grid(), curve="akima", seed_noise=0.002, n_bootstrap=400)
    wider = fit_per_budget(
        grid(), curve="akima", seed_noise=lambda loss: 0 * loss + 0.004, n_bootstrap=400
    )
    assert fit.bootstrap.method == "seed noise as given"
    assert fit.settings["seed_noise"] == 0.002
    assert np.std(wider.replicates["exponent_a"]) > 1.4 * np.std(fit.replicates["exponent_a"])
    assert fit.intervals["exponent_a"].lower < 0.45 < fit.intervals["exponent_a"].upper
    assert all(
        o.interval_n_params.lower < o.n_params_opt < o.interval_n_params.upper for o in fit.optima
    )
    assert type(fit).from_json(fit.to_json()).to_json() == fit.to_json()


def test_akima_without_noise_or_repeats_gives_no_intervals_and_says_so():
    fit = fit_per_budget(grid(), curve="akima", n_bootstrap=50)
    assert not fit.intervals["exponent_a"].is_known
    assert any("the data give no intervals" in sentence for sentence in fit.findings)


def test_akima_takes_its_noise_from_repeats():
    fit = fit_per_budget(grid(sd=0.004, repeats=3), curve="akima", n_bootstrap=200)
    assert fit.noise.run_sd == pytest.approx(0.004, rel=0.3)
    assert fit.intervals["exponent_a"].lower < 0.45 < fit.intervals["exponent_a"].upper


def test_unresolved_budgets_can_be_kept_and_are_said_to_be():
    """One budget is flat: left out as a rule, kept on request, its interval open."""
    runs = grid(sd=0.001)
    loss = np.where(runs.budget == 1e19, 2.5 + 1e-4 * np.sin(np.arange(36)), runs.loss_nats)
    flat = Runs.from_columns(
        n_params=runs.n_params, n_tokens=runs.n_tokens, flops=runs.flops, budget=runs.budget,
        loss_nats=loss, flops_convention="matmul_full",
    )  # fmt: skip
    strict = fit_per_budget(flat, n_bootstrap=0)
    assert "not resolved from 0" in strict.optima[2].reason
    assert strict.optima[2].reason.endswith("; add sizes on both sides of the best, or seeds")
    assert strict.optima[2].interval_n_params.lower == pytest.approx(flat.n_params[18])
    every = fit_per_budget(flat, accept="any", n_bootstrap=0)
    assert every.optima[2].reason == ""
    assert "open beyond" in every.optima[2].note
    assert any("resolved or not" in sentence for sentence in every.findings)


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"curve": "sextic"}, "unknown curve 'sextic'"),
        ({"tokens": "x"}, "unknown tokens='x'"),
        ({"accept": ""}, "unknown accept=''"),
    ],
)
def test_unknown_choices_are_named(choice, words):
    with pytest.raises(ValueError, match=words):
        fit_per_budget(grid(), **choice)


def test_a_quartic_of_too_few_sizes_is_refused():
    with pytest.raises(FitError, match="5 runs at 5 sizes, a quartic needs 7 runs at 6 sizes"):
        fit_per_budget(grid(n_sizes=5), curve="quartic")
