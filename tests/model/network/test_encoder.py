# SPDX-License-Identifier: Apache-2.0
"""An encoder and its decoder: what may depend on what, and what is refused."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import pytest
from filled_networks import with_params
from flax import nnx
from small_networks import ENCODED, LLAMA, OTHERS, vary

from model.network.config import EncoderConfig
from model.network.context import Context
from model.network.execution import PLAIN
from model.network.mixers.attention_kernels import Where, check_kernel, choose_kernel
from model.network.transformer import Transformer

pytestmark = pytest.mark.usefixtures("one_device")

every = pytest.mark.parametrize("config", ENCODED, indirect=True)
CROSS = ENCODED["cross_attention"]


@every
def test_a_logit_depends_on_all_of_the_source_on_its_past_and_exactly_nothing_else(
    config, network, tokens
):
    """Another token at one place moves what may depend on it, and not a bit of the rest."""
    apply, params = network(config)
    logits = np.asarray(apply(params, tokens))
    length, first = config.seq_len, config.seq_len - config.n_positions
    seen = np.tril(np.ones((length, length), bool))[first:] | (np.arange(length) < first)
    for place in range(length):
        other = tokens.copy()
        other[0, place] = (other[0, place] + 1) % config.vocab_size
        moved = np.any(np.asarray(apply(params, other)) != logits, axis=-1)
        np.testing.assert_array_equal(moved[0], seen[:, place])
        assert not moved[1:].any()


@every
def test_every_position_of_the_memory_depends_on_all_of_the_source(config, network, tokens):
    _, params = network(config)
    n = config.seq_len - config.n_positions

    @jax.jit
    def memory(tokens):
        return with_params(config, params).begin(tokens)[1].memory

    plain = np.asarray(memory(tokens[:1]))
    assert plain.shape == (1, n, config.d_model)
    for place in range(n):
        other = tokens[:1].copy()
        other[0, place] = (other[0, place] + 1) % config.vocab_size
        assert np.all(np.any(np.asarray(memory(other)) != plain, axis=-1)), place


@every
def test_how_it_is_computed_changes_no_number(config, network, tokens):
    config = replace(config, n_layers=2 * len(config.blocks))
    _, params = network(config)
    found = []
    for execution in (PLAIN, replace(PLAIN, layers="scanned", remat="block")):
        graphdef, _ = nnx.split(
            nnx.eval_shape(
                lambda execution=execution: Transformer(
                    config, compute_dtype=jnp.float32, rngs=nnx.Rngs(0), execution=execution
                )
            )
        )
        logits = jax.jit(lambda p, t, g=graphdef: nnx.merge(g, p)(t)[0])(params, tokens)
        found.append(np.asarray(logits))
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=2e-5)


def changed(mixer, **values):
    return lambda: msgspec.structs.replace(mixer, **values)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: vary(LLAMA, **CROSS | {"encoder": EncoderConfig(source_len=12, blocks=())}),
            "encoder.source_len=12: a window of 12 tokens has no target .* at most 11",
        ),
        (
            lambda: vary(LLAMA, **CROSS | {"encoder": None}),
            "'cross_attention' reads what an encoder makes of a source",
        ),
        (lambda: vary(LLAMA, encoder=CROSS["encoder"]), "no block reads what the encoder makes"),
        (
            lambda: vary(LLAMA, **CROSS, separator=0),
            "separator=0 with an encoder: .* Say documents_apart=False",
        ),
        (
            lambda: vary(
                LLAMA,
                **CROSS
                | {"encoder": EncoderConfig(source_len=5, blocks=vary(LLAMA, window=4).blocks)},
            ),
            "encoder.blocks: 'attention' sees only what is before a position",
        ),
        (
            lambda: vary(
                LLAMA,
                **CROSS
                | {
                    "encoder": EncoderConfig(
                        source_len=5, blocks=vary(LLAMA, **OTHERS["lstm"]).blocks
                    )
                },
            ),
            "encoder.blocks: 'lstm' sees only what is before a position",
        ),
        (changed(CROSS["mixers"][1], rope_theta=1e4), "rope_theta=10000.0 of cross_attention"),
        (changed(CROSS["mixers"][1], window=4), "window=4 of cross_attention"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(make, words):
    with pytest.raises(ValueError, match=words) as refused:
        make()
    assert "\n" not in str(refused.value)


@every
def test_positions_that_are_split_and_other_kernels_are_refused_in_one_line(config):
    layers = [layer for layer in config.layers if layer.reads_source]
    with pytest.raises(ValueError, match=r"layout='fsdp_context' splits positions.*Say") as error:
        layers[0].check(config, replace(PLAIN, layout="fsdp_context"))
    assert "\n" not in str(error.value)
    where = Where(platform="tpu", compute_capability="", compute_dtype="float32", n_runs=1)
    assert choose_kernel(replace(config, seq_len=256), where) == "xla"
    with pytest.raises(ValueError, match="attention='splash' cannot attend to a source"):
        check_kernel("splash", config, where)


@every
def test_it_is_not_sampled_from(config, network):
    _, params = network(config)
    with pytest.raises(ValueError, match="an encoder, or of patches, is not sampled from"):
        with_params(config, params).init_state(1, 4)


def test_grus_from_both_ends_see_both_sides_or_are_refused_in_one_line(network):
    mixer = ENCODED["attending_gru"]["encoder"].blocks[0].mixer
    config = vary(LLAMA, mixers=(mixer,))
    _, params = network(config)
    model, tokens = with_params(config, params), jnp.arange(24).reshape(2, 12)
    other = tokens.at[:, -1].set(0)
    logits = jax.jit(lambda tokens: model(tokens, Context(is_causal=False))[0])
    both = [np.asarray(logits(each)) for each in (tokens, other)]
    assert np.all(np.any(both[0] != both[1], axis=-1))
    with pytest.raises(ValueError, match="'bidirectional_gru' sees what is behind") as refused:
        jax.eval_shape(model, tokens)
    assert "\n" not in str(refused.value)
