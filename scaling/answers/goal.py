# SPDX-License-Identifier: Apache-2.0
"""When a study knows enough: goals such as "ci(a) < 0.02", and whether its fits meet them."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from scaling.answers.frontier import frontier
from scaling.answers.loss_forecast import choose_forecaster
from scaling.fit import Fit
from scaling.intervals import Estimated

QUANTITIES = ("a", "loss", "n_params_opt")
_FORM = re.compile(r"\s*ci\(\s*(\w+)\s*\)\s*<\s*([0-9.]+(?:[eE][-+]?[0-9]+)?)\s*(%?)\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """An upper limit on the width of an interval, from end to end.

    Fields:
      quantity: one of QUANTITIES: the exponent a of N* ~ C^a, or L* in nats or N* in parameters
        at the target budget.
      limit: in the quantity's own unit, or relative to its estimate where `is_relative`.
    """

    quantity: str
    limit: float
    is_relative: bool

    @property
    def text(self) -> str:
        limit = f"{100 * self.limit:g} %" if self.is_relative else f"{self.limit:g}"
        return f"ci({self.quantity}) < {limit}"


def parse_goal(text: str) -> Goal:
    """The goal of "ci(QUANTITY) < NUMBER" or "ci(QUANTITY) < NUMBER %".

    Raises:
      ValueError: for anything else.
    """
    found = _FORM.fullmatch(text)
    if not found or found[1] not in QUANTITIES:
        raise ValueError(
            f"goal {text!r} is not of the form ci(QUANTITY) < NUMBER, or NUMBER % of the estimate, "
            f"with QUANTITY one of {', '.join(QUANTITIES)}; for instance ci(a) < 0.02"
        )
    try:
        limit = float(found[2])
    except ValueError:
        limit = math.nan
    if not 0 < limit < math.inf:
        raise ValueError(f"goal {text!r}: {found[2]} is no positive, finite number")
    is_relative = found[3] == "%"
    return Goal(
        quantity=found[1], limit=limit / 100 if is_relative else limit, is_relative=is_relative
    )


def is_met(goal: Goal, fits: Sequence[Fit], flops: float) -> tuple[float, bool]:
    """The width that the goal speaks of, and whether it is met.

    Judged by the surface that `judge` takes. An interval that is not known, or of a fit that does
    not tell the quantity, meets no goal.

    Args:
      flops: the target budget, for the loss and N*.

    Raises:
      FitError: if no fit is a surface.
    """
    fit = judge(fits, goal.quantity)
    found = target_estimate(fit, goal.quantity, flops)
    width = found.interval.upper - found.interval.lower
    if goal.is_relative:
        width = width / abs(found.value)
    return width, bool(tells(fit, goal.quantity) and width < goal.limit)


def judge(fits: Sequence[Fit], quantity: str) -> Fit:
    """The surface whose interval of one of QUANTITIES counts, see `choose_forecaster`.

    Raises:
      FitError: if no fit is a surface.
    """
    return choose_forecaster(fits, is_known=lambda fit: tells(fit, quantity))


def tells(fit: Fit, quantity: str) -> bool:
    """Whether a fit determines one of QUANTITIES.

    A certified one does, but for the loss where its E is zero: E moves every loss alike, and no
    optimum. Small models are so far above it that half of the data sets tell nothing of it;
    intervals of N* and a still cover there (the slow test of its tests).
    """
    return fit.tells_loss if quantity == "loss" else fit.is_certified


def target_estimate(fit: Fit, quantity: str, flops: float) -> Estimated:
    """Estimate and interval of one of QUANTITIES; of a over the fitted budgets, else at `flops`."""
    if quantity == "a":
        return Estimated(value=fit.exponent_a, interval=fit.intervals["exponent_a"])
    front = frontier(fit, flops)
    return (front.loss_opt if quantity == "loss" else front.n_params_opt).at(0)
