# SPDX-License-Identifier: Apache-2.0
"""The cross-entropy against its equation in NumPy float64."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from model.training.objectives.linear_head import next_token_nats

RNG = np.random.default_rng(0)
LOGITS = (4 * RNG.normal(size=(3, 5, 11))).astype(np.float32)
TARGETS = RNG.integers(11, size=(3, 5), dtype=np.int32)


def test_nats_and_log_z_equal_minus_log_softmax_and_log_sum_exp():
    nats, log_z = next_token_nats(jnp.asarray(LOGITS), jnp.asarray(TARGETS))
    logits = LOGITS.astype(np.float64)
    expected_log_z = np.log(np.sum(np.exp(logits), axis=-1))
    picked = np.take_along_axis(logits, TARGETS[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(log_z, expected_log_z, rtol=0, atol=2e-6)
    np.testing.assert_allclose(nats, expected_log_z - picked, rtol=0, atol=4e-6)


def test_equal_logits_cost_the_logarithm_of_the_vocabulary_whatever_the_target():
    nats, _ = next_token_nats(jnp.full((3, 5, 11), 7.0), jnp.asarray(TARGETS))
    np.testing.assert_allclose(nats, np.log(11), rtol=1e-6)


def test_gradient_is_softmax_minus_one_hot():
    def total(logits):
        return jnp.sum(next_token_nats(logits, jnp.asarray(TARGETS))[0])

    softmax = np.exp(LOGITS) / np.sum(np.exp(LOGITS), axis=-1, keepdims=True)
    slope = jax.grad(total)(jnp.asarray(LOGITS))
    np.testing.assert_allclose(slope, softmax - np.eye(11)[TARGETS], rtol=0, atol=1e-6)


def test_huge_logits_stay_finite():
    nats, log_z = next_token_nats(jnp.asarray(1e4 * LOGITS), jnp.asarray(TARGETS))
    assert np.all(np.isfinite(nats))
    assert np.all(np.isfinite(log_z))


def test_targets_of_another_length_are_refused():
    with pytest.raises(jaxtyping.TypeCheckError):
        next_token_nats(jnp.asarray(LOGITS), jnp.asarray(TARGETS[:, :4]))
