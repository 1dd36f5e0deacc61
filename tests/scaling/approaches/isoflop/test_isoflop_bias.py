# SPDX-License-Identifier: Apache-2.0
"""The bias of Approach 2 on surfaces without noise: published values, and where it must vanish."""

from dataclasses import replace

import numpy as np
import pytest

from scaling.answers.frontier import frontier
from scaling.approaches.approach2 import approach2
from scaling.approaches.isoflop.bias import approach2_bias, bias_of, with_bias
from scaling.approaches.surface.fit import fit_surface
from scaling.fit import FitError, FitStatus
from scaling.laws.closed_form_optimum import optimal_params
from scaling.published.approach2_bias import PUBLISHED, WIDTHS, grid

CHINCHILLA, ASYMMETRIC, OFF_CENTRE = PUBLISHED
SYMMETRIC = OFF_CENTRE._replace(off_centre=1.0)


@pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: case.name)
def test_published_errors_of_tokens_are_those_along_the_size_ladder_too(case):
    """arXiv:2603.22339, D* at 1e24 FLOPs; the source's way, over ln D, is a published case."""
    for width, text in zip(WIDTHS, case.percent, strict=True):
        found = approach2_bias("additive", case.surface, grid(case, width), 1e24, curve="parabola")
        assert 100 * found.of_n_tokens == pytest.approx(float(text), abs=5e-4)


def test_a_centred_grid_on_a_symmetric_surface_has_no_bias():
    found = approach2_bias(
        "additive", SYMMETRIC.surface, grid(SYMMETRIC, 8), 1e24, curve="parabola"
    )
    assert (found.of_a, found.of_b, found.of_n_params) == pytest.approx((0, 0, 0), abs=1e-6)


def test_errors_of_size_and_tokens_spend_the_budget():
    found = approach2_bias(
        "additive", ASYMMETRIC.surface, grid(ASYMMETRIC, 8), 1e24, curve="parabola"
    )
    assert (1 + found.of_n_params) * (1 + found.of_n_tokens) == pytest.approx(1, abs=1e-9)
    assert found.of_a + found.of_b == pytest.approx(0, abs=1e-9)
    assert found.exponent_a[1] == pytest.approx(0.155 / 0.62)


def test_a_quartic_halves_the_bias_at_least():
    runs = grid(ASYMMETRIC, 8)
    parabola = approach2_bias("additive", ASYMMETRIC.surface, runs, 1e24, curve="parabola")
    quartic = approach2_bias("additive", ASYMMETRIC.surface, runs, 1e24, curve="quartic")
    assert abs(quartic.of_n_tokens) < 0.5 * abs(parabola.of_n_tokens)


@pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: case.name)
def test_curves_fitted_together_have_none_of_the_published_errors(case):
    """The widest grid of the source, where parabolas are off by 1.5 to 23 % of D*."""
    found = approach2_bias("additive", case.surface, grid(case, 16), 1e24)
    errors = (found.of_a, found.of_b, found.of_n_params, found.of_n_tokens)
    assert errors == pytest.approx((0, 0, 0, 0), abs=1e-5)


def test_the_losses_of_the_runs_do_not_matter():
    runs = grid(CHINCHILLA, 8)
    other = replace(runs, loss_nats=np.linspace(2, 9, len(runs)))
    assert approach2_bias("additive", CHINCHILLA.surface, runs, 1e22) == approach2_bias(
        "additive", CHINCHILLA.surface, other, 1e22
    )


def test_the_bias_explains_what_a_fit_gets_wrong(planted_named):
    """Surface and Approach 2 on one noise-free study: the difference of a is the bias itself."""
    runs = planted_named("asymmetric").runs()
    isoflop = approach2(runs, curve="parabola", n_bootstrap=0)
    surface = fit_surface(runs, n_bootstrap=0)
    found = bias_of(isoflop, surface)
    assert found.flops == 1e21
    assert isoflop.exponent_a - found.of_a == pytest.approx(0.155 / 0.62, abs=1e-5)
    n_params, at = frontier(isoflop, 1e21).n_params_opt.value[0], ASYMMETRIC.surface
    assert n_params / optimal_params(at, 1e21) - 1 == pytest.approx(found.of_n_params, abs=1e-4)
    told = with_bias(isoflop, surface)
    assert told.findings[:-1] == isoflop.findings
    assert f"a {found.of_a:+.4f}" in told.findings[-1]


def test_a_surface_that_is_not_certified_explains_nothing(planted_named):
    runs = planted_named("asymmetric").runs()
    isoflop = approach2(runs, curve="parabola", n_bootstrap=0)
    surface = fit_surface(runs, n_bootstrap=0)
    assert with_bias(isoflop, replace(surface, status=FitStatus.MAX_ITER)) is isoflop


def test_fits_of_other_kinds_are_refused(planted_named):
    runs = planted_named("asymmetric").runs()
    isoflop = approach2(runs, n_bootstrap=0)
    with pytest.raises(ValueError, match="needs an isoflop fit and a surface"):
        bias_of(isoflop, isoflop)


def test_a_grid_beside_every_optimum_is_refused():
    with pytest.raises(FitError, match="no compute-optimal size at 1e60 FLOPs"):
        approach2_bias("additive", CHINCHILLA.surface, grid(CHINCHILLA, 8), 1e60)
