# SPDX-License-Identifier: Apache-2.0
"""The Newton solver: exact derivatives, certificates, an independent minimiser."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from scaling.laws import error_laws
from scaling.laws.loss_laws import LOSS_LAWS
from scaling.laws.objectives import Objective, objective_named
from scaling.laws.registry import LAWS
from scaling.published import misfitting
from scaling.published.case import TABLES
from scaling.published.tables import read_table
from scaling.solve import descend, newton
from scaling.solve.certificate import certify
from scaling.solve.descend import Descents
from scaling.solve.newton import Solutions, solve
from scaling.solve.problem import Constraints, set_up
from scaling.solve.regression import estimate

pytestmark = pytest.mark.usefixtures("quick_to_compile")

PLANTED = {
    "additive": (1.7, 30.0, 60.0, 0.35, 0.3),
    "curved": (1.7, 60.0, 90.0, 0.35, 0.4, 0.8),
    "kaplan": (1e4, 3e5, 0.2, 0.25),
    "over_training": (1.2, 20.0, 40.0, 0.3),
    "width_depth": (1.0, 2.0, 1.5, 20.0, 30.0, 0.8, 0.9, 0.35, 0.3),
    "data_constrained": (1.7, 30.0, 60.0, 0.35, 0.3, 12.0, 5.0),
    "power_flops": (1.3, 90.0, 0.2),
    "power_n_params": (1.3, 40.0, 0.3),
    "power_n_tokens": (1.3, 40.0, 0.3),
    "broken_flops": (1.3, 90.0, 0.1, 0.2, 16.0, 0.5),
    "broken_n_params": (1.3, 20.0, 0.1, 0.3, 9.0, 0.4),
    "broken_n_tokens": (1.3, 20.0, 0.1, 0.3, 11.0, 0.4),
    error_laws.ERROR_EXPONENTIAL.name: (0.9, 2.0, 0.7),
    error_laws.ERROR_SIGMOID.name: (0.2, 0.6, 1.5, 3.0),
}
OBJECTIVES = ("huber", "huber:0.05", "lad", "least_squares", "quantile:0.3", "student_t:4")


def table(n=60, seed=0):
    rng = np.random.default_rng(seed)
    N, D = np.exp(rng.uniform(6, 12, n)), np.exp(rng.uniform(8, 14, n))
    return {
        "n_params": N,
        "n_tokens": D,
        "flops": 6 * N * D,
        "unique_tokens": D / np.exp(rng.uniform(0, 4, n)),
        "d_model": np.exp(rng.uniform(3, 6, n)),
        "n_layers": np.exp(rng.uniform(0.5, 3, n)),
        "loss_nats": rng.uniform(2.0, 5.0, n),
    }


def make_problem(law, *, objective="huber", sd=0.01, n=60, seed=0):
    x = table(n, seed)
    noise = np.exp(sd * np.random.default_rng(seed + 1).standard_normal(n))
    y = law.predict(PLANTED[law.name], x) * noise
    objective = objective if isinstance(objective, Objective) else objective_named(objective)
    return set_up(law, x, y, objective=objective)


def value(problem, z):
    """The objective by numpy, in the scale that the solver works with."""
    full = problem.expand @ z + problem.offset
    parameters = problem.law.to_parameters(full[: len(problem.law.parameters)])
    residual = problem.y - np.log(problem.law.predict(parameters, problem.x))
    scale = np.exp(full[-1]) if problem.objective.has_scale else 1.0
    return float(np.sum(problem.weights * problem.objective.rho(residual, scale)))


def test_every_law_has_a_planted_problem():
    assert {law.name for law in (*LOSS_LAWS, *error_laws.ERROR_LAWS)} == set(PLANTED)


# The same forms of another column.
ALIKE = ("power_n_params", "power_n_tokens", "broken_flops", "broken_n_tokens")
SAME_FORM = pytest.mark.slow(reason="3 s of compiling; the quick suite has its form")


def laws(slow: dict[str, pytest.MarkDecorator]) -> list:
    return [pytest.param(name, marks=slow[name]) if name in slow else name for name in PLANTED]


# Their derivatives are as any law's JAX's own; that they are recovered is in the quick suite.
COSTLY = ("data_constrained", "broken_n_params", "width_depth", "curved")
AS_OTHERS = pytest.mark.slow(reason="3 to 6 s of compiling; other laws are in the quick suite")


@pytest.mark.parametrize(
    "name", laws(dict.fromkeys(ALIKE, SAME_FORM) | dict.fromkeys(COSTLY, AS_OTHERS))
)
def test_derivatives_equal_central_differences(name):
    law = LAWS[name]
    check_derivatives(make_problem(law, objective="huber:0.5"), law.to_coordinates(PLANTED[name]))


@pytest.mark.parametrize("objective", ["student_t:4", "least_squares"])
def test_derivatives_of_other_objectives_equal_central_differences(objective):
    """That of Student's t by its scale, too: half of the residuals are beyond it."""
    name = "power_flops"
    problem = make_problem(LAWS[name], objective=objective)
    theta = LAWS[name].to_coordinates(PLANTED[name])
    check_derivatives(problem, np.append(theta, np.log([0.01][: problem.objective.has_scale])))


