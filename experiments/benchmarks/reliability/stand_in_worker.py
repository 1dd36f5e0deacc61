# SPDX-License-Identifier: Apache-2.0
"""A worker that trains nothing: what is left is the time that the ledger and the runner take.

Takes the arguments of experiments/worker.py.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from experiments.executors import exit_codes
from experiments.ledger.claims import this_process
from experiments.ledger.ledger import Ledger
from experiments.train.attempt import Session, Stop
from experiments.worker import Stdin, _emit, watch_signals, work
from model.data.manifest import Manifest
from model.network.execution import AUTO
from model.training.checkpoint import Checkpoints

N_CHUNKS = 10
SECONDS = dict.fromkeys(("compile", "train", "stall", "evaluate", "checkpoint"), 0.0)


@dataclass(frozen=True)
class Progress:
    """As model/training/loop.py tells it."""

    step: int
    n_steps: int
    loss_nats: float = 2.5
    grad_norm: float = 1.0
    n_tokens: int = 0
    resumed_at: int = 0
    train_seconds: float = 1.0
    stall_seconds: float = 0.0


def train(model: Any, configs: Any, corpus: Any, **options: Any) -> tuple[SimpleNamespace]:
    """Asks and tells as often as a run of ten chunks does, and returns at once."""
    options["on_phase"]("compile")
    options["on_phase"]("train")
    for chunk in range(N_CHUNKS):
        options["control"](chunk)
        options["on_progress"]((Progress(step=chunk + 1, n_steps=N_CHUNKS),))
    outcome = SimpleNamespace(
        status="ok",
        reason="",
        loss_nats=2.5,
        oracle_loss_nats=None,
        curve=(),
        params_sha256="",
        resumed_at=0,
        n_timed_steps=N_CHUNKS,
        notes=(),
        execution=AUTO,
        seconds=SECONDS,
    )
    return (outcome,)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, required=True)
    options, _ = parser.parse_known_args()
    stop = Stop(lambda: sys.exit(exit_codes.PREEMPTED))
    watch_signals(stop)
    ledger = Ledger(options.root.parent, options.root.name)
    session = Session(
        me=this_process(),
        corpus=SimpleNamespace(manifest=Manifest.read(ledger.manifest)),
        mesh_shape=(1, 1, 1, 1),
        execution=AUTO,
        train=train,
        open_checkpoints=Checkpoints,
        stop=stop,
        emit=_emit,
    )
    sys.exit(work(ledger, iter(Stdin(stop)), session, _emit))


if __name__ == "__main__":
    main()
