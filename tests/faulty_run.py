# SPDX-License-Identifier: Apache-2.0
"""A whole run with a stand-in trainer, in processes whose disk fails at the k-th call.

  python -m faulty_run POINTS    requests and answers are lines of JSON on standard input and output

A request {"results": folder, "how": word, "at": k} forks a process that plans, trains, collates and
remembers a study while the k-th of its calls that change a disk goes wrong:

  "eio"     it raises EIO and does nothing
  "enospc"  it and every later one that needs space raise ENOSPC
  "death"   the process is gone before it
  "torn"    half of the bytes are written, then the process is gone (another call: as "death")
  "result"  the process is gone right after the k-th result was linked
  ""        nothing

The answer is {"code": exit code, "calls": names of the calls that were made}.
"""

import errno
import hashlib
import json
import os
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
from stand_in_training import outcome, session

from experiments.executors import exit_codes
from experiments.ledger.forecasts import Forecast, read_forecast, write_forecast
from experiments.ledger.ledger import Ledger, missing_points
from experiments.ledger.owner import Owner, this_process
from experiments.ledger.result import VERSION
from experiments.ledger.tables import collate
from experiments.machine.provenance import software_facts
from experiments.plan.jobs import alone
from experiments.plan.point import Point
from experiments.report import finished
from experiments.train import attempt
from experiments.train.session import Stop
from experiments.worker import work
from model.data.manifest import Manifest
from model.network.weight_names import Tensor
from model.training.checkpoints import checkpoint_files
from model.training.checkpoints.checkpoint_files import Saved
from model.training.outcome import CurvePoint, Interrupted, Order, Progress

STUDY, QUESTION, BUDGET = "small", '{"name": "small"}', 1e13
CALLS = ("open", "write", "fsync", "link", "replace", "rename", "unlink", "rmdir", "mkdir", "utime")
NEED_SPACE = ("write", "fsync", "link", "replace", "rename", "mkdir")
DEAD = 99
FACTS = {"platform": "abacus", "device": "abacus", "host": ""}
FACTS |= dict.fromkeys(("n_devices", "n_processes", "n_cores"), 1)
N_STEPS = 3


