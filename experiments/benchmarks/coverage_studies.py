# SPDX-License-Identifier: Apache-2.0
"""Simulated studies whose law and noise are known: the truth that intervals must cover."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.laws import Law, law_named, optimal_params
from scaling.runs import Runs

Array = np.ndarray

QUANTITIES = ("a", "E", "n_params_opt", "loss_opt")
# N* and L* are asked for at this multiple of the largest budget.
BEYOND = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedStudy:
    """IsoFLOP grids over a known surface, C = 6ND.

    Fields:
      off_centre: centre of each grid over the true optimum; width: half-width as a factor.
      noise: "normal", "outliers" (2 % of runs 5 % too high), "student3" (Student's t with 3
        degrees of freedom, same scale) or "growing" (sd from 0.005 at the lowest loss to 0.02 at
        the highest). sd: of log loss.
    """

    name: str
    law: str
    parameters: tuple[float, ...]
    budgets: tuple[float, ...] = (1e17, 1e18, 1e19, 1e20, 1e21)
    n_sizes: int = 6
    n_seeds: int = 1
    width: float = 8.0
    off_centre: float = 1.0
    noise: str = "normal"
    sd: float = 0.01

    @property
    def surface(self) -> Law:
        return law_named(self.law)

    @property
    def flops(self) -> float:
        """The budget at which N* and L* are asked for."""
        return BEYOND * max(self.budgets)

    def runs(self) -> Runs:
        """The grid without noise."""
        budget = np.repeat(self.budgets, self.n_sizes * self.n_seeds)
        steps = np.geomspace(1 / self.width, self.width, self.n_sizes).repeat(self.n_seeds)
        N = self.off_centre * optimal_params(np.array(self.parameters), budget)
        N = N * np.tile(steps, len(self.budgets))
        D = budget / (6 * N)
        loss = self.surface.loss(self.parameters, N, D)
        return Runs.from_columns(n_params=N, n_tokens=D, loss_nats=loss, budget=budget)

    def noise_draws(self, loss: Array, n: int, rng: np.random.Generator) -> Array:
        """Noise of log loss, [n, runs]."""
        shape = (n, len(loss))
        if self.noise == "student3":
            return self.sd * rng.standard_t(3, shape)
        drawn = rng.standard_normal(shape)
        if self.noise == "growing":
            share = (loss - loss.min()) / np.ptp(loss)
            return (0.005 + 0.015 * share) * drawn
        high = np.log(1.05) * (rng.random(shape) < 0.02) if self.noise == "outliers" else 0.0
        return self.sd * drawn + high

    def truth(self) -> dict[str, float]:
        """The quantities of the planted law."""
        values = quantities(self.surface, np.array([self.parameters]), self.flops)
        return {name: float(value[0]) for name, value in values.items()}


def quantities(law: Law, parameters: Array, flops: float) -> dict[str, Array]:
    """QUANTITIES of parameter rows [R, P], for C = 6ND; NaN where a row is."""
    alpha, beta = parameters[:, 3], parameters[:, 4]
    n_params = optimal_params(parameters, flops)
    return {
        "a": beta / (alpha + beta),
        "E": parameters[:, 0],
        "n_params_opt": n_params,
        "loss_opt": law.loss(parameters, n_params, flops / (6 * n_params)),
    }


_CHINCHILLA = (1.69, 406.4, 410.7, 0.34, 0.28)
_SYMMETRIC = (1.69, 400.0, 400.0, 0.31, 0.31)
STUDIES = (
    SimulatedStudy(name="symmetric", law="additive", parameters=_SYMMETRIC),
    SimulatedStudy(
        name="asymmetric", law="additive", parameters=(1.69, 406.4, 410.7, 0.465, 0.155)
    ),
    SimulatedStudy(name="off-centre", law="additive", parameters=_SYMMETRIC, off_centre=3.0),
    SimulatedStudy(
        name="few budgets",
        law="additive",
        parameters=_CHINCHILLA,
        budgets=(1e18, 1e19, 1e20),
        n_sizes=7,
    ),
    SimulatedStudy(name="outliers", law="additive", parameters=_CHINCHILLA, noise="outliers"),
    SimulatedStudy(
        name="heavy tails", law="additive", parameters=_CHINCHILLA, noise="student3", sd=0.006
    ),
    SimulatedStudy(
        name="realistic", law="additive", parameters=_CHINCHILLA, noise="growing", n_seeds=2
    ),
    SimulatedStudy(
        name="curved", law="curved", parameters=(1.7, 2300.0, 10000.0, 0.42, 0.43, 0.77), sd=0.005
    ),
)
