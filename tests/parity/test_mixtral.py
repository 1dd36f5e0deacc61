# SPDX-License-Identifier: Apache-2.0
"""Our mixture of experts against Hugging Face's Mixtral with the same weights, live.

What torch computes is frozen in tests/model/fixtures, as in test_hugging_face.py.
"""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from frozen_networks import assert_frozen
from small_networks import vary

from experiments.benchmarks.speed import networks
from model.network.config import ModelConfig
from model.network.counts.total import count_params

torch = pytest.importorskip("torch", reason="make test-parity installs it")
transformers = pytest.importorskip("transformers", reason="make test-parity installs it")
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func  # noqa: E402

pytestmark = pytest.mark.parity

FIXTURE = Path(__file__).parents[1] / "model" / "fixtures" / "mixtral.npz"
CONFIG = vary(
    networks.llama(d_model=16, n_layers=2, n_heads=4, d_ff=28, seq_len=11, vocab_size=53),
    channel_mixers=("moe",),
    n_kv_heads=2,
    norm_eps=1e-3,
    rope_theta=37.0,
    tie_embeddings=False,
    embedding_init_std=1.0,
    hidden_init_gain=1.0,
    branch_init_gain=1.0,
    output_init_std=1.0,
    n_experts=5,
    n_active=2,
    d_ff_shared=0,
    balance_loss_weight=0.3,
    router_z_loss_weight=0.0,
)
PUBLISHED = {
    "vocab_size": 32000,
    "d_model": 4096,
    "n_layers": 32,
    "n_heads": 32,
    "n_kv_heads": 8,
    "d_head": 128,
    "d_ff": 14336,
    "n_experts": 8,
}


def make(c: ModelConfig) -> torch.nn.Module:
    heads, moe = c.layers
    config = transformers.MixtralConfig(
        vocab_size=c.vocab_size,
        hidden_size=c.d_model,
        intermediate_size=moe.d_ff,
        num_hidden_layers=c.n_layers,
        num_attention_heads=heads.n_heads,
        num_key_value_heads=heads.n_kv_heads,
        head_dim=heads.d_head,
        max_position_embeddings=c.seq_len,
        rms_norm_eps=c.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": heads.rope_theta},
        tie_word_embeddings=c.tie_embeddings,
        attn_implementation="eager",
        experts_implementation="eager",
        num_local_experts=moe.n_experts,
        num_experts_per_tok=moe.n_active,
        output_router_logits=True,
    )
    return transformers.MixtralForCausalLM(config)


def ours(w: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays of Mixtral ([out, in]; heads in the order group, query) under our names."""
    heads, _ = CONFIG.layers
    D, G, R, K = CONFIG.d_model, heads.n_kv_heads, heads.queries_per_kv_head, heads.d_head
    blocks = []
    for layer in range(CONFIG.n_layers):
        place = f"model.layers.{layer}"
        attention, experts = f"{place}.self_attn", f"{place}.mlp.experts"
        gate, up = np.split(w[f"{experts}.gate_up_proj"].swapaxes(1, 2), 2, axis=-1)
        block = {
            "mixer_norm/gain": w[f"{place}.input_layernorm.weight"],
            "channel_mixer_norm/gain": w[f"{place}.post_attention_layernorm.weight"],
            "mixer/q_dgqk": w[f"{attention}.q_proj.weight"].T.reshape(D, G, R, K),
            "mixer/k_dgk": w[f"{attention}.k_proj.weight"].T.reshape(D, G, K),
            "mixer/v_dgk": w[f"{attention}.v_proj.weight"].T.reshape(D, G, K),
            "mixer/o_gqkd": w[f"{attention}.o_proj.weight"].T.reshape(G, R, K, D),
            "channel_mixer/router_de": w[f"{place}.mlp.gate.weight"].T,
            "channel_mixer/gate_edf": gate,
            "channel_mixer/up_edf": up,
            "channel_mixer/down_efd": w[f"{experts}.down_proj"].swapaxes(1, 2),
        }
        blocks.append(block)
    stacked = {f"blocks/0/{n}": np.stack([block[n] for block in blocks]) for n in blocks[0]}
    return stacked | {
        "embedding/tokens_vd": w["model.embed_tokens.weight"],
        "norm/gain": w["model.norm.weight"],
        "head_dv": w["lm_head.weight"].T,
    }


def compute_theirs() -> dict[str, np.ndarray]:
    """What Hugging Face computes, under our names: weights, logits, loss, gradients."""
    rng, model = np.random.default_rng(0), make(CONFIG).eval()
    with torch.no_grad():
        for key, weight in model.named_parameters():
            is_gain = weight.ndim == 1 and key.endswith("weight")
            value = is_gain + rng.normal(scale=0.35, size=weight.shape)
            weight.copy_(torch.from_numpy(value.astype(np.float32)))
    tokens, targets = (rng.integers(CONFIG.vocab_size, size=(2, CONFIG.seq_len)) for _ in "12")
    said = model(input_ids=torch.from_numpy(tokens))
    flat = said.logits.reshape(-1, CONFIG.vocab_size), torch.from_numpy(targets).reshape(-1)
    loss, (_, moe) = torch.nn.functional.cross_entropy(*flat), CONFIG.layers
    for router in said.router_logits:
        # One term for each layer: theirs of all layers together mixes loads and probabilities.
        balance = load_balancing_loss_func((router,), moe.n_experts, moe.n_active)
        loss = loss + moe.balance_loss_weight * balance
    loss.backward()
    weights = {k: w.detach().numpy() for k, w in model.named_parameters()}
    gradients = {k: w.grad.numpy() for k, w in model.named_parameters()}
    return {
        "config": np.array(msgspec.json.encode(CONFIG).decode()),
        "tokens": tokens.astype(np.int32),
        "targets": targets.astype(np.int32),
        "logits": said.logits.detach().numpy(),
        "loss": loss.detach().numpy(),
        **{f"weights:{k}": v for k, v in ours(weights).items()},
        **{f"gradients:{k}": v for k, v in ours(gradients).items()},
    }


def test_the_frozen_logits_loss_and_gradients_are_what_hugging_face_computes():
    """And ours are the frozen ones: tests/model/network/test_parity_frozen.py."""
    assert_frozen(FIXTURE, compute_theirs())


def test_mixtral_8x7b_has_as_many_parameters_as_hugging_face_says():
    config = vary(CONFIG, **PUBLISHED)
    with torch.device("meta"):
        assert count_params(config).total == make(config).num_parameters()
