# SPDX-License-Identifier: Apache-2.0
"""Does every program of a study fit, what does it move, how long does it take?

Nothing is trained: the programs are compiled for devices that are here, or for a slice of TPUs
that is not.
"""

import math
from collections import defaultdict

from rich.console import Console

from experiments.checks.compile import display
from experiments.checks.compile.answer import Answer, rates, row, to_json
from experiments.checks.compile.launch import compile_programs, interpreter
from experiments.checks.compile.messages import Compiled, Compiling, Devices, Request, Unfit
from experiments.checks.compile.programs import Program, programs
from experiments.checks.compile.topology import Topology, parse_topology
from experiments.executors.local_devices import worker_places
from experiments.files.storage import replace_text
from experiments.ledger.ledger import Ledger
from experiments.plan.plan import Plan
from experiments.study.study import Study
from model.network.execution import Execution


def check(
    study: Study, plan: Plan, *, topology: str | None, ledger: Ledger, console: Console
) -> bool:
    """Compiles, prints, writes check.json; whether everything fits.

    Args:
      topology: name of a slice of TPUs; None for the devices that are here.

    Raises:
      ValueError: if the topology, the mesh or the environment is not such that one can compile.
    """
    slice_of = parse_topology(topology) if topology else None
    _check_mesh(study, slice_of)
    python = interpreter(topology)
    found = programs(plan)
    console.print(
        f"compiling {len(found)} programs for {topology or 'the devices that are here'} ..."
    )
    request = _request(study, slice_of, found)
    answer = _answer(python, request, study=study, found=found, ledger=ledger, console=console)
    replace_text(ledger.folder / "check.json", to_json(answer))
    console.print(display.tables(answer))
    console.print(f"written {ledger.folder / 'check.json'}")
    return all(row.fits for row in answer.rows)


def _check_mesh(study: Study, topology: Topology | None) -> None:
    n_devices = math.prod(study.mesh)
    if topology is not None and n_devices != topology.n_devices:
        raise ValueError(
            f"mesh={study.mesh} has {n_devices} devices, {topology.name} has "
            f"{topology.n_devices}: use all of a slice, for instance mesh=1,1,"
            f"{topology.n_devices},1."
        )


def _request(study: Study, topology: Topology | None, found: list[Program]) -> Request:
    n_points = sum(len(program.points) for program in found)
    return Request(
        topology=topology.name if topology else None,
        wraps_at=topology.family.wraps_at if topology else 0,
        n_threads=len(worker_places(None, n_points, math.prod(study.mesh))[0].cores),
        mesh=study.mesh,
        execution=study.execution.to_text(),
        programs={program.key: program.to_compile() for program in found},
    )


def _answer(
    python: str,
    request: Request,
    *,
    study: Study,
    found: list[Program],
    ledger: Ledger,
    console: Console,
) -> Answer:
    """Compiles every program, and says how it goes."""
    device: Devices | None = None
    tried: dict[str, list[Compiled]] = defaultdict(list)
    reasons: dict[str, str] = {}
    by_key = {program.key: program for program in found}
    places = {key: f"{n}/{len(found)}" for n, key in enumerate(by_key, start=1)}
    for event in compile_programs(python, request, ledger.folder / "check.log"):
        if isinstance(event, Devices):
            device = event
        elif isinstance(event, Compiling):
            settings = display.settings(Execution.from_text(event.execution))
            console.print(f"{places[event.key]} {by_key[event.key].name}: {settings} ...")
        elif isinstance(event, Unfit):
            reasons[event.key] = event.reason
            console.print(f"{places[event.key]} {event.reason}")
        else:
            tried[event.key].append(event)
            assert device is not None  # It is told of first.
            console.print(f"{places[event.key]} {display.outcome(event, device)}")
    if device is None:
        raise ValueError("the compiling process said nothing of its devices.")
    rows = tuple(
        row(program, tried[key], reasons.get(key, ""), study=study, device=device)
        for key, program in by_key.items()
    )
    return Answer(
        study=study,
        topology=request.topology,
        device=device,
        rows=rows,
        peak_source=rates(device, found[-1].points[-1].spec.train.compute_dtype).source,
    )
