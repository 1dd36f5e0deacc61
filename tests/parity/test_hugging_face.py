# SPDX-License-Identifier: Apache-2.0
"""Our network against Hugging Face's with the same weights, live (``make test-parity``).

A fixture of tests/model/fixtures that is missing is written from what torch computes here: delete
one to freeze it anew. One that is there must agree with torch.
"""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import pytest
from flax import nnx
from frozen_networks import assert_frozen
from small_networks import vary

from experiments.benchmarks.speed import networks
from model.network.config import ModelConfig
from model.network.counts.total import count_params
from model.network.hugging_face import config_of, weights_of
from model.network.sharding import make_mesh
from model.network.transformer import Transformer
from model.network.weight_names import tensors
from model.training.objectives.linear_head import next_token_nats

torch = pytest.importorskip("torch", reason="make test-parity installs it")
transformers = pytest.importorskip("transformers", reason="make test-parity installs it")
pytestmark = pytest.mark.parity

FIXTURES = Path(__file__).parents[1] / "model" / "fixtures"
LLAMA = vary(
    networks.llama(d_model=16, n_layers=2, n_heads=4, d_ff=28, seq_len=11, vocab_size=53),
    n_kv_heads=2,
    norm_eps=1e-3,
    rope_theta=37.0,
    tie_embeddings=False,
    embedding_init_std=1.0,
    hidden_init_gain=1.0,
    branch_init_gain=1.0,
    output_init_std=1.0,
)
QWEN3 = {"use_qk_norm": True, "tie_embeddings": True, "d_head": 6}
GPT2 = {
    "n_kv_heads": 4,
    "channel_mixers": ("gelu",),
    "norm": "layernorm",
    "positions": "learned",
    "use_bias": True,
    "tie_embeddings": True,
}


def make(c: ModelConfig) -> torch.nn.Module:
    """Their network, by what our export says of it."""
    config = transformers.AutoConfig.for_model(**config_of(c), attn_implementation="eager")
    return transformers.AutoModelForCausalLM.from_config(config)


