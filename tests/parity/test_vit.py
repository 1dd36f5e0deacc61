# SPDX-License-Identifier: Apache-2.0
"""Classification of images against Hugging Face's ViT: logits, loss, gradients (make test-parity).

It also makes ``tests/model/fixtures/vit.npz``, read by tests/model/network/test_parity_frozen.py:
delete the file and run this to make it again.
"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import pytest
from flax import nnx
from frozen_networks import assert_frozen
from small_networks import IMAGES, LLAMA, vary

from model.network.counts.patches import PatchConfig
from model.network.counts.total import count_params
from model.network.sharding import make_mesh
from model.network.transformer import Transformer
from model.training.objectives.linear_head import next_token_nats

torch = pytest.importorskip("torch", reason="make test-parity installs it")
transformers = pytest.importorskip("transformers", reason="make test-parity installs it")
pytestmark = pytest.mark.parity

FIXTURE = Path(__file__).parents[1] / "model" / "fixtures" / "vit.npz"
PATCHES = PatchConfig(height=6, width=6, channels=3, levels=16, side=3, pool="token")
VIT = dataclasses.replace(
    vary(LLAMA, **{**IMAGES["vit"], "patches": None, "d_head": 4}),
    vocab_size=7,
    seq_len=PATCHES.n_values,
    patches=PATCHES,
)
Arrays = dict[str, np.ndarray]
Tensors = dict[str, "torch.Tensor"]


def theirs(w: Tensors) -> tuple["torch.nn.Module", Tensors]:
    """Their network, and our weights under their names; its head's bias, which ours lacks, is 0."""
    sizes = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40,
        hidden_act="gelu_new", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        layer_norm_eps=VIT.norm_eps, image_size=6, patch_size=3, num_channels=3, num_labels=7,
        attn_implementation="eager",
    )  # fmt: skip
    model = transformers.ViTForImageClassification(sizes)
    conv = "vit.embeddings.patch_embeddings.projection"
    named = {
        "vit.embeddings.cls_token": w["embedding/class_td"][None],
        "vit.embeddings.position_embeddings": w["embedding/positions_td"][None],
        f"{conv}.weight": w["embedding/patches_cd"].reshape(3, 3, 3, 16).permute(3, 2, 0, 1),
        f"{conv}.bias": w["embedding/patches_bias"],
        "vit.layernorm.weight": w["norm/gain"],
        "vit.layernorm.bias": w["norm/bias"],
        "classifier.weight": w["head_dv"].T,
        "classifier.bias": torch.zeros(7),
    }
    ours = "blocks/0"
    for n in range(2):
        layer = f"vit.layers.{n}"
        for norm, their_norm in (("mixer", "before"), ("channel_mixer", "after")):
            named[f"{layer}.layernorm_{their_norm}.weight"] = w[f"{ours}/{norm}_norm/gain"][n]
            named[f"{layer}.layernorm_{their_norm}.bias"] = w[f"{ours}/{norm}_norm/bias"][n]
        attention, mlp = f"{layer}.attention", f"{ours}/channel_mixer"
        for letter, name, axes in (
            ("q", "q", "dgqk"),
            ("k", "k", "dgk"),
            ("v", "v", "dgk"),
        ):
            own = f"{ours}/mixer/{letter}"
            named[f"{attention}.{name}_proj.weight"] = w[f"{own}_{axes}"][n].reshape(16, 16).T
            named[f"{attention}.{name}_proj.bias"] = w[f"{own}_bias"][n].reshape(16)
        (out,) = (
            key for key in w if key.startswith(f"{ours}/mixer/o") and not key.endswith("bias")
        )
        (bias,) = (key for key in w if key.startswith(f"{ours}/mixer/o") and key.endswith("bias"))
        named[f"{attention}.o_proj.weight"] = w[out][n].reshape(16, 16).T
        named[f"{attention}.o_proj.bias"] = w[bias][n]
        for name, way in (("fc1", "up"), ("fc2", "down")):
            (key,) = (k for k in w if k.startswith(f"{mlp}/{way}_") and not k.endswith("bias"))
            named[f"{layer}.mlp.{name}.weight"] = w[key][n].T
            named[f"{layer}.mlp.{name}.bias"] = w[f"{mlp}/{way}_bias"][n]
    assert set(named) == set(model.state_dict())
    return model, named


