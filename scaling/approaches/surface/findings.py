# SPDX-License-Identifier: Apache-2.0
"""What to know of a surface in words: how compute is counted, whether the form is resolved."""

from collections.abc import Mapping

import numpy as np

from scaling.intervals import Interval
from scaling.laws.loss_laws import CURVED
from scaling.laws.size_ladder import Ladder
from scaling.solve.problem import AT_BOUND
from scaling.solve.regression import Estimate
from scaling.solve.replicates import Replicates
from scaling.tables.arrays import Array


def convention_findings(ladder: Ladder) -> list[str]:
    """That C is not 6ND, where it is not, and what follows for a and b."""
    if ladder.is_6nd:
        return []
    return [
        *ladder.findings,
        "C is not 6ND here: a and b are slopes between the lowest and the highest budget, found "
        "numerically along the size ladder; they do not add up to 1.",
    ]


def form_findings(
    found: Estimate, replicates: Mapping[str, Array], draws: Replicates, level: float
) -> list[str]:
    """What the replicates say of the form: parameters at bounds, gamma not told from 1."""
    if not len(draws.z):
        return []
    sentences = []
    at_bound = np.logical_or(*found.problem.at_bounds(draws.z)).any(axis=1)
    if at_bound.any():
        sentences.append(
            f"{int(at_bound.sum())} of {len(draws.z)} replicates touch a bound of the parameters "
            "and are kept."
        )
    if found.law.name != "curved":
        return sentences
    gamma = Interval.of(replicates["gamma"], level)
    ends = f"({gamma.lower:.2f} to {gamma.upper:.2f})"
    if gamma.lower <= 1.0 <= gamma.upper:
        sentences.append(
            f"gamma is not resolved from 1 {ends}: the additive form describes these runs as well."
        )
    elif not resolves_gamma(gamma):
        sentences.append(
            f"the interval of gamma {ends} ends at its bound: these runs do not determine it, and "
            "forecasts take the additive form."
        )
    else:
        sentences.append(
            f"gamma is resolved from 1 {ends}: the additive form does not describe these runs."
        )
    return sentences


def resolves_gamma(gamma: Interval) -> bool:
    """Whether an interval of the curved form's gamma excludes 1, and ends inside its bounds."""
    (bounds,) = (one for one in CURVED.parameters if one.name == "gamma")
    # The solver moves log gamma: what lies at a bound is off it by rounding.
    near = 1 + AT_BOUND
    is_inside = gamma.lower > bounds.lower * near and gamma.upper < bounds.upper / near
    return is_inside and not gamma.lower <= 1.0 <= gamma.upper