def check_derivatives(problem, theta):
    z = theta + 0.01
    shifts = 1e-5 * np.eye(len(theta))
    # One call: every other number of rows would be compiled anew.
    at = solve(problem, np.concatenate([z[None], z + shifts, z - shifts]), max_iterations=0)
    above, below = np.split(at.gradient[1:], 2)
    size = np.sqrt(np.abs(np.diag(at.hessian[0])))
    for i, shift in enumerate(shifts):
        slope = (value(problem, z + shift) - value(problem, z - shift)) / 2e-5
        assert at.gradient[0, i] == pytest.approx(slope, rel=1e-4, abs=1e-8)
        bend = (above[i] - below[i]) / 2e-5
        error = np.abs(at.hessian[0, i] - bend)
        assert np.all(error <= 1e-4 * np.abs(bend) + 1e-5 * size[i] * size)


SLOW = pytest.mark.slow(reason="6 to 13 s of compiling; the quick suite compares its derivatives")
COSTLY = ("broken_n_params", "broken_n_tokens", "broken_flops", "data_constrained")


@pytest.mark.parametrize(
    "name", laws(dict.fromkeys(ALIKE, SAME_FORM) | dict.fromkeys(COSTLY, SLOW))
)
def test_a_planted_law_is_recovered_without_noise(name):
    law = LAWS[name]
    problem = make_problem(law, sd=0.0)
    found = estimate(problem)
    again = law.predict(found.parameters, problem.x)
    np.testing.assert_allclose(again, np.exp(problem.y), rtol=1e-7)
    if name not in ("width_depth", "data_constrained"):
        np.testing.assert_allclose(found.parameters, PLANTED[name], rtol=1e-4)


AS_OTHERS = pytest.mark.slow(reason="4 s, as huber; the scale of student_t has a test of its own")


@pytest.mark.parametrize(
    "objective",
    [pytest.param(o, marks=AS_OTHERS) if ":0.05" in o or ":4" in o else o for o in OBJECTIVES],
)
def test_no_minimiser_finds_a_lower_objective(objective):
    problem = make_problem(LAWS["additive"], objective=objective)
    found = estimate(problem)
    assert found.status.name == "CONVERGED"
    own = found.certificate.objective
    assert own == pytest.approx(value(found.problem, found.z), rel=1e-9, abs=1e-9)
    rival = minimize(
        lambda z: 1e3 * value(found.problem, z), found.z + 0.02, method="Nelder-Mead",
        options={"maxiter": 12000, "maxfev": 12000, "xatol": 1e-11, "fatol": 1e-14},
    )  # fmt: skip
    assert own <= rival.fun / 1e3 + 1e-7 * abs(own)


