# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks train: networks, batches, and the numbers that all systems share."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import msgspec
import numpy as np

from model.network.config import ModelConfig
from model.network.counts.attention import AttentionConfig
from model.network.counts.convolution import ConvolutionConfig
from model.network.counts.kinds import BlockConfig
from model.network.counts.lstm import LSTMConfig
from model.network.counts.mlp import GELUConfig, SwiGLUConfig
from model.training.config import (
    EvalConfig,
    GroupConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
)

MixerConfig = AttentionConfig | LSTMConfig | ConvolutionConfig
LEARNING_RATE, BETAS, EPS, WEIGHT_DECAY, CLIP_NORM = 1e-3, (0.9, 0.99), 1e-8, 0.1, 1.0
# GPT-2's 50257 tokens, rounded up to a multiple of 64 as every implementation pads them.
GPT2_VOCAB = 50304


def llama(
    d_model: int, n_layers: int, n_heads: int, d_ff: int, seq_len: int, vocab_size: int
) -> ModelConfig:
    """RMSNorm, rotary positions, SwiGLU, no biases, one matrix for embedding and head."""
    return ModelConfig(
        vocab_size=vocab_size,
        seq_len=seq_len,
        d_model=d_model,
        n_layers=n_layers,
        blocks=(
            BlockConfig(
                mixer=AttentionConfig(
                    n_heads=n_heads,
                    n_kv_heads=n_heads,
                    d_head=d_model // n_heads,
                    rope_theta=1e4,
                    use_qk_norm=False,
                ),
                channel_mixer=SwiGLUConfig(d_ff=d_ff),
            ),
        ),
        norm="rmsnorm",
        norm_eps=1e-5,
        learned_positions=False,
        use_bias=False,
        tie_embeddings=True,
        embedding_init_std=0.02,
        hidden_init_gain=0.02 * math.sqrt(d_model),
        branch_init_gain=0.02 * math.sqrt(d_model),
        output_init_std=0.02,
        residual_multiplier=1.0,
        logit_multiplier=1.0,
    )


def gpt2(d_model: int, n_layers: int, n_heads: int, seq_len: int, vocab_size: int) -> ModelConfig:
    """LayerNorm, learned positions, GELU, biases (Radford et al. 2019)."""
    like = llama(d_model, n_layers, n_heads, 4 * d_model, seq_len, vocab_size)
    mixer = msgspec.structs.replace(like.blocks[0].mixer, rope_theta=None)
    block = BlockConfig(mixer=mixer, channel_mixer=GELUConfig(d_ff=4 * d_model))
    return replace(like, blocks=(block,), norm="layernorm", learned_positions=True, use_bias=True)


def with_mixer(model: ModelConfig, mixer: MixerConfig) -> ModelConfig:
    """The network with another mixer in every block."""
    block = msgspec.structs.replace(model.blocks[0], mixer=mixer)
    return replace(model, blocks=(block,))


def lstm(d_state: int) -> LSTMConfig:
    """Without biases, of which torch's has two."""
    return LSTMConfig(d_state=d_state, use_gate_bias=False, forget_bias=0.0)


