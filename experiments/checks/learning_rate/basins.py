# SPDX-License-Identifier: Apache-2.0
"""What the losses of a sweep say of the recipe's rate, at every width and run length."""

import math
from dataclasses import dataclass

import numpy as np

from experiments.checks.learning_rate.sweep import FIELD, Sweep
from experiments.ledger.ledger import Ledger
from experiments.ledger.result import Result
from experiments.plan.point import Point
from scaling.hyperparameters.learning_rate_basins import Basin, fit_basins
from scaling.plots.style import count

_OPEN = ("less", "more")


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """The sweep of one width and run length.

    Attributes:
      points: by rate, then seed. losses: nats [seeds, rates], NaN where a run has none.
      notes: what became of those.
    """

    points: list[Point]
    losses: np.ndarray
    notes: tuple[str, ...]
    basin: Basin

    @property
    def sentence(self) -> str:
        """What the recipe's rate costs here, as a line for the terminal."""
        point, basin = self.points[0], self.basin
        where = f"d_model {point.spec.model.d_model}, {count(point.n_tokens)} tokens"
        best = f"no optimum, {basin.reason}" if basin.reason else f"best factor {self.best}"
        if not math.isfinite(basin.cost_nats):
            return f"{where}: {best}; the recipe's own rate has no loss."
        return f"{where}: {best}; the recipe's rate costs {self.cost} nats."

    @property
    def best(self) -> str:
        basin, interval = self.basin, self.basin.best_interval
        if basin.curve is None:
            return "unknown"
        if not interval.is_known:
            return f"{basin.best:.2f}"
        less, more = (
            f" or {word}" * is_so for word, is_so in zip(_OPEN, basin.is_open, strict=True)
        )
        return f"{basin.best:.2f} ({interval.lower:.2f}{less} to {interval.upper:.2f}{more})"

    @property
    def cost(self) -> str:
        """Nats; without an optimum the least that it can be."""
        cost, interval = self.basin.cost_nats, self.basin.cost_interval
        least = "at least " * (self.basin.curve is None)
        if not interval.is_known:
            return f"{least}{cost:.4f}"
        return f"{cost:.4f} ({interval.lower:.4f} to {interval.upper:.4f})"


def measure(ledger: Ledger, sweep: Sweep, points: list[Point]) -> list[Measured]:
    """The basin of every width and run length, in the order of the points."""
    shape = (len(sweep.rates), len(sweep.seeds))
    size = math.prod(shape)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    records = [[ledger.read_result(point.id) for point in group] for group in groups]
    losses = [np.array([_loss(r) for r in found]).reshape(shape).T for found in records]
    basins = fit_basins([(np.array(sweep.rates), of_seeds) for of_seeds in losses])
    return [
        Measured(points=group, losses=of_seeds, notes=_notes(group, found), basin=basin)
        for group, found, of_seeds, basin in zip(groups, records, losses, basins, strict=True)
    ]


def _loss(result: Result | None) -> float:
    return math.nan if result is None or result.loss_nats is None else result.loss_nats


def _notes(points: list[Point], results: list[Result | None]) -> tuple[str, ...]:
    return tuple(
        f"d_model {point.spec.model.d_model}, {count(point.n_tokens)} tokens, rate "
        f"{point.axes[FIELD]:g}, seed {point.seeds}: {result.reason if result else 'failed'}"
        for point, result in zip(points, results, strict=True)
        if not math.isfinite(_loss(result))
    )
