# SPDX-License-Identifier: Apache-2.0
"""`isoflop run --on ENGINE`: what a study's jobs need and which executor gets them."""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from experiments.executors.base import Executor, Resources
from experiments.executors.kubernetes import Kubernetes
from experiments.executors.local_devices import cache_folder
from experiments.executors.slurm import Slurm
from experiments.ledger.ledger import Ledger
from experiments.plan.jobs import PlannedJob
from experiments.speed.calibration import Calibration
from experiments.study.study import Study

ENGINES = ("local", "slurm", "kubernetes")


def add_options(parser: argparse.ArgumentParser) -> None:
    """--on, and what an engine other than this machine must be told."""
    parser.add_argument("--on", choices=ENGINES, default="local", help="where runs are trained")
    add = parser.add_argument_group("engines other than local").add_argument
    add("--gpus-per-process", type=int, default=0, metavar="N", help="0 trains on CPUs")
    add("--cpus-per-process", type=int, default=1, metavar="N")
    add("--hours", type=float, default=None, help="most hours of a task; longer runs resume")
    add("--max-concurrent", type=int, default=None, metavar="N", help="tasks at once")
    add("--setup", default="", help="shell line before the worker (activate an environment)")
    add("--partition", default="", help="of Slurm")
    add("--account", default="", help="of Slurm")
    add("--qos", default="", help="of Slurm")
    text = "further option of sbatch, such as --sbatch=--constraint=a100; may be repeated"
    add("--sbatch", action="append", default=[], metavar="OPTION", help=text)
    add("--image", default="", help="of Kubernetes: with this project and its Python")
    text = "of Kubernetes: PersistentVolumeClaim with the results folder at its top"
    add("--volume-claim", default="", metavar="NAME", help=text)
    add("--namespace", default="", help="of Kubernetes")
    add("--queue", default="", help="of Kubernetes: LocalQueue of Kueue")
    text = "of Kubernetes: label=value of nodes; may be repeated"
    add("--node-selector", action="append", default=[], metavar="LABEL", help=text)
    text = "of Kubernetes: accelerator,topology,chips per host; such a slice for each run"
    add("--tpu", default="", metavar="SLICE", help=text)


def submit(
    options: Any,
    study: Study,
    ledger: Ledger,
    planned_jobs: Sequence[PlannedJob],
    known: Calibration | None,
) -> str:
    """Hands jobs to the engine; what the user may look at, in words.

    A trunk and all that begins from it are for one worker: no engine need know of an order.

    Args:
      options: as ``add_options`` made them.
      planned_jobs: without a result, and not given up; parents before those that begin from them.
      known: measured on this study's own results, for the time that is asked for; None when
        there are none yet.
    """
    trees: dict[str, list[PlannedJob]] = {}
    root: dict[str, str] = {}
    for planned_job in planned_jobs:
        root[planned_job.job.id] = root.get(planned_job.job.parent or "", planned_job.job.id)
        trees.setdefault(root[planned_job.job.id], []).append(planned_job)
    ordered = sorted(trees.values(), key=lambda tree: -sum(p.flops["matmul_full"] for p in tree))
    jobs = [
        (" ".join(planned_job.job.id for planned_job in tree), _needs(options, study, tree, known))
        for tree in ordered
    ]
    return _executor(options, study).submit(ledger.folder, jobs)


def _executor(options: Any, study: Study) -> Executor:
    is_cpu = not options.gpus_per_process and not options.tpu
    flags = (
        *(("--threads", str(options.cpus_per_process)) if is_cpu else ()),
        *("--mesh", ",".join(map(str, study.mesh))),
        *("--execution", study.execution.to_text()),
        *("--checkpoint-seconds", str(options.checkpoint_seconds)),
        *("--lease-seconds", str(options.lease_seconds)),
        *("--max-attempts", str(options.max_attempts)),
    )
    module = ("-m", "experiments.worker")
    if options.on == "kubernetes":
        return Kubernetes(
            image=options.image,
            volume_claim=options.volume_claim,
            namespace=options.namespace,
            queue=options.queue,
            max_concurrent=options.max_concurrent,
            node_selector=tuple(options.node_selector),
            tpu=options.tpu,
            worker=("python", *module, *flags),
        )
    return Slurm(
        partition=options.partition,
        account=options.account,
        qos=options.qos,
        time_limit_seconds=None if options.hours is None else 3600 * options.hours,
        max_concurrent=options.max_concurrent,
        options=tuple(options.sbatch),
        setup=options.setup,
        worker=(sys.executable, *module, *flags, "--cache", str(cache_folder())),
    )


def _needs(
    options: Any, study: Study, tree: Sequence[PlannedJob], known: Calibration | None
) -> Resources:
    """The mesh's devices in processes of so many GPUs, or of one CPU device each.

    Raises:
      ValueError: if they do not divide.
    """
    n_devices, per_process = math.prod(study.mesh), options.gpus_per_process or 1
    if options.gpus_per_process < 0 or options.cpus_per_process < 1:
        raise ValueError("--gpus-per-process must be at least 0 and --cpus-per-process at least 1.")
    if n_devices % per_process:
        raise ValueError(
            f"--gpus-per-process {per_process}: must divide the {n_devices} devices of the study's "
            f"mesh {'x'.join(map(str, study.mesh))}."
        )
    seconds = None
    if known is not None:
        seconds = (
            sum(known.job_seconds(planned_job) for planned_job in tree) + known.compile_seconds
        )
    return replace(
        max(
            (planned_job.job.resources for planned_job in tree),
            key=lambda needs: needs.memory_bytes,
        ),
        n_processes=n_devices // per_process,
        n_cpus=options.cpus_per_process,
        n_gpus=options.gpus_per_process,
        seconds=seconds,
    )
