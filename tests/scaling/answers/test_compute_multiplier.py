# SPDX-License-Identifier: Apache-2.0
"""The compute multiplier against planted ones, identities and scipy."""

import dataclasses
import functools

import numpy as np
import pytest
from scipy.optimize import brentq

from scaling.answers.compute_multiplier import compute_multiplier
from scaling.answers.shared_exponents import fit_shared_exponents
from scaling.answers.side_by_side import sides
from scaling.approaches.surface.fit import fit_surface
from scaling.fit import Fit, FitError
from scaling.laws.closed_form_optimum import optimal_params
from scaling.laws.loss_laws import ADDITIVE
from scaling.plots.holdout import figure_multiplier
from scaling.plots.side_by_side import figure_sides
from scaling.plots.style import save
from scaling.tables.runs import Runs
from scaling.tables.units import BITS, BOUND, NATS_HIDDEN, NATS_TARGET

A = (1.69, 406.4, 410.7, 0.34, 0.28)
# The same losses for 0.7 times the compute: sizes and tokens are both divided by sqrt(0.7).
NEEDS = 0.7
GAIN = 1 / NEEDS
B = (1.69, 406.4 * NEEDS**0.17, 410.7 * NEEDS**0.14, 0.34, 0.28)
HIGHER_FLOOR = (2.0, 200.0, 300.0, 0.34, 0.28)


def runs(theta, *, sd=0.0, seed=0, convention="6n_total"):
    budget = np.repeat([1e18, 1e19, 1e20, 1e21], 7)
    N = optimal_params(theta, budget) * np.tile(np.geomspace(1 / 6, 6, 7), 4)
    D = budget / (6 * N)
    noise = np.exp(sd * np.random.default_rng(seed).standard_normal(len(N)))
    return Runs.from_columns(
        n_params=N, n_tokens=D, loss_nats=ADDITIVE.loss(theta, N, D) * noise, budget=budget,
        flops_convention=convention,
    )  # fmt: skip


@functools.cache
def fitted(theta, **settings):
    return fit_surface(runs(theta, **settings), n_bootstrap=64)


@pytest.fixture(scope="module")
def noisy():
    return fitted(A, sd=0.003, seed=1), fitted(B, sd=0.003, seed=2)


@pytest.fixture(scope="module")
def between(noisy):
    return compute_multiplier(*noisy)


def frontier_loss(theta, flops):
    N = optimal_params(theta, flops)
    return float(ADDITIVE.loss(theta, N, flops / (6 * N)))


def test_planted_multiplier_is_found_at_every_loss():
    found = compute_multiplier(fitted(A), fitted(B))
    np.testing.assert_allclose(found.ratio, GAIN, rtol=1e-5)
    np.testing.assert_allclose(found.flops_b, NEEDS * found.flops_a, rtol=1e-5)
    np.testing.assert_allclose(found.loss, [frontier_loss(A, c) for c in found.flops_a], rtol=1e-7)
    assert not found.is_extrapolated.any()


def test_two_different_laws_meet_where_scipy_says():
    """Brent's method on the closed form of L*(C)."""
    budgets = np.array([1e18, 1e19, 1e20])
    found = compute_multiplier(fitted(A), fitted(HIGHER_FLOOR), flops=budgets)
    for flops, flops_b in zip(budgets, found.flops_b, strict=True):
        loss = frontier_loss(A, flops)
        expected = brentq(lambda c, loss=loss: frontier_loss(HIGHER_FLOOR, c) - loss, 1e12, 1e27)
        assert flops_b == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow(reason="simulated coverage")
def test_intervals_hold_the_planted_multiplier():
    """At 95 %, and the five of a pair share their noise: one pair in eight may miss it."""
    held = []
    for seed in range(8):
        pair = fitted(A, sd=0.003, seed=2 * seed + 1), fitted(B, sd=0.003, seed=2 * seed + 2)
        found = compute_multiplier(*pair)
        held.append((found.lower < GAIN) & (found.upper > GAIN))
        assert np.all(1 / found.lower - 1 / found.upper < 0.3)
    assert np.mean(held) >= 7 / 8, np.mean(held, axis=1)