def test_lad_is_stationary_by_its_subgradient():
    """Signs of the residuals, and multipliers within [-1, 1] at the points it passes through."""
    problem = make_problem(LAWS["additive"], objective="lad")
    found = estimate(problem)
    step = 1e-6
    slopes = []
    for i in range(5):
        shift = step * np.eye(5)[i]
        ends = [
            np.log(problem.law.predict(found.parameters_of(found.z + s), problem.x))
            for s in (shift, -shift)
        ]
        slopes.append((ends[0] - ends[1]) / (2 * step))
    slopes = np.array(slopes)
    through = np.abs(found.residuals) < 1e-6
    assert 3 <= through.sum() <= 5
    pull = slopes[:, ~through] @ np.sign(found.residuals[~through])
    multipliers, *_ = np.linalg.lstsq(slopes[:, through], -pull, rcond=None)
    assert np.all(np.abs(multipliers) <= 1 + 1e-6)
    assert np.linalg.norm(slopes[:, through] @ multipliers + pull) < 1e-3 * np.linalg.norm(pull)


def test_a_quantile_leaves_its_share_below():
    found = estimate(make_problem(LAWS["additive"], objective="quantile:0.2", n=400))
    assert np.mean(found.residuals < 0) == pytest.approx(0.2, abs=0.02)


def test_student_t_finds_the_scale():
    law = LAWS["additive"]
    x = table(800)
    noise = 0.02 * np.random.default_rng(3).standard_t(4, 800)
    problem = set_up(
        law, x, law.predict(PLANTED["additive"], x) * np.exp(noise),
        objective=objective_named("student_t:4"),
    )  # fmt: skip
    assert estimate(problem).scale == pytest.approx(0.02, rel=0.1)


def test_fixed_tied_and_bounded_parameters_are_respected():
    law = LAWS["additive"]
    made = make_problem(law)
    y = np.exp(made.y)
    for constraints, check in (
        (Constraints(fixed={"E": 1.5}), lambda p: p[0] == 1.5),
        (Constraints(tied={"beta": "alpha"}), lambda p: p[3] == p[4]),
        (Constraints(bounds={"alpha": (0.0, 0.2)}), lambda p: p[3] == 0.2),
    ):
        found = estimate(set_up(law, table(), y, constraints=constraints), constraints)
        assert check(found.parameters)
        assert (found.status.name == "AT_BOUND") == bool(constraints.bounds)


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        (Constraints(fixed={"F": 1.0}), "no parameter F"),
        (Constraints(fixed={"E": -1.0}), "positive parameter"),
        (Constraints(tied={"alpha": "alpha"}), "only one"),
        (Constraints(bounds={"alpha": (1.0, 0.5)}), "bounded by 1 to 0.5"),
        (Constraints(fixed=dict.fromkeys(LAWS["additive"].names, 0.5)), "nothing is left to fit"),
    ],
)
def test_impossible_constraints_are_refused(constraints, message):
    law = LAWS["additive"]
    with pytest.raises(ValueError, match=message):
        set_up(law, table(), np.ones(60), constraints=constraints)


def test_a_term_that_vanishes_is_a_bound():
    law, x = LAWS["additive"], table()
    found = estimate(set_up(law, x, law.predict((1.7, 30.0, 1e-12, 0.35, 0.3), x)))
    assert found.status.name == "AT_BOUND"
    assert any("term of B vanishes" in text for text in found.certificate.bounds_touched)


def test_the_curved_form_without_e_is_certified_and_with_beta_one_is_the_law_of_kaplan():
    """Two laws that share a surface, each with starts of its own."""
    x = {"log_n_params": np.log(1e4) + np.tile(np.arange(6.0), 6) * 0.6}
    x["log_n_tokens"] = np.log(1e5) + np.repeat(np.arange(6.0), 6) * 0.7
    curved, kaplan = LAWS["curved"], LAWS["kaplan"]
    noise = 0.01 * np.random.default_rng(3).standard_normal(36)
    y = curved.predict((1e-9, 2245.0, 9855.0, 0.742, 0.6625, 0.377), x) * np.exp(noise)
    # Lower than any floor: E would be negative.
    y = y - 0.2
    steady = Constraints(fixed={"beta": 1.0})
    bent = estimate(set_up(curved, x, y, constraints=steady), steady)
    straight = estimate(set_up(kaplan, x, y))
    assert (bent.status.name, straight.status.name) == ("CONVERGED", "CONVERGED")
    assert (bent.certificate.at_bound, bent.certificate.bounds_touched) == (("E",), ())
    assert bent.certificate.objective == pytest.approx(straight.certificate.objective, rel=1e-6)
    _, _, _, alpha, _, gamma = bent.parameters
    _, _, alpha_N, alpha_D = straight.parameters
    assert (alpha * gamma, gamma) == pytest.approx((alpha_N, alpha_D), rel=1e-4)
    # A floor that the user sets is a bound like any other.
    bounded = Constraints(bounds={"E": (0.5, 1.0)})
    low = estimate(set_up(curved, x, y, constraints=bounded), bounded)
    assert low.status.name == "AT_BOUND"


