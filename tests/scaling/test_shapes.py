# SPDX-License-Identifier: Apache-2.0
"""A wrong shape is refused where it is handed over."""

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from scaling.approaches.isoflop.curves import fit_curve
from scaling.approaches.power_laws import power_laws
from scaling.intervals import Band, Interval
from scaling.uncertainty.bootstrap_draws import pairs_weights

ROW, TABLE = np.ones(3), np.ones((2, 4))


# What is wrong: where it is refused, the call.
WRONG = {
    "a table of draws for one number": ("Interval.of", lambda: Interval.of(TABLE, 0.9)),
    "one row of draws for many budgets": ("Band.of", lambda: Band.of(ROW, 0.9)),
    "ends of other length": ("Band.__init__", lambda: Band(value=ROW, lower=ROW, upper=ROW[:2])),
    "other budgets": ("power_laws", lambda: power_laws(ROW, TABLE, TABLE, TABLE)),
    "more losses than sizes": ("fit_curve", lambda: fit_curve("parabola", ROW, np.ones(4))),
    "labels that are no integers": (
        "pairs_weights",
        lambda: pairs_weights(ROW, 5, np.random.default_rng(0)),
    ),
}


@pytest.mark.parametrize(("where", "call"), WRONG.values(), ids=WRONG)
def test_another_shape_than_the_declared_one_is_refused_where_it_is_handed_over(where, call):
    with pytest.raises(TypeCheckError, match=rf"parameters of \S+\.{where}\."):
        call()


def test_the_declared_shapes_pass():
    assert Interval.of(ROW, 0.9) == Interval(lower=1.0, upper=1.0)
    assert Band.of(TABLE, 0.9).at(3).value == 1.0
