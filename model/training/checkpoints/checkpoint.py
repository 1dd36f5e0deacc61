# SPDX-License-Identifier: Apache-2.0
"""Model, optimiser, data position and step as one verified unit (Orbax plus our own digests).

Orbax writes; we do not trust what we read back: a flipped bit restores silently as a wrong value,
and a truncated step is still offered as the newest. So a step counts only once a digest of all its
files lies beside it, and it is restored only if that digest still holds (checkpoint_files.py).

Saving holds training up only while the arrays are copied from the devices: they are written, made
durable and digested behind it, and the digest appears when ``finish`` is called.

Of several processes each writes and reads its own parts, in one folder that all of them see, and
digests a share of the files: those that it wrote. Process 0 alone picks the step, puts the digests
together and removes files. All must call ``save``, ``finish`` and ``restore``. The threads that
write wait for each other at barriers of Orbax's own, which need no device and do not mix with what
processes.py exchanges on the main thread.
"""

import contextlib
import itertools
import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import orbax.checkpoint as ocp

from model.training.checkpoints import checkpoint_files as files
from model.training.checkpoints.checkpoint_files import Saved
from model.training.processes import PATIENCE_SECONDS, broadcast, gather, is_leader

State = TypeVar("State")

# Folders are made at once: where one cannot be made behind training, the threads of Orbax that want
# to write into it wait for five minutes, and a process that ends waits for them.
_BEHIND = ocp.AsyncOptions(timeout_secs=PATIENCE_SECONDS, create_directories_asynchronously=False)


class TrunkLost(Exception):
    """A branch has no intact checkpoint to begin from: its trunk has to be trained again."""

    def __init__(self, folder: Path):
        super().__init__(f"no intact checkpoint of the trunk in {str(folder)!r}: train it again.")


class Written(NamedTuple):
    """What a process wrote of a checkpoint.

    Attributes:
      names: of all files and folders, those of other processes too.
      mine: digests of its own.
      began, ended: when, as of time.monotonic.
    """

    names: Sequence[str]
    mine: dict[str, str | None]
    began: float
    ended: float


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
        # One thread, and what it is at; see ``save``.
        self._writer = ThreadPoolExecutor(1)
        self._writing: tuple[Saved, Future[Written]] | None = None

    def save(self, step: int, state: object, progress: dict[str, object]) -> None:
        """Copies ``state`` (a tree of arrays) from the devices, which may go on with it afterwards,
        and begins to write it with ``progress`` (JSON); finishes what is being written first. The
        copy, of what this process writes, stays in the host's memory until it is written.

        Raises:
          OSError: if the disk does not take them.
        """
        self.finish()
        began, saved = time.monotonic(), Saved(step, self.attempt)
        if is_leader():
            files.begin(self.folder, saved)
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(_flat(state)), progress=ocp.args.JsonSave(progress)
        )
        handler = ocp.CompositeCheckpointHandler(
            composite_options=ocp.CompositeOptions(async_options=_BEHIND)
        )
        checkpointer = ocp.AsyncCheckpointer(handler, async_options=_BEHIND)
        with _disk_errors(self.folder):
            checkpointer.save(self.folder / str(saved), args)
        self._writing = saved, self._writer.submit(self._write, checkpointer, saved, began)

    def _write(self, checkpointer: ocp.AsyncCheckpointer, saved: Saved, began: float) -> Written:
        """Waits until all have written their parts; makes those of this process durable."""
        with _disk_errors(self.folder):
            checkpointer.close()
        names = files.names(self.folder, saved)
        mine = self._digests(saved, names, flush=True)
        return Written(names, mine, began, time.monotonic())

    @property
    def is_written(self) -> bool:
        """Whether ``finish`` has something to finish, and nothing of this process to wait for.

        Raises:
          OSError: if the disk did not take it.
        """
        if self._writing is None or not self._writing[1].done():
            return False
        self._writing[1].result()
        return True

    def finish(self) -> Written | None:
        """Waits for what is being written, if anything is: from now on it counts.

        Raises:
          OSError: if the disk did not take it.
        """
        if self._writing is None:
            return None
        (saved, future), self._writing = self._writing, None
        written = future.result()
        digest = _together(written.names, written.mine)
        if is_leader() and files.finish(self.folder, saved, digest):
            files.prune(self.folder, self.attempt, keep=self.keep)
        return written

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
            names = _told(files.names(self.folder, saved) if is_leader() else [])
            digest = _together(names, self._digests(saved, names, flush=False))
            if _told(is_leader() and files.is_vouched_for(self.folder, saved, digest)):
                return saved, notes
            notes.append(f"checkpoint {saved} is damaged; passed over.")
            if is_leader() and saved.attempt <= self.attempt:
                files.remove(self.folder, saved)
        return None, notes

    def _digests(self, saved: Saved, names: Sequence[str], *, flush: bool) -> dict[str, str | None]:
        """Of the files that this process wrote, or would have written."""
        return {
            name: files.content(self.folder, saved, name, flush=flush)
            for name in names
            if _writer(name) % jax.process_count() == jax.process_index()
        }


def _together(names: Sequence[str], mine: dict[str, str | None]) -> str | None:
    """The digest of all files, of which each process has its own."""
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
