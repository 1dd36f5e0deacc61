# SPDX-License-Identifier: Apache-2.0
"""Loss curves and the learning rates that gave them, from the table of anybody."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from scaling.schedules.multi_power_law import schedule_columns
from scaling.tables.arrays import Array
from scaling.tables.cells import Problems, has_values, numbers, text
from scaling.tables.columns import with_sums
from scaling.tables.file import Table, read_table
from scaling.tables.row_filter import filtered
from scaling.tables.units import column_and_factor

_FIELDS = ("run_id", "step", "loss_nats", "learning_rate")
# Of the highest rate of a run: between two evaluations it may have changed by as much at once.
_LEAP = 0.2
# Longer schedules are counted in something else than steps.
_MOST_STEPS = 100_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LossCurves:
    """Evaluations: run, step, loss [n], and the schedule lr [T + 1] of each run.

    notes: what was assumed or left out when a table was read, in words.
    """

    run: Shaped[Array, " n"]
    step: Shaped[Array, " n"]
    loss: Float[Array, " n"]
    schedules: Mapping[str, Array]
    notes: tuple[str, ...] = ()

    def of(self, names: Sequence[str]) -> "LossCurves":
        rows = np.isin(self.run, names)
        return replace(self, run=self.run[rows], step=self.step[rows], loss=self.loss[rows])

    @property
    def columns(self) -> dict[str, Array]:
        """Columns of the multi-power law."""
        return schedule_columns(self.run, self.step, self.schedules)


def read_loss_curves(
    source: str | Path | Mapping[str, Any] | Any,
    *,
    schedules: str | Path | Mapping[str, Any] | Any | None = None,
    columns: Mapping[str, str] | None = None,
    where: Sequence[str] = (),
) -> LossCurves:
    """Curves from a table as `read_tables.read_runs` takes it, a row for each evaluation.

    Args:
      source: columns run_id, step, loss_nats, and learning_rate where `schedules` is not given.
        Rows without a loss are no evaluations; those without a rate say nothing of the schedule.
      schedules: a table as `read_schedules` reads it, columns named alike.
      columns: field -> column in the files, with units as for `read_runs`.
      where: conditions that rows of `source` must meet.

    Raises:
      ValueError: for a missing column, or for bad rows: all of them in one message.
    """
    names = _FIELDS if schedules is None else _FIELDS[:3]
    table, ids, values, notes = _read(source, names, columns or {}, where)
    if schedules is None:
        rates, said = _schedules(table, ids, values)
        said += _leaps(ids, values)
    else:
        rates, said = read_schedules(schedules, columns=columns)
    is_evaluated = np.isfinite(values["loss_nats"])
    left = int(np.sum(~is_evaluated))
    notes += (f"{left} of {len(ids)} rows have no loss: no evaluations.",) if left else ()
    return LossCurves(
        run=ids[is_evaluated],
        step=values["step"][is_evaluated],
        loss=values["loss_nats"][is_evaluated],
        schedules=rates,
        notes=(*notes, *said),
    )


def read_schedules(
    source: str | Path | Mapping[str, Any] | Any, *, columns: Mapping[str, str] | None = None
) -> tuple[dict[str, Float[Array, " steps"]], tuple[str, ...]]:
    """Rates lr [T + 1] of each run by its name, and what was assumed, in words.

    Args:
      source: a table with columns run_id, step and learning_rate; between two of its rows a rate
        is linear. Where the first step is not 0, the rate rises linearly from zero to it.
      columns: as for `read_loss_curves`; of losses it may speak in vain.

    Raises:
      ValueError: for a missing column, bad rows, or two rates at one step.
    """
    given = {name: column for name, column in (columns or {}).items() if name != "loss_nats"}
    table, ids, values, notes = _read(source, ("run_id", "step", "learning_rate"), given, ())
    rates, said = _schedules(table, ids, values)
    return rates, (*notes, *said)


def _read(
    source: Any, names: Sequence[str], given: Mapping[str, str], where: Sequence[str]
) -> tuple[Table, Array, dict[str, Array], tuple[str, ...]]:
    """The table, run_id [n] as text and the other columns [n], NaN where a loss or a rate is
    missing."""
    if unknown := sorted(set(given) - set(_FIELDS)):
        raise ValueError(f"--columns names {unknown[0]}; curves have {', '.join(_FIELDS)}")
    table, notes = filtered(with_sums(read_table(source), given), where)
    mapping = {n: column_and_factor(n, given.get(n, n), table.columns) for n in names}
    table.require(column for column, _ in mapping.values())
    option = "--where" if "loss_nats" in names else ""  # A schedule is read whole.
    problems, values = Problems(table=table, option=option), {}
    for name in names[1:]:
        column, factor = mapping[name]
        is_there = has_values(table, column) if name != "step" else np.ones(len(table), bool)
        values[name] = numbers(
            table, column, problems, factor=factor, checked=is_there, allow_zero=name != "loss_nats"
        )
    problems.raise_all()
    ids = np.array(text(table, mapping["run_id"][0]), str)
    return table, ids, values, (*notes, *dict.fromkeys(problems.notes))


def _rates(ids: Array, values: Mapping[str, Array]) -> Iterator[tuple[str, Array, Array]]:
    """Of each run its name, and the steps in order that have a rate, with it."""
    known = np.isfinite(values["learning_rate"])
    for name in dict.fromkeys(ids[known].tolist()):
        rows = np.flatnonzero(known & (ids == name))
        rows = rows[np.argsort(values["step"][rows], kind="stable")]
        yield name, values["step"][rows], values["learning_rate"][rows]


def _schedules(
    table: Table, ids: Array, values: Mapping[str, Array]
) -> tuple[dict[str, Array], tuple[str, ...]]:
    found, late = {}, {}
    for name, steps, rates in _rates(ids, values):
        _check(table, name, steps, rates)
        if steps[0] > 0:
            late[name] = steps[0]
            steps, rates = np.append(0.0, steps), np.append(0.0, rates)
        found[name] = np.interp(np.arange(int(steps[-1]) + 1), steps, rates)
    if not late:
        return found, ()
    first = f"{min(late.values()):g}"
    until = first if len({*late.values()}) == 1 else f"{first} to {max(late.values()):g}"
    said = (
        f"the rates of {len(late)} runs begin at step {until}: a warm-up from zero, linear up to "
        "there, is assumed."
    )
    return found, (said,)


def _leaps(ids: Array, values: Mapping[str, Array]) -> tuple[str, ...]:
    """Runs whose rate changes by much between two rows, perhaps at once, in words."""
    found: list[tuple[Any, ...]] = []
    for name, steps, rates in _rates(ids, values):
        leaps = (np.abs(np.diff(rates)) > _LEAP * np.max(rates)) & (np.diff(steps) > 1)
        found += [(name, *steps[i : i + 2], *rates[i : i + 2]) for i in np.flatnonzero(leaps)[:1]]
    if not found:
        return ()
    name, before, after, high, low = found[0]
    return (
        f"{len(found)} runs change their rate by more than {_LEAP:.0%} of the highest between two "
        f"rows ({name}: {high:g} at step {before:g}, {low:g} at {after:g}). It is taken as linear "
        "there; if it was not, say so in a table of its own: --schedules.",
    )


def _check(table: Table, name: str, steps: Array, rates: Array) -> None:
    """Raises ValueError for steps that are none, or two rates at one step."""
    if steps[-1] > _MOST_STEPS or np.any(steps != np.round(steps)):
        bad = steps[(steps > _MOST_STEPS) | (steps != np.round(steps))][0]
        raise ValueError(
            f"{table.path}: run {name} has a rate at step {bad:g}; steps are whole, up to "
            f"{_MOST_STEPS:g} (--columns step=COLUMN:FACTOR)"
        )
    twice = np.flatnonzero((np.diff(steps) == 0) & (np.diff(rates) != 0))
    if len(twice):
        raise ValueError(
            f"{table.path}: run {name} has two rates at step {steps[twice[0]]:g}: "
            f"{rates[twice[0]]:g} and {rates[twice[0] + 1]:g}"
        )
