# SPDX-License-Identifier: Apache-2.0
"""One job trained by several processes: process 0 leads, and it alone touches the ledger.

What process 0 trains, it tells the others, who train along on their devices; they learn nothing of
claims and results. Where it is asked to stop, the training loop itself tells them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import jax
import msgspec

from experiments.train.session import Train
from model.network.config import ModelConfig
from model.network.execution import Execution
from model.training.config import TrainConfig
from model.training.outcome import Interrupted, TrainResult
from model.training.processes import broadcast

if TYPE_CHECKING:
    from model.data.corpus import Corpus
    from model.training.checkpoints.checkpoint import Checkpoints

_END = ""


class Assignment(msgspec.Struct, frozen=True):
    """What all processes must agree on to train together."""

    model: ModelConfig
    configs: tuple[TrainConfig, ...]
    data: tuple[str, ...]
    mesh_shape: tuple[int, ...]
    execution: Execution
    checkpoints: str
    attempt: int
    trunk: str
    until: int | None


class Leader:
    """Process 0, alone or with followers.

    Args:
      train: train_pack of model/training/loop.py.
    """

    def __init__(self, train: Train):
        self._train = train
        self._is_together = True

    def train(
        self,
        model: ModelConfig,
        configs: Sequence[TrainConfig],
        corpora: Sequence[Corpus],
        *,
        mesh_shape: tuple[int, ...],
        execution: Execution,
        checkpoints: Checkpoints,
        trunk: Checkpoints | None,
        until: int | None,
        **rest: object,
    ) -> Sequence[TrainResult]:
        """As the loop does, announced to the followers first."""
        assignment = Assignment(
            model=model,
            configs=tuple(configs),
            data=tuple(corpus.manifest.fingerprint for corpus in corpora),
            mesh_shape=mesh_shape,
            execution=execution,
            checkpoints=str(checkpoints.folder),
            attempt=checkpoints.attempt,
            trunk="" if trunk is None else str(trunk.folder),
            until=until,
        )
        broadcast(msgspec.json.encode(assignment).decode())
        try:
            return self._train(
                model,
                configs,
                corpora,
                mesh_shape=mesh_shape,
                execution=execution,
                checkpoints=checkpoints,
                trunk=trunk,
                until=until,
                **rest,
            )
        except (Interrupted, ValueError):
            raise  # The followers meet the same.
        except BaseException:
            # They may sit in a sum that waits for us.
            self._is_together = jax.process_count() == 1
            raise

    def jobs(self, ids: Iterable[str]) -> Iterator[str]:
        """The ids, as long as there is somebody to train with."""
        for job_id in ids:
            yield job_id
            if not self._is_together:
                return

    def end(self, code: int) -> NoReturn:
        """Ends the followers and this process."""
        if not self._is_together:
            os._exit(code)  # Without the orderly end, for which it would wait for them.
        broadcast(_END)
        sys.exit(code)


def follow(
    train: Train,
    open_checkpoints: Callable[..., Checkpoints],
    corpora: Mapping[str, Corpus],
    on_phase: Callable[[str], None],
) -> None:
    """Trains along until process 0 has no more jobs."""
    while text := broadcast(_END):
        job = msgspec.json.decode(text, type=Assignment)
        saved, trunk = (
            open_checkpoints(Path(folder), attempt=job.attempt) if folder else None
            for folder in (job.checkpoints, job.trunk)
        )
        try:
            train(
                job.model,
                job.configs,
                [corpora[fingerprint] for fingerprint in job.data],
                mesh_shape=job.mesh_shape,
                execution=job.execution,
                checkpoints=saved,
                trunk=trunk,
                until=job.until,
                on_phase=on_phase,
            )
        except (Interrupted, ValueError):
            continue  # Process 0 meets the same, and says it.
