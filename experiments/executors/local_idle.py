# SPDX-License-Identifier: Apache-2.0
"""Worker processes that wait for their next job between two lists of jobs: their programs are
compiled.

They end when their input does, and so with us, however we end.
"""

import contextlib
import subprocess
from collections.abc import Collection, Hashable
from typing import Self


def end(process: subprocess.Popen) -> None:
    """Closes the pipes of a worker, and waits until it has ended."""
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        with contextlib.suppress(BrokenPipeError):
            pipe.close()
    process.wait()


class IdleWorkers:
    """Processes by what they were started with; used by one list of jobs at a time."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, subprocess.Popen] = {}

    def put(self, key: Hashable, process: subprocess.Popen) -> None:
        self._waiting[key] = process

    def take(self, key: Hashable) -> subprocess.Popen | None:
        """The process that was started so, if it is alive."""
        process = self._waiting.pop(key, None)
        if process is None or process.poll() is None:
            return process
        end(process)
        return None

    def close(self, keep: Collection[Hashable] = ()) -> None:
        """Ends all but some: what they hold of a device is free then."""
        for key in [key for key in self._waiting if key not in keep]:
            end(self._waiting.pop(key))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
