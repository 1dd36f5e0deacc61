# SPDX-License-Identifier: Apache-2.0
"""The answer of `isoflop lr-check`: costs in words, a table, a page and a figure."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from experiments.checks.learning_rate.sweep import FIELD, Sweep
from experiments.files.storage import replace_text
from experiments.ledger.ledger import Ledger
from experiments.plan.point import Point
from scaling.hyperparameters.learning_rate_basins import N_RATES, Basin, fit_basins
from scaling.plots.learning_rate_basins import Line, figure_basins
from scaling.plots.style import count, save_png

_COLUMNS = ("tokens", "d_model", "parameters", "batch", "best factor", "lowest loss", "cost, nats")
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


def _loss(record: dict[str, Any] | None) -> float:
    return math.nan if record is None or record["loss_nats"] is None else record["loss_nats"]


def _notes(points: list[Point], records: list[Any]) -> tuple[str, ...]:
    return tuple(
        f"d_model {point.spec.model.d_model}, {count(point.n_tokens)} tokens, rate "
        f"{point.axes[FIELD]:g}, seed {point.seed}: {record['reason'] if record else 'failed'}"
        for point, record in zip(points, records, strict=True)
        if not math.isfinite(_loss(record))
    )


def write(measured: list[Measured], folder: Path, about: dict[str, Any]) -> list[Path]:
    """lr_check.png, .json and .md; returns their paths.

    Args:
      about: facts of the run: command, recipe, seconds, device, versions.
    """
    paths = [folder / f"lr_check.{kind}" for kind in ("png", "json", "md")]
    folder.mkdir(parents=True, exist_ok=True)
    notes = [note for one in measured for note in one.notes]
    save_png(figure_basins(_panels(measured), notes), paths[0])
    record = about | {"notes": notes, "sweeps": [_row(one) for one in measured]}
    replace_text(paths[1], json.dumps(record, indent=1, allow_nan=False) + "\n")
    replace_text(paths[2], _page(measured, about, notes))
    return paths


def _panels(measured: list[Measured]) -> list[list[Line]]:
    lines = [
        Line(
            d_model=one.points[0].spec.model.d_model,
            n_tokens=one.points[0].n_tokens,
            basin=one.basin,
        )
        for one in measured
    ]
    lengths = dict.fromkeys(line.n_tokens for line in lines)
    return [[line for line in lines if line.n_tokens == length] for length in lengths]


def _row(one: Measured) -> dict[str, Any]:
    """Everything that is known of a sweep, with the spec of its first run."""
    basin, point = one.basin, one.points[0]
    numbers = {
        "best_factor": basin.best,
        "best_factor_lower": basin.best_interval.lower,
        "best_factor_upper": basin.best_interval.upper,
        "best_loss_nats": basin.best_loss,
        "cost_nats": basin.cost_nats,
        "cost_nats_lower": basin.cost_interval.lower,
        "cost_nats_upper": basin.cost_interval.upper,
    }
    return {
        "d_model": point.spec.model.d_model,
        "n_params": point.params.total,
        "n_tokens": point.n_tokens,
        "sentence": one.sentence,
        **{name: value if math.isfinite(value) else None for name, value in numbers.items()},
        "runs": [
            {
                "id": run.id,
                "rate": run.axes[FIELD],
                "seed": run.seed,
                "loss_nats": float(loss) if math.isfinite(loss) else None,
            }
            for run, loss in zip(one.points, one.losses.T.ravel(), strict=True)
        ],
        "spec": msgspec.to_builtins(point.spec),
    }


def _page(measured: list[Measured], about: dict[str, Any], notes: list[str]) -> str:
    n_seeds = len(measured[0].losses)
    lines = [
        "# Learning rate check: what the recipe's rate loses against the best",
        "",
        f"`{about['command']}`, {about['seconds']} s on {about['device']}, Python "
        f"{about['python']}, jax {about['version_jax']}. Recipe {about['recipe']}; factors on its "
        f"learning rate, {n_seeds} seeds each. Best factor: lowest point of a cubic over ln rate "
        f"through the {N_RATES} rates about the lowest loss; cost: loss of the recipe's own rate "
        "on that curve above its lowest point; intervals: 95 %, Student's t with the scatter of "
        "all curves pooled.",
        "",
        "![Loss against learning rate](lr_check.png)",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        f"|{'---|' * len(_COLUMNS)}",
        *(f"| {' | '.join(_cells(one))} |" for one in measured),
        "",
        *(f"- {one.basin.reason} (d_model {_width(one)})" for one in measured if one.basin.reason),
        *(f"- {note}" for note in notes),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _width(one: Measured) -> int:
    return one.points[0].spec.model.d_model


def _cells(one: Measured) -> tuple[str, ...]:
    point = one.points[0]
    return (
        f"{point.n_tokens:,}",
        str(_width(one)),
        f"{point.params.total:,}",
        str(point.spec.train.batch_size),
        one.best,
        f"{one.basin.best_loss:.4f}",
        one.cost,
    )
