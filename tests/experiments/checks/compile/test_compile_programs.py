# SPDX-License-Identifier: Apache-2.0
"""The process that compiles, on the devices that are here."""

import dataclasses
import functools
import types

import msgspec
import numpy as np
import pytest
from small_networks import attention

from experiments.checks.compile import compile_programs as subject
from experiments.checks.compile.messages import (
    AnyEvent,
    Compiled,
    Compiling,
    Devices,
    ProgramToCompile,
    Request,
)
from experiments.plan.plan import plan
from model.network.execution import Execution
from model.network.sharding import AXES, make_mesh
from model.training.compile_program import compile_program
from model.training.optimizers.optimizer import hyper_arrays

pytestmark = pytest.mark.usefixtures("quick_to_compile")

MESH = (1, 1, 4, 2)
EXECUTION = Execution(
    attention="xla", layers="scanned", remat="none", n_microbatches=1, n_loss_chunks=1
)


@pytest.fixture
def point(study, manifest):
    """Of two heads, which the mesh splits."""
    point = next(p for p in plan(study, manifest).points if attention(p.spec.model).n_heads == 2)
    train = dataclasses.replace(point.spec.train, batch_size=8)
    return dataclasses.replace(point, spec=dataclasses.replace(point.spec, train=train))


def request(mesh, execution, **programs) -> Request:
    return Request(
        topology=None,
        wraps_at=0,
        n_threads=1,
        mesh=mesh,
        execution=execution.to_text(),
        programs=programs,
    )


@pytest.fixture
def events(point):
    """Events of the small study's first program on a mesh of eight."""
    return compiled(point.spec.model, point.spec.train)


@functools.cache
def compiled(model, train):
    program = ProgramToCompile(model=model, train=train)
    return list(subject.answers(request(MESH, EXECUTION, p0=program)))


def test_a_program_is_compiled_and_its_memory_is_that_of_its_analysis(events, point):
    assert [type(event) for event in events] == [Devices, Compiling, Compiled]
    found = events[-1]
    assert msgspec.json.decode(msgspec.json.encode(found), type=AnyEvent) == found
    program = compile_program(point.spec.model, point.spec.train, MESH, EXECUTION)
    analysis = program.lowered(hyper_arrays(point.spec.train)).compile().memory_analysis()
    # What is donated comes out where it went in.
    beyond = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    assert found.needed_bytes == (
        analysis.argument_size_in_bytes + analysis.temp_size_in_bytes + beyond
    )
    assert found.collectives["all-gather"] > 0
    assert found.seconds > 0


def test_the_state_is_three_floats_per_parameter_split_over_the_mesh(events, point):
    vectors = 5 * point.spec.model.d_model + 4 * attention(point.spec.model).d_head
    split = 12 * (point.params.total - vectors) / 8
    # Gains are whole everywhere; steps and counts are a few integers.
    assert 0 <= events[-1].state_bytes - split - 12 * vectors < 100


def test_what_is_here_is_described_with_its_memory_and_a_measured_peak(events):
    device = events[0]
    assert device.platform == "cpu"
    assert device.n_devices == 8
    assert 1e8 < device.memory_bytes < 1e13
    assert set(device.measured) == {"float32", "bfloat16"}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
            "temporaries (314.95G) exceeds available HBM (15.75G).",
            (314.95 + 16) * 2**30,
        ),
        ("RESOURCE_EXHAUSTED: Used 27.47G of 15.75G hbm. Exceeded by 11.72G.", 27.47 * 2**30),
        ("RESOURCE_EXHAUSTED: Used 512.00M of 256.00M hbm.", 512 * 2**20),
        ("RESOURCE_EXHAUSTED: no more", 0.0),
    ],
)
def test_what_a_compiler_gave_up_on_is_read_from_its_words(message, expected):
    assert subject.exhausted_bytes(message, state_bytes=2**34) == pytest.approx(expected)


def test_a_mesh_that_needs_more_devices_than_there_are_is_refused():
    with pytest.raises(ValueError, match="needs 64 devices"):
        list(subject.answers(request((1, 1, 64, 1), EXECUTION)))


def mesh_of_chips(shape: tuple[int, ...], mesh_shape: tuple[int, ...]):
    """Chips of a grid in row-major order, as a mesh."""
    chips = [types.SimpleNamespace(coords=list(at)) for at in np.ndindex(shape)]
    devices = np.empty(len(chips), object)
    devices[:] = chips
    return types.SimpleNamespace(devices=devices.reshape(mesh_shape))


@pytest.mark.parametrize(
    ("shape", "mesh_shape", "wraps_at", "expected"),
    [
        ((4, 4, 1), (1, 1, 16, 1), 16, (0, 0, 2, 0)),  # Two lines.
        ((16, 16, 1), (1, 1, 256, 1), 16, (0, 0, 4, 0)),  # Two rings.
        ((16, 16, 1), (1, 1, 16, 16), 16, (0, 0, 2, 2)),  # A ring each.
        ((16, 16, 1), (1, 16, 4, 4), 16, (0, 2, 1, 1)),  # A part of a ring is a line.
        ((8, 8, 8), (1, 1, 512, 1), 4, (0, 0, 6, 0)),
        ((8, 8, 8), (1, 1, 64, 8), 4, (0, 0, 4, 2)),
    ],
)
def test_an_axis_has_the_links_of_the_dimensions_that_it_spans(
    shape, mesh_shape, wraps_at, expected
):
    mesh = mesh_of_chips(shape, mesh_shape)
    assert tuple(subject._links(mesh, axis, wraps_at) for axis in AXES) == expected


def test_the_settings_that_are_left_open_are_tried_until_one_fits(point, monkeypatch):
    program = ProgramToCompile(model=point.spec.model, train=point.spec.train)
    run = subject.Run(key="p0", program=program, mesh=make_mesh(MESH), devices=None)
    needs = {"none": 30.0, "dots": 20.0, "block": 18.0}

    def stand_in(run, execution) -> Compiled:
        return Compiled(
            key=run.key,
            execution=execution.to_text(),
            needed_bytes=needs[execution.remat],
            collectives={},
            compiler_says="",
            state_bytes=0,
            seconds=1.0,
            host_memory_bytes=0,
        )

    monkeypatch.setattr(subject.Run, "_compiled", stand_in)
    events = list(run.attempts(Execution(), limit=21.0))
    tried = [event.execution for event in events if isinstance(event, Compiled)]
    assert [Execution.from_text(text).remat for text in tried] == ["none", "dots", "block"]
