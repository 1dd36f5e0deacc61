# SPDX-License-Identifier: Apache-2.0
"""A study from its plan to its answer: train, fit, forecast, train the forecast, report.

Each part finds out from the ledger what is left of it, so the whole may be stopped and started
again anywhere.
"""

import math
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from rich.console import Console

from experiments.executors.local_devices import (
    has_accelerator,
    local_workers,
    share_of,
    visible_gpus,
)
from experiments.executors.local_idle import IdleWorkers
from experiments.ledger.ledger import Ledger, missing_points
from experiments.plan.arrange import arrange
from experiments.plan.jobs import PlannedJob
from experiments.plan.point import Point, to_json
from experiments.speed import calibration, shared_gpu
from experiments.speed.pack_sizes import best_pack, shape_key
from experiments.study.study import Study
from experiments.train import engines, live_view
from experiments.train.runner import Failures, run_planned_jobs


class RunsFailed(Exception):
    """Runs of a study failed as often as they may."""


class Preempted(Exception):
    """We were told to end."""


def stop_at_sigterm() -> None:
    """Lets SIGTERM raise Preempted."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise Preempted

    signal.signal(signal.SIGTERM, stop)


class Elsewhere(Exception):
    """An engine has what is left."""


def require_none(failures: Failures, max_attempts: int, study: str) -> None:
    """Raises RunsFailed if any run did; ``study`` is what the command line calls theirs."""
    if failures:
        lines = "; ".join(f"{point.id}: {reason}" for point, reason in failures)
        raise RunsFailed(
            f"{len(failures)} runs failed {max_attempts} times. {lines}. "
            f"`isoflop retry {study}` lets them be tried again."
        )


def train(
    options: Any,
    study: Study,
    ledger: Ledger,
    console: Console,
    points: list[Point],
    stage: list[Point],
    idle: IdleWorkers | None = None,
) -> Failures:
    """Trains what is missing of a stage; ``points`` is all that is asked for so far.

    Args:
      idle: given where stage follows stage in a study that grows: workers on this machine wait
        there (executors/workers.py), and trunks are kept for points to come.

    Raises:
      Elsewhere: if an engine does.
    """
    missing = missing_points(ledger, stage)
    planned_jobs = arrange(
        points,
        study.mesh,
        trunks=study.trunks,
        keeps_trunks=idle is not None,
        wanted={point.id for point in missing},
        has_trunk=ledger.has_trunk,
        pack_size=_pack_size(options, study, missing, console, idle),
    )
    for name in ledger.write_plan(
        to_json(study), points, [planned_job.job for planned_job in planned_jobs]
    ):
        console.print(f"{name} was damaged; it is written again.")
    if not missing:
        return []
    if options.on == "local":
        return _train_here(options, study, ledger, console, stage, planned_jobs, idle)
    return _submit(options, study, ledger, console, planned_jobs)


def _pack_size(
    options: Any,
    study: Study,
    missing: list[Point],
    console: Console,
    idle: IdleWorkers | None,
) -> Callable[[Point], int]:
    """Runs that train together: as many as was asked for, or as was measured to be best here.

    On a CPU, and with another engine's devices, nothing is measured: one process per core is the
    pack there. What the mesh's axis "run" has places for trains together in any case.

    Raises:
      ValueError: if --pack does not fit the mesh.
    """
    n_places = study.mesh[0]
    if (asked := options.pack) is not None:
        if asked < 1 or asked % n_places:
            raise ValueError(
                f"--pack {asked}: must be a multiple of the {n_places} places of the mesh's axis "
                "run, at least 1."
            )
        return lambda point: asked
    if options.on != "local" or not has_accelerator():
        return lambda point: n_places
    shapes = Counter(shape_key(point) for point in missing)
    several = [point for point in missing if shapes[shape_key(point)] > 1]
    if any(_best_pack(options, point) is None for point in several):
        console.print("measuring how many runs of a shape train best together ...")
        if idle is not None:
            idle.close()  # They hold the device's memory.
        command = [sys.executable, "-m", "experiments.cli.main", "calibrate", options.study]
        where = ["--results", str(options.results)]
        subprocess.run([*command, *options.overrides, *where], check=True, capture_output=True)
    return lambda point: max(_best_pack(options, point) or 1, n_places)


def _best_pack(options: Any, point: Point) -> int | None:
    known = calibration.load(options.results)
    return None if known is None else best_pack(options.results, known.device, point)


def _per_device(
    options: Any,
    study: Study,
    planned_jobs: list[PlannedJob],
    console: Console,
    idle: IdleWorkers | None,
) -> int:
    """Workers that share a GPU: as many as was measured to be best for runs of several shapes.

    One where somebody chose (--workers), on a CPU or a TPU, and for meshes of several devices.
    """
    gpus = visible_gpus() if has_accelerator() else []
    if options.workers is not None or not gpus or math.prod(study.mesh) > 1:
        return 1
    if (known := calibration.load(options.results)) is None:
        return 1
    if (best := shared_gpu.best_number(options.results, known.device)) is not None:
        return best
    shapes = shared_gpu.measured(
        [planned_job.points[0] for planned_job in planned_jobs], options.results, known.device
    )
    if len(shapes) < 2:
        return 1
    console.print("measuring how many processes share a GPU best ...")
    if idle is not None:
        idle.close()  # They hold the device's memory.
    numbers = [2**i for i in range(shared_gpu.MOST.bit_length())]
    shares = [os.environ | share_of(gpus[0], n) for n in numbers]
    return shared_gpu.probe(shapes, options.results, known.device, shares)


def _train_here(
    options: Any,
    study: Study,
    ledger: Ledger,
    console: Console,
    stage: list[Point],
    planned_jobs: list[PlannedJob],
    idle: IdleWorkers | None,
) -> Failures:
    workers = local_workers(
        options.workers,
        len(stage),
        math.prod(study.mesh),
        per_device=_per_device(options, study, planned_jobs, console, idle),
        checkpoint_seconds=options.checkpoint_seconds,
        lease_seconds=options.lease_seconds,
        max_attempts=options.max_attempts,
        execution=study.execution.to_text(),
        idle=idle,
    )
    known = calibration.load(options.results)
    missing = [
        point
        for planned_job in planned_jobs
        if planned_job.job.results
        for point in planned_job.points
    ]
    console.print(f"training {len(missing)} runs with {len(workers.cores)} workers ...")
    with live_view.RunDisplay(console, len(stage), planned_jobs, known) as view:
        failures = run_planned_jobs(ledger, planned_jobs, study.mesh, workers, view)
    if (learned := calibration.learn(ledger, missing)) is not None:
        calibration.store(options.results, learned)
    return failures


def _submit(
    options: Any, study: Study, ledger: Ledger, console: Console, planned_jobs: list[PlannedJob]
) -> Failures:
    """Hands what may still be tried to the engine; returns the rest when that is all."""
    failures: Failures = []
    left: list[PlannedJob] = []
    given_up: set[str | None] = set()
    for planned_job in planned_jobs:
        endings = ledger.job(planned_job.job.id).failures()
        if planned_job.job.parent not in given_up and len(endings) < options.max_attempts:
            left.append(planned_job)
            continue
        reason = endings[-1].reason if endings else f"{planned_job.job.parent} failed"
        given_up.add(planned_job.job.id)
        if planned_job.job.results:
            failures += [(point, reason) for point in planned_job.points]
    if not left:
        return failures
    known = calibration.learn(ledger, ledger.read_plan())
    console.print(engines.submit(options, study, ledger, left, known))
    raise Elsewhere
