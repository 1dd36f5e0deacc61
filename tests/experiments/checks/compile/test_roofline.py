# SPDX-License-Identifier: Apache-2.0
"""Step times, against numbers worked out by hand."""

import dataclasses

import pytest

from experiments.checks.compile.collectives import Step
from experiments.checks.compile.roofline import Rates, estimate, memory_bytes, step_flops
from model.network.execution import Execution

EXECUTION = Execution(
    attention="splash", layers="scanned", remat="none", n_microbatches=1, n_loss_chunks=1
)
RATES = Rates(
    flops_per_second=1e12,
    memory_bytes_per_second=1e11,
    link_bytes_per_second=1e9,
    links={"run": 0, "data": 2, "fsdp": 4, "tensor": 1},
    source="table",
)
BLOCKS = 3 * (256 * 64 * (4 + 4 + 2 + 2) + 3 * 256 * 512)
HEAD = 256 * 1000
CONTEXT = 3 * 4 * 128 * 4 * 64  # Forward, per token, all positions.


@pytest.fixture
def step(llama):
    model = llama(
        vocab_size=1000, seq_len=128, d_model=256, n_layers=3, n_heads=4, d_head=64, d_ff=512
    )

    def make(mesh=(1, 1, 8, 1), **changes) -> Step:
        return Step(
            model=model,
            batch_size=16,
            compute_dtype="bfloat16",
            is_causal=True,
            mesh_shape=mesh,
            execution=dataclasses.replace(EXECUTION, **changes),
        )

    return make


def test_where_nothing_is_hidden_a_kernel_leaves_out_nothing(step):
    flash = step(attention="cudnn", remat="none")
    whole = dataclasses.replace(flash, is_causal=False)
    assert step_flops(flash) < step_flops(whole) == step_flops(step(attention="xla", remat="none"))


def test_flops_are_three_forward_passes_and_what_remat_repeats(step):
    tokens, forward = 16 * 128, 2 * (BLOCKS + HEAD) + CONTEXT / 2
    assert step_flops(step()) == 3 * forward * tokens
    assert step_flops(step(remat="block")) == (4 * forward - 2 * HEAD) * tokens
    assert step_flops(step(remat="dots")) == pytest.approx((3 * forward + CONTEXT / 2) * tokens)


def test_plain_attention_computes_masked_scores_too(step):
    tokens = 16 * 128
    more = step_flops(step(attention="xla")) - step_flops(step())
    assert more == 3 * CONTEXT / 2 * tokens


def test_each_account_is_its_work_over_its_rate(step):
    found = estimate(step(), RATES)
    assert found.compute_seconds == pytest.approx(step_flops(step()) / 8 / 1e12)
    assert found.memory_seconds == pytest.approx(memory_bytes(step()) / 1e11)
    accounts = (found.compute_seconds, found.memory_seconds, found.link_seconds)
    assert found.overlapped_seconds == max(accounts)
    assert found.serial_seconds == pytest.approx(sum(accounts))


def test_traffic_over_fsdp_uses_the_links_of_fsdp(step):
    # Blocks: two gathers in bfloat16, a reduce-scatter in float32; head: one gather, and float32
    # back; table: a gather and an all-reduce in float32; gains: an all-reduce in float32.
    per_device = (2 * 2 + 4) * BLOCKS + (2 + 4) * HEAD + 3 * 4 * HEAD + 2 * 4 * 7 * 256
    found = estimate(step(), RATES).link_seconds
    assert found == pytest.approx(per_device * 7 / 8 / (4 * 1e9))


def test_what_is_not_known_takes_no_time_and_the_rest_is_unchanged(step):
    blind = dataclasses.replace(RATES, memory_bytes_per_second=None, link_bytes_per_second=None)
    found = estimate(step(), blind)
    assert found.memory_seconds == found.link_seconds == 0
    assert found.serial_seconds == found.compute_seconds == estimate(step(), RATES).compute_seconds


def test_stored_scores_are_the_difference_between_plain_and_flash_attention(step):
    tokens = 16 * 128 / 8
    more = memory_bytes(step(attention="xla")) - memory_bytes(step())
    assert more == pytest.approx(3 * tokens * 3 * 4 * 128 * 2 * (4 + 2))


def test_memory_traffic_has_the_update_of_every_parameter(step):
    # With next to no tokens what is left is 28 bytes of state and the weights of three passes.
    small = dataclasses.replace(step((1, 1, 1, 1)), batch_size=0)
    n_params = BLOCKS + 2 * HEAD + 7 * 256
    assert memory_bytes(small) == 28 * n_params + 3 * 2 * (BLOCKS + HEAD)
