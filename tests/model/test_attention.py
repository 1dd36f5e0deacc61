# SPDX-License-Identifier: Apache-2.0
"""Attention against loops in NumPy float64."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from model.mixers.attention_kernels import causal_attention

pytestmark = pytest.mark.usefixtures("one_device")

B, L, K = 2, 7, 5
HEADS = [(1, 1), (3, 1), (1, 3), (2, 3)]


def inputs(G: int, R: int, dtype: jnp.dtype = jnp.float32) -> tuple[jax.Array, ...]:
    rng = np.random.default_rng(0)
    shapes = (B, L, G, R, K), (B, L, G, K), (B, L, G, K)
    return tuple(jnp.asarray(2 * rng.normal(size=shape), dtype) for shape in shapes)


def one_position(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """softmax(q K^T / sqrt(K)) V of one query over the keys it may see."""
    weights = np.exp(k @ q / np.sqrt(len(q)))
    return weights @ v / np.sum(weights)


@pytest.mark.parametrize(("G", "R"), HEADS)
def test_attention_equals_a_loop_over_heads_and_positions(G, R):
    q, k, v = (np.asarray(x, np.float64) for x in inputs(G, R))
    expected = np.empty_like(q)
    for b, l, g, r in np.ndindex(B, L, G, R):
        past = slice(0, l + 1)
        expected[b, l, g, r] = one_position(q[b, l, g, r], k[b, past, g], v[b, past, g])
    np.testing.assert_allclose(causal_attention(*inputs(G, R)), expected, rtol=0, atol=3e-6)


def test_the_first_position_returns_its_own_value():
    q, k, v = inputs(2, 3)
    first = causal_attention(q, k, v)[:, 0]
    np.testing.assert_array_equal(first, np.broadcast_to(v[:, 0, :, None], first.shape))


def test_scores_and_softmax_are_float32_under_bfloat16_inputs():
    jaxpr = jax.make_jaxpr(causal_attention)(*inputs(2, 3, jnp.bfloat16))
    exponentials = [e for e in jaxpr.eqns if e.primitive.name in ("exp", "reduce_max")]
    inner = [e for e in jaxpr.eqns if "jaxpr" in e.params]
    exponentials += [
        e
        for outer in inner
        for e in outer.params["jaxpr"].jaxpr.eqns
        if e.primitive.name in ("exp", "reduce_max")
    ]
    assert exponentials
    assert {e.outvars[0].aval.dtype for e in exponentials} == {jnp.dtype("float32")}
    scores = next(e for e in jaxpr.eqns if e.primitive.name == "dot_general")
    assert scores.params["preferred_element_type"] == jnp.float32


def test_heads_that_do_not_match_are_refused():
    q, _, _ = inputs(2, 3)
    _, k, v = inputs(3, 1)
    with pytest.raises(jaxtyping.TypeCheckError):
        causal_attention(q, k, v)
