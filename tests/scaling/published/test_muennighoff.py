# SPDX-License-Identifier: Apache-2.0
"""The data-constrained law against its formula written out, and its several minima."""

import math

import numpy as np
import pytest

from scaling.laws.loss_laws import DATA_CONSTRAINED
from scaling.published import muennighoff
from scaling.published.case import TABLES
from scaling.published.tables import minimum, read_table
from scaling.solve.problem import Constraints


@pytest.fixture(scope="module")
def table():
    return read_table(TABLES / muennighoff.TABLE)


def written_out(table, R_D_star, R_N_star):
    """Sum of Huber(1e-3) on log loss, run by run, as the paper writes the law."""
    A, B, E, s = math.exp(6.255414), math.exp(7.3049974), math.exp(0.6254804), 0.3526596
    G = (A / B) ** (1 / (2 * s))
    total = 0.0
    rows = zip(
        table["n_params"], table["n_tokens"], table["unique_tokens"], table["loss_nats"],
        strict=True,
    )  # fmt: skip
    for N, D, U_D, loss in rows:
        C = 6 * (G * U_D) ** 2
        U_N = min(N, G * (C / 6) ** 0.5)
        R_D, R_N = max(D / U_D - 1, 0), max(N / U_N - 1, 0)
        D_eff = U_D + U_D * R_D_star * (1 - math.exp(-R_D / R_D_star))
        N_eff = U_N + U_N * R_N_star * (1 - math.exp(-R_N / R_N_star))
        r = abs(math.log(loss) - math.log(E + A / N_eff**s + B / D_eff**s))
        total += 0.5 * r * r if r <= 1e-3 else 1e-3 * (r - 0.5e-3)
    return total


@pytest.mark.parametrize("point", [muennighoff.PUBLISHED, (95.365, 1.7059), (47.0, 2.33)])
def test_the_objective_is_that_of_the_formula_written_out(table, point):
    assert muennighoff.objective_at(table, *point) == pytest.approx(
        written_out(table, *point), rel=1e-10
    )


@pytest.mark.slow(reason="fits of a published table")
def test_the_lowest_of_three_minima_is_found_and_the_others_are_certified(table):
    constraints = Constraints(fixed=muennighoff.FIXED)
    found = minimum(table, DATA_CONSTRAINED, constraints=constraints)
    own = found.certificate.objective
    assert own == pytest.approx(0.0158046625, abs=5e-11)
    assert 0 < found.certificate.next_best_excess < 1e-3
    for start in (muennighoff.PUBLISHED, (47.0, 2.33)):
        point, objective, is_certified = muennighoff.local_minimum(found, *start)
        assert is_certified
        assert objective > own
        np.testing.assert_allclose(point, start, rtol=2e-3)
    # Newton's method with 40 digits from the published point.
    exact, *_ = muennighoff.local_minimum(found, *muennighoff.PUBLISHED)
    np.testing.assert_allclose(exact, (15.371758474261, 5.3151259752838), rtol=5e-9)


def test_without_decay_r_squared_is_the_published_one(table):
    assert muennighoff.r_squared_without_decay(table) == pytest.approx(0.44517, abs=5e-6)
