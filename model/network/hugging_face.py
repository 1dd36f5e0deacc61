# SPDX-License-Identifier: Apache-2.0
"""Which networks are Hugging Face's Llama, Mistral, Qwen3 or GPT-2, their config.json and weights.

Ours have two factors that theirs lack. The residual multiplier is folded into what ends each
branch, that of the logits into the gain of the last norm: embedding and head may be one matrix.
Rotary pairs are Llama's already (layers.py). What theirs are is read from their code, models llama,
mistral, qwen3 and gpt2 of transformers 5 (https://github.com/huggingface/transformers).
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from model.network.config import ModelConfig
from model.network.counts.attention import AttentionConfig
from model.network.counts.mlp import GELUConfig

Family = Literal["llama", "mistral", "qwen3", "gpt2"]
_CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gpt2": "GPT2LMHeadModel",
}

# (ours, side by side; theirs; how many axes of ours are inputs, 0 of a gain or bias).
_ROTARY = (
    (("mixer_norm.gain",), "input_layernorm.weight", 0),
    (("mixer.q_dgqk",), "self_attn.q_proj.weight", 1),
    (("mixer.k_dgk",), "self_attn.k_proj.weight", 1),
    (("mixer.v_dgk",), "self_attn.v_proj.weight", 1),
    (("mixer.o_gqkd",), "self_attn.o_proj.weight", 3),
    (("mixer.q_bias",), "self_attn.q_proj.bias", 0),
    (("mixer.k_bias",), "self_attn.k_proj.bias", 0),
    (("mixer.v_bias",), "self_attn.v_proj.bias", 0),
    (("mixer.o_bias",), "self_attn.o_proj.bias", 0),
    (("mixer.q_gain",), "self_attn.q_norm.weight", 0),
    (("mixer.k_gain",), "self_attn.k_norm.weight", 0),
    (("channel_mixer_norm.gain",), "post_attention_layernorm.weight", 0),
    (("channel_mixer.gate_df",), "mlp.gate_proj.weight", 1),
    (("channel_mixer.up_df",), "mlp.up_proj.weight", 1),
    (("channel_mixer.down_fd",), "mlp.down_proj.weight", 1),
    (("channel_mixer.gate_bias",), "mlp.gate_proj.bias", 0),
    (("channel_mixer.up_bias",), "mlp.up_proj.bias", 0),
    (("channel_mixer.down_bias",), "mlp.down_proj.bias", 0),
)
_GPT2 = (
    (("mixer_norm.gain",), "ln_1.weight", 0),
    (("mixer_norm.bias",), "ln_1.bias", 0),
    (("mixer.q_dgqk", "mixer.k_dgk", "mixer.v_dgk"), "attn.c_attn.weight", 1),
    (("mixer.q_bias", "mixer.k_bias", "mixer.v_bias"), "attn.c_attn.bias", 0),
    (("mixer.o_gqkd",), "attn.c_proj.weight", 3),
    (("mixer.o_bias",), "attn.c_proj.bias", 0),
    (("channel_mixer_norm.gain",), "ln_2.weight", 0),
    (("channel_mixer_norm.bias",), "ln_2.bias", 0),
    (("channel_mixer.up_df",), "mlp.c_fc.weight", 1),
    (("channel_mixer.up_bias",), "mlp.c_fc.bias", 0),
    (("channel_mixer.down_fd",), "mlp.c_proj.weight", 1),
    (("channel_mixer.down_bias",), "mlp.c_proj.bias", 0),
)
_OUTER = {
    "rotary": {
        "embedding.tokens_vd": "model.embed_tokens.weight",
        "norm.gain": "model.norm.weight",
    },
    "gpt2": {
        "embedding.tokens_vd": "transformer.wte.weight",
        "embedding.positions_td": "transformer.wpe.weight",
        "norm.gain": "transformer.ln_f.weight",
        "norm.bias": "transformer.ln_f.bias",
    },
}
_BRANCH_ENDS = (
    *("mixer.o_gqkd", "mixer.o_bias"),
    *("channel_mixer.down_fd", "channel_mixer.down_bias"),
)


def family(model: ModelConfig) -> Family:
    """The one of theirs that computes the same.

    Raises:
      ValueError: one line that says why there is none.
    """
    mixer, mlp = _layers(model)
    if model.encoder is not None or model.patches is not None:
        raise _none("Theirs that are written have neither an encoder beside them nor patches")
    if model.separator is not None:
        raise _none("In theirs attention crosses documents; documents_apart=True")
    heads = f"n_heads={mixer.n_heads}, n_kv_heads={mixer.n_kv_heads}, d_head={mixer.d_head}"
    positions = ["rotary"] * (mixer.rope_theta is not None) + ["learned"] * model.learned_positions
    found = (model.norm, " and ".join(positions) or "no", mlp.kind)
    if found == ("rmsnorm", "rotary", "swiglu"):
        if mixer.use_qk_norm and model.use_bias:
            raise _none("Qwen3, which has query-key norm, has no biases in its MLP; use_bias=True")
        if not mixer.use_qk_norm and model.d_model % mixer.n_heads:
            raise _none(f"Llama's n_heads divides d_model={model.d_model}; {heads}")
        if mixer.window is None:
            return "qwen3" if mixer.use_qk_norm else "llama"
        if mixer.use_qk_norm or model.use_bias:
            raise _none("Mistral, which has windows, has neither query-key norm nor biases")
        return "mistral"
    if found == ("layernorm", "learned", "gelu"):
        if mixer.window is not None:
            raise _none(f"GPT-2's attention has no window; window={mixer.window}")
        if mixer.use_qk_norm:
            raise _none("GPT-2 has no query-key norm; use_qk_norm=True")
        if mixer.n_kv_heads != mixer.n_heads or mixer.n_heads * mixer.d_head != model.d_model:
            raise _none(f"GPT-2's n_heads, of keys too, make up d_model={model.d_model}; {heads}")
        return "gpt2"
    raise _none(
        "Llama and Qwen3 have rmsnorm, rotary positions and swiglu, GPT-2 has layernorm, learned "
        "positions and gelu; this one {}, {} positions and {}".format(*found)
    )


def _layers(model: ModelConfig) -> tuple[AttentionConfig, GELUConfig]:
    """The attention and the MLP that all blocks have."""
    mixer, mlp = model.blocks[0].mixer, model.blocks[0].channel_mixer
    if any(block != model.blocks[0] for block in model.blocks):
        raise _none(f"Theirs have blocks of one kind; {model.pattern}")
    if type(mixer) is AttentionConfig and isinstance(mlp, GELUConfig):
        return mixer, mlp
    raise _none(f"Theirs are attention with swiglu or gelu; {model.pattern}")


def _none(why: str) -> ValueError:
    return ValueError(f"no network of Hugging Face is this one. {why}.")


def config_of(model: ModelConfig) -> dict[str, Any]:
    """What config.json says; raises as ``family``."""
    (mixer, mlp), kind = _layers(model), family(model)
    common = {
        "architectures": [_CLASSES[kind]],
        "model_type": kind,
        "vocab_size": model.vocab_size,
        "tie_word_embeddings": model.tie_embeddings,
        "dtype": "float32",
        "bos_token_id": None,
        "eos_token_id": None,
    }
    if kind == "gpt2":
        return common | {
            "n_positions": model.seq_len,
            "n_embd": model.d_model,
            "n_layer": model.n_layers,
            "n_head": mixer.n_heads,
            "n_inner": mlp.d_ff,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": model.norm_eps,
            **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
        }
    own: dict[str, dict[str, Any]] = {
        "llama": {"attention_bias": model.use_bias, "mlp_bias": model.use_bias},
        "mistral": {"sliding_window": mixer.window},
        "qwen3": {"attention_bias": model.use_bias},
    }
    return common | {
        "hidden_size": model.d_model,
        "intermediate_size": mlp.d_ff,
        "num_hidden_layers": model.n_layers,
        "num_attention_heads": mixer.n_heads,
        "num_key_value_heads": mixer.n_kv_heads,
        "head_dim": mixer.d_head,
        "hidden_act": "silu",
        "max_position_embeddings": model.seq_len,
        "rms_norm_eps": model.norm_eps,
        "rope_theta": mixer.rope_theta,  # As versions before 5 read it.
        "rope_parameters": {"rope_type": "default", "rope_theta": mixer.rope_theta},
        **own[kind],
    }


def weights_of(model: ModelConfig, ours: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Their arrays by their names, of ours by ours (weight_names.py); raises as ``family``."""
    kind = family(model)
    ours = {name: _folded(model, name, array) for name, array in ours.items()}
    outer = _OUTER["gpt2" if kind == "gpt2" else "rotary"]
    theirs = {name: ours[own] for own, name in outer.items() if own in ours}
    if "head_dv" in ours:
        theirs["lm_head.weight"] = ours["head_dv"].T
    table, place = (_GPT2, "transformer.h") if kind == "gpt2" else (_ROTARY, "model.layers")
    for layer in range(model.n_layers):
        for names, name, n_in in table:
            own = [
                ours[f"layers.{layer}.{part}"] for part in names if f"layers.{layer}.{part}" in ours
            ]
            if own:
                flat = np.concatenate([_flat(array, n_in) for array in own], axis=-1)
                # Their linear maps are [out, in], but for GPT-2's.
                theirs[f"{place}.{layer}.{name}"] = flat if kind == "gpt2" else flat.T
    return theirs | (_zero_biases(theirs) if kind == "gpt2" and not model.use_bias else {})


def _folded(model: ModelConfig, name: str, array: np.ndarray) -> np.ndarray:
    """With the factor of ours that theirs have not."""
    factor = 1.0
    if name.endswith(_BRANCH_ENDS):
        factor = model.residual_multiplier
    elif name in ("norm.gain", "norm.bias"):
        factor = model.logit_multiplier
    return array if factor == 1.0 else (factor * array).astype(array.dtype)


def _flat(array: np.ndarray, n_in: int) -> np.ndarray:
    """[inputs, outputs] of a matrix, [n] of a vector."""
    return array.reshape(math.prod(array.shape[:n_in]), -1) if n_in else array.ravel()


def _zero_biases(theirs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """GPT-2 has biases everywhere but in its embeddings."""
    whole = ("transformer.wte.weight", "transformer.wpe.weight", "lm_head.weight")
    return {
        f"{name.removesuffix('weight')}bias": np.zeros(array.shape[-1], array.dtype)
        for name, array in theirs.items()
        if name not in whole
    }
