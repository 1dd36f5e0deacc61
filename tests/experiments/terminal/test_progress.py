# SPDX-License-Identifier: Apache-2.0
"""A terminal is told how far a fit is, in one line that goes; a pipe is told nothing."""

import io

import pytest
from rich.console import Console

from experiments.terminal.consoles import progress
from scaling.solve.progress import heard_by, say


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_is_for_terminals(is_terminal):
    out = io.StringIO()
    console = Console(file=out, force_terminal=is_terminal, width=80)
    with progress(console) as tell:
        tell("fitting additive, 3 of 4")
        tell("fitting [b]curved, 4 of 4")
        console.print("a notice stays")
    shown = out.getvalue()
    assert "a notice stays" in shown
    if not is_terminal:
        assert shown == "a notice stays\n"
        return
    assert "fitting [b]curved, 4 of 4" in shown
    assert shown.endswith("\x1b[2K")  # The line of progress is wiped.


def test_only_who_listens_hears():
    heard = []
    say("nobody")
    with heard_by(heard.append):
        say("outer")
        with heard_by(lambda said: heard.append(f"inner {said}")):
            say("one")
        say("two")
    say("nobody")
    assert heard == ["outer", "inner one", "two"]
