# SPDX-License-Identifier: Apache-2.0
"""Activations against what the whole network says and against products by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from filled_networks import outline
from flax import nnx

from model.network.recorded_activations import activations
from model.network.transformer import Transformer

LAYERS = ("mixer", "channel_mixer")
OUTPUTS = {"mixer": ("o_gqkd", "o_bias"), "channel_mixer": ("down_fd", "down_bias")}
pytestmark = pytest.mark.parametrize("config", ["llama_mqa_tied", "everything"], indirect=True)


@pytest.fixture
def built(config, network, one_device):
    """(graph, parameters) of the configuration, with parameters that are all different."""
    _, params = network(config)
    return outline(config)[0], params


def look(built, tokens) -> tuple[Transformer, dict[str, np.ndarray]]:
    graphdef, params = built
    found = jax.jit(lambda params, x: activations(nnx.merge(graphdef, params), x))(params, tokens)
    return nnx.merge(graphdef, params), jax.tree.map(np.asarray, found)


def test_the_logits_are_those_of_the_network(config, network, built, tokens, one_device):
    forward, params = network(config)
    _, found = look(built, tokens)
    np.testing.assert_allclose(found["logits"], forward(params, tokens), atol=1e-5)


def test_the_stream_is_the_embedding_and_what_every_layer_added(config, built, tokens, one_device):
    model, found = look(built, tokens)
    added = sum(found[name].sum(axis=(0, 1)) for name in LAYERS)
    expected = found["embedding"] + config.residual_multiplier * added
    np.testing.assert_allclose(found["residual"], expected, atol=1e-4)
    normed = np.asarray(model.norm(jnp.asarray(found["residual"])))
    logits = config.logit_multiplier * normed @ np.asarray(model.head())
    np.testing.assert_allclose(found["logits"], logits, atol=1e-4)
    for name in LAYERS:
        n_repeats, period, *rest = found[name].shape
        assert n_repeats * period == config.n_layers
        assert rest == [*tokens.shape, config.d_model]


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_whose_output_is_zero_adds_nothing(config, built, tokens, one_device, name):
    graphdef, params = built

    def zero(path: tuple, leaf: jax.Array) -> jax.Array:
        keys = jax.tree_util.keystr(path)
        is_output = f"['{name}']" in keys and any(f"'{part}" in keys for part in OUTPUTS[name])
        return jnp.zeros_like(leaf) if is_output else leaf

    _, found = look((graphdef, jax.tree_util.tree_map_with_path(zero, params)), tokens)
    other = next(layer for layer in LAYERS if layer != name)
    assert np.all(found[name] == 0)
    assert np.all(np.abs(found[other]).mean(axis=(-1, -2, -3)) > 0.01)
