# SPDX-License-Identifier: Apache-2.0
"""What every worker does now."""

from collections.abc import Mapping, Sequence

from rich.table import Table

from experiments.ledger.asked_points import Asked
from experiments.ledger.progress import PointState, Row, TrunkState, Worker
from experiments.ledger.verdict import FINAL
from experiments.speed.calibration import relative_seconds
from experiments.study.study import shown_axes
from experiments.terminal.table import duration, fitting_table
from model.hardware import mfu
from scaling.tables.units import power

_MOST = 20


def running_table(
    points: Mapping[str, Asked],
    states: Mapping[str, PointState],
    trunks: Sequence[TrunkState],
    width: int,
) -> Table | None:
    """A row for each run and trunk that is being trained; None without any.

    Args:
      trunks: what points that wait are waiting for.
      width: of the terminal: what matters least is left out where there is no room.
    """
    rows = [
        _row(_name(points[name]), points[name].n_steps, points[name], state.worker, state)
        for name, state in states.items()
        if state.worker is not None
    ]
    rows += [
        _row(f"trunk d{one.of.d_model} seed {one.of.seeds}", one.steps[1], None, one.worker, one)
        for one in trunks
    ]
    if not rows:
        return None
    table = fitting_table(rows[:_MOST], width)
    if len(rows) > _MOST:
        table.add_row(f"and {len(rows) - _MOST} more")
    return table


def seconds_left(
    points: Mapping[str, Asked], states: Mapping[str, PointState], n_devices: int
) -> float | None:
    """Until the last run has ended, if as many go on as work now; None where nothing tells.

    Runs take device-seconds as those that are done did (`relative_seconds`). Trunks, and forecasts
    that are still to be made, are not counted.

    Args:
      n_devices: of each run.
    """
    work = {name: relative_seconds(points[name].flops[points[name].convention]) for name in states}
    done = [name for name, state in states.items() if state.state == "done"]
    rows = [state.progress for state in states.values() if state.worker is not None]
    seconds = sum(states[name].device_seconds for name in done)
    if not rows or not seconds:
        return None
    left = sum(
        work[name] * (1.0 - (row.step / row.n_steps if (row := state.progress) else 0.0))
        for name, state in states.items()
        if state.state not in FINAL
    )
    n_at_work = n_devices * sum(1.0 / row.n_sharing if row else 1.0 for row in rows)
    return left * seconds / sum(work[name] for name in done) / n_at_work


def _row(
    name: str, n_steps: int, point: Asked | None, worker: Worker, state: PointState | TrunkState
) -> dict[str, str]:
    """By falling importance; ``point``: of whose FLOPs the share of the peak is told."""
    row = state.progress
    speed = None if row is None else row.tokens_per_second
    left = None if row is None or point is None else row.seconds_left
    return {
        "running": name,
        "now": f"{row.step:,} of {n_steps:,}" if row else f"compiling {_since(worker)}",
        "left": "" if left is None else duration(left),
        "heard of": f"{worker.silence_seconds:.0f} s ago",
        "tokens/s": "" if speed is None else f"{speed:,.0f}",
        "MFU": "" if point is None else _mfu(point, row),
        "attempt": str(state.attempt),
        "host": worker.host,
    }


def _name(point: Asked) -> str:
    """With as much of its id as commands need."""
    axes = f" {shown_axes(point.axes)}" * bool(point.axes)
    return f"{point.id[:8]} {power(point.budget)} d{point.d_model} seed {point.seeds}{axes}"


def _since(worker: Worker) -> str:
    """How long; "" where its claim is gone."""
    return duration(worker.age_seconds) if worker.age_seconds < float("inf") else ""


def _mfu(point: Asked, row: Row | None) -> str:
    """Share of the peak, in FLOPs of the whole T x T ("matmul_full")."""
    speed = None if row is None else row.steps_per_second
    if row is None or speed is None:
        return ""
    share = mfu(speed * point.flops["matmul_full"] / point.n_steps, row.peak_flops_per_second)
    return "" if share is None else f"{share:.1%}"
