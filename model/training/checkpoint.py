# SPDX-License-Identifier: Apache-2.0
"""Model, optimiser, data position and step as one verified unit (Orbax plus our own digests).

Orbax writes; we do not trust what we read back: a flipped bit restores silently as a wrong value,
and a truncated step is still offered as the newest. So a step counts only once a digest of all its
files lies beside it, and it is restored only if that digest still holds (checkpoint_files.py).

Of several processes each writes and reads its own parts, in one folder that all of them see, and
digests a share of the files: those that it wrote. Process 0 alone picks the step, puts the digests
together and removes files. All must call ``save`` and ``restore``.
"""

import contextlib
import itertools
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp

from model.training import checkpoint_files as files
from model.training.checkpoint_files import Saved
from model.training.processes import barrier, broadcast, gather, is_leader

State = TypeVar("State")


class TrunkLost(Exception):
    """A branch has no intact checkpoint to begin from: its trunk has to be trained again."""

    def __init__(self, folder: Path):
        super().__init__(f"no intact checkpoint of the trunk in {str(folder)!r}: train it again.")


class Checkpoints:
    """The checkpoints of one job.

    Args:
      folder: created when missing.
      attempt: number of this attempt at the job. What a later attempt has written is never
        removed: a process that was taken for dead may still be running.
      keep: how many of the newest steps stay.
    """

    def __init__(self, folder: Path, *, attempt: int = 1, keep: int = 2):
        self.folder = Path(folder).absolute()
        self.attempt, self.keep = attempt, keep
        self.folder.mkdir(parents=True, exist_ok=True)

    def save(self, step: int, state: object, progress: dict[str, object]) -> None:
        """Writes ``state`` (a tree of arrays) and ``progress`` (JSON), then their digest.

        Raises:
          OSError: if the disk does not take them.
        """
        saved = Saved(step, self.attempt)
        if is_leader():
            files.begin(self.folder, saved)
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(_flat(state)), progress=ocp.args.JsonSave(progress)
        )
        with (
            _disk_errors(self.folder),
            ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer,
        ):
            checkpointer.save(self.folder / str(saved), args)
        barrier(f"checkpoint {saved} written")
        digest = self._digest(saved, flush=True)
        if is_leader() and files.finish(self.folder, saved, digest):
            files.prune(self.folder, self.attempt, keep=self.keep)

    def steps(self) -> list[int]:
        """Steps that are finished, newest first."""
        return sorted({saved.step for saved in files.finished(self.folder)}, reverse=True)

    def has_intact(self, step: int) -> bool:
        """Whether that step can be restored."""
        found = [saved for saved in files.finished(self.folder) if saved.step == step]
        return any(files.is_intact(self.folder, saved) for saved in found)

    def restore(self, like: State) -> tuple[tuple[State, dict[str, object]] | None, list[str]]:
        """The newest intact step, and of equal steps that of the latest attempt.

        Args:
          like: the structure, shapes, dtypes and shardings of a state, or such a state.

        Returns:
          (state, progress), or None when no step can be used; and notes, which name every
          checkpoint that was damaged or unfinished and therefore passed over.

        Raises:
          Exception: whatever Orbax raises on an intact checkpoint, such as one of another network.
        """
        newest, notes = self._newest_intact()
        if newest is None:
            return None, notes
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, _flat(like))
        args = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract), progress=ocp.args.JsonRestore()
        )
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            restored = checkpointer.restore(self.folder / str(newest), args)
        leaves = list(restored["state"].values())
        state = jax.tree.unflatten(jax.tree.structure(like), leaves)
        return (state, restored["progress"]), notes

    def _newest_intact(self) -> tuple[Saved | None, list[str]]:
        unfinished = sorted(set(files.unfinished(self.folder).values()), reverse=True)
        notes = [f"unfinished checkpoint {saved} passed over." for saved in unfinished]
        finished, notes = _told((files.finished(self.folder), notes))
        for saved in itertools.starmap(Saved, finished):
            digest = self._digest(saved, flush=False)
            if _told(is_leader() and files.is_vouched_for(self.folder, saved, digest)):
                return saved, notes
            notes.append(f"checkpoint {saved} is damaged; passed over.")
            if is_leader() and saved.attempt <= self.attempt:
                files.remove(self.folder, saved)
        return None, notes

    def _digest(self, saved: Saved, *, flush: bool) -> str | None:
        """Of all files: each process reads those that it wrote, or would have written."""
        names = _told(files.names(self.folder, saved) if is_leader() else [])
        mine = {
            name: files.content(self.folder, saved, name, flush=flush)
            for name in names
            if _writer(name) % jax.process_count() == jax.process_index()
        }
        found: dict[str, str | None] = {}
        for text in gather(json.dumps(mine)):
            found |= json.loads(text)
        return files.combined(names, found)


def _writer(name: str) -> int:
    """The process that wrote a file, as Orbax has it in the path; what is common is process 0's."""
    process = re.search(r"process_(\d+)", name)
    return int(process[1]) if process else 0


def _told(value: Any) -> Any:
    """What process 0 has, as JSON has it; what the others pass is ignored."""
    return json.loads(broadcast(json.dumps(value)))


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """What the disk said, as OSError: Orbax's own writers raise ValueError with it in words."""
    try:
        yield
    except Exception as error:
        if (code := re.search(r"os_error_code='(\d+)'", str(error))) is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(folder)) from error


def _flat(tree: Any) -> dict[str, Any]:
    """Leaves by an index that keeps their order, and their path for the reader of the files."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {f"{i:05d}{jax.tree_util.keystr(path)}": leaf for i, (path, leaf) in enumerate(leaves)}
