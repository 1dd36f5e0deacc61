# SPDX-License-Identifier: Apache-2.0
"""Formulas of traffic, against the collectives that XLA compiles for eight simulated devices.

XLA's CPU compiler writes a reduce-scatter as an all-reduce and a slice: in its programs the
all-reduces must move what the formulas say of all-reduces, and twice what they say of
reduce-scatters. It also reduces losses and norms, some hundred bytes that the formulas leave out.
"""

import dataclasses
import functools

import pytest
from small_networks import vary

from experiments.checks.compile import hlo
from experiments.checks.compile.collectives import Step, by_kind, transfers
from experiments.plan.plan import plan
from model.network.counts.total import count_params, hidden_weights
from model.network.execution import Execution
from model.training.compile_program import compile_program
from model.training.optimizers.optimizer import hyper_arrays

pytestmark = pytest.mark.usefixtures("quick_to_compile")

SCANNED = Execution(
    attention="xla", layers="scanned", remat="none", n_microbatches=1, n_loss_chunks=2
)
MESHES = [(1, 1, 8, 1), (1, 8, 1, 1), (1, 1, 4, 2), (1, 2, 2, 2)]
LEAN = dataclasses.replace(SCANNED, remat="dots", n_microbatches=2)


@pytest.fixture
def model(llama):
    return llama(vocab_size=96, seq_len=32, d_model=64, n_layers=4, n_heads=4, d_head=16, d_ff=128)


@pytest.fixture
def train(study, manifest):
    point = plan(study, manifest).points[0]
    return dataclasses.replace(point.spec.train, batch_size=16)


@functools.cache
def collectives(model, train, mesh, execution) -> list[hlo.Collective]:
    program = compile_program(model, train, mesh, execution)
    return hlo.collectives(program.lowered(hyper_arrays(train)).compile().as_text())


def compiled(model, train, mesh, execution) -> dict[str, float]:
    return hlo.by_kind(collectives(model, train, mesh, execution))


def step(model, mesh, execution, dtype="float32") -> Step:
    return Step(
        model=model,
        batch_size=16,
        compute_dtype=dtype,
        is_causal=True,
        mesh_shape=mesh,
        execution=execution,
    )


def formula(model, mesh, execution) -> dict[str, float]:
    return by_kind(step(model, mesh, execution))


def check_reductions(found: dict[str, float], expected: dict[str, float]) -> None:
    reduced = expected["all-reduce"] + 2 * expected["reduce-scatter"]
    assert reduced <= found.get("all-reduce", 0.0) <= reduced + 1000


AS_OTHERS = pytest.mark.slow(
    reason="8 s of compiling; this mesh and, below, one of three axes are quick"
)


@pytest.mark.parametrize(
    "mesh",
    [mesh if mesh == MESHES[0] else pytest.param(mesh, marks=AS_OTHERS) for mesh in MESHES],
    ids=str,
)
def test_reductions_move_the_bytes_of_the_formulas(mesh, model, train):
    check_reductions(compiled(model, train, mesh, SCANNED), formula(model, mesh, SCANNED))


@pytest.mark.parametrize(
    "remat",
    ["dots", pytest.param("block", marks=pytest.mark.slow(reason="6 s of compiling, as 'dots'"))],
)
def test_accumulation_and_remat_move_the_bytes_of_the_formulas(remat, model, train):
    mesh = (1, 2, 2, 2)
    execution = dataclasses.replace(LEAN, remat=remat)
    check_reductions(compiled(model, train, mesh, execution), formula(model, mesh, execution))


@pytest.mark.slow(reason="4 s of compiling; parts of a batch are quick")
def test_more_parts_of_the_loss_reduce_nothing_more(model, train):
    mesh = (1, 1, 8, 1)
    few, many = (
        collectives(model, train, mesh, dataclasses.replace(SCANNED, n_loss_chunks=n))
        for n in (2, 8)
    )
    reductions = [
        sum(each.count for each in found if each.kind in ("all-reduce", "reduce-scatter"))
        for found in (few, many)
    ]
    assert reductions[0] == reductions[1] > 0
    assert hlo.by_kind(few) == hlo.by_kind(many)


