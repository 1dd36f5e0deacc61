# SPDX-License-Identifier: Apache-2.0
"""Model, optimiser, data position and step as one verified unit (Orbax plus our own digests).

Orbax writes; we do not trust what we read back: a flipped bit restores silently as a wrong value,
and a truncated step is still offered as the newest. So a step counts only once a digest of all its
files lies beside it, and it is restored only if that digest still holds.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp


class Checkpoints:
    """The checkpoints of one job: ``<folder>/<step>/`` and ``<folder>/<step>.sha256``.

    One process owns the folder at a time; a step without a digest is a save that was killed.

    Args:
      folder: created when missing.
      keep: how many of the newest steps stay.
    """

    def __init__(self, folder: Path, *, keep: int = 2):
        self.folder = Path(folder).absolute()
        self.keep = keep
        self.folder.mkdir(parents=True, exist_ok=True)

    def save(self, step: int, state: Any, progress: dict[str, Any]) -> None:
        """Writes ``state`` (a tree of arrays) and ``progress`` (JSON), then its digest."""
        path = self.folder / str(step)
        self._remove(step)
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(_flat(state)), progress=ocp.args.JsonSave(progress)
        )
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            checkpointer.save(path, args)
        _write_text(self._digest_path(step), _digest(path))
        for old in self.steps()[self.keep :]:
            self._remove(old)

    def steps(self) -> list[int]:
        """Steps with a digest, newest first."""
        return sorted((int(path.stem) for path in self.folder.glob("*.sha256")), reverse=True)

    def restore(self, like: Any) -> tuple[tuple[Any, dict[str, Any]] | None, list[str]]:
        """The newest step whose digest holds.

        Args:
          like: a state of the same structure, shapes, dtypes and shardings.

        Returns:
          (state, progress), or None when no step can be used; and notes, which name every step
          that was damaged or unfinished and therefore passed over.
        """
        notes = self._drop_unfinished()
        for step in self.steps():
            path = self.folder / str(step)
            if _digest(path).encode() != self._digest_path(step).read_bytes():
                notes.append(f"checkpoint of step {step} is damaged; passed over.")
                self._remove(step)
                continue
            abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, _flat(like))
            args = ocp.args.Composite(
                state=ocp.args.StandardRestore(abstract), progress=ocp.args.JsonRestore()
            )
            with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
                restored = checkpointer.restore(path, args)
            leaves = list(restored["state"].values())
            state = jax.tree.unflatten(jax.tree.structure(like), leaves)
            return (state, restored["progress"]), notes
        return None, notes

    def delete(self) -> None:
        """Removes the folder: the run has its result."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _drop_unfinished(self) -> list[str]:
        finished = {str(step) for step in self.steps()}
        notes = []
        for path in sorted(self.folder.iterdir()):
            if path.is_dir() and path.name not in finished:
                notes.append(f"unfinished checkpoint {path.name} removed.")
                shutil.rmtree(path)
        return notes

    def _remove(self, step: int) -> None:
        self._digest_path(step).unlink(missing_ok=True)
        shutil.rmtree(self.folder / str(step), ignore_errors=True)

    def _digest_path(self, step: int) -> Path:
        return self.folder / f"{step}.sha256"


def _flat(tree: Any) -> dict[str, Any]:
    """Leaves by an index that keeps their order, and their path for the reader of the files."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {f"{i:05d}{jax.tree_util.keystr(path)}": leaf for i, (path, leaf) in enumerate(leaves)}


def _digest(folder: Path) -> str:
    """sha256 over names and contents of all files below a folder."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(json.dumps([path.relative_to(folder).as_posix(), content]).encode())
    return total.hexdigest()


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
