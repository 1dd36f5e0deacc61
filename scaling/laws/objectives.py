# SPDX-License-Identifier: Apache-2.0
"""What a fit minimises: a loss of residuals, in nats or in log loss.

Robust regression with Huber's loss at delta = 1e-3 and least absolute deviations (LAD) are two
estimators, not one: on Epoch's 240 points they give A = 477.8 and A = 482.0.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from scaling.tables.arrays import Array

# Hoffmann et al. 2022, sec. 3.3. Far below the usual scatter of log loss (about 0.01), it makes
# the fit nearly one of least absolute deviations: robust, at the cost of wider intervals.
HUBER_DELTA = 1e-3
# Kinked objectives are solved as Huber's with this half-width relative to the scatter: the
# objective is then within n delta/2 of the kinked one, and clip(r/delta) is a subgradient.
KINK = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """Sum over runs of w rho(r), r = observed - predicted (or their logarithms).

    Fields:
      kind: "huber", "lad", "least_squares", "quantile" or "student_t".
      is_log: residuals of logarithms; otherwise in the target's own units.
      parameter: delta of Huber, the quantile, or the degrees of freedom of Student's t; NaN
        where there is none.
    """

    kind: str
    is_log: bool = True
    parameter: float = np.nan

    def __post_init__(self) -> None:
        legal = {
            "huber": (0.0, np.inf),
            "quantile": (0.0, 1.0),
            "student_t": (0.5, np.inf),
            "lad": None,
            "least_squares": None,
        }
        if self.kind not in legal:
            raise ValueError(f"unknown objective {self.kind!r}; choose one of {', '.join(legal)}")
        bounds = legal[self.kind]
        if bounds and not bounds[0] < self.parameter < bounds[1]:
            name = {"huber": "delta", "quantile": "the quantile", "student_t": "nu"}[self.kind]
            raise ValueError(
                f"{self.kind}: {name} is {self.parameter:g}, must lie between {bounds[0]:g} and "
                f"{bounds[1]:g}"
            )

    @property
    def name(self) -> str:
        """As on the command line: huber:0.001, lad, raw-least_squares, ..."""
        tail = "" if np.isnan(self.parameter) else f":{self.parameter:g}"
        return f"{'' if self.is_log else 'raw-'}{self.kind}{tail}"

    @property
    def is_kinked(self) -> bool:
        return self.kind in ("lad", "quantile")

    @property
    def has_scale(self) -> bool:
        """Whether a scale is fitted with the law, so that the objective is a log likelihood."""
        return self.kind == "student_t"

    @property
    def sentence(self) -> str:
        where = "log loss" if self.is_log else "the target"
        return {
            "huber": f"sum of Huber({self.parameter:g}) on residuals of {where}",
            "lad": f"sum of absolute residuals of {where}",
            "least_squares": f"half the sum of squared residuals of {where}",
            "quantile": f"pinball loss at quantile {self.parameter:g} on residuals of {where}",
            "student_t": f"negative log likelihood, Student's t with {self.parameter:g} degrees of "
            f"freedom and fitted scale, on residuals of {where}",
        }[self.kind]

    def tails(self) -> tuple[float, float]:
        """Weights of positive (loss above the law) and of negative residuals."""
        if self.kind != "quantile":
            return 1.0, 1.0
        return self.parameter, 1.0 - self.parameter

    def delta(self, scatter: float) -> float:
        """Half-width of the quadratic part that the solver works with."""
        if self.kind == "huber":
            return self.parameter
        return KINK * scatter if self.is_kinked else 1e30

    def rho(self, residuals: Float[Array, " n"], scale: float = 1.0) -> Float[Array, " n"]:
        """Contribution of each residual to the objective."""
        upper, lower = self.tails()
        side = np.where(residuals > 0, upper, lower)
        if self.kind == "student_t":
            nu = self.parameter
            return np.log(scale) + 0.5 * (nu + 1) * np.log1p((residuals / scale) ** 2 / nu)
        if self.is_kinked:
            return side * np.abs(residuals)
        return huber(np, residuals, self.delta(1.0))


HUBER = Objective(kind="huber", parameter=HUBER_DELTA)


def objective_named(text: str) -> Objective:
    """An objective from its name: huber[:delta], lad, least_squares, quantile:q, student_t[:nu].

    Residuals are those of logarithms; with the prefix raw- those of the target itself. The mean
    absolute error with weight w on under-estimates is the quantile w/(1+w).

    Raises:
      ValueError: for a name or a number that is none.
    """
    found = re.fullmatch(r"(raw-)?([a-z_]+)(?::(.+))?", text)
    if not found:
        raise ValueError(f"objective {text!r} is not of the form [raw-]kind[:number]")
    raw, kind, tail = found.groups()
    usual = {"huber": HUBER_DELTA, "student_t": 4.0}
    try:
        number = float(tail) if tail else usual.get(kind, np.nan)
    except ValueError:
        raise ValueError(f"objective {text!r}: {tail!r} is not a number") from None
    if tail and kind in ("lad", "least_squares"):
        raise ValueError(f"objective {text!r}: {kind} takes no number")
    return Objective(kind=kind, is_log=not raw, parameter=number)


def huber(xp: Any, residual: Any, delta: Any) -> Any:
    """Huber's loss: r^2/2 inside +-delta, delta (|r| - delta/2) outside (Huber 1964)."""
    size = xp.abs(residual)
    inside = xp.minimum(size, delta)
    return inside * (size - 0.5 * inside)
