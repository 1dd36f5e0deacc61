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
from scaling.tables.units import count

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
        return f"{where}: {best}; the recipe's rate costs {self.cost} nats, {self.share:.2%}."

    @property
    def share(self) -> float:
        """What the recipe's rate costs, of the lowest loss; the least that it can be."""
        return self.basin.cost_nats / self.basin.best_loss

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


def verdict(measured: list[Measured]) -> str:
    """Over all sizes and durations: what the recipe's rate costs where it costs most."""
    known = [one for one in measured if math.isfinite(one.share)]
    if not known:
        return "the recipe's own rate has no loss at any size and duration."
    worst = max(known, key=lambda one: one.share)
    sizes = [one.points[0].params.total for one in measured]
    lengths = [one.points[0].n_tokens for one in measured]
    said = (
        f"over {max(sizes) / min(sizes):.3g}x in parameters and {max(lengths) / min(lengths):.3g}x "
        f"in tokens the recipe's rate costs {worst.share:.2%} of the loss at most, at d_model "
        f"{worst.points[0].spec.model.d_model} and {count(worst.points[0].n_tokens)} tokens"
    )
    n_open = sum(one.basin.curve is None for one in measured)
    return f"{said}; {n_open} of {len(measured)} have no optimum." if n_open else f"{said}."


def _loss(result: Result | None) -> float:
    return math.nan if result is None or result.loss_nats is None else result.loss_nats


def _notes(points: list[Point], results: list[Result | None]) -> tuple[str, ...]:
    return tuple(
        f"d_model {point.spec.model.d_model}, {count(point.n_tokens)} tokens, rate "
        f"{point.axes[FIELD]:g}, seed {point.seeds}: {result.reason if result else 'failed'}"
        for point, result in zip(points, results, strict=True)
        if not math.isfinite(_loss(result))
    )
