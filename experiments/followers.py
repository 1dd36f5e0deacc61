# SPDX-License-Identifier: Apache-2.0
"""One job trained by several processes: process 0 leads, and it alone touches the ledger.

What process 0 trains, it tells the others, who train along on their devices; they learn nothing of
claims and results. Where it is asked to stop, the training loop itself tells them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from model.config import ModelConfig
from model.training.config import TrainConfig
from model.training.control import Interrupted
from model.training.processes import broadcast

END = ""


class Assignment(msgspec.Struct, frozen=True):
    """What all processes must agree on to train together."""

    model: ModelConfig
    train: TrainConfig
    mesh_shape: tuple[int, ...]
    checkpoints: str
    attempt: int


def lead(train: Callable[..., Any]) -> Callable[..., Any]:
    """``train`` (model/training/loop.py), announced to the followers first."""

    def announced(model: ModelConfig, config: TrainConfig, corpus: Any, **rest: Any) -> Any:
        checkpoints = rest["checkpoints"]
        assignment = Assignment(
            model=model,
            train=config,
            mesh_shape=rest["mesh_shape"],
            checkpoints=str(checkpoints.folder),
            attempt=checkpoints.attempt,
        )
        broadcast(msgspec.json.encode(assignment).decode())
        return train(model, config, corpus, **rest)

    return announced


def dismiss() -> None:
    """Ends the followers; process 0 has no more jobs."""
    broadcast(END)


def follow(train: Callable[..., Any], open_checkpoints: Callable[..., Any], corpus: Any) -> None:
    """Trains along until process 0 has no more jobs."""
    while text := broadcast(END):
        job = msgspec.json.decode(text, type=Assignment)
        try:
            train(
                job.model,
                job.train,
                corpus,
                mesh_shape=job.mesh_shape,
                checkpoints=open_checkpoints(Path(job.checkpoints), attempt=job.attempt),
            )
        except (Interrupted, ValueError):
            continue  # Process 0 meets the same, and says it.
