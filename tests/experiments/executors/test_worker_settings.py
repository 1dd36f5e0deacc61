# SPDX-License-Identifier: Apache-2.0
"""What a worker is told is read as it was written."""

import dataclasses
from pathlib import Path

import pytest

from experiments.executors.worker_settings import WorkerSettings, parser

OTHER = WorkerSettings(
    mesh=(2, 4, 1, 8),
    execution="remat=full,chunk=128",
    cores=(3, 5),
    threads=2,
    per_device=3,
    keep="none",
    cache=Path("a folder/with = signs"),
    checkpoint_seconds=0.0,
    lease_seconds=0.1 + 0.2,
    max_attempts=7,
    stop_early=True,
)


@pytest.mark.parametrize("settings", [WorkerSettings(), OTHER], ids=["defaults", "all others"])
def test_settings_are_read_as_they_were_written(settings):
    told = parser().parse_args(settings.to_arguments())
    assert WorkerSettings(**vars(told)) == settings


def test_every_field_is_tried_with_another_value():
    for field in dataclasses.fields(WorkerSettings):
        assert getattr(OTHER, field.name) != field.default, field.name


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"checkpoint_seconds": -1.0}, "--checkpoint-seconds -1: must be 0 or more"),
        ({"checkpoint_seconds": float("nan")}, "--checkpoint-seconds nan"),
        ({"per_device": 0}, "--per-device 0: must be at least 1"),
        ({"keep": "all"}, "--keep all: must be auto, final, none"),
        ({"lease_seconds": 0.0}, "--lease-seconds 0: must be positive"),
        ({"max_attempts": 0}, "--max-attempts 0: must be at least 1"),
    ],
)
def test_numbers_that_cannot_be_are_named(changes, what):
    with pytest.raises(ValueError, match=what):
        WorkerSettings(**changes)
