# SPDX-License-Identifier: Apache-2.0
"""One process that trains jobs, under any engine: the only module that imports the training loop.

  python -m experiments.worker --root results/STUDY --job ID [--job ID ...] | --jobs FILE | --jobs -

``-`` reads ids from standard input, one per line, and ends with it, so that a worker never
outlives its runner. What happens is said in lines of JSON on standard output; what came out is in
the ledger.

Started several times with the variables of a multi-host run (Slurm's, or JAX_COORDINATOR_ADDRESS,
JAX_NUM_PROCESSES and JAX_PROCESS_ID), the processes train each job together (followers.py).

How it ends is in experiments/executors/exit_codes.py; of a job that failed, jobs/ID/attempts says
how.
"""

import argparse
import math
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from experiments.executors import exit_codes
from experiments.executors import worker_events as events
from experiments.executors.worker_settings import WorkerSettings
from experiments.executors.worker_settings import parser as settings_parser
from experiments.files.storage import DISK_ERRORS
from experiments.ledger.claims import GaveUp, Owned
from experiments.ledger.ledger import Ledger
from experiments.ledger.owner import this_process
from experiments.ledger.result import Result, Trunk
from experiments.machine.jax_setup import require_devices, start_jax
from experiments.machine.peak import device_peak
from experiments.plan.point import check_id
from experiments.train.attempt import run_job
from experiments.train.session import Session, Stop, Train
from model.data.manifest import Manifest
from model.network.execution import Execution
from model.training.outcome import Interrupted

# Of several jobs the worst is told, in this order.
_WORST = (exit_codes.FAILED, exit_codes.REFUSED, exit_codes.OWNED)
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


def work(
    ledger: Ledger, ids: Iterator[str], session: Session, emit: Callable[[events.Event], None]
) -> int:
    """Trains jobs one after the other; returns the exit code.

    A job that fails or is refused leaves the others their turn; a full disk and a stop do not.
    """
    codes = [exit_codes.DONE]
    for job_id in ids:
        if session.stop.is_asked:  # While the job before was at its end.
            return exit_codes.PREEMPTED
        try:
            records = run_job(ledger, job_id, session)
            emit(events.Done(id=job_id, runs=tuple(_run(record) for record in records)))
        except Interrupted:
            emit(events.Preempted(id=job_id))
            return exit_codes.PREEMPTED
        except Owned as error:
            emit(events.Owned(id=job_id, reason=str(error)))
            codes.append(exit_codes.OWNED)
        except GaveUp as error:
            emit(events.GaveUp(id=job_id, reason=str(error)))
            codes.append(exit_codes.FAILED)
        except ValueError as error:
            emit(events.Refused(id=job_id, reason=str(error)))
            codes.append(exit_codes.REFUSED)
        except OSError as error:
            if error.errno not in DISK_ERRORS:
                raise
            emit(events.DiskFailed(id=job_id, reason=_disk(error, ledger)))
            return exit_codes.DISK
        except Exception as error:
            traceback.print_exc()
            emit(events.Failed(id=job_id, reason=f"{type(error).__name__}: {error}"))
            codes.append(exit_codes.FAILED)
    return next((code for code in _WORST if code in codes), exit_codes.DONE)


def _run(record: Result | Trunk) -> events.Run:
    """A run's record in short; a trunk's has notes alone."""
    if isinstance(record, Trunk):
        return events.Run(notes=record.notes)
    return events.Run(
        status=record.status, loss_nats=record.loss_nats, reason=record.reason, notes=record.notes
    )


def _disk(error: OSError, ledger: Ledger) -> str:
    return f"cannot write {error.filename or ledger.folder}: {error.strerror}."