class Faults:
    """Counts the calls of ``os`` that change a disk; the one numbered ``at`` goes wrong."""

    def __init__(self, how: str, at: int):
        self.how, self.at, self.calls, self.n_results = how, at, [], 0

    def install(self) -> None:
        for name in CALLS:
            setattr(os, name, self._faulty(name, getattr(os, name)))

    def _faulty(self, name: str, real: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            self.calls.append(name)
            if len(self.calls) == self.at:
                self._strike(name, real, args)
            if self.how == "enospc" and 0 < self.at <= len(self.calls):
                is_new = name == "open" and len(args) > 1 and args[1] & os.O_CREAT
                if is_new or name in NEED_SPACE:
                    raise OSError(errno.ENOSPC, "No space left on device", str(args[0]))
            # What was flushed matters only when the power fails; here it would cost a minute.
            answer = None if name == "fsync" else real(*args, **options)
            if self.how == "result" and name == "link" and Path(args[1]).name == "result.json":
                self.n_results += 1
                if self.n_results == self.at:
                    os._exit(DEAD)
            return answer

        return call

    def _strike(self, name: str, real: Any, args: tuple) -> None:
        if self.how == "eio":
            raise OSError(errno.EIO, "Input/output error", str(args[0]))
        if self.how == "torn" and name == "write":
            real(args[0], args[1][: len(args[1]) // 2])
        if self.how in ("death", "torn"):
            os._exit(DEAD)


class FileCheckpoints:
    """Checkpoints of a line of text (model/training/checkpoints/ holds trees of arrays)."""

    def __init__(self, folder: Path, *, attempt: int):
        self.folder, self.attempt = folder, attempt
        self.folder.mkdir(parents=True, exist_ok=True)

    def save(self, step: int, state: str) -> None:
        saved = Saved(step, self.attempt)
        checkpoint_files.begin(self.folder, saved)
        (self.folder / str(saved)).mkdir()
        (self.folder / str(saved) / "state").write_text(state)
        digest = checkpoint_files.digest(self.folder, saved, flush=True)
        if checkpoint_files.finish(self.folder, saved, digest):
            checkpoint_files.prune(self.folder, self.attempt, keep=2)

    def restore(self) -> tuple[int, str] | None:
        for saved in checkpoint_files.finished(self.folder):
            if checkpoint_files.is_intact(self.folder, saved):
                return saved.step, (self.folder / str(saved) / "state").read_text()
        return None


def train(
    model: Any, configs: Any, corpus: Any, *, checkpoints: Any, control: Any, on_phase: Any, **rest
) -> tuple[SimpleNamespace]:
    """Every step hashes what was there before it: a lost or a doubled one changes the loss."""
    on_phase("compile")
    step, state = checkpoints.restore() or (0, repr((model, *configs)))
    resumed_at = step
    on_phase("train")
    while True:
        order = control(step)
        if step > resumed_at and step < N_STEPS:
            checkpoints.save(step, state)
        if order is not Order.GO:
            raise Interrupted(step, is_saved=step > 0)
        if step == N_STEPS:
            break
        step, state = step + 1, hashlib.sha256(f"{state} {step}".encode()).hexdigest()
        progress = Progress(
            step=step,
            n_steps=N_STEPS,
            loss_nats=2.5,
            grad_norm=1.0,
            said={},
            n_tokens=10 * step,
            resumed_at=resumed_at,
            train_seconds=1.0,
            stall_seconds=0.0,
        )
        rest["on_progress"]((progress,))
    with rest["keep"](0, [Tensor("state", (16,))]) as take:
        take(state.encode())
    loss = 1 + int(state[:8], 16) / 16**8
    made = outcome(
        loss,
        curve=(CurvePoint(step=N_STEPS, n_tokens=100, loss_nats=loss),),
        params_sha256=state,
        resumed_at=resumed_at,
        n_timed_steps=N_STEPS - resumed_at,
    )
    return (made,)


def run(ledger: Ledger, points: list[Point], manifest: Manifest, me: Owner) -> tuple[int, str]:
    """What `isoflop run` does to the disk, fits apart; its exit code and all that it said."""
    said: list[Any] = []
    ledger.folder.mkdir(parents=True, exist_ok=True)
    if not ledger.manifest.exists():
        manifest.write(ledger.manifest)
    manifest = Manifest.read(ledger.manifest)
    if finished.recall(ledger, None, points, 0.0, said.append) is not None:
        return 0, "finished"
    said += ledger.write_plan(QUESTION, points, [alone(p).job for p in points])
    ids = [point.id for point in missing_points(ledger, points)]
    stop = Stop(lambda: os._exit(75))
    # More than there are faults in a row: none of them is to be the one too many.
    often = {"max_attempts": 9}
    at_work = session(train, manifest, me=me, open_checkpoints=FileCheckpoints, stop=stop, **often)
    if code := work(ledger, iter(ids), at_work, said.append):
        return code, msgspec.json.encode(said).decode()
    collate(ledger, points)
    if read_forecast(ledger, BUDGET, "abcd") is None:
        write_forecast(ledger, "abcd", forecast(points[0]))
    ledger.report.write_text("the answer")
    finished.remember(ledger, None, points, points, "the answer", 0.0)
    return 0, msgspec.json.encode(said).decode()


def forecast(point: Point) -> Forecast:
    optimum = {"n_params_opt": 1e5, "n_tokens_opt": 1e6, "n_runs_fitted": 9}
    return Forecast(version=VERSION, budget=BUDGET, level=0.9, forecasts={}, point=point, **optimum)


def main() -> None:
    read = json.loads(Path(sys.argv[1]).read_text())
    points = [msgspec.convert(point, Point) for point in read["points"]]
    manifest = Manifest.from_json(json.dumps(read["manifest"]))
    attempt.device_facts = lambda: FACTS
    software_facts()  # Asks git once, for all.
    for line in sys.stdin:
        request = json.loads(line)
        from_child, to_parent = os.pipe()
        if (pid := os.fork()) == 0:
            faults, code = Faults(request["how"], request["at"]), 1
            tell = os.write
            faults.install()
            try:
                ledger = Ledger(Path(request["results"]), STUDY)
                code, _ = run(ledger, points, manifest, this_process({}))
            except OSError as error:
                code = exit_codes.DISK if error.errno in (errno.EIO, errno.ENOSPC) else 1
            finally:
                if code == 1:
                    traceback.print_exc()
                tell(to_parent, json.dumps(faults.calls).encode())
                os._exit(code)
        os.close(to_parent)
        with os.fdopen(from_child) as pipe:
            calls = json.loads(pipe.read() or "[]")
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(json.dumps({"code": code, "calls": calls}), flush=True)


if __name__ == "__main__":
    main()
