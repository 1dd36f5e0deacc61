# SPDX-License-Identifier: Apache-2.0
"""Where a pack begins: anew, from its own newest good checkpoint, or from that of its trunk."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from model.data.batches import DataState
from model.training.checkpoints.checkpoint import Checkpoints, TrunkLost
from model.training.compatible import check_stable
from model.training.config import TrainConfig
from model.training.outcome import CurvePoint
from model.training.step import TrainState


@dataclass(kw_only=True)
class Position:
    """Where a pack stands between two dispatches: what a checkpoint holds beside its arrays.

    Attributes:
      step: steps done.
      diverged_at: by run, the step at which it diverged, or 0.
      data: by run, its place in the data (BatchIterator.state_at); None before the first step.
      curves: by run, its validation losses so far.
    """

    step: int
    diverged_at: list[int]
    data: list[DataState] | None
    curves: list[list[CurvePoint]]

    @staticmethod
    def start(n_runs: int) -> "Position":
        """Before the first step."""
        return Position(
            step=0, diverged_at=[0] * n_runs, data=None, curves=[[] for _ in range(n_runs)]
        )


@dataclass(kw_only=True)
class Beginning:
    """What a pack begins with.

    Attributes:
      state, position: of the checkpoint that it goes on from, or initial ones.
      saved_step: of the newest checkpoint of its own, or 0.
      notes: what happened to checkpoints.
    """

    state: TrainState
    position: Position
    saved_step: int = 0
    notes: list[str] = field(default_factory=list)


def begin(
    abstract: TrainState,
    init: Callable[[], TrainState],
    configs: Sequence[TrainConfig],
    *,
    checkpoints: Checkpoints | None,
    trunk: Checkpoints | None,
) -> Beginning:
    """The newest intact checkpoint of the pack, else of its trunk, else its initial state.

    Args:
      abstract: shapes, dtypes and shardings of a state: a checkpoint is read into these.
      init: makes the initial state, and is asked for it only where there is no other: the devices
        never hold two.

    Raises:
      TrunkLost: if there is nothing to begin from but the trunk, and nothing there is intact.
      ValueError: if the trunk lies beyond the step where a rate begins to decay.
    """
    notes: list[str] = []
    if checkpoints is not None:
        restored, notes = checkpoints.restore(abstract)
        if restored is not None:
            state, position = restored[0], msgspec.convert(restored[1], Position)
            return Beginning(state=state, position=position, saved_step=position.step, notes=notes)
    if trunk is None:
        return Beginning(state=init(), position=Position.start(len(configs)), notes=notes)
    restored, trunk_notes = trunk.restore(abstract)
    if restored is None:
        raise TrunkLost(trunk.folder)
    position = msgspec.convert(restored[1], Position)
    check_stable(configs, position.step, "trunk")
    notes += [f"trunk: {note}" for note in trunk_notes]
    return Beginning(state=restored[0], position=position, notes=notes)
