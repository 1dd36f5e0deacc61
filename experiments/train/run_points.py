# SPDX-License-Identifier: Apache-2.0
"""Trains what is missing of a list of points, here or with an engine.

What is left is found out from the ledger, so it may be stopped and started again anywhere.
"""

import dataclasses
import math
import signal
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from rich.console import Console

from experiments.executors.base import Executor
from experiments.executors.local import Local
from experiments.executors.local_devices import worker_places
from experiments.executors.local_idle import IdleWorkers
from experiments.executors.worker_settings import (
    CHECKPOINT_SECONDS,
    LEASE_SECONDS,
    MAX_ATTEMPTS,
    WorkerSettings,
)
from experiments.ledger.claims import Limits
from experiments.ledger.ledger import Ledger, missing_points
from experiments.machine.jax_setup import cache_folder
from experiments.plan.arrange import arrange
from experiments.plan.jobs import PlannedJob
from experiments.plan.point import Point, to_json
from experiments.speed import calibration
from experiments.study.study import Study
from experiments.train.device_sharing import asked_pack, best_packs, workers_per_device
from experiments.train.engines import Engine, queued_jobs, remote_executor
from experiments.train.live_view import RunDisplay
from experiments.train.runner import Failures, run_planned_jobs


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """How runs are to be trained; nothing of it moves their losses.

    Attributes:
      engine: where.
      n_workers: processes on this machine, or None for as many as are good.
      pack: runs of one shape that train together on a device, or None for as many as are best.
      checkpoint_seconds, lease_seconds, max_attempts, stop_early: of
        executors/worker_settings.py.
    """

    engine: Engine
    n_workers: int | None = None
    pack: int | None = None
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    lease_seconds: float = LEASE_SECONDS
    max_attempts: int = MAX_ATTEMPTS
    stop_early: bool = False

    def __post_init__(self) -> None:
        # Before anything is written down or trained.
        WorkerSettings(
            checkpoint_seconds=self.checkpoint_seconds,
            lease_seconds=self.lease_seconds,
            max_attempts=self.max_attempts,
        )

    @property
    def limits(self) -> Limits:
        """What the ledger keeps, for whoever judges its jobs."""
        return Limits(lease_seconds=self.lease_seconds, max_attempts=self.max_attempts)

    def settings(self, study: Study) -> WorkerSettings:
        """What every worker of the study is told."""
        return WorkerSettings(
            mesh=study.mesh,
            execution=study.execution.to_text(),
            keep=study.keep,
            checkpoint_seconds=self.checkpoint_seconds,
            lease_seconds=self.lease_seconds,
            max_attempts=self.max_attempts,
            stop_early=self.stop_early,
        )


class RunsFailed(Exception):
    """Runs of a study failed as often as they may."""


class Preempted(Exception):
    """We were told to end."""


def stop_at_sigterm() -> None:
    """Lets SIGTERM raise Preempted."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise Preempted

    signal.signal(signal.SIGTERM, stop)


def require_none(failures: Failures, max_attempts: int, study: str) -> None:
    """Raises RunsFailed if any run did; ``study`` is what the command line calls theirs."""
    if failures:
        lines = "; ".join(f"{point.id}: {reason}" for point, reason in failures)
        raise RunsFailed(
            f"{len(failures)} runs failed {max_attempts} times. {lines}. "
            f"`isoflop retry {study}` lets them be tried again."
        )


def train(
    training: Training,
    study: Study,
    ledger: Ledger,
    console: Console,
    points: list[Point],
    wanted: list[Point],
    idle: IdleWorkers | None = None,
) -> Failures:
    """Trains what is missing of the wanted points; returns those that failed.

    Args:
      points: all that are asked for so far, the wanted ones among them.
      idle: given where a study grows: workers on this machine wait there for points to come
        (executors/local_idle.py), and trunks are kept for them.

    Raises:
      Elsewhere: if an engine has what is left.
      ValueError: if what is asked for does not fit the study or this machine.
    """
    missing = missing_points(ledger, wanted)
    planned_jobs = arrange(
        points,
        study.mesh,
        trunks=study.trunks,
        keeps_trunks=idle is not None,
        wanted={point.id for point in missing},
        has_trunk=ledger.has_trunk,
        pack_size=_pack_size(training, study, ledger, points, missing, console, idle),
    )
    jobs = [planned_job.job for planned_job in planned_jobs]
    ledger.write_limits(training.limits)
    for name in ledger.write_plan(to_json(study), points, jobs):
        console.print(f"{name} was damaged; it is written again.")
    if not missing:
        return []
    executor: Executor
    n_devices = math.prod(study.mesh)
    if training.engine.is_here:
        known = calibration.load(ledger.results, n_devices)
        executor = _local(training, study, ledger, planned_jobs, len(wanted), console, idle)
        console.print(f"training {len(missing)} runs with {len(executor.places)} workers ...")
    else:
        known = calibration.learn(ledger, ledger.read_plan())
        executor = remote_executor(training.engine, training.settings(study))
    with RunDisplay(console, len(wanted), planned_jobs, known) as view:
        failures = run_planned_jobs(
            ledger,
            planned_jobs,
            queued_jobs(planned_jobs, study.mesh, training.engine, known),
            executor,
            view,
            max_attempts=training.max_attempts,
        )
    learned = calibration.learn(ledger, missing) or calibration.load(ledger.results, n_devices)
    if learned is not None:
        beyond = calibration.learn_beyond_grid(ledger, missing)
        learned = dataclasses.replace(learned, beyond_grid=beyond)
        calibration.store(ledger.results, learned, n_devices)
    return failures


def _pack_size(
    training: Training,
    study: Study,
    ledger: Ledger,
    points: list[Point],
    missing: list[Point],
    console: Console,
    idle: IdleWorkers | None,
) -> Callable[[Point], int]:
    """Runs that train together: as many as was asked for, or as was measured to be best here."""
    if training.pack is not None:
        return asked_pack(training.pack, study.mesh)
    if not training.engine.is_here:
        return lambda point: study.mesh[0]
    return best_packs(ledger.results, study.mesh, points, missing, console, idle)


def _local(
    training: Training,
    study: Study,
    ledger: Ledger,
    planned_jobs: list[PlannedJob],
    n_wanted: int,
    console: Console,
    idle: IdleWorkers | None,
) -> Local:
    n_devices, per_device = math.prod(study.mesh), 1
    # Unless somebody chose, and a mesh of several devices has them to itself.
    if training.n_workers is None and n_devices == 1:
        per_device = workers_per_device(ledger.results, planned_jobs, console, idle)
    settings = dataclasses.replace(training.settings(study), cache=cache_folder())
    found = worker_places(training.n_workers, n_wanted, n_devices, per_device=per_device)
    return Local(places=found, settings=settings, idle=idle)
