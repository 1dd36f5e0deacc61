# SPDX-License-Identifier: Apache-2.0
"""Profiles against independent minimisers, likelihoods with known intervals, and flat data."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import brentq, minimize
from scipy.stats import chi2
from scipy.stats import t as student

from scaling.approaches.surface.fit import fit_surface
from scaling.approaches.surface.optimum import chord_exponents
from scaling.fit import FitError
from scaling.laws.law import Law, Parameter
from scaling.laws.loss_laws import ADDITIVE, CURVED
from scaling.laws.size_ladder import Ladder
from scaling.profiles import threshold
from scaling.profiles.optimum_form import optimum, pieces, with_exponent, with_optimum
from scaling.profiles.profile import profile
from scaling.tables.runs import Runs

pytestmark = pytest.mark.usefixtures("quick_to_compile")

FLOPS = 1e22


@pytest.fixture(scope="module")
def fitted():
    """A least-squares fit of 35 noisy runs with C = 6ND."""
    rng = np.random.default_rng(1)
    C = np.repeat([1e17, 1e18, 1e19, 1e20, 1e21], 7)
    N = 0.09 * C**0.5 * np.tile(np.geomspace(1 / 8, 8, 7), 5)
    loss = 1.69 + 406.4 / N**0.34 + 410.7 / (C / 6 / N) ** 0.28
    runs = Runs.from_columns(
        n_params=N, n_tokens=C / 6 / N, budget=C,
        loss_nats=loss * np.exp(0.01 * rng.standard_normal(35)),
    )  # fmt: skip
    return fit_surface(runs, objective="least_squares", n_bootstrap=0)


def half_squares(p, runs):
    E, log_a, log_b, alpha, beta = p
    model = E + np.exp(log_a - alpha * np.log(runs.n_params))
    model = model + np.exp(log_b - beta * np.log(runs.n_tokens))
    return 0.5 * np.sum((np.log(runs.loss_nats) - np.log(model)) ** 2)


def quantity_of(name, p):
    """a, N* and L* at FLOPS of (E, ln A, ln B, alpha, beta): Hoffmann et al. 2022, eq. 4."""
    E, log_a, log_b, alpha, beta = p
    a = beta / (alpha + beta)
    log_g = (np.log(alpha / beta) + log_a - log_b) / (alpha + beta)
    log_n = log_g + a * np.log(FLOPS / 6)
    loss = E + np.exp(log_a - alpha * log_n) + np.exp(log_b - beta * (np.log(FLOPS / 6) - log_n))
    return {"E": E, "alpha": alpha, "a": a, "n_params_opt": log_n, "loss_opt": loss}[name]


AS_OTHERS = pytest.mark.slow(reason="a program of its own; others are in the quick suite")


@pytest.mark.parametrize(
    "name",
    ["E", "n_params_opt", *(pytest.param(n, marks=AS_OTHERS) for n in ("alpha", "a", "loss_opt"))],
)
def test_profile_is_the_constrained_minimum_that_scipy_finds(fitted, name):
    """SLSQP on the original parameters with the quantity as an equality constraint."""
    flops = FLOPS if name.endswith("opt") else None
    found = profile(fitted, name, flops=flops, n_points=9)
    assert found.is_certified.all()
    runs, p = fitted.fitted_runs, fitted.parameters
    start = np.array([p["E"], np.log(p["A"]), np.log(p["B"]), p["alpha"], p["beta"]])
    for i in (1, 7):
        value = np.log(found.grid[i]) if name == "n_params_opt" else found.grid[i]
        constraint = {"type": "eq", "fun": lambda q, v=value: quantity_of(name, q) - v}
        solved = minimize(
            lambda q: 1e3 * half_squares(q, runs), start, constraints=constraint,
            method="SLSQP", options={"maxiter": 2000, "ftol": 1e-15},
        )  # fmt: skip
        # Above it by what SLSQP leaves, below it by nothing but rounding.
        assert found.objective[i] <= solved.fun / 1e3 * (1 + 1e-9)
        assert found.objective[i] == pytest.approx(solved.fun / 1e3, rel=1e-4)


@pytest.mark.slow(reason="6 s; profiles of single quantities are quick")
def test_mirrored_quantities_have_mirrored_profiles(fitted):
    a, b = profile(fitted, "a", n_points=9), profile(fitted, "b", n_points=9)
    assert b.interval.lower == pytest.approx(1 - a.interval.upper, abs=1e-9)
    n = profile(fitted, "n_params_opt", flops=FLOPS, n_points=9)
    d = profile(fitted, "n_tokens_opt", flops=FLOPS, n_points=9)
    assert d.interval.lower * n.interval.upper == pytest.approx(FLOPS / 6, rel=1e-9)
    assert np.all(np.diff(d.grid) > 0)


LINE = Law(
    name="line_for_profiles",
    formula="loss = c + m log N",
    source="this test",
    columns=("log_n_params",),
    parameters=(
        Parameter(name="c", is_positive=False, lower=-1e3, upper=1e3, start=(0.0, 1.0)),
        Parameter(name="m", is_positive=False, lower=-1e3, upper=1e3, start=(-1.0, 1.0)),
    ),
    value=lambda xp, p, x: p[0] + p[1] * x["log_n_params"],
)


@pytest.fixture(scope="module")
def line():
    rng = np.random.default_rng(3)
    x = np.linspace(1.0, 6.0, 8)
    y = 5.0 - 0.3 * x + 0.1 * rng.standard_normal(8)
    return x, y, Runs.from_columns(n_params=np.exp(x), n_tokens=np.full(8, 1e9), loss_nats=y)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_least_squares_on_a_line_gives_students_interval(line, level):
    """For a linear law the F threshold is exact: slope +- t standard errors."""
    x, y, runs = line
    found = profile(fit_surface(runs, LINE, objective="raw-least_squares", n_bootstrap=0), "m",
                    level=level)  # fmt: skip
    design = np.stack([np.ones(8), x], axis=1)
    solution, squares, *_ = np.linalg.lstsq(design, y, rcond=None)
    se = np.sqrt(squares[0] / 6 * np.linalg.inv(design.T @ design)[1, 1])
    half = student.ppf((1 + level) / 2, 6) * se
    assert found.calibration == "F(1, 6)"
    assert found.estimate == pytest.approx(solution[1], abs=1e-9)
    assert found.interval.lower == pytest.approx(solution[1] - half, abs=1e-4 * half)
    assert found.interval.upper == pytest.approx(solution[1] + half, abs=1e-4 * half)
    assert not found.flat
    assert found.findings == ()


def test_students_t_profile_ends_where_the_likelihood_ratio_does():
    rng = np.random.default_rng(3)
    x = np.linspace(1.0, 6.0, 110)
    y = 5.0 - 0.3 * x + 0.1 * rng.standard_t(4, 110)
    runs = Runs.from_columns(n_params=np.exp(x), n_tokens=np.full(110, 1e9), loss_nats=y)
    found = profile(fit_surface(runs, LINE, objective="raw-student_t:4", n_bootstrap=0), "m")

    def deviance(m):
        def f(q):
            u = (y - q[0] - m * x) / np.exp(q[1])
            return np.sum(q[1] + 2.5 * np.log1p(u**2 / 4))

        return minimize(f, [5.0, -2.3], method="Nelder-Mead",
                        options={"xatol": 1e-9, "fatol": 1e-11, "maxiter": 4000}).fun  # fmt: skip

    m = found.estimate
    goal = deviance(m) + chi2.ppf(0.95, 1) / 2
    assert found.calibration == "chi-square(1)"
    for end, far in ((found.interval.lower, m - 0.1), (found.interval.upper, m + 0.1)):
        assert end == pytest.approx(brentq(lambda v: deviance(v) - goal, m, far), abs=2e-5)


@pytest.mark.slow(reason="two programs; the rule on many points is quick")
def test_few_points_calibrate_students_t_by_the_bootstrap(line):
    _, _, runs = line
    fit = fit_surface(runs, LINE, objective="raw-student_t:4", n_bootstrap=0)
    assert profile(fit, "m", n_bootstrap=60).calibration.startswith("bootstrap")


def test_without_a_scale_the_bootstrap_sets_the_threshold(line):
    _, _, runs = line
    fit = fit_surface(runs, LINE, objective="raw-huber:1000", n_bootstrap=0)
    found = profile(fit, "m", n_bootstrap=400)
    exact = profile(fit_surface(runs, LINE, objective="raw-least_squares", n_bootstrap=0), "m")
    assert found.calibration == "bootstrap, 400 residual replicates"
    # 400 replicates place the 95 % quantile to about a tenth; eight residuals are lumpy.
    width = found.interval.upper - found.interval.lower
    assert width == pytest.approx(exact.interval.upper - exact.interval.lower, rel=0.25)


def test_runs_that_share_noise_are_calibrated_by_the_bootstrap(line):
    x, y, _ = line
    runs = Runs.from_columns(
        n_params=np.exp(x), n_tokens=np.full(8, 1e9), loss_nats=y, cluster_id=list("aabbccdd")
    )
    fit = fit_surface(runs, LINE, objective="raw-least_squares", n_bootstrap=0)
    found = profile(fit, "m", n_bootstrap=60)
    assert found.calibration.startswith("bootstrap")
    assert "components" in found.calibration


@pytest.mark.parametrize("law", [ADDITIVE, CURVED], ids=lambda law: law.name)
@pytest.mark.parametrize("overhead", [0.0, 60.0])
def test_a_law_through_its_optimum_is_the_same_surface(law, overhead):
    """Against the numerical optimum of the original surface, C = 6ND and not."""
    parameters = np.array([[0.86, 66.0, 124.0, 0.5, 0.41, 0.9]])[:, : len(law.parameters)]
    C = np.repeat(np.geomspace(1e11, 1e13, 4), 5)
    N = 0.9 * (C / 6) ** 0.46 * np.tile(np.geomspace(0.25, 4, 5), 4)
    D = C / (6 * N * (1 + overhead / np.sqrt(N)))
    runs = Runs.from_columns(n_params=N, n_tokens=D, flops=C, loss_nats=np.ones(20))
    ladder, x = Ladder.from_runs(runs), {"n_params": N, "n_tokens": D}
    expected = law.predict(parameters, x)
    n_opt, loss_opt = optimum(law, parameters, ladder, 1e13)
    of_curve = parameters[:, 5:]
    rows = [parameters[:, 0], n_opt, loss_opt, parameters[:, 3], parameters[:, 4]]
    row = np.column_stack([*rows, of_curve, [1e13]])
    # compute.minimise closes on N* to 1e-8, at which the two terms balance to a few parts in 1e8.
    np.testing.assert_allclose(
        with_optimum(law, pieces(ladder)).predict(row, x), expected, rtol=1e-6
    )
    low = optimum(law, parameters, ladder, float(C.min()))
    a, _ = chord_exponents(law, parameters, runs)
    row = np.column_stack(
        [parameters[:, 0], *low, a, parameters[:, 4], of_curve, [C.min()], [C.max()]]
    )
    np.testing.assert_allclose(
        with_exponent(law, pieces(ladder)).predict(row, x), expected, rtol=1e-6
    )


def test_cubic_pieces_are_the_ladder():
    N = np.geomspace(1e5, 1e9, 9)
    for wiggle in (0.0, 0.05):
        cost = 6 * N * (1 + 60 / np.sqrt(N)) * np.exp(wiggle * (-1.0) ** np.arange(9))
        ladder = Ladder.from_runs(
            Runs.from_columns(n_params=N, n_tokens=1e9 / N, flops=cost * 1e9 / N, loss_nats=N)
        )
        knots, cubics = ladder.pieces
        at = np.linspace(8, 24, 200)
        piece = np.clip(np.searchsorted(knots, at, side="right"), 1, len(knots)) - 1
        t = at - knots[piece]
        found = ((cubics[0, piece] * t + cubics[1, piece]) * t + cubics[2, piece]) * t
        np.testing.assert_allclose(found + cubics[3, piece], ladder.log_cost(at), atol=1e-9)


def two_basins():
    """Data for which a power law's exponent has two minima: half say 0.1, half say 0.6."""
    x = np.linspace(1.0, 8.0, 24)
    y = np.where(np.arange(24) % 2, 4 * np.exp(-0.1 * x), 4 * np.exp(-0.6 * x))
    return Runs.from_columns(n_params=np.exp(x), n_tokens=np.full(24, 1e9), loss_nats=y)


