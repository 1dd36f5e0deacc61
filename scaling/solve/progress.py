# SPDX-License-Identifier: Apache-2.0
"""What a long fit says on its way, to whoever listens."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_listener: ContextVar[Callable[[str], None]] = ContextVar("listener", default=lambda said: None)


def say(what: str) -> None:
    """Tells the listener of this thread how far the fit is."""
    _listener.get()(what)


@contextmanager
def heard_by(listener: Callable[[str], None]) -> Iterator[None]:
    """Fits within the block are heard by ``listener``."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
