# SPDX-License-Identifier: Apache-2.0
import math

import pytest

from scaling.intervals import UNKNOWN, Estimated, Interval


def test_an_independent_error_adds_in_quadrature_on_either_side():
    """Standard errors of 3 below, 12 above, and 4 or 5 more: 5 below and 13 above."""
    z = 1.959964
    found = Estimated(value=10.0, interval=Interval(lower=10 - 3 * z, upper=10 + 12 * z))
    assert found.with_error(4.0, 0.95).interval.lower == pytest.approx(10 - 5 * z, abs=1e-5)
    assert found.with_error(5.0, 0.95).interval.upper == pytest.approx(10 + 13 * z, abs=1e-5)
    assert found.with_error(0.0, 0.95) == found


def test_what_has_no_interval_gets_none_from_an_error():
    wider = Estimated(value=1.0, interval=UNKNOWN).with_error(0.1, 0.9)
    assert math.isnan(wider.interval.lower)
    assert not wider.interval.is_known
