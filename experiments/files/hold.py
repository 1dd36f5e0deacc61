# SPDX-License-Identifier: Apache-2.0
"""What keeps two processes from doing one thing at once."""

import contextlib
import fcntl
from collections.abc import Callable, Iterator
from pathlib import Path

from experiments.files.storage import refuse_without


@contextlib.contextmanager
def hold(path: Path, tell_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Holds a file while the block lasts, after whoever has it; a process that ends lets go.

    Args:
      tell_wait: called if another process has it.

    Raises:
      ValueError: if the file system has no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                tell_wait()
                fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            refuse_without("locks", path, error)
            raise
        yield
