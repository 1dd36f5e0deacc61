# SPDX-License-Identifier: Apache-2.0
"""A law whose every parameter is given, such as a published one: nothing is fitted."""

from typing import Any

import numpy as np

from scaling.approaches.diagnostics import usable
from scaling.approaches.surface.optimum import chord_exponents
from scaling.fit import EXPONENTS, Bootstrap, Fit, FitStatus
from scaling.intervals import UNKNOWN
from scaling.laws.law import Law
from scaling.laws.objectives import Objective
from scaling.solve.problem import Constraints
from scaling.tables.runs import Runs


def settings_of(
    law: Law, objective: Objective, constraints: Constraints, weights: str | None = None
) -> dict[str, Any]:
    """Choices of a surface that move its result, as `Fit.settings` keeps them."""
    return {
        "objective": objective.name,
        "minimised": objective.sentence + (f", weighted by {weights}" if weights else ""),
        "weights": weights,
        "formula": law.formula,
        "source": law.source,
        "fixed": dict(constraints.fixed),
        "tied": dict(constraints.tied),
        "bounds": {name: list(box) for name, box in constraints.bounds.items()},
    }


def stated_surface(
    runs: Runs,
    law: Law,
    objective: Objective,
    constraints: Constraints,
    level: float,
    weights: str | None = None,
) -> Fit:
    """The law as it is given, without intervals.

    Args:
      runs: give the counts per token, and the budgets that are called extrapolated.
      constraints: fix or tie every parameter.

    Raises:
      ValueError: for values that a parameter cannot have, or weights: nothing is fitted.
    """
    if weights is not None:
        raise ValueError(f"weights {weights}: every parameter is given, and nothing is fitted")
    constraints.check(law)
    fitted, left_out = usable(runs)
    values = dict(constraints.fixed)
    values |= {name: values[leader] for name, leader in constraints.tied.items()}
    a, b = chord_exponents(law, np.array([[values[name] for name in law.names]]), fitted)
    return Fit(
        approach="surface",
        law=law.name,
        parameters={name: float(values[name]) for name in law.names},
        intervals=dict.fromkeys((*law.names, *EXPONENTS), UNKNOWN),
        exponent_a=float(a[0]),
        exponent_b=float(b[0]),
        status=FitStatus.CONVERGED,
        certificate=None,
        findings=(*runs.findings, "every parameter is given: nothing is fitted to the runs."),
        runs=runs,
        left_out=left_out,
        optima=(),
        noise=None,
        bootstrap=Bootstrap(method="none", level=level, n_replicates=0, n_failed=0, seed=0),
        replicates={name: np.empty(0) for name in (*law.names, *EXPONENTS)},
        settings=settings_of(law, objective, constraints),
    )
