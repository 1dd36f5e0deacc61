# SPDX-License-Identifier: Apache-2.0
"""Logits, loss and gradients of Hugging Face networks, frozen by ``make test-parity``."""

from pathlib import Path

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import pytest
from flax import nnx

from model.network.config import ModelConfig
from model.network.transformer import Transformer
from model.training.objectives.linear_head import next_token_nats

FIXTURES = sorted((Path(__file__).parents[1] / "fixtures").glob("*.npz"))


@pytest.mark.usefixtures("one_device")
@pytest.mark.parametrize("path", FIXTURES, ids=[path.stem for path in FIXTURES])
def test_logits_loss_and_gradients_are_those_of_torch_with_the_same_weights(path):
    saved = dict(np.load(path, allow_pickle=False))
    config = msgspec.json.decode(str(saved["config"]), type=ModelConfig)
    graphdef, params = nnx.split(
        nnx.eval_shape(lambda: Transformer(config, compute_dtype=jnp.float32, rngs=nnx.Rngs(0)))
    )
    names = ["/".join(map(str, path)) for path, _ in nnx.to_flat_state(params)]
    weights = [jnp.asarray(saved[f"weights:{name}"]) for name in names]
    tokens, targets = jnp.asarray(saved["tokens"]), jnp.asarray(saved["targets"])

    def loss_and_logits(weights):
        filled = jax.tree.unflatten(jax.tree.structure(params), weights)
        logits, said = nnx.merge(graphdef, filled)(tokens)
        weights = config.layers[-1].loss_weights()
        loss = jnp.mean(next_token_nats(logits, targets)[0])
        return loss + sum(weights[name] * value for name, value in said.items()), logits

    with_gradients = jax.jit(jax.value_and_grad(loss_and_logits, has_aux=True))
    (loss, logits), gradients = with_gradients(weights)
    # Logits reach 4, where float32 steps by 5e-7. Measured: 5e-6; other processors sum otherwise.
    np.testing.assert_allclose(logits, saved["logits"], rtol=0, atol=2e-5)
    np.testing.assert_allclose(loss, saved["loss"], rtol=0, atol=1e-6)
    for name, gradient in zip(names, gradients, strict=True):
        expected = saved[f"gradients:{name}"]
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-5, err_msg=name)


def test_every_family_is_frozen_in_a_small_file():
    families = ["attending_gru", "encoder_decoder", "gpt2", "llama", "mistral", "mixtral", "qwen3"]
    assert [path.stem for path in FIXTURES] == [*families, "vit"]
    assert max(path.stat().st_size for path in FIXTURES) < 200_000