def watch_signals(stop: Stop) -> None:
    """Tells ``stop`` of signals from a thread: the main one may sit in a compilation for minutes.

    To be called before any other thread is made: they inherit that the signals wait for us.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    # Ctrl-C reaches the whole process group; it is the runner that stops, and then its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while True:
            signal.sigwait(_STOP_SIGNALS)
            stop.ask()

    threading.Thread(target=watch, daemon=True).start()


class Stdin:
    """Ids from standard input; its end is a stop, or the end when nothing is being trained."""

    def __init__(self, stop: Stop):
        self._lines: list[str] = []
        self._arrived = threading.Condition()
        self._stop = stop
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in sys.stdin:
            with self._arrived:
                self._lines.append(line.strip())
                self._arrived.notify()
        if self._stop.attempt is None and not self._lines:
            os._exit(0)
        self._stop.ask()

    def __iter__(self) -> Iterator[str]:
        while True:
            with self._arrived:
                self._arrived.wait_for(lambda: self._lines)
                line = self._lines.pop(0)
            yield line


def main() -> None:
    parser = argparse.ArgumentParser(prog="experiments.worker", parents=[settings_parser()])
    parser.add_argument("--root", type=Path, required=True, help="results/STUDY")
    parser.add_argument("--job", action="append", default=[], help="id; may be repeated")
    parser.add_argument("--jobs", default=None, help="file of ids, or - for standard input")
    told = vars(parser.parse_args())
    root, named, listed = (told.pop(name) for name in ("root", "job", "jobs"))
    stop = Stop(lambda: os._exit(exit_codes.PREEMPTED))
    watch_signals(stop)
    ledger = Ledger(root.parent, root.name)
    try:
        settings = WorkerSettings(**told)
        ids = Stdin(stop) if listed == "-" else _ids(named, listed)
        # Named cores are all of a run's own; of those that an engine gives it knows the processes.
        n_devices = math.prod(settings.mesh) if settings.cores else 1
        start_jax(settings.cores, settings.cache, settings.threads or 0, n_devices)
        from experiments.train import followers
        from model.training import processes

        processes.initialize_from_environment(os.environ)
        require_devices()
        if not processes.is_leader():
            return _follow(ledger, stop)
        leader = followers.Leader(_loop())
        session = _session(ledger, settings, stop, leader.train)
    except OSError as error:
        is_disk = error.errno in DISK_ERRORS
        _refuse(_disk(error, ledger) if is_disk else str(error), is_disk=is_disk)
    except ValueError as error:
        _refuse(str(error))
    leader.end(work(ledger, leader.jobs(ids), session, _emit))


def _follow(ledger: Ledger, stop: Stop) -> None:
    """Trains along; told to stop, it leaves that to process 0, but for a compilation."""
    from experiments.train import followers
    from model.data.corpus import open_corpora
    from model.training.checkpoints.checkpoint import Checkpoints

    corpora = open_corpora(Manifest.read(ledger.manifest), ledger.data)
    followers.follow(_loop(), Checkpoints, corpora, stop.enter)


def _loop() -> Train:
    from model.training.loop import train_pack

    return train_pack


def _ids(named: list[str], file: str | None) -> list[str]:
    listed = Path(file).read_text().split() if file else []
    ids = [check_id(name) for name in (*named, *listed)]
    if not ids:
        raise ValueError("no job is named. Give --job ID or --jobs FILE.")
    return ids


def _session(ledger: Ledger, settings: WorkerSettings, stop: Stop, train: Train) -> Session:
    from model.data.corpus import open_corpora
    from model.training.checkpoints.checkpoint import Checkpoints

    n_devices = math.prod(settings.mesh)
    return Session(
        me=this_process(),
        corpora=open_corpora(Manifest.read(ledger.manifest), ledger.data),
        mesh_shape=settings.mesh,
        execution=Execution.from_text(settings.execution),
        train=train,
        open_checkpoints=Checkpoints,
        stop=stop,
        emit=_emit,
        checkpoint_seconds=settings.checkpoint_seconds,
        lease_seconds=settings.lease_seconds,
        max_attempts=settings.max_attempts,
        peak=lambda dtype: device_peak(dtype, n_devices),
        per_device=settings.per_device,
        keep=settings.keep,
        stop_early=settings.stop_early,
    )


def _refuse(reason: str, *, is_disk: bool = False) -> NoReturn:
    _emit((events.DiskFailed if is_disk else events.Refused)(id="", reason=reason))
    print(f"isoflop: {' '.join(reason.split())}", file=sys.stderr)
    sys.exit(exit_codes.DISK if is_disk else exit_codes.REFUSED)


def _emit(event: events.Event) -> None:
    try:
        print(events.encode(event), flush=True)
    except BrokenPipeError:
        # Our runner is gone. We save and end without it: what counts is in the ledger.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
