# SPDX-License-Identifier: Apache-2.0
"""Options of the commands that train, or that look at what trains."""

import argparse
import typing

from experiments.cli.options.from_options import from_options
from experiments.executors.worker_settings import CHECKPOINT_SECONDS, LEASE_SECONDS, MAX_ATTEMPTS
from experiments.train.engines import Engine, Name
from experiments.train.run_points import Training


def add_workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, metavar="N", help="processes (one per core)")


def add_training(parser: argparse.ArgumentParser) -> None:
    """How runs are trained, and where."""
    add_workers(parser)
    names = typing.get_args(Name)
    parser.add_argument("--on", choices=names, default="local", help="where runs are trained")
    add = parser.add_argument_group("workers").add_argument
    text = "between checkpoints"
    add("--checkpoint-seconds", type=float, default=CHECKPOINT_SECONDS, metavar="S", help=text)
    text = "silence after which another host may take a run over"
    add("--lease-seconds", type=float, default=LEASE_SECONDS, metavar="S", help=text)
    text = "failures without progress after which a run waits for `isoflop retry`"
    add("--max-attempts", type=int, default=MAX_ATTEMPTS, metavar="N", help=text)
    text = "runs of one shape trained together on a device (as was measured to be best)"
    add("--pack", type=int, metavar="N", help=text)
    text = "give up a run beyond the grid far above the curve that was forecast; it is in no fit"
    add("--stop-early", action="store_true", help=text)
    _add_engines(parser)


def _add_engines(parser: argparse.ArgumentParser) -> None:
    """What an engine other than this machine must be told."""
    add = parser.add_argument_group("engines other than local").add_argument
    add("--gpus-per-process", type=int, default=0, metavar="N", help="0 trains on CPUs")
    add("--cpus-per-process", type=int, default=1, metavar="N", help="cores of a process")
    text = "most of a task; longer runs resume (no limit)"
    add("--hours", type=float, metavar="H", help=text)
    add("--max-concurrent", type=int, metavar="N", help="tasks at once (no limit)")
    add = parser.add_argument_group("Slurm").add_argument
    text = "shell line before the worker, to activate an environment (none)"
    add("--setup", default="", help=text)
    add("--partition", default="", help="where tasks run (as Slurm chooses)")
    add("--account", default="", help="that is charged (as Slurm chooses)")
    add("--qos", default="", help="quality of service (as Slurm chooses)")
    text = "further option of sbatch, such as --sbatch=--constraint=a100; may be repeated"
    add("--sbatch", action="append", default=[], metavar="OPTION", help=text)
    add = parser.add_argument_group("Kubernetes").add_argument
    add("--image", default="", help="with this project and its Python (none; needed)")
    text = "PersistentVolumeClaim with the results folder at its top (none; needed)"
    add("--volume-claim", default="", metavar="NAME", help=text)
    add("--namespace", default="", help="of the jobs (as kubectl chooses)")
    add("--queue", default="", help="LocalQueue of Kueue (none)")
    text = "label=value of nodes; may be repeated"
    add("--node-selector", action="append", default=[], metavar="LABEL", help=text)
    text = "accelerator,topology,chips per host; such a slice for each run (none)"
    add("--tpu", default="", metavar="SLICE", help=text)


def training(options: argparse.Namespace) -> Training:
    """What ``add_training`` was told.

    Raises:
      ValueError: for numbers that cannot be.
    """
    engine = from_options(Engine, options, name=options.on)
    return from_options(Training, options, engine=engine, n_workers=options.workers)