def test_weights_are_gathered_for_both_passes(model, train):
    mesh = (1, 2, 2, 2)
    assert (
        compiled(model, train, mesh, LEAN)["all-gather"] == formula(model, mesh, LEAN)["all-gather"]
    )


def test_a_scan_that_keeps_everything_gathers_the_head_once_more_at_most(model, train):
    mesh, head = (1, 1, 8, 1), 4 * 64 * 96 * 7 / 8
    extra = (
        compiled(model, train, mesh, SCANNED)["all-gather"]
        - formula(model, mesh, SCANNED)["all-gather"]
    )
    assert 0 <= extra <= head


@pytest.mark.slow(reason="8 s of compiling")
def test_positions_are_exchanged_for_heads_by_all_to_all(model, train):
    mesh, execution = (1, 2, 2, 2), dataclasses.replace(SCANNED, layout="fsdp_context")
    found, expected = compiled(model, train, mesh, execution), formula(model, mesh, execution)
    assert found["all-to-all"] == expected["all-to-all"] > 0


def test_one_device_moves_nothing(model):
    assert transfers(step(model, (1, 1, 1, 1), SCANNED, "bfloat16")) == []


def test_fsdp_gathers_the_weights_of_the_blocks_twice_and_reduces_float32_gradients(model):
    # "How to scale your model", chapter on training: two gathers and a reduce-scatter of W.
    split = step(model, (1, 1, 8, 1), SCANNED, "bfloat16")
    moved = {transfer.what: transfer.moved(split.mesh) for transfer in transfers(split)}
    blocks = sum(bytes_ for what, bytes_ in moved.items() if "of the blocks" in what)
    attention = 64 * 16 * (4 + 4 + 2 + 2)
    assert blocks == (2 * 2 + 4) * 4 * (attention + 3 * 64 * 128) * 7 / 8


def test_vectors_and_matrices_of_the_blocks_are_all_there_is_between_the_embeddings(model):
    for changes in (
        {},
        {"use_bias": True, "norm": "layernorm"},
        {"use_qk_norm": True, "channel_mixers": ("swiglu", "gelu")},
    ):
        other = vary(model, **changes)
        kinds = [block.channel_mixer.kind for block in other.blocks] * other.n_repeats
        per_layer = {"swiglu": 3, "gelu": 2}
        mlp = sum(per_layer[kind] * 64 * 128 for kind in kinds)
        assert hidden_weights(other) == mlp + 4 * 64 * 16 * (4 + 4 + 2 + 2)
        assert hidden_weights(other) < count_params(other).non_embedding


def test_gradients_are_reduced_once_for_every_microbatch(model):
    twice = dataclasses.replace(SCANNED, n_microbatches=2)
    one, two = (formula(model, (1, 1, 8, 1), execution) for execution in (SCANNED, twice))
    assert two["reduce-scatter"] == 2 * one["reduce-scatter"]


def test_experts_are_gathered_like_other_weights_and_their_outputs_reduced_over_tensor(model):
    moe = vary(model, channel_mixers=("moe",), d_ff_shared=0)
    dense = step(model, (1, 2, 2, 2), SCANNED, "bfloat16")
    split = dataclasses.replace(dense, model=moe)
    experts, router = 8 * 3 * 64 * 128, 8 * 64
    more = 4 * (experts + router - 3 * 64 * 128)
    assert hidden_weights(moe) - hidden_weights(model) == more
    before, after = (
        {transfer.what: transfer.moved(each.mesh) for transfer in transfers(each)}
        for each in (dense, split)
    )
    blocks = "weights of the blocks, forward and backward"
    # In two passes, half of them over "tensor", a half moved over the two devices of "fsdp".
    assert after[blocks] - before[blocks] == 2 * more / 2 * 2 / 2
    assert after["outputs of mixers"] == before["outputs of mixers"] > 0
