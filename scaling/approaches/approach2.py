# SPDX-License-Identifier: Apache-2.0
"""Approach 2 by the name of its curve: all budgets together, or each by itself as published."""

from typing import Any

from scaling.approaches.isoflop.curves import CURVES
from scaling.approaches.isoflop.fit import fit_isoflop
from scaling.approaches.isoflop.law import JOINT
from scaling.approaches.isoflop.per_budget import fit_per_budget
from scaling.fit import Fit
from scaling.tables.runs import Runs


def approach2(runs: Runs, *, curve: str = JOINT, tokens: str = "ladder", **given: Any) -> Fit:
    """The fit with a curve: "joint" of `fit_isoflop`, or one of CURVES of `fit_per_budget`.

    Args:
      given: what else they take.

    Raises:
      FitError, ValueError: as they do; ValueError for another curve.
    """
    if curve == JOINT:
        return fit_isoflop(runs, tokens=tokens, **given)
    if curve not in CURVES:
        known = ", ".join((JOINT, *CURVES))
        raise ValueError(f"unknown curve {curve!r}; choose one of {known}")
    return fit_per_budget(runs, curve=curve, tokens=tokens, **given)