DECAY = Law(
    name="decay_for_profiles",
    formula="loss = K N^-c",
    source="this test",
    columns=("log_n_params",),
    parameters=(
        Parameter(name="K", is_positive=True, lower=3.9, upper=4.1, start=(3.95, 4.05)),
        Parameter(name="c", is_positive=False, lower=-0.2, upper=1.0, start=(0.05, 0.8)),
    ),
    value=lambda xp, p, x: p[0] * xp.exp(-p[1] * x["log_n_params"]),
)


def test_several_minima_and_pieces_are_named(monkeypatch):
    # Chi-square at any size: a bootstrap at this level would need 20,000 replicates.
    monkeypatch.setattr(threshold, "MANY_DOF", 1)
    fit = fit_surface(two_basins(), DECAY, objective="student_t:1", n_bootstrap=0)
    found = profile(fit, "c", level=0.9999)
    assert "2 minima along its profile" in " ".join(found.findings)
    for box in ((-0.2, 0.35), (0.35, 1.0)):
        alone = fit_surface(
            two_basins(), DECAY, objective="student_t:1", n_bootstrap=0, bounds={"c": box}
        )
        assert np.min(np.abs(found.grid - alone.parameters["c"])) < 1e-6


def test_an_end_that_the_data_do_not_give_is_open():
    """Noise far above the decay: no exponent is too large, up to the bound of the box."""
    rng = np.random.default_rng(0)
    x = np.linspace(1.0, 3.0, 12)
    y = 4 * np.exp(-0.6 * x) * np.exp(2.0 * rng.standard_normal(12))
    runs = Runs.from_columns(n_params=np.exp(x), n_tokens=np.full(12, 1e9), loss_nats=y)
    found = profile(fit_surface(runs, DECAY, objective="least_squares", n_bootstrap=0), "c")
    assert found.flat
    assert found.interval.upper == np.inf
    assert any("open above: up to the bound of its box, 1," in s for s in found.findings)


