# SPDX-License-Identifier: Apache-2.0
"""What a check found: whether each program fits, what it moves, and how long it takes at least."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from experiments.checks.compile.collectives import Step, Transfer, by_kind, transfers
from experiments.checks.compile.messages import Compiled, Devices
from experiments.checks.compile.programs import Program
from experiments.checks.compile.roofline import ASSUMPTIONS, Estimate, Rates, estimate
from experiments.study.study import Study
from model.hardware import lookup
from model.network.execution import USABLE, Execution


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The last setting of a program that was compiled.

    Attributes:
      needed_bytes, usable_bytes: of one device.
      moved: kind of collective -> bytes per device and step, by formula and as compiled.
      parts: what the formula's bytes are made of, with the bytes of each.
      step: least time of a step.
      hours: of all runs of the program, one after the other: least and, without overlap, most.
    """

    execution: Execution
    needed_bytes: float
    usable_bytes: float
    moved: dict[str, tuple[float, float]]
    parts: tuple[tuple[Transfer, float], ...]
    step: Estimate
    hours: tuple[float, float]

    @property
    def fits(self) -> bool:
        return fits(self.needed_bytes, self.usable_bytes)

    @property
    def free_bytes(self) -> float:
        return self.usable_bytes - self.needed_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One program and what became of it.

    Attributes:
      tried: every setting, in order.
      outcome: of the last one; None where nothing could be compiled.
      reason: why not.
    """

    program: Program
    tried: tuple[Compiled, ...]
    outcome: Outcome | None
    reason: str

    @property
    def fits(self) -> bool:
        return self.outcome is not None and self.outcome.fits


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """All programs of a study.

    Attributes:
      peak_source: of the FLOP/s of a device.
      study_hours: least and most of all runs, one after the other; None where none is known.
    """

    study: Study
    topology: str | None
    device: Devices
    rows: tuple[Row, ...]
    peak_source: str

    @property
    def study_hours(self) -> tuple[float, float] | None:
        known = [row.outcome.hours for row in self.rows if row.outcome is not None]
        if not known:
            return None
        low, high = (sum(ends) for ends in zip(*known, strict=True))
        return low, high

    @property
    def assumptions(self) -> tuple[str, ...]:
        if self.study.recipe.optimizer.algorithm == "adamw":
            return ASSUMPTIONS
        more = "the optimiser's own products and what it exchanges are not counted"
        return (*ASSUMPTIONS, more)


def usable_bytes(device: Devices) -> float:
    return USABLE * device.memory_bytes


def fits(needed_bytes: float, usable: float) -> bool:
    """Whether so much is usable; 0 is what a compiler did not say."""
    return 0 < needed_bytes <= usable


def row(
    program: Program, tried: Sequence[Compiled], reason: str, *, study: Study, device: Devices
) -> Row:
    """What came of a program; the last of what was tried counts."""
    outcome = _outcome(program, tried[-1], study, device) if tried else None
    return Row(program=program, tried=tuple(tried), outcome=outcome, reason=reason)


def _outcome(program: Program, last: Compiled, study: Study, device: Devices) -> Outcome:
    execution = Execution.from_text(last.execution)
    step = program.step(study.mesh, execution)
    time = estimate(step, rates(device, step.compute_dtype))
    n_steps = sum(point.spec.train.schedule.n_steps for point in program.points)
    return Outcome(
        execution=execution,
        needed_bytes=last.needed_bytes,
        usable_bytes=usable_bytes(device),
        moved=_moved(step, last.collectives),
        parts=tuple((transfer, transfer.moved(step.mesh)) for transfer in transfers(step)),
        step=time,
        hours=(n_steps * time.overlapped_seconds / 3600, n_steps * time.serial_seconds / 3600),
    )


def _moved(step: Step, compiled: dict[str, float]) -> dict[str, tuple[float, float]]:
    formula = by_kind(step)
    kinds = dict.fromkeys((*formula, *compiled))
    return {kind: (formula.get(kind, 0.0), compiled.get(kind, 0.0)) for kind in kinds}


def rates(device: Devices, dtype: str) -> Rates:
    """Of one device: by the table, else what the compiling process measured."""
    known = lookup(device.kind)
    if known is not None:
        return Rates(
            flops_per_second=known.peak(dtype),
            memory_bytes_per_second=known.memory_bytes_per_second,
            link_bytes_per_second=known.link_bytes_per_second,
            links=device.links,
            source=f"table: {device.kind} {dtype}, {known.source}",
        )
    return Rates(
        flops_per_second=device.measured[dtype],
        memory_bytes_per_second=None,
        link_bytes_per_second=None,
        links={},
        source=f"measured: {dtype} matmul; memory and links of {device.kind!r} are not known",
    )


def to_json(answer: Answer) -> str:
    """The content of check.json."""
    hours = answer.study_hours
    record = {
        "study": answer.study.name,
        "topology": answer.topology,
        "mesh": list(answer.study.mesh),
        "device": msgspec.to_builtins(answer.device),
        "usable_bytes": usable_bytes(answer.device),
        "programs": [_row_record(row) for row in answer.rows],
        "study_hours": None if hours is None else list(hours),
        "peak_source": answer.peak_source,
        "assumptions": list(answer.assumptions),
    }
    return json.dumps(record, indent=1, allow_nan=False)


def _row_record(row: Row) -> dict[str, Any]:
    point, outcome = row.program.points[0], row.outcome
    model, train = point.spec.model, point.spec.train
    return {
        "points": [point.id for point in row.program.points],
        "d_model": model.d_model,
        "n_layers": model.n_layers,
        "n_params": point.params.total,
        "seq_len": model.seq_len,
        "batch_size": train.batch_size,
        "compute_dtype": train.compute_dtype,
        "fits": row.fits,
        "reason": row.reason,
        "hours": None if outcome is None else list(outcome.hours),
        "tried": msgspec.to_builtins(row.tried),
        **({} if outcome is None else _outcome_record(outcome)),
    }


def _outcome_record(outcome: Outcome) -> dict[str, Any]:
    step = outcome.step
    return {
        "execution": outcome.execution.to_text(),
        "needed_bytes": outcome.needed_bytes,
        "free_bytes": outcome.free_bytes,
        "collectives": {
            "by_formula": {kind: formula for kind, (formula, _) in outcome.moved.items()},
            "compiled_indicative": {
                kind: real for kind, (_, real) in outcome.moved.items() if real
            },
            "parts": [
                {"what": part.what, "kind": part.kind, "axes": list(part.axes), "bytes": n_bytes}
                for part, n_bytes in outcome.parts
            ],
        },
        "step_seconds": {
            "compute": step.compute_seconds,
            "memory": step.memory_seconds,
            "links": step.link_seconds,
            "overlapped": step.overlapped_seconds,
            "serial": step.serial_seconds,
        },
    }