def test_where_nothing_curves_no_minimum_is_certified():
    """Two losses 0.5 apart at each point: every law between them has one sum of deviations."""
    problem = make_problem(LAWS["additive"])
    found = solve(problem, LAWS["additive"].to_coordinates(PLANTED["additive"])[None])
    # As such a table gave it, in units of 1e-18: LAPACK found no eigenvalues of it, scaled by its
    # diagonal.
    rounding = [
        [0.0, 0.0, 0.42, -6.9, 0.0],
        [-1.4, 0.18, 0.0, 13.9, -3.5],
        [-0.70, 0.36, -0.63, 0.0, 13.9],
        [11.3, 11.4, -3.4, 222.0, -222.0],
        [22.5, 11.4, 0.0, -333.0, 0.0],
    ]
    hessian = 1e-18 * np.array(rounding)[None]
    status, certificate = certify(problem, replace(found, hessian=hessian), 0)
    assert status.name == "NOT_CONVEX"
    assert certificate.condition is None


def test_a_solver_that_is_cut_short_is_not_certified():
    problem = make_problem(LAWS["additive"])
    theta = LAWS["additive"].to_coordinates(PLANTED["additive"])
    assert not solve(problem, theta[None] + 0.5, max_iterations=2).is_certified.any()


def test_rows_of_a_batch_do_not_touch_each_other():
    problem = make_problem(LAWS["additive"])
    weights = np.random.default_rng(5).integers(0, 3, (40, 60)).astype(float)
    theta = np.tile(LAWS["additive"].to_coordinates(PLANTED["additive"]), (40, 1))
    together = solve(replace(problem, weights=weights), theta)
    alone = solve(replace(problem, weights=weights[17:18]), theta[:1])
    np.testing.assert_allclose(together.theta[17], alone.theta[0], rtol=1e-12)


@pytest.mark.parametrize("objective", ["lad", "quantile:0.3"])
def test_starts_that_meet_go_on_as_one_to_where_each_would_have_gone(objective, monkeypatch):
    problem, n = make_problem(LAWS["additive"], objective=objective), 16
    rng = np.random.default_rng(0)
    weights = rng.multinomial(problem.n_points, np.ones(problem.n_points) / problem.n_points, n)
    rows = replace(problem, y=np.tile(problem.y, (n, 1)), weights=weights)
    best = np.tile(problem.law.to_coordinates(np.array(PLANTED["additive"])), (n, 1))
    begin = [best + 0.1 * rng.standard_normal(best.shape) for _ in range(3)]
    solved = []

    def counted(problem, starts, **how):
        solved.append(len(starts))
        return solve(problem, starts, **how)

    monkeypatch.setattr(descend, "solve", counted)
    together = Descents(rows, 0.01)
    found = [together.descend(one) for one in begin]
    n_together = sum(solved)
    alone = [Descents(rows, 0.01).descend(one) for one in begin]
    assert n_together < 0.6 * (sum(solved) - n_together)
    for one, other in zip(found, alone, strict=True):
        np.testing.assert_allclose(one.objective, other.objective, rtol=1e-9)
        assert one.is_certified.mean() > 0.9


def test_a_law_that_looks_at_other_rows_is_refused():
    """The solver gives it one row at a time, and would fit another law."""
    law = LAWS["power_flops"]

    def centred(xp, p, x):
        return law.value(xp, p, {"log_flops": x["log_flops"] - x["log_flops"].mean()})

    with pytest.raises(ValueError, match="otherwise by itself than among the others"):
        make_problem(replace(law, value=centred))


