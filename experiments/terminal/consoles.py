# SPDX-License-Identifier: Apache-2.0
"""What was asked for goes to stdout, what is told on the way to stderr."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text


class PipeClosed(Exception):
    """Whoever read what we print has gone, as `| head` does when it has enough."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """What was begun is stopped as by a signal, and nothing more is said."""
        self.quiet = True
        raise PipeClosed


def stdout() -> Console:
    """For results."""
    return _console(is_terminal=sys.stdout.isatty(), stderr=False)


def stderr() -> Console:
    """For progress and notices."""
    return _console(is_terminal=sys.stderr.isatty(), stderr=True)


@contextmanager
def progress(console: Console) -> Iterator[Callable[[str], None]]:
    """Takes sentences; a terminal shows the newest in one line until the end, a pipe none."""
    with console.status("") as status:
        yield lambda said: status.update(Text(said))


def _console(*, is_terminal: bool, stderr: bool) -> Console:
    """Without markup: names, paths and messages may hold brackets. A pipe cuts nothing."""
    return _Console(
        stderr=stderr,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
        width=None if is_terminal else 160,
    )
