# SPDX-License-Identifier: Apache-2.0
"""The answer of `isoflop lr-check`: a table, a page and a figure."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from experiments.checks.learning_rate.basins import Measured, verdict
from experiments.checks.learning_rate.sweep import FIELD
from experiments.files import markdown
from experiments.files.storage import replace_text
from scaling.hyperparameters.learning_rate_basins import N_RATES
from scaling.json_values import encode
from scaling.plots.learning_rate_basins import Line, figure_basins
from scaling.plots.style import save_png

_COLUMNS = (
    "tokens",
    "d_model",
    "parameters",
    "batch",
    "best factor",
    "lowest loss",
    "cost, nats",
    "%",
)


def write(measured: list[Measured], folder: Path, about: Mapping[str, str | int]) -> list[Path]:
    """lr_check.png, .json and .md; returns their paths.

    Args:
      about: facts of the run: command, recipe, seconds, device, versions.
    """
    paths = [folder / f"lr_check.{kind}" for kind in ("png", "json", "md")]
    folder.mkdir(parents=True, exist_ok=True)
    notes = [note for one in measured for note in one.notes]
    save_png(figure_basins(_panels(measured), notes), paths[0])
    record = {
        **about,
        "verdict": verdict(measured),
        "notes": notes,
        "sweeps": [_row(one) for one in measured],
    }
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
        **encode(numbers),
        "runs": [
            {
                "id": run.id,
                "rate": run.axes[FIELD],
                "seed": run.seed,
                "loss_nats": encode(loss),
            }
            for run, loss in zip(one.points, one.losses.T.ravel(), strict=True)
        ],
        "spec": msgspec.to_builtins(point.spec),
    }


def _page(measured: list[Measured], about: Mapping[str, str | int], notes: list[str]) -> str:
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
        verdict(measured),
        "",
        *markdown.table(_COLUMNS, map(_cells, measured)),
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
        f"{100 * one.share:.2f}" if math.isfinite(one.share) else "unknown",
    )