def under_our_names(c: ModelConfig, theirs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Their arrays as ours. Export moves numbers and changes none (of a network without factors):
    where it puts the number of each of our places says where theirs come from."""
    _, params = abstract(c)
    groups = tensors(params)
    flat = np.arange(count_params(c).total)
    ends = np.cumsum([math.prod(tensor.shape) for group in groups for tensor in group])
    parts = iter(np.split(flat, ends[:-1]))
    places = {tensor.name: next(parts).reshape(tensor.shape) for g in groups for tensor in g}
    numbers = np.full(flat.shape, np.nan, np.float32)
    moved = weights_of(c, places)
    assert moved.keys() == theirs.keys()
    for name, where in moved.items():
        numbers[where] = theirs[name]
    paths = ["/".join(map(str, path)) for path, _ in nnx.to_flat_state(params)]
    return {
        path: np.stack([numbers[places[tensor.name]] for tensor in group]).reshape(leaf.shape)
        for path, group, leaf in zip(paths, groups, jax.tree.leaves(params), strict=True)
    }


def abstract(c: ModelConfig) -> tuple[nnx.GraphDef, nnx.State]:
    with jax.set_mesh(make_mesh((1, 1, 1, 1))):
        return nnx.split(
            nnx.eval_shape(lambda: Transformer(c, compute_dtype=jnp.float32, rngs=nnx.Rngs(0)))
        )


FAMILIES = {
    "llama": LLAMA,
    "mistral": vary(LLAMA, window=4),
    "qwen3": vary(LLAMA, **QWEN3),
    "gpt2": vary(LLAMA, **GPT2),
}


def compute_theirs(name: str) -> dict[str, np.ndarray]:
    """What Hugging Face computes, under our names: weights, logits, loss, gradients."""
    config = FAMILIES[name]
    rng = np.random.default_rng(0)
    model = make(config).eval()
    with torch.no_grad():
        for key, weight in model.named_parameters():
            # No gain stays one and no bias zero: what is left out or swapped must show.
            is_gain = weight.ndim == 1 and key.endswith("weight")
            value = is_gain + rng.normal(scale=0.35, size=weight.shape)
            weight.copy_(torch.from_numpy(value.astype(np.float32)))
    tokens = rng.integers(config.vocab_size, size=(2, config.seq_len))
    targets = rng.integers(config.vocab_size, size=(2, config.seq_len))
    logits = model(input_ids=torch.from_numpy(tokens)).logits
    flat = logits.reshape(-1, config.vocab_size), torch.from_numpy(targets).reshape(-1)
    loss = torch.nn.functional.cross_entropy(*flat)
    loss.backward()
    weights = {k: w.detach().numpy() for k, w in model.named_parameters()}
    gradients = {k: w.grad.numpy() for k, w in model.named_parameters()}
    return {
        "config": np.array(msgspec.json.encode(config).decode()),
        "tokens": tokens.astype(np.int32),
        "targets": targets.astype(np.int32),
        "logits": logits.detach().numpy(),
        "loss": loss.detach().numpy(),
        **{f"weights:{k}": v for k, v in under_our_names(config, weights).items()},
        **{f"gradients:{k}": v for k, v in under_our_names(config, gradients).items()},
    }


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_loss_and_gradients_equal_hugging_face(name):
    theirs, config = compute_theirs(name), FAMILIES[name]
    tokens, targets = jnp.asarray(theirs["tokens"]), jnp.asarray(theirs["targets"])
    with jax.set_mesh(make_mesh((1, 1, 1, 1))):
        graphdef, params = abstract(config)
        names = ["/".join(map(str, path)) for path, _ in nnx.to_flat_state(params)]
        assert {f"weights:{n}" for n in names} == {k for k in theirs if k.startswith("weights:")}
        weights = [jnp.asarray(theirs[f"weights:{n}"]) for n in names]

        def loss_and_logits(weights):
            filled = jax.tree.unflatten(jax.tree.structure(params), weights)
            logits = nnx.merge(graphdef, filled)(tokens)[0]
            return jnp.mean(next_token_nats(logits, targets)[0]), logits

        value_and_gradients = jax.jit(jax.value_and_grad(loss_and_logits, has_aux=True))
        (loss, logits), gradients = value_and_gradients(weights)
    differences = {"logits": np.max(np.abs(logits - theirs["logits"]))}
    differences["loss"] = np.abs(loss - theirs["loss"])
    for n, gradient in zip(names, gradients, strict=True):
        # Without rotation a bias on all keys shifts all scores of a query: softmax drops it.
        is_idle = name == "gpt2" and n.endswith("k_bias")
        assert is_idle or np.max(np.abs(gradient)) > 1e-3, f"{n}: nothing to compare"
        differences[n] = np.max(np.abs(gradient - theirs[f"gradients:{n}"]))
    assert max(differences.values()) < 1e-5, differences
    largest = max(differences, key=differences.get)
    print(
        f"\n{name}: logits {differences['logits']:.1e}, loss {differences['loss']:.1e}, "
        f"largest {differences[largest]:.1e} ({largest})"
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_the_frozen_fixture_is_what_hugging_face_computes(name):
    assert_frozen(FIXTURES / f"{name}.npz", compute_theirs(name))


PUBLISHED = {
    "llama": {
        "vocab_size": 32000,
        "d_model": 4096,
        "n_layers": 32,
        "n_heads": 32,
        "n_kv_heads": 32,
        "d_head": 128,
        "d_ff": 11008,
    },
    "mistral": {
        "vocab_size": 32000,
        "d_model": 4096,
        "n_layers": 32,
        "n_heads": 32,
        "n_kv_heads": 8,
        "d_head": 128,
        "d_ff": 14336,
        "window": 4096,
    },
    "qwen3": {
        "vocab_size": 151936,
        "d_model": 1024,
        "n_layers": 28,
        "n_heads": 16,
        "n_kv_heads": 8,
        "d_head": 128,
        "d_ff": 3072,
    },
    "gpt2": {
        "vocab_size": 50257,
        "d_model": 768,
        "n_layers": 12,
        "n_heads": 12,
        "n_kv_heads": 12,
        "d_head": 64,
        "d_ff": 3072,
        "seq_len": 1024,
    },
}


@pytest.mark.parametrize("name", FAMILIES)
def test_parameter_counts_of_llama_2_7b_mistral_7b_qwen3_and_gpt2_equal_hugging_face(name):
    config = vary(FAMILIES[name], **PUBLISHED[name])
    with torch.device("meta"):
        assert count_params(config).total == make(config).num_parameters()