@pytest.mark.parametrize(
    ("quantity", "flops", "message"),
    [
        ("gamma", None, "additive has no 'gamma'; it has E, A, B"),
        ("n_params_opt", None, "needs flops, a positive budget"),
        ("alpha", 1e20, "takes no flops"),
        ("loss_opt", -1.0, "needs flops, a positive budget, not -1"),
    ],
)
def test_what_cannot_be_held_is_refused(fitted, quantity, flops, message):
    with pytest.raises(ValueError, match=message):
        profile(fitted, quantity, flops=flops)


def test_a_fixed_or_tied_quantity_has_no_profile(fitted):
    runs = fitted.fitted_runs
    fixed = fit_surface(runs, fixed={"E": 1.7}, objective="least_squares", n_bootstrap=0)
    with pytest.raises(ValueError, match="E is fixed in this fit"):
        profile(fixed, "E")
    tied = replace(fixed, settings={**fixed.settings, "fixed": {}, "tied": {"alpha": "beta"}})
    with pytest.raises(ValueError, match="alpha is fixed, tied or bounded"):
        profile(tied, "a")


def test_noise_free_runs_leave_no_threshold(fitted):
    p, runs = fitted.parameters, fitted.fitted_runs
    loss = ADDITIVE.loss([p[name] for name in ADDITIVE.names], runs.n_params, runs.n_tokens)
    fit = fit_surface(replace(runs, loss_nats=loss), objective="least_squares", n_bootstrap=0)
    with pytest.raises(FitError, match="without noise"):
        profile(fit, "alpha")
