# SPDX-License-Identifier: Apache-2.0
"""Our network against Hugging Face's with the same weights, live (``make test-parity``).

A fixture of tests/model/fixtures that is missing is written from what torch computes here: delete
one to freeze it anew. One that is there must agree with torch.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import pytest
from flax import nnx
from small_networks import vary

from experiments.benchmarks.speed import networks
from model.network.config import ModelConfig
from model.network.counts.total import count_params
from model.network.sharding import make_mesh
from model.network.transformer import Transformer
from model.training.objectives.next_token import next_token_nats

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


def rotary_fields(c: ModelConfig) -> dict:
    heads, mlp = networks.layers(c)
    return {
        "vocab_size": c.vocab_size,
        "hidden_size": c.d_model,
        "intermediate_size": mlp.d_ff,
        "num_hidden_layers": c.n_layers,
        "num_attention_heads": heads.n_heads,
        "num_key_value_heads": heads.n_kv_heads,
        "head_dim": heads.d_head,
        "max_position_embeddings": c.seq_len,
        "rms_norm_eps": c.norm_eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": heads.rope_theta},
        "tie_word_embeddings": c.tie_embeddings,
        "attention_bias": False,
        "attn_implementation": "eager",
    }


def make_llama(c: ModelConfig) -> torch.nn.Module:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**rotary_fields(c)))


def make_qwen3(c: ModelConfig) -> torch.nn.Module:
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**rotary_fields(c)))


def make_gpt2(c: ModelConfig) -> torch.nn.Module:
    heads, mlp = networks.layers(c)
    config = transformers.GPT2Config(
        vocab_size=c.vocab_size,
        n_positions=c.seq_len,
        n_embd=c.d_model,
        n_layer=c.n_layers,
        n_head=heads.n_heads,
        n_inner=mlp.d_ff,
        bos_token_id=None,
        eos_token_id=None,
        layer_norm_epsilon=c.norm_eps,
        attn_implementation="eager",
    )
    return transformers.GPT2LMHeadModel(config)


def from_rotary(c: ModelConfig, w: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays of Llama or Qwen3 ([out, in]; heads in the order group, query) under our names."""
    heads, _ = networks.layers(c)
    D, G, R, K = c.d_model, heads.n_kv_heads, heads.queries_per_kv_head, heads.d_head
    ours = {"embedding/tokens_vd": w["model.embed_tokens.weight"]}
    ours["norm/gain"] = w["model.norm.weight"]
    if not c.tie_embeddings:
        ours["head_dv"] = w["lm_head.weight"].T
    for i in range(c.n_layers):
        theirs, block = f"model.layers.{i}", f"blocks/{i}"
        attention, mlp = f"{theirs}.self_attn", f"{theirs}.mlp"
        ours |= {
            f"{block}/mixer_norm/gain": w[f"{theirs}.input_layernorm.weight"],
            f"{block}/channel_mixer_norm/gain": w[f"{theirs}.post_attention_layernorm.weight"],
            f"{block}/mixer/q_dgqk": w[f"{attention}.q_proj.weight"].T.reshape(D, G, R, K),
            f"{block}/mixer/k_dgk": w[f"{attention}.k_proj.weight"].T.reshape(D, G, K),
            f"{block}/mixer/v_dgk": w[f"{attention}.v_proj.weight"].T.reshape(D, G, K),
            f"{block}/mixer/o_gqkd": w[f"{attention}.o_proj.weight"].T.reshape(G, R, K, D),
            f"{block}/channel_mixer/gate_df": w[f"{mlp}.gate_proj.weight"].T,
            f"{block}/channel_mixer/up_df": w[f"{mlp}.up_proj.weight"].T,
            f"{block}/channel_mixer/down_fd": w[f"{mlp}.down_proj.weight"].T,
        }
        if heads.use_qk_norm:
            ours[f"{block}/mixer/q_gain"] = w[f"{attention}.q_norm.weight"]
            ours[f"{block}/mixer/k_gain"] = w[f"{attention}.k_norm.weight"]
    return stacked(ours, c.n_layers)


