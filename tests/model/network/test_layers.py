# SPDX-License-Identifier: Apache-2.0
"""Norms, rotary positions and sums of gradients against their equations in NumPy float64."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from experiments.checks.compile import hlo
from model.network.counts.layer import matrix, vector
from model.network.layers import Embedding, Norm, parameter, project
from model.network.positions import rotate
from model.network.sharding import FSDP_TENSOR, LAYOUTS, make_mesh

pytestmark = pytest.mark.usefixtures("one_device")

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(2, 5, 8)) * 3 + 1).astype(np.float32)
GAIN, BIAS = RNG.normal(size=(2, 8)).astype(np.float32)
EPS = 0.3  # large, so that a wrong place for it shows


def rms_norm(x):
    return x / np.sqrt(np.mean(x**2, -1, keepdims=True) + EPS) * GAIN


def layer_norm(x):
    centred = x - np.mean(x, -1, keepdims=True)
    return centred / np.sqrt(np.var(x, -1, keepdims=True) + EPS) * GAIN


# The network's norm -> (norm, use_bias, what it should give).
NORMS = {
    "rms": ("rmsnorm", False, rms_norm),
    "layer": ("layernorm", True, lambda x: layer_norm(x) + BIAS),
    "layer without bias": ("layernorm", False, layer_norm),
}


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_norm_equals_its_equation_and_keeps_the_dtype(name, dtype, llama):
    kind, use_bias, oracle = NORMS[name]
    net = replace(llama, d_model=8, norm=kind, norm_eps=EPS, use_bias=use_bias)
    norm = Norm(net, FSDP_TENSOR, rngs=nnx.Rngs(params=0))
    norm.gain[...] = jnp.asarray(GAIN)
    if name == "layer":
        norm.bias[...] = jnp.asarray(BIAS)
    x = jnp.asarray(X, dtype)
    y = norm(x)
    assert y.dtype == dtype
    expected = oracle(np.asarray(x, np.float64))
    # One rounding to bfloat16 at the end is half of 2^-7; inside everything is float32.
    rtol, atol = (1e-5, 1e-6) if dtype == jnp.float32 else (2**-8, 1e-6)
    np.testing.assert_allclose(np.asarray(y, np.float64), expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize("shape", [(2, 7, 3, 10), (2, 7, 3, 2, 10)], ids=["keys", "queries"])
def test_rotation_turns_the_pair_j_and_j_plus_half_by_position_times_frequency(shape):
    x = RNG.normal(size=shape).astype(np.float32)
    theta, half = 50.0, 5
    angle = np.arange(7)[:, None] * theta ** (-2 * np.arange(half) / 10)
    angle = angle.reshape(1, 7, *(1,) * (len(shape) - 3), half)
    turned = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angle)
    expected = np.concatenate([turned.real, turned.imag], axis=-1)
    np.testing.assert_allclose(rotate(jnp.asarray(x), theta), expected, rtol=0, atol=2e-6)


def test_rotated_scores_depend_on_the_distance_only():
    q, k = RNG.normal(size=(2, 1, 1, 1, 12)).astype(np.float32)
    q, k = (rotate(jnp.broadcast_to(v, (1, 9, 1, 12)), 30.0)[0, :, 0] for v in (q, k))
    scores = np.asarray(q @ k.T)
    by_distance = [np.diagonal(scores, d) for d in range(-8, 9)]
    for same in by_distance:
        np.testing.assert_allclose(same, same[0], rtol=0, atol=1e-5)
    first = np.sort([same[0] for same in by_distance])
    assert np.min(np.diff(first)) > 1e-3, "every distance, forward or back, has its own score"


def test_rotation_of_bfloat16_uses_float32_angles():
    x = jnp.ones((1, 4000, 1, 2))
    coarse = rotate(x.astype(jnp.bfloat16), 10.0)
    assert coarse.dtype == jnp.bfloat16
    np.testing.assert_allclose(coarse.astype(jnp.float32), rotate(x, 10.0), rtol=0, atol=2**-7)


def test_shapes_in_the_signatures_are_checked():
    with pytest.raises(jaxtyping.TypeCheckError):
        jax.eval_shape(lambda x: rotate(x, 10.0), jnp.ones((4, 6)))


def zipf_tokens(batch, length, vocab):
    """[batch, length]; the first token is about every eighth."""
    share = 1 / np.arange(1, vocab + 1)
    draws = np.random.default_rng(0).choice(vocab, size=(batch, length), p=share / np.sum(share))
    return draws.astype(np.int32)


def bfloat16(*shape):
    """Slopes that do not cancel, as those of a token in similar contexts; split as a batch is."""
    values = np.random.default_rng(1).normal(1.0, 1.0, size=shape).astype(jnp.bfloat16)
    batch = P(("data", "fsdp"), *(None,) * (len(shape) - 1))
    return jax.device_put(values, NamedSharding(jax.sharding.get_mesh(), batch))


def relative_error(found, expected):
    return np.linalg.norm(np.asarray(found, np.float64) - expected) / np.linalg.norm(expected)


def test_gradients_of_embeddings_are_float32_sums_of_bfloat16_slopes(llama):
    """A sum of so many in bfloat16 stops to grow: it lost 60 % of the table's gradient."""
    batch, length, vocab, width = 2048, 32, 2048, 8
    config = replace(llama, vocab_size=vocab, seq_len=length, d_model=width, learned_positions=True)
    embedding = Embedding(config, FSDP_TENSOR, rngs=nnx.Rngs(params=0))
    tokens, slopes = zipf_tokens(batch, length, vocab), bfloat16(batch, length, width)
    graphdef, params = nnx.split(embedding)
    apply = lambda params: nnx.merge(graphdef, params)(jnp.asarray(tokens), jnp.bfloat16)  # noqa: E731

    @jax.jit
    def pulled(params):
        x, pull = jax.vjp(apply, params)
        return x, *pull(slopes)

    x, gradients = pulled(params)
    assert x.dtype == jnp.bfloat16
    exact = np.asarray(slopes, np.float64)
    table = np.zeros((vocab, width))
    np.add.at(table, tokens, exact)
    assert relative_error(gradients.tokens_vd[...], table) < 1e-6
    assert relative_error(gradients.positions_td[...], np.sum(exact, axis=0)) < 1e-6


