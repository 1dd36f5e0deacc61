# SPDX-License-Identifier: Apache-2.0
"""What isoflop check prints."""

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from experiments.terminal.table import number_table
from model.network.execution import USABLE, Execution

GIB = 2**30


def settings(execution: Execution) -> str:
    """What was chosen, in words."""
    parts = execution.n_microbatches
    split = f", {parts} microbatches" if parts > 1 else ""
    return f"{execution.attention} attention, remat {execution.remat}{split}"


def outcome(event: dict[str, Any], device: dict[str, Any]) -> str:
    """One line for a program that was compiled, or did not fit."""
    needed, usable = event["needed_bytes"], USABLE * device["memory_bytes"]
    have = (
        f"{needed / GIB:.2f} of {usable / GIB:.2f} GiB usable" if needed else "more than there is"
    )
    verdict = "fits" if 0 < needed <= usable else "does not fit"
    n = event["n_rematerializations"]
    warned = f"; {n} involuntary full rematerializations" if n else ""
    return f"  {verdict}: {have}, compiled in {event['seconds']:.0f} s{warned}"


def tables(record: dict[str, Any]) -> RenderableType:
    """The whole answer."""
    parts: list[RenderableType] = [_programs(record), Text()]
    parts += [
        Text(f"d_model {row['d_model']}, batch {row['batch_size']}: {row['reason']}")
        for row in record["programs"]
        if row["reason"]
    ]
    if any(_moved(row) for row in record["programs"]):
        parts += [_collectives(record), Text()]
    parts += [Text(f"peak: {record['peak_source']}")]
    parts += [Text(f"- {assumption}") for assumption in record["assumptions"]]
    if record["study_hours"]:
        low, high = record["study_hours"]
        n_runs = sum(len(row["points"]) for row in record["programs"])
        text = f"{n_runs} runs one after the other: {_range(low, high)} hours at least"
        parts += [Text(f"{text}, on {record['device']['n_devices']} x {record['device']['kind']}")]
    return Group(*parts)


def _programs(record: dict[str, Any]) -> Table:
    table = number_table(
        *("d_model", "layers", "params", "batch", "runs", "settings"),
        *("GiB", "of", "fits", "step, s", "bound by", "hours"),
    )
    for row in record["programs"]:
        table.add_row(
            str(row["d_model"]),
            str(row["n_layers"]),
            f"{row['n_params']:,}",
            str(row["batch_size"]),
            str(len(row["points"])),
            *_fit(row, record["usable_bytes"]),
        )
    return table


def _fit(row: dict[str, Any], usable: float) -> tuple[str, ...]:
    if "execution" not in row:
        return ("", "", "", "NO", "", "", "")
    seconds = row["step_seconds"]
    accounts = {name: seconds[name] for name in ("compute", "memory", "links")}
    free = row["free_bytes"] / GIB
    return (
        settings(Execution.from_text(row["execution"])),
        f"{row['needed_bytes'] / GIB:.2f}",
        f"{usable / GIB:.2f}",
        f"{free:.2f} free" if row["fits"] else f"NO: {-free:.2f} over",
        _range(seconds["overlapped"], seconds["serial"]),
        max(accounts, key=lambda name: accounts[name]),
        _range(*row["hours"]),
    )


def _collectives(record: dict[str, Any]) -> Table:
    """Bytes per device and step, by formula and as compiled."""
    table = number_table(
        "d_model", "batch", "collective", "MB by formula", "MB compiled (indicative)"
    )
    for row in record["programs"]:
        for kind, cells in _moved(row).items():
            numbers = (f"{cell / 1e6:,.3f}" for cell in cells)
            table.add_row(str(row["d_model"]), str(row["batch_size"]), kind, *numbers)
    return table


def _moved(row: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Kind of collective -> bytes by formula and as compiled, where there are any."""
    if "collectives" not in row:
        return {}
    formula = row["collectives"]["by_formula"]
    compiled = row["collectives"]["compiled_indicative"]
    kinds = dict.fromkeys((*formula, *compiled))
    both = {kind: (formula.get(kind, 0.0), compiled.get(kind, 0.0)) for kind in kinds}
    return {kind: cells for kind, cells in both.items() if any(cells)}


def _range(low: float, high: float) -> str:
    ends = dict.fromkeys((f"{low:.3g}", f"{high:.3g}"))
    return " to ".join(ends)