def from_gpt2(c: ModelConfig, w: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays of GPT-2 ([in, out]; queries, keys and values side by side) under our names."""
    heads, _ = networks.layers(c)
    D, H, K = c.d_model, heads.n_heads, heads.d_head
    ours = {
        "embedding/tokens_vd": w["transformer.wte.weight"],
        "embedding/positions_td": w["transformer.wpe.weight"],
        "norm/gain": w["transformer.ln_f.weight"],
        "norm/bias": w["transformer.ln_f.bias"],
    }
    for i in range(c.n_layers):
        theirs, block = f"transformer.h.{i}", f"blocks/{i}"
        q, k, v = np.split(w[f"{theirs}.attn.c_attn.weight"], 3, axis=1)
        q_bias, k_bias, v_bias = np.split(w[f"{theirs}.attn.c_attn.bias"], 3)
        ours |= {
            f"{block}/mixer_norm/gain": w[f"{theirs}.ln_1.weight"],
            f"{block}/mixer_norm/bias": w[f"{theirs}.ln_1.bias"],
            f"{block}/channel_mixer_norm/gain": w[f"{theirs}.ln_2.weight"],
            f"{block}/channel_mixer_norm/bias": w[f"{theirs}.ln_2.bias"],
            f"{block}/mixer/q_dgqk": q.reshape(D, H, 1, K),
            f"{block}/mixer/k_dgk": k.reshape(D, H, K),
            f"{block}/mixer/v_dgk": v.reshape(D, H, K),
            f"{block}/mixer/q_bias": q_bias.reshape(H, 1, K),
            f"{block}/mixer/k_bias": k_bias.reshape(H, K),
            f"{block}/mixer/v_bias": v_bias.reshape(H, K),
            f"{block}/mixer/o_gqkd": w[f"{theirs}.attn.c_proj.weight"].reshape(H, 1, K, D),
            f"{block}/mixer/o_bias": w[f"{theirs}.attn.c_proj.bias"],
            f"{block}/channel_mixer/up_df": w[f"{theirs}.mlp.c_fc.weight"],
            f"{block}/channel_mixer/up_bias": w[f"{theirs}.mlp.c_fc.bias"],
            f"{block}/channel_mixer/down_fd": w[f"{theirs}.mlp.c_proj.weight"],
            f"{block}/channel_mixer/down_bias": w[f"{theirs}.mlp.c_proj.bias"],
        }
    return stacked(ours, c.n_layers)


def stacked(arrays: dict[str, np.ndarray], n_layers: int) -> dict[str, np.ndarray]:
    """The arrays of all blocks under the name of the first, [n_layers, ...]."""
    first = {k: v for k, v in arrays.items() if not k.startswith("blocks/")}
    for name in (k for k in arrays if k.startswith("blocks/0/")):
        rest = name.removeprefix("blocks/0/")
        first[name] = np.stack([arrays[f"blocks/{i}/{rest}"] for i in range(n_layers)])
    return first


FAMILIES = {
    "llama": (LLAMA, make_llama, from_rotary),
    "qwen3": (vary(LLAMA, **QWEN3), make_qwen3, from_rotary),
    "gpt2": (vary(LLAMA, **GPT2), make_gpt2, from_gpt2),
}


def compute_theirs(name: str) -> dict[str, np.ndarray]:
    """What Hugging Face computes, under our names: weights, logits, loss, gradients."""
    config, make, ours = FAMILIES[name]
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
        **{f"weights:{k}": v for k, v in ours(config, weights).items()},
        **{f"gradients:{k}": v for k, v in ours(config, gradients).items()},
    }


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_loss_and_gradients_equal_hugging_face(name):
    theirs, (config, _, _) = compute_theirs(name), FAMILIES[name]
    tokens, targets = jnp.asarray(theirs["tokens"]), jnp.asarray(theirs["targets"])
    with jax.set_mesh(make_mesh((1, 1, 1, 1))):
        graphdef, params = nnx.split(
            nnx.eval_shape(lambda: Transformer(config, compute_dtype=jnp.float32, rngs=nnx.Rngs(0)))
        )
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
    theirs, path = compute_theirs(name), FIXTURES / f"{name}.npz"
    if not path.exists():
        np.savez_compressed(path, **theirs)
    frozen = np.load(path, allow_pickle=False)
    assert set(frozen) == set(theirs)
    assert json.loads(str(frozen["config"])) == json.loads(str(theirs["config"]))
    for key in set(theirs) - {"config"}:
        np.testing.assert_allclose(frozen[key], theirs[key], rtol=0, atol=1e-5, err_msg=key)


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
def test_parameter_counts_of_llama_2_7b_qwen3_and_gpt2_equal_hugging_face(name):
    tiny, make, _ = FAMILIES[name]
    config = vary(tiny, **PUBLISHED[name])
    with torch.device("meta"):
        assert count_params(config).total == make(config).num_parameters()