def test_swapping_the_recipes_inverts_the_multiplier(noisy, between):
    (a, b), there = noisy, between
    back = compute_multiplier(b, a, flops=there.flops_b)
    np.testing.assert_allclose(back.ratio, 1 / there.ratio, rtol=1e-8)
    np.testing.assert_allclose(back.loss, there.loss, rtol=1e-9)


def test_replicates_of_both_fits_are_independent(noisy):
    """A fit against itself: were equal draws paired, the interval would have no width.

    Independent errors of two equal fits add: sqrt(2) times the spread of one.
    """
    found = compute_multiplier(noisy[0], noisy[0])
    np.testing.assert_allclose(found.ratio, 1.0, rtol=1e-9)
    assert np.all(np.log(found.upper / found.lower) > 0.03)


def test_a_loss_below_the_other_floor_is_never_reached():
    a, b = fitted(A), fitted(HIGHER_FLOOR)
    with pytest.raises(FitError, match="reaches none of the losses"):
        compute_multiplier(a, b, flops=1e24)
    found = compute_multiplier(a, b, flops=[1e19, 1e24])
    assert np.isfinite(found.ratio[0])
    assert found.ratio[1] == found.lower[1] == 0.0
    assert any("never reach a level" in s for s in found.findings)
    assert found.to_dict()["flops_b"][1] is None


def test_settings_of_one_table_and_two_tables_are_compared_the_same_way(noisy, between):
    """Above 1: the second needs less, in both."""
    _, second = sides(dict(zip(("old", "new"), noisy, strict=True)))
    np.testing.assert_array_equal(second.gain.ratio, between.ratio)
    np.testing.assert_array_equal(second.gain.lower, between.lower)
    assert np.all(between.ratio > 1)


def test_findings_name_what_is_compared(noisy):
    beyond = compute_multiplier(*noisy, flops=1e23, names=("old", "new"))
    assert any("the runs of old or new" in said for said in beyond.findings)
    with pytest.raises(FitError, match="new reaches none of the losses of old"):
        compute_multiplier(fitted(A), fitted(HIGHER_FLOOR), flops=1e24, names=("old", "new"))


def test_levels_outside_the_runs_are_marked(noisy):
    found = compute_multiplier(*noisy, flops=[1e15, 1e20, 1e23])
    assert found.is_extrapolated.tolist() == [True, False, True]
    assert any("2 of 3 levels lie outside" in s for s in found.findings)


def test_losses_in_different_units_are_refused(noisy):
    other = fitted(A)
    other = dataclasses.replace(other, runs=dataclasses.replace(other.runs, loss_unit=BITS))
    assert Fit.from_json(other.to_json()).runs.loss_unit == BITS
    with pytest.raises(ValueError, match="are nats per token, of B bits per byte: read both in"):
        compute_multiplier(noisy[0], other)


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        (NATS_HIDDEN, "of B nats per masked token: a token that is hidden is another question"),
        (NATS_TARGET, "of B nats per target token: a target given its source is another question"),
    ],
)
def test_hidden_or_target_and_next_tokens_never_compare(noisy, unit, words):
    other = dataclasses.replace(noisy[1], runs=dataclasses.replace(noisy[1].runs, loss_unit=unit))
    with pytest.raises(ValueError, match=words) as no:
        compute_multiplier(noisy[0], other)
    assert "\n" not in str(no.value)


def bounded(fit):
    kinds = {"loss_kind": np.full(len(fit.runs), BOUND)}
    return dataclasses.replace(fit, runs=dataclasses.replace(fit.runs, extra=kinds))


