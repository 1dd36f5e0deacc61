# SPDX-License-Identifier: Apache-2.0
"""The answer of `isoflop coordinate-check`: slopes, a table, a page and a figure."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.console import Console

from experiments.checks.coordinates.cases import N_SEQUENCES, QUANTITIES, Case, Means, axis_shapes
from experiments.files.storage import replace_text
from experiments.study.study import Study
from experiments.terminal.table import plain_table
from model.training.parameterization import Parameterization
from scaling.hyperparameters.width_depth_growth import FLAT, Growth, growth
from scaling.plots.style import save_png
from scaling.plots.width_depth_growth import Panel, figure_growth

JUDGED = ("final", "change")
_COLUMNS = ("parameterisation", "along", "quantity", "size", "verdict", "change", "verdict")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """How one quantity grows along one axis: its size at the end, and its change."""

    parameterization: Parameterization
    axis: str
    quantity: str
    final: Growth
    change: Growth


class Answer:
    """The cases of a check, ordered along the axes.

    Args:
      cases: as run_cases makes them. options: widths, depths, steps, seeds.
    """

    def __init__(self, study: Study, options: Any, cases: Sequence[Case]):
        self.study, self.options, self.cases = study, options, cases
        self.kinds = tuple(dict.fromkeys(case.parameterization for case in cases))
        self.lines = axis_shapes(study, options)

    def along(self, kind: Parameterization, axis: str) -> list[Case]:
        known = {(c.parameterization, c.d_model, c.n_layers): c for c in self.cases}
        return [known[(kind, *shape)] for shape in self.lines[axis]]

    def values(self, kind: Parameterization, axis: str, quantity: str, mean: str) -> np.ndarray:
        """[seeds, S]."""
        means = [case.means[quantity] for case in self.along(kind, axis)]
        return np.array([[getattr(of_seed, mean) for of_seed in case] for case in means]).T

    def sizes(self, axis: str) -> list[int]:
        return [shape[axis == "depth"] for shape in self.lines[axis]]

    def rows(self) -> Iterator[Row]:
        for kind in self.kinds:
            for axis in self.lines:
                for quantity in QUANTITIES:
                    found = {
                        mean: growth(self.sizes(axis), self.values(kind, axis, quantity, mean))
                        for mean in JUDGED
                    }
                    yield Row(parameterization=kind, axis=axis, quantity=quantity, **found)


def show(answer: Answer, console: Console) -> None:
    """One line per quantity, and what the recipe's own parameterisation comes to."""
    table = plain_table(*_COLUMNS, no_wrap=True)
    for row in answer.rows():
        table.add_row(*_cells(row))
    console.print(table)
    console.print(verdict(answer))


def verdict(answer: Answer) -> str:
    """A sentence on the recipe's own parameterisation."""
    own = answer.study.recipe.parameterization
    judged = [
        (row, name, getattr(row, name))
        for row in answer.rows()
        if row.parameterization == own
        for name in JUDGED
    ]
    moved = [
        f"{row.quantity} {'size' if name == 'final' else name} {found.verdict} with {row.axis}"
        for row, name, found in judged
        if found.verdict != "flat"
    ]
    told = f"recipe {answer.study.recipe.name} ({own}): "
    if not moved:
        return f"{told}all {len(judged)} slopes are flat, |slope| < {FLAT:g}."
    return f"{told}{len(moved)} of {len(judged)} slopes are not flat: {'; '.join(moved)}."


def _cells(row: Row) -> tuple[str, ...]:
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


def write(answer: Answer, folder: Path, about: dict[str, Any]) -> list[Path]:
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
    options, base = answer.options, answer.study.recipe.base
    train = answer.cases[0].specs[0].train
    return (
        f"Recipe {answer.study.recipe.name}, {options.steps} steps of {train.batch_size} sequences "
        f"at the peak rate without warm-up; widths at depth {base.n_layers}, depths at width "
        f"{base.d_model}; activations on {N_SEQUENCES} validation sequences; mean of "
        f"{len(options.seeds)} seeds."
    )


def _panels(answer: Answer) -> list[list[Panel]]:
    growths = {(r.parameterization, r.axis, r.quantity): r.change for r in answer.rows()}
    return [
        [
            Panel(
                title=f"{kind}: {axis}",
                axis=axis,
                sizes=answer.sizes(axis),
                changes={q: answer.values(kind, axis, q, "change") for q in QUANTITIES},
                finals={q: answer.values(kind, axis, q, "final") for q in QUANTITIES},
                growths={q: growths[kind, axis, q] for q in QUANTITIES},
            )
            for axis in answer.lines
        ]
        for kind in answer.kinds
    ]


def _record(answer: Answer, about: dict[str, Any]) -> dict[str, Any]:
    return about | {
        "recipe": answer.study.recipe.name,
        "verdict": verdict(answer),
        "flat_below": FLAT,
        "seeds": list(answer.options.seeds),
        "slopes": [_finite(msgspec.to_builtins(row)) for row in answer.rows()],
        "means": list(Means._fields),
        "cases": [_finite(msgspec.to_builtins(case)) for case in answer.cases],
    }


def _finite(value: Any) -> Any:
    """Null for what is no number: JSON has none."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _page(answer: Answer, about: dict[str, Any]) -> str:
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
        verdict(answer),
        "",
        f"| {' | '.join(_COLUMNS)} |",
        f"|{'---|' * len(_COLUMNS)}",
        *(f"| {' | '.join(_cells(row))} |" for row in answer.rows()),
        "",
    ]
    return "\n".join(lines)
