# SPDX-License-Identifier: Apache-2.0
"""Jobs -> sbatch arrays. Slurm does the scheduling; the ledger knows what came of it.

Under <study>/slurm/ each array has a numbered folder: tasks.txt (the ids of task i in line i),
script.sh (what was submitted; can be submitted again by hand) and one log per task.
"""

import hashlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.executors import exit_codes
from experiments.executors.base import QueuedJob, Watcher
from experiments.executors.batches import Batch, batches, new_folder, trees
from experiments.executors.worker_settings import MODULE

# Slurm may be up to 60 s early with it.
SIGNAL_SECONDS = 120
# Exit codes of the worker that ask for another go, and how often Slurm may start a task again.
# Owned: the lease of an owner that died elsewhere runs out meanwhile.
REQUEUE = {exit_codes.PREEMPTED: 100, exit_codes.OWNED: 3}

SCRIPT = """\
#!/bin/bash
{options}

{setup}
read -ra ids < <(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {tasks})

# srun, or the signal would not reach Python. This shell must outlive it: it has to requeue.
trap : TERM USR1
srun {srun} {worker} --root {root} "${{ids[@]/#/--job=}}"
code=$?

# Slurm does not requeue by itself. A task that scancel ends also checkpoints and exits 75, and
# would come back to life: only one that Slurm still calls running is requeued.
case $code in
{cases}
  *) exit $code ;;
esac
task=${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID
state=$(squeue --noheader --jobs="$task" --format=%T)
if [ "$state" = RUNNING ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt "$most" ]; then
  echo "isoflop: exit code $code, task $task is queued again"
  scontrol requeue "$task"
fi
exit $code
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Slurm:
    """Submits to the Slurm of this machine.

    Attributes:
      partition, account, qos: as sbatch takes them; the site's defaults when empty.
      time_limit_seconds: the most a task asks for; what takes longer goes on after a checkpoint.
        None: what is expected, with margin, or the partition's default where that is unknown.
      max_concurrent: tasks of one array that run at once, or None.
      options: further ones of sbatch, such as "--constraint=a100".
      setup: shell line before the worker, such as "source /shared/venv/bin/activate".
      worker: command of the worker, without --root and ids.
    """

    partition: str = ""
    account: str = ""
    qos: str = ""
    time_limit_seconds: float | None = None
    max_concurrent: int | None = None
    options: tuple[str, ...] = ()
    setup: str = ""
    worker: tuple[str, ...] = (sys.executable, *MODULE)

    def __post_init__(self) -> None:
        limit, most = self.time_limit_seconds, self.max_concurrent
        if limit is not None and not 3 * SIGNAL_SECONDS <= limit < float("inf"):
            raise ValueError(
                f"time_limit_seconds={limit}: must be at least {3 * SIGNAL_SECONDS}: the worker is "
                f"told to save {SIGNAL_SECONDS} to {SIGNAL_SECONDS + 60} s before the end."
            )
        if most is not None and most < 1:
            raise ValueError(f"max_concurrent={most}: must be at least 1.")
        for text in (self.partition, self.account, self.qos, self.setup, *self.options):
            if not text.isprintable():
                raise ValueError(f"{text!r}: options of Slurm are one line of printable text.")

    def run(self, root: Path, jobs: Sequence[QueuedJob], watcher: Watcher) -> str | None:
        """Arrays of the jobs that Slurm does not hold already; what was submitted, in words.

        Raises:
          ValueError: if Slurm does not answer or refuses; arrays submitted before stay.
        """
        root = root.resolve()
        for path in (str(root), str(Path.cwd())):
            if not path.isprintable() or "\\" in path:
                raise ValueError(f"{path!r}: sbatch takes printable paths without backslash only.")
        if not jobs:
            return None
        held = queued(root)
        asked = trees(jobs)
        left = [tree for tree in asked if held.isdisjoint(tree.ids)]
        lines = [f"{len(asked) - len(left)} jobs are in the queue already."] if held else []
        for batch in batches(left, max_array_size()):
            folder = new_folder(root / "slurm")
            lines.append(f"{batch.n_jobs} jobs: {self._submit_array(root, folder, batch)}")
        return "\n".join(lines)

    def _submit_array(self, root: Path, folder: Path, batch: Batch) -> str:
        (folder / "tasks.txt").write_text("".join(" ".join(t) + "\n" for t in batch.tasks))
        script = folder / "script.sh"
        script.write_text(self._script(root, folder, batch))
        job = _ask("sbatch", "--parsable", str(script)).split(";")[0].strip()
        return f"Slurm array {job} of {len(batch.tasks)} tasks, logs in {folder}"

    def _script(self, root: Path, folder: Path, batch: Batch) -> str:
        needs = batch.needs
        # A job step does not inherit --cpus-per-task from sbatch (Slurm 22.05).
        srun = f"--cpus-per-task={needs.n_cpus}"
        if needs.n_processes > 1:
            # The others wait for a lost process for ever; a checkpoint ends all within moments.
            srun += " --wait=60"
        cases = (f"  {code}) most={most} ;;" for code, most in REQUEUE.items())
        return SCRIPT.format(
            options="\n".join(f"#SBATCH {o}" for o in self._options(root, folder, batch)),
            setup=self.setup,
            tasks=shlex.quote(str(folder / "tasks.txt")),
            srun=srun,
            worker=shlex.join(self.worker),
            root=shlex.quote(str(root)),
            cases="\n".join(cases),
        )

    def _options(self, root: Path, folder: Path, batch: Batch) -> list[str]:
        needs = batch.needs
        at_once = f"%{self.max_concurrent}" if self.max_concurrent else ""
        log = str(folder).replace("%", "%%") + "/%a.log"
        options = [
            f"--job-name={job_name(root, folder)}",
            f"--array=0-{len(batch.tasks) - 1}{at_once}",
            f"--output={log}",
            # A requeued task goes on in the same log.
            "--open-mode=append",
            f"--chdir={Path.cwd()}",
            "--requeue",
            f"--signal=USR1@{SIGNAL_SECONDS}",
            f"--nodes={needs.n_processes}",
            f"--ntasks={needs.n_processes}",
            "--ntasks-per-node=1",
            f"--cpus-per-task={needs.n_cpus}",
            f"--mem={needs.memory_bytes // 2**20}M",
        ]
        if needs.n_gpus:
            options.append(f"--gres=gpu:{needs.n_gpus}")
        limits = [s for s in (needs.seconds, self.time_limit_seconds) if s is not None]
        if limits:
            options.append(f"--time={-(-min(limits) // 60):.0f}")
        for name in ("partition", "account", "qos"):
            if value := getattr(self, name):
                options.append(f"--{name}={value}")
        return [_quoted(option) for option in (*options, *self.options)]


def job_name(root: Path, folder: Path) -> str:
    """What an array is called in the queue: study, study folder, number of the array."""
    digest = hashlib.sha256(str(root).encode()).hexdigest()[:8]
    return f"{root.name}-{digest}-{folder.name}"


def queued(root: Path) -> set[str]:
    """Ids of the study's jobs that Slurm holds, waiting or running, by name and task number."""
    folders = {job_name(root, path): path for path in (root / "slurm").glob("[0-9]*")}
    if not folders:
        return set()
    command = ("squeue", "--noheader", "--array", "--format=%K %j", f"--name={','.join(folders)}")
    held: dict[str, set[int]] = {}
    for line in _ask(*command).splitlines():
        number, name = line.split(maxsplit=1)
        held.setdefault(name, set()).add(int(number))
    ids: set[str] = set()
    for name, numbers in held.items():
        tasks = (folders[name] / "tasks.txt").read_text().splitlines()
        ids.update(*(tasks[number].split() for number in numbers))
    return ids


def max_array_size() -> int:
    """The most tasks of one array here."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _ask("scontrol", "show", "config"), re.M)
    if found is None or int(found[1]) < 1:
        raise ValueError("scontrol show config names no MaxArraySize: job arrays are switched off.")
    return int(found[1])


def _quoted(option: str) -> str:
    """For an #SBATCH line, which knows quotes like a shell's."""
    name, equals, value = option.partition("=")
    return name + equals + shlex.quote(value) if equals else option


def _ask(*command: str) -> str:
    """Output of one of Slurm's commands."""
    # Inside an allocation, SLURM_... describe that one and would change what is asked for here.
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SLURM_") or name == "SLURM_CONF"
    }
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    except FileNotFoundError:
        raise ValueError(
            f"there is no {command[0]} here. Submit to Slurm from one of its login nodes."
        ) from None
    if done.returncode:
        complaint = " ".join(done.stderr.split())
        raise ValueError(f"{complaint}. Nothing more was submitted; run the study again to go on.")
    return done.stdout
