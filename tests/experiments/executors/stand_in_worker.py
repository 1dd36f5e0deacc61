# SPDX-License-Identifier: Apache-2.0
"""Keeps the worker's contract towards an engine, without training: flags, signals, exit codes.

What a job does is told in <root>/jobs/<id>.json: n_steps, seconds (of a step), save (seconds of a
checkpoint), exit (a code, instead of working), until (restarts from which the job works after
all), preempted_at (steps at which it is asked to stop, each once). One line per event goes to
<root>/events.jsonl; a result is the file runs/<id>.
"""

import argparse
import contextlib
import json
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path

is_told = False


def on_signal(number, frame):
    global is_told
    is_told = True


def work(root: Path, name: str) -> int:
    job = json.loads((root / "jobs" / f"{name}.json").read_text())
    restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    process = int(os.environ.get("SLURM_PROCID", "0"))
    result, saved = root / "runs" / name, root / "checkpoints" / name
    step = int(saved.read_text()) if saved.exists() else 0

    def tell(event: str) -> None:
        keys = ("SLURMD_NODENAME", "SLURM_CPUS_PER_TASK", "SLURM_NTASKS", "SLURM_JOB_ID")
        row = {"id": name, "event": event, "step": step, "restarts": restarts, "pid": os.getpid()}
        row |= {"process": process, "time": time.time()} | {
            key: os.environ.get(key) for key in keys
        }
        with (root / "events.jsonl").open("a") as events:
            events.write(json.dumps(row) + "\n")

    if result.exists():
        tell("already done")
        return 0
    if "exit" in job and restarts < job.get("until", 1000):
        tell(f"exit {job['exit']}")
        return job["exit"]
    begun_at = step
    tell("start")
    while step < job["n_steps"]:
        time.sleep(job["seconds"])
        step += 1
        if is_told:
            time.sleep(job.get("save", 0))
        if process == 0:
            saved.with_suffix(".tmp").write_text(str(step))
            saved.with_suffix(".tmp").replace(saved)
        if is_told or (step in job.get("preempted_at", ()) and begun_at < step):
            tell("saved")
            return 75
    if process == 0:
        # Create-once: a second result would raise.
        with result.open("x") as file:
            file.write(str(step))
    tell("done")
    return 0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--job", action="append", default=[])
    parser.add_argument("--jobs", default=None)
    arguments, _ = parser.parse_known_args()
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, on_signal)
    if arguments.jobs == "-":
        sys.exit(talk(arguments.root))
    listed = Path(arguments.jobs).read_text().split() if arguments.jobs else []
    worst = 0
    for name in (*arguments.job, *listed):
        worst = max(work(arguments.root, name), worst)
        if worst in (74, 75):
            break
    sys.exit(worst)


def talk(root: Path) -> int:
    """Works on the ids of standard input, whose end is a stop, and says in lines what came out."""
    names: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            names.put(line.strip())
        on_signal(None, None)
        names.put("")

    threading.Thread(target=read, daemon=True).start()
    while name := names.get():
        code = work(root, name)
        event = {0: "done", 75: "preempted"}.get(code, "failed")
        said = {"event": event, "id": name} | ({"reason": "as told"} if event == "failed" else {})
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(said), flush=True)
        if code == 75:
            return code
    return 0


if __name__ == "__main__":
    main()
