# SPDX-License-Identifier: Apache-2.0
"""The bias of Approach 2 on surfaces without noise: published values, and where it must vanish."""

from dataclasses import replace

import numpy as np
import pytest

from scaling.approaches.isoflop import fit_isoflop
from scaling.approaches.isoflop_bias import approach2_bias, bias_of, with_bias
from scaling.approaches.surface import fit_surface
from scaling.fit import FitError, FitStatus
from scaling.tables.runs import Runs

CHINCHILLA = (1.69, 406.4, 410.7, 0.34, 0.28)
ASYMMETRIC = (1.69, 406.4, 410.7, 0.465, 0.155)
SYMMETRIC = (1.69, 400.0, 400.0, 0.31, 0.31)
BUDGETS = (1e17, 1e18, 1e19, 1e20, 1e21)


def grid(parameters, width, off_centre=1.0, n_sizes=15):
    """Tokens from 1/width to width times the optimal ones, at every budget."""
    _, A, B, alpha, beta = parameters
    G = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
    D = np.concatenate(
        [
            off_centre
            * (C / 6) ** (alpha / (alpha + beta))
            / G
            * np.geomspace(1 / width, width, n_sizes)
            for C in BUDGETS
        ]
    )
    C = np.repeat(BUDGETS, n_sizes)
    return Runs.from_columns(n_params=C / 6 / D, n_tokens=D, loss_nats=np.ones(len(D)), budget=C)


@pytest.mark.parametrize("tokens", ["ladder", "curve"])
@pytest.mark.parametrize(
    ("parameters", "off_centre", "percent"),
    [
        (CHINCHILLA, 1.0, (-0.327, -1.301, -2.903, -5.100)),
        (ASYMMETRIC, 1.0, (-1.675, -6.498, -13.910, -23.116)),
        (SYMMETRIC, 3.0, (3.974, 3.472, 2.645, 1.510)),
    ],
)
def test_published_errors_of_tokens_are_reproduced(parameters, off_centre, percent, tokens):
    """arXiv:2603.22339, D* at 1e24 FLOPs, grids of +-2, 4, 8, 16 times."""
    for width, expected in zip((2, 4, 8, 16), percent, strict=True):
        runs = grid(parameters, width, off_centre)
        found = approach2_bias("additive", parameters, runs, 1e24, tokens=tokens)
        assert 100 * found.of_n_tokens == pytest.approx(expected, abs=5e-4)


def test_a_centred_grid_on_a_symmetric_surface_has_no_bias():
    found = approach2_bias("additive", SYMMETRIC, grid(SYMMETRIC, 8), 1e24)
    assert (found.of_a, found.of_b, found.of_n_params) == pytest.approx((0, 0, 0), abs=1e-6)


def test_errors_of_size_and_tokens_spend_the_budget():
    found = approach2_bias("additive", ASYMMETRIC, grid(ASYMMETRIC, 8), 1e24)
    assert (1 + found.of_n_params) * (1 + found.of_n_tokens) == pytest.approx(1, abs=1e-9)
    assert found.of_a + found.of_b == pytest.approx(0, abs=1e-9)
    assert found.exponent_a[1] == pytest.approx(0.155 / 0.62)


def test_a_quartic_halves_the_bias_at_least():
    runs = grid(ASYMMETRIC, 8)
    parabola = approach2_bias("additive", ASYMMETRIC, runs, 1e24)
    quartic = approach2_bias("additive", ASYMMETRIC, runs, 1e24, curve="quartic")
    assert abs(quartic.of_n_tokens) < 0.5 * abs(parabola.of_n_tokens)


def test_the_losses_of_the_runs_do_not_matter():
    runs = grid(CHINCHILLA, 8)
    other = replace(runs, loss_nats=np.linspace(2, 9, len(runs)))
    assert approach2_bias("additive", CHINCHILLA, runs, 1e22) == approach2_bias(
        "additive", CHINCHILLA, other, 1e22
    )


def test_the_bias_explains_what_a_fit_gets_wrong(planted_named):
    """Surface and Approach 2 on one noise-free study: the difference of a is the bias itself."""
    runs = planted_named("asymmetric").runs()
    isoflop, surface = fit_isoflop(runs, n_bootstrap=0), fit_surface(runs, n_bootstrap=0)
    found = bias_of(isoflop, surface)
    assert found.flops == 1e21
    assert isoflop.exponent_a - found.of_a == pytest.approx(0.155 / 0.62, abs=1e-5)
    told = with_bias(isoflop, surface)
    assert told.findings[:-1] == isoflop.findings
    assert f"a {found.of_a:+.4f}" in told.findings[-1]


def test_a_surface_that_is_not_certified_explains_nothing(planted_named):
    runs = planted_named("asymmetric").runs()
    isoflop, surface = fit_isoflop(runs, n_bootstrap=0), fit_surface(runs, n_bootstrap=0)
    assert with_bias(isoflop, replace(surface, status=FitStatus.MAX_ITER)) is isoflop


def test_fits_of_other_kinds_are_refused(planted_named):
    runs = planted_named("asymmetric").runs()
    isoflop = fit_isoflop(runs, n_bootstrap=0)
    with pytest.raises(ValueError, match="needs an isoflop fit and a surface"):
        bias_of(isoflop, isoflop)


def test_a_grid_beside_every_optimum_is_refused():
    with pytest.raises(FitError, match="no compute-optimal size at 1e\\+60 FLOPs"):
        approach2_bias("additive", CHINCHILLA, grid(CHINCHILLA, 8), 1e60)
