# SPDX-License-Identifier: Apache-2.0
"""Every number of a network has one name, which says in which layer it is."""

from collections.abc import Callable

import jax
import numpy as np
import pytest
from small_networks import CONFIGS, ENCODED, LLAMA, vary

from model.network.config import ModelConfig
from model.network.counts.total import count_params
from model.network.weight_names import Tensor, tensors


@pytest.mark.parametrize("n_lead", [0, 1])
@pytest.mark.parametrize("config", [*CONFIGS, *ENCODED], indirect=True)
def test_the_tensors_of_a_leaf_are_its_bytes_in_order(
    config: ModelConfig, network: Callable, one_device: object, n_lead: int
) -> None:
    _, params = network(config)
    leaves = jax.tree.map(lambda leaf: np.asarray(leaf)[(None,) * n_lead], params)
    named = tensors(leaves, n_lead=n_lead)
    sizes = [sum(int(np.prod(tensor.shape)) for tensor in group) for group in named]
    assert sizes == [leaf.size for leaf in jax.tree.leaves(leaves)]
    names = [tensor.name for group in named for tensor in group]
    assert len(set(names)) == len(names)
    assert sum(sizes) == count_params(config).total


def test_a_layer_is_named_by_its_place_in_the_depth(
    llama: ModelConfig, network: Callable, one_device: object
) -> None:
    """Only SwiGLU has a gate, and every other layer is one."""
    config = vary(llama, n_layers=4, channel_mixers=("swiglu", "gelu"), n_kv_heads=2)
    _, params = network(config)
    named = [tensor for group in tensors(params) for tensor in group]
    gates = [tensor.name for tensor in named if "gate" in tensor.name]
    assert gates == [f"layers.{layer}.channel_mixer.gate_df" for layer in (0, 2)]
    ups = sorted(tensor.name for tensor in named if "channel_mixer.up" in tensor.name)
    assert ups == [f"layers.{layer}.channel_mixer.up_df" for layer in range(4)]
    assert Tensor("layers.3.mixer.q_dgqk", (16, 2, 2, 6)) in named
    assert Tensor("embedding.tokens_vd", (48, 16)) in named
    assert {Tensor("head_dv", (16, 48)), Tensor("norm.gain", (16,))} <= set(named)


def test_layers_of_an_encoder_are_counted_apart(network: Callable, one_device: object) -> None:
    _, params = network(vary(LLAMA, **ENCODED["attending_gru"]))
    names = {tensor.name for group in tensors(params) for tensor in group}
    ends = {
        f"encoder.layers.{n}.mixer.{end}.input_adh" for n in (0, 1) for end in ("ahead", "behind")
    }
    assert ends | {f"layers.{n}.mixer.told_adh" for n in (0, 1)} | {"encoder.norm.gain"} <= names
    assert not any("blocks" in name for name in names)
