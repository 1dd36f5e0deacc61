# SPDX-License-Identifier: Apache-2.0
"""Norms and rotary positions against their equations in NumPy float64."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from model.network.layers import LayerNorm, RMSNorm, rotate

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


NORMS = {
    "rms": (lambda: RMSNorm(8, (None,), eps=EPS), rms_norm),
    "layer": (
        lambda: LayerNorm(8, (None,), eps=EPS, use_bias=True),
        lambda x: layer_norm(x) + BIAS,
    ),
    "layer without bias": (lambda: LayerNorm(8, (None,), eps=EPS, use_bias=False), layer_norm),
}


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_norm_equals_its_equation_and_keeps_the_dtype(name, dtype):
    make, oracle = NORMS[name]
    norm = make()
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