def abstract() -> tuple[nnx.GraphDef, nnx.State]:
    build = lambda: Transformer(VIT, compute_dtype=jnp.float32, rngs=nnx.Rngs(0))  # noqa: E731
    return nnx.split(nnx.eval_shape(build))


def compute_theirs() -> Arrays:
    """Logits and gradients of their network, of weights from NumPy under our names."""
    rng = np.random.default_rng(0)
    with jax.set_mesh(make_mesh((1, 1, 1, 1))):
        flat = nnx.to_flat_state(abstract()[1])
    arrays = {}
    for path, leaf in flat:
        is_gain = str(path[-1]) == "gain"
        value = is_gain + rng.normal(scale=0.3, size=leaf.shape)
        arrays["/".join(map(str, path))] = value.astype(np.float32)
    tokens = rng.integers(PATCHES.levels, size=(3, PATCHES.n_values))
    targets = rng.integers(VIT.vocab_size, size=(3, 1))
    w = {key: torch.tensor(value, requires_grad=True) for key, value in arrays.items()}
    pixels = torch.tensor(tokens.reshape(3, 6, 6, 3) * (2 / 15) - 1, dtype=torch.float32)
    model, named = theirs(w)
    inputs = {"pixel_values": pixels.permute(0, 3, 1, 2)}
    logits = torch.func.functional_call(model, named, kwargs=inputs, args=()).logits
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(targets[:, 0]))
    loss.backward()
    return {
        "config": np.array(msgspec.json.encode(VIT).decode()),
        "tokens": tokens.astype(np.int32),
        "targets": targets.astype(np.int32),
        "logits": logits.detach().numpy()[:, None],
        "loss": loss.detach().numpy(),
        **{f"weights:{key}": value for key, value in arrays.items()},
        **{f"gradients:{key}": tensor.grad.numpy() for key, tensor in w.items()},
    }


def test_logits_loss_and_gradients_are_theirs() -> None:
    saved = compute_theirs()
    with jax.set_mesh(make_mesh((1, 1, 1, 1))):
        graphdef, params = abstract()
        names = ["/".join(map(str, path)) for path, _ in nnx.to_flat_state(params)]
        weights = [jnp.asarray(saved[f"weights:{key}"]) for key in names]

        def loss_and_logits(weights: list) -> tuple[jax.Array, jax.Array]:
            filled = jax.tree.unflatten(jax.tree.structure(params), weights)
            logits = nnx.merge(graphdef, filled)(jnp.asarray(saved["tokens"]))[0]
            return jnp.mean(next_token_nats(logits, jnp.asarray(saved["targets"]))[0]), logits

        both = jax.jit(jax.value_and_grad(loss_and_logits, has_aux=True))
        (loss, logits), gradients = both(weights)
    np.testing.assert_allclose(logits, saved["logits"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(loss, saved["loss"], rtol=0, atol=1e-6)
    for key, gradient in zip(names, gradients, strict=True):
        expected = saved[f"gradients:{key}"]
        # A bias on all keys shifts all scores of a query: softmax drops it.
        assert key.endswith("k_bias") or np.max(np.abs(expected)) > 1e-3, key
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-5, err_msg=key)


def test_parameters_are_theirs_but_for_the_bias_of_the_head() -> None:
    model = transformers.ViTForImageClassification(transformers.ViTConfig(num_labels=1000))
    base = dataclasses.replace(
        vary(
            VIT, d_model=768, n_layers=12, n_heads=12, n_kv_heads=12, d_head=64, d_ff=3072,
            vocab_size=1000, patches=None,
        ),
        seq_len=224 * 224 * 3,
        patches=PatchConfig(height=224, width=224, channels=3, levels=256, side=16, pool="token"),
    )  # fmt: skip
    assert count_params(base).total == sum(p.numel() for p in model.parameters()) - 1000


def test_the_frozen_fixture_is_what_they_compute() -> None:
    assert_frozen(FIXTURE, compute_theirs())
