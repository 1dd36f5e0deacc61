# SPDX-License-Identifier: Apache-2.0
"""Coverage of intervals against scipy's exact binomial, and of forecasts whose places are known."""

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from scaling.answers.calibration import calibration, coverage


@pytest.mark.parametrize(("n_inside", "n"), [(0, 5), (3, 5), (19, 20), (20, 20)])
def test_one_interval_per_study_is_the_exact_binomial(n_inside, n):
    found = coverage(np.arange(n) < n_inside, np.arange(n), level=0.9)
    exact = binomtest(n_inside, n).proportion_ci(confidence_level=0.9, method="exact")
    assert found.value == n_inside / n
    assert (found.interval.lower, found.interval.upper) == pytest.approx((exact.low, exact.high))


def test_forecasts_of_one_study_are_one_trial():
    inside = np.array([True, True, True, False, True])
    alone = coverage(np.array([True, False, True]), np.array(["a", "b", "c"]))
    assert coverage(inside, np.array(["a", "a", "a", "b", "c"])) == alone
    # Half of a study's forecasts are half a success; its interval lies between.
    half = coverage(np.array([True, False, True]), np.array(["a", "a", "b"]))
    none, both = (
        coverage(np.array([first, True]), np.array(["a", "b"])) for first in (False, True)
    )
    assert half.value == 0.75
    assert none.interval.lower < half.interval.lower < both.interval.lower
    with pytest.raises(ValueError, match="give one at least"):
        coverage(np.array([], bool), np.array([]))


def test_observed_coverage_is_nominal_where_outcomes_fall_evenly_and_less_of_narrow_intervals():
    probabilities = np.arange(1, 20) / 20
    outcomes = norm.ppf((np.arange(1000) + 0.5) / 1000)
    quantiles = np.tile(norm.ppf(probabilities), (1000, 1))
    studies = np.arange(1000)
    right = calibration(probabilities, quantiles, outcomes, studies)
    assert right.levels == pytest.approx(np.arange(1, 10) / 10)
    assert right.observed.value == pytest.approx(right.levels, abs=1e-3)
    assert (right.n_forecasts, right.n_groups) == (1000, 1000)
    narrow = calibration(probabilities, 0.5 * quantiles, outcomes, studies)
    # 2 Phi(z / 2) - 1 of z, the end of the nominal interval.
    expected = 2 * norm.cdf(0.5 * norm.ppf((1 + narrow.levels) / 2)) - 1
    assert narrow.observed.value == pytest.approx(expected, abs=1e-3)
    diverged = calibration(probabilities, quantiles[:1], np.array([np.inf]), studies[:1])
    assert diverged.observed.value.tolist() == [0.0] * 9