def layers(model: ModelConfig) -> tuple[MixerConfig, GELUConfig]:
    """The two layers that each block of such a network has."""
    mixer, channel_mixer = model.layers
    assert isinstance(channel_mixer, GELUConfig)
    return mixer, channel_mixer  # type: ignore[return-value]


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One network and batch, trained for the same steps by every system.

    Attributes:
      name, model, batch_size: what is trained; a device that is too small halves the batch.
      n_steps: steps per timed repeat, and of ours per dispatch.
      n_repeats: timed repeats per process, after one that is not.
      dtype: of activations and products; parameters and AdamW are float32.
    """

    name: str
    model: ModelConfig
    batch_size: int
    n_steps: int
    n_repeats: int
    dtype: Literal["float32", "bfloat16"]


def _cpu(name: str, model: ModelConfig, batch_size: int, n_steps: int, n_repeats: int) -> Setting:
    return Setting(
        name=name,
        model=model,
        batch_size=batch_size,
        n_steps=n_steps,
        n_repeats=n_repeats,
        dtype="float32",
    )


# nanoGPT's character model for CPUs; its biases are GPT-2's, as Hugging Face has no others.
CPU = (
    _cpu("nanogpt-char", gpt2(128, 4, 4, 64, 65), 12, 32, 3),
    _cpu("1M", llama(128, 5, 4, 344, 256, 256), 8, 8, 3),
    _cpu("10M", llama(384, 6, 6, 1024, 256, 256), 8, 4, 1),
)
# The network of 1M, with mixers that torch has a layer for.
MIXERS = (
    _cpu("lstm", with_mixer(llama(128, 5, 4, 344, 256, 256), lstm(128)), 8, 8, 3),
    _cpu(
        "convolution",
        with_mixer(
            llama(128, 5, 4, 344, 256, 256), ConvolutionConfig(d_hidden=128, taps=3, dilation=4)
        ),
        8,
        8,
        3,
    ),
)
LARGE = tuple(
    replace(_cpu(name, model, batch_size, 8, 3), dtype="bfloat16")
    for name, model, batch_size in (
        ("124M", gpt2(768, 12, 12, 1024, GPT2_VOCAB), 64),
        ("1.3B", gpt2(2048, 24, 16, 2048, GPT2_VOCAB), 16),
    )
)
SMALL = tuple(
    replace(_cpu(f"d{d}", llama(d, 6, d // 64, 3 * d, 512, 8192), 64, 32, 3), dtype="bfloat16")
    for d in (64, 128, 256, 512)
)
# Seconds on any device: for the tests of the path.
TINY = (
    _cpu("tiny-gpt2", gpt2(32, 2, 2, 16, 64), 4, 4, 1),
    _cpu("tiny-llama", llama(32, 2, 2, 48, 16, 64), 4, 4, 1),
    _cpu("tiny-lstm", with_mixer(llama(32, 2, 2, 48, 16, 64), lstm(24)), 4, 4, 1),
    _cpu(
        "tiny-convolution",
        with_mixer(llama(32, 2, 2, 48, 16, 64), ConvolutionConfig(d_hidden=24, taps=3, dilation=2)),
        4,
        4,
        1,
    ),
)
SETTINGS = {setting.name: setting for setting in (*CPU, *MIXERS, *LARGE, *SMALL, *TINY)}


def train_config(batch_size: int, dtype: Literal["float32", "bfloat16"]) -> TrainConfig:
    """AdamW at a constant rate with the constants above, the same for all parameters."""
    group = GroupConfig(learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY, eps=EPS)
    return TrainConfig(
        batch_size=batch_size,
        optimizer=OptimizerConfig(
            algorithm="adamw",
            input=group,
            hidden=group,
            output=group,
            vector=group,
            final_norm=group,
            beta1=BETAS[0],
            beta2=BETAS[1],
            clip_norm=CLIP_NORM,
            muon=None,
        ),
        schedule=ScheduleConfig(
            n_steps=10**6, warmup_steps=0, decay_steps=0, decay="linear", final_fraction=0.0
        ),
        evaluation=EvalConfig(n_tokens=1, curve_tokens=1, n_points=1, seed=0),
        z_loss_weight=0.0,
        compute_dtype=dtype,
        init_seed=0,
        data_seed=0,
    )


def tokens(setting: Setting) -> np.ndarray:
    """Token ids [n_steps, B, T + 1], the same for every system."""
    shape = (setting.n_steps, setting.batch_size, setting.model.seq_len + 1)
    return np.random.default_rng(0).integers(setting.model.vocab_size, size=shape, dtype=np.int32)


def halved(setting: Setting) -> Setting:
    """For a device that is too small."""
    return replace(setting, batch_size=setting.batch_size // 2)
