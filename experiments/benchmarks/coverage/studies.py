# SPDX-License-Identifier: Apache-2.0
"""Simulated studies whose law and noise are known: the truth that intervals must cover."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scaling.laws.closed_form_optimum import optimal_params
from scaling.laws.law import Law
from scaling.laws.registry import law_named
from scaling.tables.runs import Runs

Array = np.ndarray

QUANTITIES = ("a", "E", "n_params_opt", "loss_opt")
# N* and L* are asked for at this multiple of the largest budget.
BEYOND = 10.0
METHODS = ("residual", "pairs", "wild")
# Where runs share noise; the last takes them for independent.
OF_BRANCHES = ("components", "wild", "residual")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedStudy:
    """IsoFLOP grids over a known surface, C = 6ND.

    Fields:
      off_centre: centre of each grid over the true optimum; width: half-width as a factor.
      noise: "normal", "outliers" (2 % of runs 5 % too high), "student3" (Student's t with 3
        degrees of freedom, same scale), "growing" (sd from 0.005 at the lowest loss to 0.02 at
        the highest) or "small budgets" (sd from 0.02 at the smallest budget to 0.004 at the
        largest, even in log). sd: of log loss.
      trunk: None for runs trained by themselves. In a branched study sizes are the same at all
        budgets, every size and seed is one trunk, and this is its share of the variance.
      wander: sd, in ln N, of the optimum of each budget about the law, along which its curve moves.
      kind: of runs, under which the summary counts it.
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
    trunk: float | None = None
    wander: float = 0.0
    kind: str = "by themselves"

    @property
    def surface(self) -> Law:
        return law_named(self.law)

    @property
    def flops(self) -> float:
        """The budget at which N* and L* are asked for."""
        return BEYOND * max(self.budgets)

    @property
    def methods(self) -> tuple[str, ...]:
        """Bootstraps to compare."""
        return METHODS if self.trunk is None else OF_BRANCHES

    def runs(self) -> Runs:
        """The grid without noise."""
        budget = np.repeat(self.budgets, self.n_sizes * self.n_seeds)
        middle = np.exp(np.mean(np.log(self.budgets)))
        steps = np.geomspace(1 / self.width, self.width, self.n_sizes).repeat(self.n_seeds)
        centre = budget if self.trunk is None else np.full(len(budget), middle)
        N = self.off_centre * optimal_params(np.array(self.parameters), centre)
        N = N * np.tile(steps, len(self.budgets))
        D = budget / (6 * N)
        loss = self.surface.loss(self.parameters, N, D)
        labels = [f"trunk{i}" for i in self._trunks()] if self.trunk is not None else None
        return Runs.from_columns(
            n_params=N, n_tokens=D, loss_nats=loss, budget=budget, cluster_id=labels
        )

    def _trunks(self) -> Array:
        """Number of each run's trunk: its size and its seed."""
        return np.tile(np.arange(self.n_sizes * self.n_seeds), len(self.budgets))

    def noise_draws(self, loss: Array, n: int, rng: np.random.Generator) -> Array:
        """Noise of log loss, [n, runs], and what budgets that wander add."""
        if self.wander:
            return self._wandering(n, rng) + replace(self, wander=0.0).noise_draws(loss, n, rng)
        shape = (n, len(loss))
        if self.noise == "student3":
            return self.sd * rng.standard_t(3, shape)
        drawn = rng.standard_normal(shape)
        if self.trunk is not None:
            of_trunks = rng.standard_normal((n, self.n_sizes * self.n_seeds))[:, self._trunks()]
            drawn = np.sqrt(self.trunk) * of_trunks + np.sqrt(1.0 - self.trunk) * drawn
        if self.noise == "growing":
            share = (loss - loss.min()) / np.ptp(loss)
            return (0.005 + 0.015 * share) * drawn
        if self.noise == "small budgets":
            sds = np.geomspace(0.02, 0.004, len(self.budgets))
            return np.repeat(sds, self.n_sizes * self.n_seeds) * drawn
        high = np.log(1.05) * (rng.random(shape) < 0.02) if self.noise == "outliers" else 0.0
        return self.sd * drawn + high

    def _wandering(self, n: int, rng: np.random.Generator) -> Array:
        """Change of log loss where the curve of each budget is moved along ln N, [n, runs]."""
        runs, label = self.runs(), np.arange(len(self.budgets)).repeat(self.n_sizes * self.n_seeds)
        moved = self.wander * rng.standard_normal((n, len(self.budgets)))[:, label]
        N = runs.n_params * np.exp(-moved)
        losses = self.surface.loss(self.parameters, N, runs.budget / (6 * N))
        return np.log(losses / runs.loss_nats)

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
# Four budgets of five sizes, as a quick study has them.
_SMALL: dict[str, dict[str, Any]] = {
    "small, one seed": {},
    "small, off-centre": {"off_centre": 2.0},
    "small, noisy small budgets": {"noise": "small budgets", "n_seeds": 2},
}
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
    # As small models on bytes: 1.5 to 2.5 nats, so far above E that many fits find none.
    SimulatedStudy(
        name="no floor",
        kind="no floor",
        law="curved",
        parameters=(0.05, 2245.0, 9855.0, 0.742, 0.6625, 0.377),
        budgets=(2e10, 6e10, 2e11, 6e11),
        n_sizes=7,
        n_seeds=2,
        width=2.5,
    ),
    *(
        SimulatedStudy(
            name=name,
            kind="small",
            law="additive",
            parameters=_CHINCHILLA,
            budgets=(1e18, 3.16e18, 1e19, 3.16e19),
            n_sizes=5,
            width=5.0,
            sd=0.005,
            **changes,
        )
        for name, changes in _SMALL.items()
    ),
    *(
        SimulatedStudy(
            name=f"branched, {n_seeds} seed{'s' if n_seeds > 1 else ''}, trunk {trunk:g}",
            law="additive",
            parameters=_CHINCHILLA,
            budgets=(1e19, 2e19, 4e19, 8e19, 1.6e20),
            n_sizes=5,
            n_seeds=n_seeds,
            width=6.0,
            sd=0.003,
            trunk=trunk,
            kind="branches",
        )
        for n_seeds, trunk in ((1, 0.0), (1, 0.9), (2, 0.0), (2, 0.5), (2, 0.9), (3, 0.0), (3, 0.9))
    ),
    # Twelve checkpoints of each of ten runs, as in tables of others; cluster_id names the run.
    SimulatedStudy(
        name="checkpoints, 10 runs",
        kind="checkpoints",
        law="additive",
        parameters=_CHINCHILLA,
        budgets=tuple(np.geomspace(1e18, 1e20, 12)),
        n_sizes=10,
        width=16.0,
        sd=0.005,
        trunk=0.7,
    ),
    SimulatedStudy(
        name="branched, 2 seeds, trunk 0.9, growing",
        kind="branches",
        law="additive",
        parameters=_CHINCHILLA,
        budgets=(1e18, 3.16e18, 1e19, 3.16e19, 1e20),
        n_sizes=9,
        n_seeds=2,
        width=16.0,
        noise="growing",
        trunk=0.9,
    ),
    # Runs tell the optimum of a budget seven times, twice, and not as well as it wanders.
    *(
        SimulatedStudy(
            name=f"wandering, {name}",
            kind="wandering",
            law="additive",
            parameters=_CHINCHILLA,
            budgets=tuple(np.geomspace(1e18, 1e20, 7)),
            sd=sd,
            wander=0.2,
        )
        for name, sd in (("far", 0.003), ("near", 0.01), ("hidden", 0.02))
    ),
)
