# SPDX-License-Identifier: Apache-2.0
"""How the files of a ledger are written: whole or not at all, created once, judged by one clock.

``Storage`` is all that the ledger asks of a file system. Keys are relative paths with "/" between
their parts.
"""

import contextlib
import errno
import functools
import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

# What a disk says that is full, broken or not ours to write.
DISK_ERRORS = (*(errno.ENOSPC, errno.EDQUOT, errno.EROFS), *(errno.EACCES, errno.EPERM, errno.EIO))


# What a file system says of a call that it does not have (FAT says EPERM of links).
_NO_SUCH_CALL = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


def refuse_without(what: str, path: Path, error: OSError) -> None:
    """Raises ValueError where an error says that the file system of a path has no such call."""
    is_link = what == "hard links"
    if error.errno in _NO_SUCH_CALL or (is_link and error.errno == errno.EPERM):
        raise ValueError(
            f"{path.parent}: its file system has no {what} ({error.strerror}), by which two "
            "processes know which was first. Keep results on a local disk, NFS or Lustre "
            "(--results), and copy them afterwards."
        ) from None


class Storage:
    """A local or shared folder with hard links (NFS, Lustre and the like).

    Every file is written under a name of its own, flushed to the disk, and then linked or renamed
    into place; its folder is flushed after that, so that a power cut leaves it or leaves nothing.
    """

    def __init__(self, root: Path):
        self.root = Path(root)

    def name(self, key: str) -> str:
        """What people call a file."""
        return str(self.root / key)

    def create(self, key: str, data: bytes) -> bool:
        """Creates a file whole, once; False when it existed: it is then left as it was."""
        path = self.root / key
        if path.exists():
            return False
        with self._beside(path) as (temporary, file):
            _write(file, data)
            os.fsync(file)
            try:
                os.link(temporary, path)
            except FileExistsError:
                # NFS may have made the link and lost the answer; then ours has two names.
                return os.stat(temporary).st_nlink == 2
            except OSError as error:
                refuse_without("hard links", path, error)
                raise
        _flush_folder(path.parent)
        return True

    def replace(self, key: str, data: bytes) -> None:
        """Writes a file; readers see the old one or the new one, never half of it."""
        with self.writing(key) as write:
            write(data)

    @contextlib.contextmanager
    def writing(self, key: str) -> Iterator[Callable[[bytes], None]]:
        """What takes a file part by part; it replaces the old one when the block has ended well."""
        path = self.root / key
        with self._beside(path) as (temporary, file):
            yield functools.partial(_write, file)
            os.fsync(file)
            os.replace(temporary, path)
        _flush_folder(path.parent)

    def read(self, key: str) -> bytes | None:
        """The content, or None where there is no such file."""
        try:
            return (self.root / key).read_bytes()
        except FileNotFoundError:
            return None

    def sha256(self, key: str) -> str | None:
        """Digest of the content, or None where there is no such file."""
        try:
            with (self.root / key).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return None

    def exists(self, key: str) -> bool:
        return (self.root / key).exists()

    def names(self, folder: str) -> list[str]:
        """Sorted names directly below a folder; those that begin with a dot are not shown."""
        try:
            return sorted(n for n in os.listdir(self.root / folder) if not n.startswith("."))
        except FileNotFoundError:
            return []

    def move(self, key: str, to: str) -> None:
        """Gives a file another name, if it is there; for one process at a time."""
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.root / key, self.root / to)
            _flush_folder((self.root / key).parent)

    def append(self, key: str, line: bytes) -> None:
        """Adds a line in one write; a file has one writer."""
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            _write(file, line)
        finally:
            os.close(file)

    def touch(self, key: str) -> None:
        """Creates an empty file, or says that it is still in use."""
        path = self.root / key
        try:
            os.utime(path)  # Without times: a file server then uses its own clock.
        except FileNotFoundError:
            self.append(key, b"")

    def age_seconds(self, key: str) -> float | None:
        """Time since the last write or touch by the clock of the place itself; None if missing."""
        try:
            then = os.stat(self.root / key).st_mtime
        except FileNotFoundError:
            return None
        try:
            probe = self._probe()
        except OSError:  # A reader without the right to write has only its own clock.
            return time.time() - then
        return probe - then

    def _probe(self) -> float:
        """The file server's time now: that of a file just made there."""
        path = self.root / f".clock.{uuid.uuid4().hex}"
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        try:
            return os.stat(path).st_mtime
        finally:
            os.unlink(path)

    @contextlib.contextmanager
    def _beside(self, path: Path) -> Iterator[tuple[Path, int]]:
        """An open file beside ``path``, gone when the block ends (a full disk gets it back)."""
        path.parent.mkdir(parents=True, exist_ok=True)
        # Process numbers repeat among hosts that share the folder.
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            try:
                file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            except OSError as error:
                error.filename = str(path)  # People know it by this name.
                raise
            try:
                yield temporary, file
            finally:
                os.close(file)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)


def _write(file: int, data: bytes) -> None:
    """All of ``data``: a nearly full disk may take a part and say so only the next time."""
    while data:
        data = data[os.write(file, data) :]


def _flush_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def replace_text(path: Path, text: str) -> None:
    """Writes a derived file; readers see the old one or the new one, never half of it."""
    Storage(path.parent).replace(path.name, text.encode())