@pytest.mark.parametrize("mesh", [(1, 1, 1, 1), (1, 8, 1, 1)], ids=str)
@pytest.mark.parametrize(
    ("equation", "fan_in", "fan_out"),
    [
        ("bti,io->bto", (4,), (6,)),
        ("btd,dgqk->btgqk", (4,), (2, 3, 2)),
        ("bti,io->bto", (6,), (4,)),
    ],
    ids=["into hidden units", "queries", "back"],
)
def test_gradients_of_weights_and_biases_are_float32_sums_of_bfloat16_slopes(
    mesh, equation, fan_in, fan_out
):
    with jax.set_mesh(make_mesh(mesh)):
        x, slopes = bfloat16(512, 128, *fan_in), bfloat16(512, 128, *fan_out)
        rngs, letters = nnx.Rngs(params=0), "xyzw"  # Which no layout splits.
        shape = fan_in + fan_out
        weight = parameter(rngs, matrix(letters[: len(shape)], shape, 1.0), FSDP_TENSOR)
        bias = parameter(rngs, vector(letters[: len(fan_out)], fan_out, 0.1), FSDP_TENSOR)
        out = jax.typeof(slopes).sharding.spec

        @jax.jit
        def pulled(*params):
            y, pull = jax.vjp(lambda *params: project(equation, x, *params, out), *params)
            return y, *pull(slopes)

        y, by_weight, by_bias = pulled(weight, bias)
    assert y.dtype == jnp.bfloat16
    x, slopes = (np.asarray(a, np.float64) for a in (x, slopes))
    assert relative_error(by_weight[...], np.tensordot(x, slopes, ((0, 1), (0, 1)))) < 1e-5
    assert relative_error(by_bias[...], np.sum(slopes, axis=(0, 1))) < 1e-6


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_table_split_over_devices_is_gathered_and_its_lookups_are_not(llama, layout):
    mesh = make_mesh((1, 2, 2, 2))
    tokens = zipf_tokens(8, 12, 48)

    def value_and_gradients(mesh):
        with jax.set_mesh(mesh):
            model = Embedding(llama, LAYOUTS[layout], rngs=nnx.Rngs(params=0))
            graphdef, params = nnx.split(model)

            def apply(params, tokens, slopes):
                x = nnx.merge(graphdef, params)(tokens, jnp.bfloat16)
                slopes = jax.sharding.reshard(slopes, jax.typeof(x).sharding)
                return jnp.sum(x.astype(jnp.float32) * slopes.astype(jnp.float32)), x

            rows = jax.device_put(tokens, NamedSharding(mesh, P(("data", "fsdp"), None)))
            arguments = params, rows, bfloat16(8, 12, 16)
            compiled = jax.jit(jax.grad(apply, has_aux=True)).lower(*arguments).compile()
            gradients, x = compiled(*arguments)
        return hlo.collectives(compiled.as_text()), x, jax.tree.leaves(gradients)

    _, expected, expected_slopes = value_and_gradients(make_mesh((1, 1, 1, 1)))
    moved, x, found_slopes = value_and_gradients(mesh)
    np.testing.assert_array_equal(x, expected)
    for ours, theirs in zip(found_slopes, expected_slopes, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    gathered = [each for each in moved if each.kind == "all-gather"]
    assert sum(each.moved for each in gathered) == 4 * 48 * 16 * 3 / 4, gathered
