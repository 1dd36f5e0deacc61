# SPDX-License-Identifier: Apache-2.0
"""A worker's lines are read as they were written, and those of libraries are passed over."""

import json
import typing

import pytest

from experiments.executors import worker_events as events

NUMBERS = {"step": 3, "resumed_at": 1, "n_tokens": 96, "train_seconds": 0.5}
SAID = (
    events.Progress(id="a", loss_nats=2.5, **NUMBERS),
    events.Progress(id="a", loss_nats=None, **NUMBERS),
    events.Done(id="a", runs=(events.Run(status="diverged", reason="step 3", notes=("b",)),)),
    events.Preempted(id="a"),
    events.Owned(id="a", reason="process 1 has it"),
    events.GaveUp(id="a", reason="failed 3 times"),
    events.Failed(id="a", reason='out of memory "here"\n'),
    events.Refused(id="", reason="mesh"),
    events.DiskFailed(id="a", reason="full"),
)


def test_every_event_is_one_line_and_is_read_as_it_was_written():
    assert {type(event) for event in SAID} == set(typing.get_args(events.Event))
    for event in SAID:
        line = events.encode(event)
        assert "\n" not in line
        assert events.decode(line + "\n") == event
        assert json.loads(line)["event"]


@pytest.mark.parametrize(
    "line", ["", "\n", "3", "[1, 2]", "null", "Traceback", '{"event": "other"}', '{"id": "a"}']
)
def test_lines_that_are_no_events_are_none(line):
    assert events.decode(line) is None
