# SPDX-License-Identifier: Apache-2.0
"""Mixers of a linear recurrence: what torch computes (tests/parity/test_recurrences.py), frozen."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import pytest
from filled_networks import outline
from flax import nnx
from one_layer import behind, fill, lone_layer, output_and_gradients, stream
from small_networks import LLAMA, OTHERS, RECURRENCES, vary

from model.network.context import Context
from model.network.counts.delta_net import DeltaNetConfig, DeltaNetRule, GatedDeltaNetConfig
from model.network.counts.kinds import ChannelMixer, Mixer
from model.network.counts.mamba2 import Mamba2Config, Mamba2Rule
from model.network.counts.rwkv7 import (
    RWKV7ChannelConfig,
    RWKV7ChannelRule,
    RWKV7Config,
    RWKV7Rule,
)
from model.network.execution import PLAIN
from model.network.layers import parameter
from model.network.sharding import FSDP_TENSOR

pytestmark = pytest.mark.usefixtures("one_device")

FIXTURES = sorted((Path(__file__).parents[2] / "fixtures" / "mixers").glob("*.npz"))
KINDS = pytest.mark.parametrize("kind", RECURRENCES)


@pytest.mark.parametrize("path", FIXTURES, ids=[path.stem for path in FIXTURES])
def test_outputs_and_gradients_are_those_of_torch_with_the_same_weights(path):
    saved = dict(np.load(path, allow_pickle=False))
    sizes = msgspec.json.decode(str(saved["sizes"]), type=Mixer | ChannelMixer)
    layer, _ = lone_layer(
        sizes, use_bias=bool({"arrays:output_bias", "arrays:down_bias"} & saved.keys())
    )
    names = set(sizes.weights(layer.net))
    for name in names:
        fill(getattr(layer, name), saved[f"arrays:{name}"])
    context = behind(saved["first_value"])
    output, gradients = output_and_gradients(layer, saved["arrays:x"], context)
    np.testing.assert_allclose(output, saved["output"], rtol=0, atol=1e-5)
    assert gradients.keys() == names | {"x"}
    for name, gradient in gradients.items():
        expected = saved[f"gradients:{name}"]
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-5, err_msg=name)


def test_every_one_is_frozen_in_a_small_file():
    assert {path.stem for path in FIXTURES} == {*RECURRENCES, "rwkv7_channel"}
    assert max(path.stat().st_size for path in FIXTURES) < 100_000


def test_heads_of_mamba2_begin_with_rates_and_steps_over_the_papers_ranges(llama):
    sizes = Mamba2Config(n_heads=64, n_groups=2, d_head=4, d_state=4, taps=4)
    found = sizes.weights(llama)
    log_a, dt_bias = (
        np.asarray(parameter(nnx.Rngs(params=3), found[name], FSDP_TENSOR)[...]).ravel()
        for name in ("log_a", "dt_bias")
    )
    # Quantiles of the two uniform distributions; the second lies as evenly as 64 steps of the
    # golden ratio do, within two places.
    even = (np.arange(64) + 0.5) / 64
    np.testing.assert_allclose(np.sort(np.exp(log_a)), 1 + 15 * even, rtol=1e-5)
    steps = np.sort(np.log10(np.log1p(np.exp(dt_bias))))
    np.testing.assert_allclose(steps, -3 + 2 * even, rtol=0, atol=2 * 2 / 64)
    assert abs(np.corrcoef(log_a, dt_bias)[0, 1]) < 0.1
    taps = np.asarray(parameter(nnx.Rngs(params=3), found["x_taps"], FSDP_TENSOR)[...])
    assert np.std(taps) == pytest.approx(1 / np.sqrt(12), rel=5 / np.sqrt(2 * taps.size))


def test_rwkv7_begins_as_its_released_code_does(llama):
    """Hand-computed values of the first layer of 24 channels, three heads of eight."""
    sizes = RWKV7Config(n_heads=3, d_head=8, rank_decay=2, rank_rate=2, rank_value=2, rank_gate=2)
    w = {name: np.ravel(weight.mean) for name, weight in sizes.weights(llama).items()}
    assert w["w_base"][[0, 23]] == pytest.approx([-6.5, -1.5])
    # -6.5 + 5 (1 / 23)^0.85
    assert w["w_base"][1] == pytest.approx(-6.152062, abs=1e-6)
    # d_model is 16: 1 - (4 / 16)^power for the fifth channel.
    assert w["r_mix"][[0, 4]] == pytest.approx([1.0, 0.2421417], abs=1e-6)
    assert w["w_mix"][4] == w["k_mix"][4] == w["a_mix"][4] == pytest.approx(0.7128254, abs=1e-6)
    assert w["v_mix"][4] == pytest.approx(0.4256508, abs=1e-6)
    assert RWKV7ChannelConfig(d_ff=4).weights(llama)["mix"].mean[4] == pytest.approx(0.75)
    levels = {name: float(w[name][0]) for name in ("share_base", "a_base", "erased", "replaced")}
    assert levels == {"share_base": 1.0, "a_base": 0.0, "erased": 0.85, "replaced": 1.0}
    ups = sizes.weights(llama)["w_up_lgk"], sizes.weights(llama)["w_down_dl"]
    assert [weight.std for weight in ups] == pytest.approx([0.1 / 24**0.5, 0.0])


def test_the_first_rwkv7_layer_keeps_its_value_and_leaves_it():
    (sizes,) = RECURRENCES["rwkv7"]["mixers"]
    layer, arrays = lone_layer(sizes)
    x = stream(np.random.default_rng(0).normal(size=(2, 5, 16)))
    run = jax.jit(lambda x, shared: layer(x, Context(shared=shared))[:2])
    alone, context = run(x, {})
    begun, _ = run(x, layer.shared_values(x))
    np.testing.assert_array_equal(alone, begun)
    inputs = np.asarray(x)
    before = np.pad(inputs, ((0, 0), (1, 0), (0, 0)))[:, :-1]
    mixed = inputs + arrays["v_mix"] * (before - inputs)
    value = np.einsum("btd,dgk->btgk", mixed, arrays["v_dgk"]) + arrays["v_bias"]
    np.testing.assert_allclose(context.shared["rwkv7_value"], value, rtol=0, atol=1e-5)
    later, _ = run(x, behind(np.float32(value + 1)).shared)
    assert np.abs(later - alone).max() > 1e-3


@KINDS
def test_what_is_behind_a_position_is_refused_in_one_line(kind):
    (sizes,) = RECURRENCES[kind]["mixers"]
    layer, _ = lone_layer(sizes)
    with pytest.raises(ValueError, match="sees only what is before a position") as error:
        layer(jnp.zeros((1, 4, 16)), Context(is_causal=False))
    assert "\n" not in str(error.value)


def test_what_they_remember_does_not_grow_with_the_sequence():
    config = vary(LLAMA, **OTHERS["recurrences"])
    model = nnx.merge(*outline(config))

    def shapes(length: int) -> list[tuple[int, ...]]:
        state = jax.eval_shape(lambda: model.init_state(2, length))
        return [leaf.shape for leaf in jax.tree.leaves(state)]

    assert shapes(1) == shapes(12)


@KINDS
def test_positions_that_are_split_are_refused_in_one_line(llama, kind):
    (sizes,) = RECURRENCES[kind]["mixers"]
    sizes.check(llama, PLAIN)
    with pytest.raises(ValueError, match=r"layout='fsdp_context' splits positions.*Say") as error:
        sizes.check(llama, replace(PLAIN, layout="fsdp_context"))
    assert "\n" not in str(error.value)


def test_rules_make_the_heads_of_a_width():
    mamba = Mamba2Rule(expand=2.0, head_width=16, n_groups=2, d_state=8, taps=4)
    found = {d: mamba.config(d_model=d, n_layers=2) for d in (8, 32, 64, 72)}
    assert {d: (c.n_heads, c.d_head) for d, c in found.items()} == {
        8: (2, 8),
        32: (4, 16),
        64: (8, 16),
        72: (8, 18),
    }
    assert found[32] == Mamba2Config(n_heads=4, n_groups=2, d_head=16, d_state=8, taps=4)
    delta, gated = (
        DeltaNetRule(
            is_gated=is_gated,
            head_width=16,
            values_per_key=2,
            key_ratio=0.75,
            value_ratio=1.5,
            taps=4,
        )
        for is_gated in (False, True)
    )
    expected = {"n_heads": 4, "n_key_heads": 2, "d_key": 12, "d_value": 24, "taps": 4}
    assert delta.config(d_model=64, n_layers=2) == DeltaNetConfig(**expected)
    assert gated.config(d_model=64, n_layers=2) == GatedDeltaNetConfig(**expected)
    assert delta.config(d_model=8, n_layers=2).n_heads == 2
    # Ranks of the released code at width 768: 64, 64, 32, 128.
    rwkv = RWKV7Rule(head_width=64, rank_multiple=32).config(d_model=768, n_layers=2)
    assert (rwkv.n_heads, rwkv.d_head, list(rwkv.ranks.values())) == (12, 64, [64, 64, 32, 128])
    channel = RWKV7ChannelRule(ff_ratio=4.0, ff_multiple=32)
    assert channel.config(d_model=768, n_layers=2).d_ff == 3072


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: replace_heads(Mamba2Config), "n_heads=5 is not a multiple of n_groups=2"),
        (lambda: replace_heads(DeltaNetConfig), "n_heads=5 is not a multiple of n_key_heads=2"),
    ],
    ids=["mamba2", "delta_net"],
)
def test_heads_that_no_group_has_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def replace_heads(kind: type) -> Mixer:
    (sizes,) = RECURRENCES[kind.__struct_config__.tag]["mixers"]
    names = {"n_groups", "n_key_heads"} & set(kind.__struct_fields__)
    return msgspec.structs.replace(sizes, n_heads=5, **dict.fromkeys(names, 2))
