# SPDX-License-Identifier: Apache-2.0
"""`isoflop ... | head` ends when nobody reads any more, without a word."""

import os
import subprocess

import pytest
from command_line import COMMAND

STREAMS = {"stdout": (True, False), "both": (True, True)}


@pytest.mark.parametrize("streams", STREAMS)
def test_a_closed_pipe_ends_a_command_without_a_word(tmp_path, streams):
    """The exit code is what a shell shows for SIGPIPE; standard error is empty where it is read."""
    readable, writable = os.pipe()
    os.close(readable)
    to_pipe = [writable if is_closed else subprocess.PIPE for is_closed in STREAMS[streams]]
    ended = subprocess.run(
        [*COMMAND, "recipe", "tiny-bytes"], stdout=to_pipe[0], stderr=to_pipe[1], check=False
    )
    os.close(writable)
    assert ended.returncode == 141
    assert not ended.stderr
