# SPDX-License-Identifier: Apache-2.0
"""A wrong shape is refused where it is handed over."""

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from scaling.approaches.isoflop_curves import fit_curve
from scaling.approaches.power_laws import power_laws
from scaling.intervals import Band, Interval
from scaling.uncertainty.bootstrap_draws import pairs_weights

ROW, TABLE = np.ones(3), np.ones((2, 4))


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda: Interval.of(TABLE, 0.9), id="a table of draws for one number"),
        pytest.param(lambda: Band.of(ROW, 0.9), id="one row of draws for many budgets"),
        pytest.param(lambda: Band(value=ROW, lower=ROW, upper=ROW[:2]), id="ends of other length"),
        pytest.param(lambda: power_laws(ROW, TABLE, TABLE, TABLE), id="other budgets"),
        pytest.param(lambda: fit_curve("parabola", ROW, np.ones(4)), id="more losses than sizes"),
        pytest.param(
            lambda: pairs_weights(ROW, 5, np.random.default_rng(0)),
            id="labels that are no integers",
        ),
    ],
)
def test_another_shape_than_the_declared_one_is_refused(call):
    with pytest.raises(TypeCheckError):
        call()


def test_the_declared_shapes_pass():
    assert Interval.of(ROW, 0.9) == Interval(lower=1.0, upper=1.0)
    assert Band.of(TABLE, 0.9).at(3).value == 1.0
