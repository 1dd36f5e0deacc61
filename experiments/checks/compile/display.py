# SPDX-License-Identifier: Apache-2.0
"""What isoflop check prints."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from experiments.checks.compile.answer import Answer, Outcome, Row, fits, usable_bytes
from experiments.checks.compile.messages import Compiled, Devices
from experiments.terminal.table import number_table
from model.network.execution import Execution

GIB = 2**30


def settings(execution: Execution) -> str:
    """What was chosen, in words."""
    parts = execution.n_microbatches
    split = f", {parts} microbatches" if parts > 1 else ""
    return f"{execution.attention} attention, remat {execution.remat}{split}"


def outcome(event: Compiled, device: Devices) -> str:
    """One line for a program that was compiled, or did not fit."""
    needed, usable = event.needed_bytes, usable_bytes(device)
    have = (
        f"{needed / GIB:.2f} of {usable / GIB:.2f} GiB usable" if needed else "more than there is"
    )
    verdict = "fits" if fits(needed, usable) else "does not fit"
    n = event.n_rematerializations
    warned = f"; {n} involuntary full rematerializations" if n else ""
    return f"  {verdict}: {have}, compiled in {event.seconds:.0f} s{warned}"


def tables(answer: Answer) -> RenderableType:
    """The whole answer."""
    parts: list[RenderableType] = [_programs(answer), Text()]
    parts += [
        Text(f"d_model {_d_model(row)}, batch {_batch_size(row)}: {row.reason}")
        for row in answer.rows
        if row.reason
    ]
    moved = _collectives(answer)
    if moved.row_count:
        parts += [moved, Text()]
    parts += [Text(f"peak: {answer.peak_source}")]
    parts += [Text(f"- {assumption}") for assumption in answer.assumptions]
    if answer.study_hours:
        n_runs = sum(len(row.program.points) for row in answer.rows)
        text = f"{n_runs} runs one after the other: {_range(*answer.study_hours)} hours at least"
        parts += [Text(f"{text}, on {answer.device.n_devices} x {answer.device.kind}")]
    return Group(*parts)


def _d_model(row: Row) -> int:
    return row.program.points[0].spec.model.d_model


def _batch_size(row: Row) -> int:
    return row.program.points[0].spec.train.batch_size


def _programs(answer: Answer) -> Table:
    table = number_table(
        *("d_model", "layers", "params", "batch", "runs", "settings"),
        *("GiB", "of", "fits", "step, s", "bound by", "hours"),
    )
    for row in answer.rows:
        point = row.program.points[0]
        table.add_row(
            str(_d_model(row)),
            str(point.spec.model.n_layers),
            f"{point.params.total:,}",
            str(_batch_size(row)),
            str(len(row.program.points)),
            *_fit(row.outcome),
        )
    return table


def _fit(outcome: Outcome | None) -> tuple[str, ...]:
    if outcome is None:
        return ("", "", "", "NO", "", "", "")
    step, free = outcome.step, outcome.free_bytes / GIB
    return (
        settings(outcome.execution),
        f"{outcome.needed_bytes / GIB:.2f}",
        f"{outcome.usable_bytes / GIB:.2f}",
        f"{free:.2f} free" if outcome.fits else f"NO: {-free:.2f} over",
        _range(step.overlapped_seconds, step.serial_seconds),
        step.bound_by,
        _range(*outcome.hours),
    )


def _collectives(answer: Answer) -> Table:
    """Bytes per device and step, by formula and as compiled, where there are any."""
    table = number_table(
        "d_model", "batch", "collective", "MB by formula", "MB compiled (indicative)"
    )
    for row in answer.rows:
        for kind, moved in row.outcome.moved.items() if row.outcome else ():
            if any(moved):
                numbers = (f"{n_bytes / 1e6:,.3f}" for n_bytes in moved)
                table.add_row(str(_d_model(row)), str(_batch_size(row)), kind, *numbers)
    return table


def _range(low: float, high: float) -> str:
    ends = dict.fromkeys((f"{low:.3g}", f"{high:.3g}"))
    return " to ".join(ends)
