# SPDX-License-Identifier: Apache-2.0
"""What a study wants to know better: L*, N* or the exponent at a budget, or all parameters."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from scaling.approaches.surface.optimum import optimal_log_params
from scaling.design.prior import N_ADDITIVE, Prior
from scaling.laws.loss_laws import CURVED
from scaling.laws.size_ladder import Ladder
from scaling.tables.arrays import Array
from scaling.tables.units import power

TARGETS = ("loss", "n_params_opt", "exponent", "all")
# Of the derivatives: N* is found to 1e-8.
_STEP = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A quantity of the law.

    Fields:
      name: "loss": log L*(C*); "n_params_opt": log N*(C*); "exponent": a of N* ~ C^a between
        `low` and C*; "all": the parameters of the additive form.
      flops: C*, in the runs' convention. low: the lowest budget of the runs.
    """

    name: str
    flops: float
    low: float

    def __post_init__(self) -> None:
        if self.name not in TARGETS:
            raise ValueError(f"unknown target {self.name!r}; choose one of {', '.join(TARGETS)}")
        if not (np.isfinite(self.flops) and self.flops > self.low > 0):
            raise ValueError(
                f"target budget {power(self.flops)} FLOPs must be finite and above the "
                f"lowest budget, {power(self.low)}"
            )

    def values(self, prior: Prior, phi: Float[Array, "R 6"], ladder: Ladder) -> Float[Array, "R T"]:
        """The target [R, T] for draws [R, 6]; NaN where a law has no optimum."""
        if self.name == "all":
            return phi[:, :N_ADDITIVE]
        curved = prior.curved(phi)
        ends = np.log([self.low, self.flops])
        log_n = optimal_log_params(CURVED, curved, ladder, ends)
        if self.name == "exponent":
            return np.diff(log_n, axis=1) / np.diff(ends)
        best = log_n[:, 1:]
        if self.name == "n_params_opt":
            return best
        return CURVED.log_loss_of(curved)(best, ends[1] - ladder.log_cost(best))

    def slopes(
        self, prior: Prior, phi: Float[Array, "R 6"], ladder: Ladder
    ) -> Float[Array, "R T 6"]:
        """d target / d prior.NAMES by central differences, [R, T, 6]."""
        steps = _STEP * np.eye(phi.shape[1])
        sides = [
            self.values(prior, (phi[:, None] + step).reshape(-1, phi.shape[1]), ladder)
            for step in (steps, -steps)
        ]
        found = (sides[0] - sides[1]) / (2 * _STEP)
        return np.swapaxes(found.reshape(len(phi), phi.shape[1], -1), 1, 2)
