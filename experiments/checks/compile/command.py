# SPDX-License-Identifier: Apache-2.0
"""isoflop check: does every program of a study fit, what does it move, how long does it take?

Nothing is trained: the programs are compiled for devices that are here, or for a slice of TPUs
that is not.
"""

import argparse
import json
import math
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from experiments.checks.compile import display
from experiments.checks.compile.collectives import Step, by_kind, transfers
from experiments.checks.compile.launch import compile_programs, interpreter
from experiments.checks.compile.programs import Program, programs
from experiments.checks.compile.roofline import ASSUMPTIONS, Estimate, Rates, estimate
from experiments.checks.compile.topology import Topology, parse_topology
from experiments.executors.local_devices import local_workers
from experiments.files.storage import replace_text
from experiments.ledger.ledger import Ledger
from experiments.plan.plan import Plan
from experiments.study.study import Study
from model.hardware import lookup
from model.network.execution import USABLE, Execution


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of check."""
    text = "a slice of TPUs that need not be here, for instance v5e:16x16 (default: what is here)"
    parser.add_argument("--topology", default=None, metavar="NAME", help=text)


@dataclass(kw_only=True)
class Checked:
    """One program and what became of it.

    Attributes:
      tried: "compiled" events, the last one counts; empty where nothing could be compiled.
      reason: why not.
    """

    program: Program
    tried: list[dict[str, Any]] = field(default_factory=list)
    reason: str = ""


def check(options: Any, study: Study, ledger: Ledger, plan: Plan, console: Console) -> bool:
    """Compiles, prints, writes check.json; whether everything fits.

    Raises:
      ValueError: if the topology, the mesh or the environment is not such that one can compile.
    """
    topology = parse_topology(options.topology) if options.topology else None
    _check_mesh(study, topology)
    python = interpreter(options.topology)
    found = {program.key: Checked(program=program) for program in programs(plan)}
    where = options.topology or "the devices that are here"
    console.print(f"compiling {len(found)} programs for {where} ...")
    device = _compile(python, study, topology, ledger, found, console)
    record = _record(study, options.topology, device, list(found.values()))
    replace_text(ledger.folder / "check.json", json.dumps(record, indent=1, allow_nan=False))
    console.print(display.tables(record))
    console.print(f"written {ledger.folder / 'check.json'}")
    return all(program["fits"] for program in record["programs"])


def _check_mesh(study: Study, topology: Topology | None) -> None:
    n_devices = math.prod(study.mesh)
    if topology is not None and n_devices != topology.n_devices:
        raise ValueError(
            f"mesh={study.mesh} has {n_devices} devices, {topology.name} has "
            f"{topology.n_devices}: use all of a slice, for instance mesh=1,1,"
            f"{topology.n_devices},1."
        )


def _compile(
    python: str,
    study: Study,
    topology: Topology | None,
    ledger: Ledger,
    found: dict[str, Checked],
    console: Console,
) -> dict[str, Any]:
    """Fills ``found``; returns what is known of the devices."""
    n_points = sum(len(checked.program.points) for checked in found.values())
    n_threads = len(local_workers(None, n_points, math.prod(study.mesh)).cores[0])
    request = {
        "topology": topology.name if topology else None,
        "wraps_at": topology.family.wraps_at if topology else 0,
        "n_threads": n_threads,
        "mesh": study.mesh,
        "execution": study.execution.to_text(),
        "programs": {key: checked.program.request() for key, checked in found.items()},
    }
    device: dict[str, Any] = {}
    places = {key: n for n, key in enumerate(found, start=1)}
    for event in compile_programs(python, request, ledger.folder / "check.log"):
        if event["event"] == "devices":
            device = event
            continue
        checked = found[event["key"]]
        place = f"{places[event['key']]}/{len(found)}"
        if event["event"] == "compiled":
            checked.tried.append(event)
            console.print(f"{place} {display.outcome(event, device)}")
        elif event["event"] == "unfit":
            checked.reason = event["reason"]
            console.print(f"{place} {checked.reason}")
        else:
            execution = Execution.from_text(event["execution"])
            console.print(f"{place} {checked.program.name}: {display.settings(execution)} ...")
    return device


def _record(
    study: Study, topology: str | None, device: dict[str, Any], found: list[Checked]
) -> dict[str, Any]:
    rows = [_row(checked, study, device) for checked in found]
    known = [row["hours"] for row in rows if row["hours"]]
    return {
        "study": study.name,
        "topology": topology,
        "mesh": list(study.mesh),
        "device": device,
        "usable_bytes": USABLE * device["memory_bytes"],
        "programs": rows,
        "study_hours": [sum(ends) for ends in zip(*known, strict=True)] if known else None,
        "peak_source": _rates(device, study.recipe.compute_dtype).source,
        "assumptions": _assumptions(study),
    }


def _assumptions(study: Study) -> list[str]:
    if study.recipe.optimizer.algorithm == "adamw":
        return list(ASSUMPTIONS)
    return [*ASSUMPTIONS, "the optimiser's own products and what it exchanges are not counted"]


def _row(checked: Checked, study: Study, device: dict[str, Any]) -> dict[str, Any]:
    program, last = checked.program, checked.tried[-1] if checked.tried else None
    point = program.points[0]
    model, train = point.spec.model, point.spec.train
    row = {
        "points": [point.id for point in program.points],
        "d_model": model.d_model,
        "n_layers": model.n_layers,
        "n_params": point.params.total,
        "seq_len": model.seq_len,
        "batch_size": train.batch_size,
        "compute_dtype": train.compute_dtype,
        "fits": False,
        "reason": checked.reason,
        "hours": None,
        "tried": checked.tried,
    }
    if last is None:
        return row
    step = program.step(study.mesh, Execution.from_text(last["execution"]))
    time = estimate(step, _rates(device, train.compute_dtype))
    needed = last["needed_bytes"]
    return row | {
        "fits": 0 < needed <= USABLE * device["memory_bytes"],
        "execution": last["execution"],
        "needed_bytes": needed,
        "free_bytes": USABLE * device["memory_bytes"] - needed,
        "collectives": _collectives(step, last["collectives"]),
        "step_seconds": _seconds(time),
        "hours": _hours(program, time),
    }


def _collectives(step: Step, compiled: dict[str, float]) -> dict[str, Any]:
    """Bytes per device and step."""
    return {
        "by_formula": by_kind(step),
        "compiled_indicative": compiled,
        "parts": [
            {
                "what": transfer.what,
                "kind": transfer.kind,
                "axes": list(transfer.axes),
                "bytes": transfer.moved(step.mesh),
            }
            for transfer in transfers(step)
        ],
    }


def _seconds(time: Estimate) -> dict[str, float]:
    return {
        "compute": time.compute_seconds,
        "memory": time.memory_seconds,
        "links": time.link_seconds,
        "overlapped": time.overlapped_seconds,
        "serial": time.serial_seconds,
    }


def _hours(program: Program, time: Estimate) -> list[float]:
    """Of all runs of a program, one after the other: least and, without overlap, most."""
    n_steps = sum(point.spec.train.schedule.n_steps for point in program.points)
    return [n_steps * t / 3600 for t in (time.overlapped_seconds, time.serial_seconds)]


def _rates(device: dict[str, Any], dtype: str) -> Rates:
    """Of one device: by the table, else what the compiling process measured."""
    known = lookup(device["kind"])
    if known is not None:
        return Rates(
            flops_per_second=known.peak(dtype),
            memory_bytes_per_second=known.memory_bytes_per_second,
            link_bytes_per_second=known.link_bytes_per_second,
            links=device["links"],
            source=f"table: {device['kind']} {dtype}, {known.source}",
        )
    # CPU devices of one process are simulated: they share its cores.
    n_sharing = device["n_devices"] if device["platform"] == "cpu" else 1
    return Rates(
        flops_per_second=device["measured"][dtype] / n_sharing,
        memory_bytes_per_second=None,
        link_bytes_per_second=None,
        links={},
        source=f"measured: {dtype} matmul; memory and links of {device['kind']!r} are not known",
    )
