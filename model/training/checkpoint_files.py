# SPDX-License-Identifier: Apache-2.0
"""Checkpoints as files: which are finished, which are intact, whatever they hold. No JAX.

A checkpoint is ``<step>-<attempt>/`` with ``<step>-<attempt>.sha256`` beside it: the digest of all
its names and contents, which appears only once they are durable. Attempts are numbered upwards; a
process that was taken for dead may still be running, so what a later attempt has written is never
touched, and nothing is vouched for once a later attempt has written.
"""

import errno
import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import NamedTuple

_NAME = re.compile(r"(\d+)-(\d+)(\..*)?")


class Saved(NamedTuple):
    """The name of a checkpoint; ordered by step, then by the attempt that wrote it."""

    step: int
    attempt: int

    def __str__(self) -> str:
        return f"{self.step}-{self.attempt}"


def finished(folder: Path) -> list[Saved]:
    """Checkpoints with a digest, newest first."""
    entries = _entries(folder).items()
    return sorted(
        {saved for path, saved in entries if path.name == f"{saved}.sha256"}, reverse=True
    )


def unfinished(folder: Path) -> dict[Path, Saved]:
    """What saves that were killed have left behind."""
    done = {name for saved in finished(folder) for name in (f"{saved}", f"{saved}.sha256")}
    return {path: saved for path, saved in _entries(folder).items() if path.name not in done}


def is_intact(folder: Path, saved: Saved) -> bool:
    """Whether names and contents are still those of the digest.

    Raises:
      OSError: if they cannot be read for another reason than that they are gone or damaged.
    """
    try:
        return _digest(folder / str(saved)).encode() == _digest_path(folder, saved).read_bytes()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO):
            return False
        raise


def begin(folder: Path, saved: Saved) -> None:
    """Makes room for a checkpoint: announces it, and removes what unfinished ones have left."""
    remove(folder, saved)
    _temporary_path(folder, saved).touch()
    for path, other in unfinished(folder).items():
        if other.attempt <= saved.attempt and path != _temporary_path(folder, saved):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def finish(folder: Path, saved: Saved) -> bool:
    """Makes the files durable, then writes their digest; False if a later attempt has begun.

    A process that was halted while it saved, and wakes when its job has long been taken over, may
    find that half of its files were cleared away: it must not vouch for the rest.
    """
    _sync_tree(folder / str(saved))
    digest = _digest(folder / str(saved))
    if any(other.attempt > saved.attempt for other in _entries(folder).values()):
        return False
    with _temporary_path(folder, saved).open("w") as file:
        file.write(digest)
        file.flush()
        os.fsync(file.fileno())
    _temporary_path(folder, saved).replace(_digest_path(folder, saved))
    _sync(folder)
    return True


def prune(folder: Path, attempt: int, *, keep: int) -> None:
    """Keeps the newest ``keep`` of the finished checkpoints up to this attempt."""
    for saved in [saved for saved in finished(folder) if saved.attempt <= attempt][keep:]:
        remove(folder, saved)


def remove(folder: Path, saved: Saved) -> None:
    """Removes a checkpoint, its digest first: what is left after a kill is unfinished."""
    _digest_path(folder, saved).unlink(missing_ok=True)
    shutil.rmtree(folder / str(saved), ignore_errors=True)


def _entries(folder: Path) -> dict[Path, Saved]:
    """Files and folders that bear the name of a checkpoint, with or without a suffix, sorted."""
    names = {path: _NAME.fullmatch(path.name) for path in sorted(folder.iterdir())}
    return {path: Saved(int(name[1]), int(name[2])) for path, name in names.items() if name}


def _digest_path(folder: Path, saved: Saved) -> Path:
    return folder / f"{saved}.sha256"


def _temporary_path(folder: Path, saved: Saved) -> Path:
    return folder / f"{saved}.tmp"


def _digest(folder: Path) -> str:
    """sha256 over the names of all files and folders below a folder, and the files' contents."""
    total = hashlib.sha256()
    for path in [folder, *sorted(folder.rglob("*"))]:
        content = "folder"
        if not path.is_dir():
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(json.dumps([path.relative_to(folder).as_posix(), content]).encode())
    return total.hexdigest()


def _sync_tree(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder, folder.parent]:
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
