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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_NAME = re.compile(r"(\d+)-(\d+)(\..*)?")
# What the system says of files that are missing or damaged.
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO)


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
    """Whether names and contents are still those of the digest; reads them all.

    Raises:
      OSError: if they cannot be read for another reason than that they are gone or damaged.
    """
    return is_vouched_for(folder, saved, digest(folder, saved, flush=False))


def is_vouched_for(folder: Path, saved: Saved, digest: str | None) -> bool:
    """Whether this digest is the one that lies beside the checkpoint; raises as ``is_intact``."""
    try:
        return digest is not None and _digest_path(folder, saved).read_bytes() == digest.encode()
    except OSError as error:
        if error.errno not in _GONE:
            raise
        return False


def digest(folder: Path, saved: Saved, *, flush: bool) -> str | None:
    """Of all of a checkpoint; see ``combined``, and ``content`` for the rest."""
    found = names(folder, saved)
    return combined(found, {name: content(folder, saved, name, flush=flush) for name in found})


def names(folder: Path, saved: Saved) -> list[str]:
    """Of all files and folders of a checkpoint, its own among them, in the digest's order."""
    top = folder / str(saved)
    try:
        return [path.relative_to(top).as_posix() for path in [top, *sorted(top.rglob("*"))]]
    except OSError as error:
        if error.errno not in _GONE:
            raise
        return []


def content(folder: Path, saved: Saved, name: str, *, flush: bool) -> str | None:
    """Digest of one file; None where it is gone or damaged.

    Args:
      flush: makes it durable first: whoever wrote it must do that, on the same machine.

    Raises:
      OSError: of any kind where it was to be flushed, else as ``is_intact``.
    """
    path = folder / str(saved) / name
    try:
        if flush:
            _sync(path)
        if path.is_dir():
            return "folder"
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        if flush or error.errno not in _GONE:
            raise
        return None


def combined(names: Sequence[str], contents: Mapping[str, str | None]) -> str | None:
    """sha256 over names and contents; None where a content is missing."""
    total = hashlib.sha256()
    for name in names:
        if contents[name] is None:
            return None
        total.update(json.dumps([name, contents[name]]).encode())
    return total.hexdigest()


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


def finish(folder: Path, saved: Saved, digest: str | None) -> bool:
    """Writes the digest of what is durable already; False if a later attempt has begun.

    A process that was halted while it saved, and wakes when its job has long been taken over, may
    find that half of its files were cleared away: it must not vouch for the rest.
    """
    _sync(folder)
    if digest is None or any(o.attempt > saved.attempt for o in _entries(folder).values()):
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


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