def test_a_half_width_far_below_the_scatter_is_reached_through_a_wider_one():
    """To minima no higher; of a law with several minima it is not tried."""
    problem, n = make_problem(LAWS["additive"], sd=0.03), 24
    rng = np.random.default_rng(1)
    rows = replace(problem, y=problem.y + 0.03 * rng.standard_normal((n, problem.n_points)))
    begin = np.tile(problem.law.to_coordinates(np.array(PLANTED["additive"])), (n, 1))
    begin = begin + 0.3 * rng.standard_normal(begin.shape)
    wider, direct = Descents(rows, 0.03), Descents(rows, 0.005)
    assert [len(one.half_widths) for one in (wider, direct)] == [1, 0]
    through, straight = wider.descend(begin), direct.descend(begin)
    assert through.is_certified.all()
    assert np.all(through.objective <= straight.objective * (1 + 1e-9))
    assert Descents(make_problem(LAWS["curved"]), 0.03).half_widths == []


def test_chunks_that_are_solved_at_once_give_the_same_bits(monkeypatch):
    problem = make_problem(LAWS["additive"])
    law = problem.law
    start = law.to_coordinates(np.array(PLANTED["additive"]))
    starts = start + 0.3 * np.random.default_rng(0).standard_normal((5 * newton.CHUNK, 5))
    found = {}
    for n in (1, 4):
        monkeypatch.setattr(newton, "_THREADS", n)
        found[n] = solve(problem, starts)
    for name in Solutions.__slots__:
        np.testing.assert_array_equal(getattr(found[1], name), getattr(found[4], name))
    assert len(np.unique(found[1].n_iterations)) > 1


@pytest.mark.parametrize("law", LAWS.values(), ids=lambda law: law.name)
def test_coordinates_and_parameters_are_inverse(law):
    ranges = [(one.is_positive, *one.start) for one in law.parameters]
    middle = [(low * high) ** 0.5 if is_log else (low + high) / 2 for is_log, low, high in ranges]
    parameters = np.array([PLANTED.get(law.name, middle)])
    back = law.to_parameters(law.to_coordinates(parameters))
    np.testing.assert_allclose(back, parameters, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "parameters", "expected"),
    [
        ("additive", (1.0, 8.0, 9.0, 0.5, 1.0), 1 + 8 / 2 + 9 / 3),
        ("curved", (1.0, 8.0, 9.0, 0.5, 1.0, 2.0), 1 + (8 / 2 + 9 / 3) ** 2),
        ("kaplan", (16.0, 6.0, 1.0, 2.0), ((16 / 4) ** 0.5 + 6 / 3) ** 2),
        ("over_training", (1.0, 8.0, 9.0, 0.5), 1 + 8 / 2 + 9 / (3 * 6**0.5) ** 0.5),
    ],
)
def test_loss_follows_its_formula(name, parameters, expected):
    assert LAWS[name].loss(parameters, 4.0, 3.0) == pytest.approx(expected, rel=1e-13)


def test_a_solve_does_not_change_global_precision():
    import jax.numpy as jnp

    estimate(make_problem(LAWS["additive"]))
    assert jnp.zeros(1).dtype == jnp.float32


def test_a_term_at_its_bound_does_not_hold_up_the_others():
    """Replicates begin at the minimum of the rows, where E is zero, and end at minima of theirs."""
    law, rows = LAWS["curved"], read_table(TABLES / misfitting.TABLE)
    begin = law.to_coordinates((1e-6, 473137, 6.53567e13, 0.409523, 1.24981, 0.215064))
    one = set_up(law, rows, rows["loss_nats"])
    weights = np.random.default_rng(0).multinomial(261, np.full(261, 1 / 261), size=48)
    problem = replace(one, y=np.broadcast_to(one.y, weights.shape), weights=weights)
    solved = solve(problem, np.tile(begin, (48, 1)), max_iterations=60)
    assert solved.is_certified.sum() >= 30
