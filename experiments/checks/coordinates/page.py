# SPDX-License-Identifier: Apache-2.0
"""The answer of `isoflop coordinate-check`: a table, a page and a figure."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from experiments.checks.coordinates.cases import N_SEQUENCES, Means
from experiments.checks.coordinates.slopes import Answer, Slope
from experiments.files import markdown
from experiments.files.storage import replace_text
from experiments.terminal.table import plain_table
from scaling.hyperparameters.width_depth_growth import FLAT, Growth
from scaling.json_values import encode
from scaling.plots.style import save_png
from scaling.plots.width_depth_growth import Panel, figure_growth

_TOLD = ("parameterization", "axis", "quantity", "final", "change")
_COLUMNS = ("parameterisation", "along", "quantity", "size", "verdict", "change", "verdict")


def show(answer: Answer, console: Console) -> None:
    """One line per quantity, and what the recipe's own parameterisation comes to."""
    table = plain_table(*_COLUMNS, no_wrap=True)
    for row in answer.slopes:
        table.add_row(*_cells(row))
    console.print(table)
    console.print(answer.verdict)


def _cells(row: Slope) -> tuple[str, ...]:
    return (
        row.parameterization,
        row.axis,
        row.quantity,
        _slope(row.final),
        row.final.verdict,
        _slope(row.change),
        row.change.verdict,
    )


def _slope(found: Growth) -> str:
    if not math.isfinite(found.exponent):
        return "-"
    error = "" if math.isnan(found.standard_error) else f" ± {found.standard_error:.2f}"
    return f"{found.exponent:+.2f}{error}"


def write(answer: Answer, folder: Path, about: Mapping[str, str | int]) -> list[Path]:
    """coordinate_check.json, .md and .png; returns their paths.

    Args:
      about: facts of the run: command, device, versions, seconds.
    """
    paths = [folder / f"coordinate_check.{kind}" for kind in ("png", "json", "md")]
    folder.mkdir(parents=True, exist_ok=True)
    save_png(figure_growth(_panels(answer), [_sentence(answer)]), paths[0])
    replace_text(paths[1], json.dumps(_record(answer, about), indent=1, allow_nan=False) + "\n")
    replace_text(paths[2], _page(answer, about))
    return paths


def _sentence(answer: Answer) -> str:
    networks, base = answer.networks, answer.recipe.base
    train = answer.cases[0].specs[0].train
    return (
        f"Recipe {answer.recipe.name}, {networks.n_steps} steps of {train.batch_size} sequences "
        f"at the peak rate without warm-up; widths at depth {base.n_layers}, depths at width "
        f"{base.d_model}; activations on {N_SEQUENCES} validation sequences; mean of "
        f"{len(networks.seeds)} seeds."
    )


def _panels(answer: Answer) -> list[list[Panel]]:
    """A row per parameterisation, a panel per axis."""
    rows: dict[str, dict[str, list[Slope]]] = {}
    for slope in answer.slopes:
        axes = rows.setdefault(slope.parameterization, {})
        axes.setdefault(slope.axis, []).append(slope)
    return [
        [
            Panel(
                title=f"{kind}: {axis}",
                axis=axis,
                sizes=slopes[0].sizes,
                changes={slope.quantity: slope.changes for slope in slopes},
                finals={slope.quantity: slope.finals for slope in slopes},
                growths={slope.quantity: slope.change for slope in slopes},
            )
            for axis, slopes in axes.items()
        ]
        for kind, axes in rows.items()
    ]


def _record(answer: Answer, about: Mapping[str, str | int]) -> dict[str, Any]:
    return {
        **about,
        "recipe": answer.recipe.name,
        "verdict": answer.verdict,
        "flat_below": FLAT,
        "seeds": list(answer.networks.seeds),
        "slopes": [
            {name: encode(getattr(slope, name)) for name in _TOLD} for slope in answer.slopes
        ],
        "means": list(Means._fields),
        "cases": [encode(msgspec.to_builtins(case)) for case in answer.cases],
    }


def _page(answer: Answer, about: Mapping[str, str | int]) -> str:
    lines = [
        "# Coordinate check: sizes of activations against width and depth",
        "",
        f"`{about['command']}`, {about['seconds']} s on {about['device']}, Python "
        f"{about['python']}, jax {about['version_jax']}.",
        "",
        f"{_sentence(answer)} Slopes of ln(mean absolute value) against ln(size), least squares "
        'for each seed, mean ± standard error over seeds; "size": after the last step; '
        f'"change": since initialisation. Flat: |slope| < {FLAT:g}, half of the smallest power, '
        "1/2, by which sizes grow in theory.",
        "",
        "![Sizes against width and depth](coordinate_check.png)",
        "",
        answer.verdict,
        "",
        *markdown.table(_COLUMNS, map(_cells, answer.slopes)),
        "",
    ]
    return "\n".join(lines)
