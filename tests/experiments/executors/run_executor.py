# SPDX-License-Identifier: Apache-2.0
"""A runner in a process of its own: gives an executor jobs whose worker is the stand-in.

python run_executor.py ENGINE ROOT < jobs, one "id flops parent" a line
"""

import collections
import sys
from pathlib import Path

from experiments.executors.base import Executor, QueuedJob, Resources
from experiments.executors.kubernetes import Kubernetes
from experiments.executors.local import Local
from experiments.executors.local_devices import Place
from experiments.executors.slurm import Slurm
from experiments.executors.worker_settings import MAX_ATTEMPTS, WorkerSettings

PROGRAM = (sys.executable, str(Path(__file__).with_name("stand_in_worker.py")))
NEEDS = Resources(n_processes=1, n_cpus=1, n_gpus=0, memory_bytes=2**30, seconds=None)


class Watcher:
    """Lets a job be tried as often as a ledger would."""

    def __init__(self):
        self.n_failures = collections.Counter()

    def event(self, slot, job_id, event):
        pass

    def died(self, slot, job_id, pid, reason):
        self.n_failures[job_id] += 1
        return "again" if self.n_failures[job_id] < MAX_ATTEMPTS else "lost"


def executor(engine: str) -> Executor:
    if engine == "slurm":
        return Slurm(worker=PROGRAM)
    if engine == "kubernetes":
        return Kubernetes(image="none", volume_claim="none", worker=PROGRAM)
    return Local(places=(Place(), Place()), settings=WorkerSettings(), program=PROGRAM)


def main() -> None:
    jobs = []
    for line in sys.stdin:
        name, flops, *after = line.split()
        parent = after[0] if after else None
        jobs.append(QueuedJob(id=name, needs=NEEDS, flops=float(flops), after=parent))
    print(executor(sys.argv[1]).run(Path(sys.argv[2]), jobs, Watcher()) or "")


if __name__ == "__main__":
    main()
