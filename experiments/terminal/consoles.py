# SPDX-License-Identifier: Apache-2.0
"""What was asked for goes to stdout, what is told on the way to stderr."""

import sys

from rich.console import Console


def stdout() -> Console:
    """For results."""
    return _console(is_terminal=sys.stdout.isatty(), stderr=False)


def stderr() -> Console:
    """For progress and notices."""
    return _console(is_terminal=sys.stderr.isatty(), stderr=True)


def _console(*, is_terminal: bool, stderr: bool) -> Console:
    """Without markup: names, paths and messages may hold brackets. A pipe cuts nothing."""
    return Console(
        stderr=stderr,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
        width=None if is_terminal else 160,
    )