def test_a_setting_whose_losses_are_bounds_is_named_so_in_the_figure(noisy):
    found = sides({"next_token": noisy[0], "diffusion": bounded(noisy[1])})
    (legend,) = figure_sides(found).legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["next_token", "diffusion, upper bound"]
    assert any("losses of diffusion are upper bounds" in said for said in found[1].gain.findings)


def test_the_loss_of_the_true_source_is_a_line_in_the_figure_where_it_is_known(noisy):
    told = {"oracle_loss_nats": np.full(len(noisy[0].runs), 1.25)}
    runs = dataclasses.replace(noisy[0].runs, extra=told)
    for one in (dataclasses.replace(noisy[0], runs=runs), noisy[0]):
        found = figure_sides(sides({"A": one}))
        lines = [line.get_ydata()[0] for line in found.axes[0].get_lines()]
        assert (1.25 in lines) == (one is not noisy[0])


@pytest.mark.parametrize("bounds", ["A", "B", "AB"])
def test_bounds_are_compared_and_named(noisy, between, bounds):
    pair = [bounded(fit) if name in bounds else fit for name, fit in zip("AB", noisy, strict=True)]
    found = compute_multiplier(*pair, flops=1e20)
    names = " and ".join(bounds)
    assert any(f"losses of {names} are upper bounds: this is compute" in s for s in found.findings)
    is_both = bounds == "AB"
    assert found.loss_unit == "nats per token" + ", upper bound" * is_both
    assert not any("bound" in s for s in between.findings)


def test_tables_under_different_conventions_are_refused(noisy):
    other = fitted(A, convention="table")
    with pytest.raises(ValueError, match="one convention"):
        compute_multiplier(noisy[0], other)


def test_figure_is_drawn(between, tmp_path):
    for path in save(figure_multiplier(between), tmp_path / "multiplier"):
        assert path.stat().st_size > 5000


def test_a_level_beyond_either_table_is_marked(noisy):
    """A ends at 1e20 FLOPs, B at 1e21: 5e20 of A is extrapolated although B has runs there."""
    every = runs(A, sd=0.003, seed=1)
    short = fit_surface(every.select(every.budget <= 1e20), n_bootstrap=0)
    assert compute_multiplier(short, noisy[1], flops=5e20).is_extrapolated.tolist() == [True]
    assert compute_multiplier(noisy[1], short, flops=5e20).is_extrapolated.tolist() == [True]


def test_shared_exponents_find_the_planted_multiplier_in_a_narrower_band(between):
    tables = runs(A, sd=0.003, seed=1), runs(B, sd=0.003, seed=2)
    a, b = fit_shared_exponents(*tables, n_bootstrap=64)
    assert [a.parameters[n] for n in ("E", "alpha", "beta")] == [
        b.parameters[n] for n in ("E", "alpha", "beta")
    ]
    shared, free = compute_multiplier(a, b, paired=True), between
    assert np.all((shared.lower < GAIN) & (shared.upper > GAIN))
    widths = [np.log(one.upper / one.lower)[[0, -1]] for one in (shared, free)]
    # Where the runs of both are, and at the end where little tells the exponents apart.
    assert widths[0][0] < widths[1][0]
    assert widths[0][1] < 0.5 * widths[1][1]


def test_shared_exponents_are_those_of_the_planted_law_without_noise():
    found = fit_shared_exponents(runs(A), runs(B), n_bootstrap=0)
    for one, theta in zip(found, (A, B), strict=True):
        np.testing.assert_allclose([one.parameters[n] for n in ("E", "A", "B", "alpha", "beta")],
                                   theta, rtol=1e-5)  # fmt: skip


def test_a_multiplier_that_changes_is_no_one_number(between):
    assert not any("no one number" in said for said in between.findings)
    steeper = fitted((1.69, 406.4, 410.7, 0.36, 0.30), sd=0.001, seed=3)
    found = compute_multiplier(fitted(A, sd=0.001, seed=1), steeper)
    assert any("no one number" in said for said in found.findings)
