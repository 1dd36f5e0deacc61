# SPDX-License-Identifier: Apache-2.0
"""A table of small networks. Sizes differ, so that no two dimensions mix up."""

import functools
from dataclasses import replace
from typing import Any

import msgspec

from model.network.config import EncoderConfig, ModelConfig
from model.network.counts.attending_gru import AttendingGRUConfig
from model.network.counts.attention import AttentionConfig
from model.network.counts.convolution import ConvolutionConfig
from model.network.counts.cross_attention import CrossAttentionConfig
from model.network.counts.delta_net import DeltaNetConfig, GatedDeltaNetConfig
from model.network.counts.gru import BidirectionalGRUConfig, GRUConfig
from model.network.counts.kinds import CHANNEL_MIXERS, MIXERS, BlockConfig
from model.network.counts.lstm import LSTMConfig
from model.network.counts.mamba2 import Mamba2Config
from model.network.counts.masked_convolution import MaskedConvolutionConfig
from model.network.counts.mlp import GELUConfig, SwiGLUConfig
from model.network.counts.moe import MoEConfig
from model.network.counts.patches import PatchConfig
from model.network.counts.rwkv7 import RWKV7ChannelConfig, RWKV7Config

LLAMA = ModelConfig(
    vocab_size=48,
    seq_len=12,
    d_model=16,
    n_layers=2,
    blocks=(
        BlockConfig(
            mixer=AttentionConfig(
                n_heads=4, n_kv_heads=4, d_head=6, rope_theta=100.0, use_qk_norm=False
            ),
            channel_mixer=SwiGLUConfig(d_ff=40),
        ),
    ),
    norm="rmsnorm",
    norm_eps=1e-5,
    learned_positions=False,
    use_bias=False,
    tie_embeddings=False,
    embedding_init_std=0.5,
    hidden_init_gain=0.8,
    branch_init_gain=0.8,
    output_init_std=0.3,
    residual_multiplier=1.0,
    logit_multiplier=1.0,
)
GPT2 = {
    "channel_mixers": ("gelu",),
    "norm": "layernorm",
    "positions": "learned",
    "use_bias": True,
    "tie_embeddings": True,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama_gqa": {"n_kv_heads": 2},
    "llama_mqa_tied": {"n_kv_heads": 1, "tie_embeddings": True},
    "qwen3": {"n_kv_heads": 2, "use_qk_norm": True, "tie_embeddings": True},
    "gpt2": GPT2,
    "gpt2_untied_swiglu": {**GPT2, "channel_mixers": ("swiglu",), "tie_embeddings": False},
    "layernorm_without_bias": {"norm": "layernorm", "positions": "learned"},
    "moe": {"n_kv_heads": 2, "channel_mixers": ("moe",)},
    "everything": {
        **GPT2,
        "n_kv_heads": 2,
        "positions": "rope",
        "use_qk_norm": True,
        "tie_embeddings": False,
        "channel_mixers": ("swiglu", "gelu"),
        "residual_multiplier": 0.6,
        "logit_multiplier": 1.7,
    },
}
_MOE = functools.partial(
    MoEConfig,
    n_experts=8,
    n_active=3,
    d_ff_shared=24,
    is_renormalized=True,
    router_init_gain=1.0,
    balance_loss_weight=0.01,
    router_z_loss_weight=1e-3,
)
_MLPS = {
    "swiglu": SwiGLUConfig,
    "gelu": GELUConfig,
    "moe": _MOE,
    "rwkv7_channel": RWKV7ChannelConfig,
}
_LSTM = LSTMConfig(d_state=24, use_gate_bias=True, forget_bias=1.0)
_GRU = GRUConfig(d_state=24, use_gate_bias=True)
_WINDOW = msgspec.structs.replace(LLAMA.blocks[0].mixer, n_kv_heads=2, window=4)
_MAMBA2 = Mamba2Config(n_heads=4, n_groups=2, d_head=6, d_state=10, taps=3)
_DELTA = DeltaNetConfig(n_heads=4, n_key_heads=4, d_key=10, d_value=6, taps=3)
_GATED = GatedDeltaNetConfig(n_heads=4, n_key_heads=2, d_key=10, d_value=6, taps=3)
_RWKV7 = RWKV7Config(n_heads=4, d_head=6, rank_decay=3, rank_rate=5, rank_value=7, rank_gate=9)
_WAVE = tuple(ConvolutionConfig(d_hidden=24, taps=3, dilation=dilation) for dilation in (1, 2))
_PIXELS = tuple(
    MaskedConvolutionConfig(d_hidden=24, kernel=3, width=3, mask=mask) for mask in ("A", "B", "B")
)
# Networks with other mixers than attention: what tests hold to be so of every kind, they ask of
# these. Few sizes repeat one another.
OTHERS: dict[str, dict[str, Any]] = {
    "lstm": {"mixers": (_LSTM,)},
    "recurrences": {
        "mixers": (_MAMBA2, _DELTA, _GATED, _RWKV7),
        "channel_mixers": ("swiglu", "swiglu", "swiglu", "rwkv7_channel"),
        "n_layers": 4,
    },
    "gru": {"mixers": (_GRU,)},
    "window": {"mixers": (_WINDOW,), "use_bias": True},
    "convolution": {"mixers": _WAVE, "use_bias": True},
    "masked_convolution": {"mixers": _PIXELS, "use_bias": True, "n_layers": 3},
    "hybrid": {"mixers": (LLAMA.blocks[0].mixer, _LSTM), "use_bias": True},
}
_CROSS = CrossAttentionConfig(n_heads=4, n_kv_heads=2, d_head=6, rope_theta=None, use_qk_norm=True)
_FROM_BOTH_ENDS = EncoderConfig(
    source_len=5,
    blocks=(
        BlockConfig(
            mixer=BidirectionalGRUConfig(d_state=24, use_gate_bias=True),
            channel_mixer=GELUConfig(d_ff=40),
        ),
    ),
)
_ATTENDING = AttendingGRUConfig(d_state=24, use_gate_bias=True, d_attention=10)
# Networks with an encoder of the first five tokens.
ENCODED: dict[str, dict[str, Any]] = {
    "cross_attention": {
        "mixers": (LLAMA.blocks[0].mixer, _CROSS),
        "channel_mixers": (None, "swiglu"),
        "positions": "learned",
        "use_bias": True,
        "encoder": EncoderConfig(source_len=5, blocks=LLAMA.blocks),
    },
    "attending_gru": {
        "mixers": (_ATTENDING,),
        "channel_mixers": ("gelu",),
        "use_bias": True,
        "encoder": _FROM_BOTH_ENDS,
    },
    "last_state": {
        "mixers": (msgspec.structs.replace(_ATTENDING, d_attention=None),),
        "channel_mixers": ("gelu",),
        "encoder": _FROM_BOTH_ENDS,
    },
}
# Networks of images in patches: 48 classes, of images of 48 levels.
IMAGES: dict[str, dict[str, Any]] = {
    "vit": {
        "channel_mixers": ("gelu",),
        "norm": "layernorm",
        "positions": "learned",
        "use_bias": True,
        "patches": PatchConfig(height=2, width=6, channels=1, levels=48, side=2, pool="token"),
    },
    "vit_mean": {
        "patches": PatchConfig(height=2, width=2, channels=3, levels=48, side=1, pool="mean")
    },
}
# Those of "recurrences", each alone.
RECURRENCES: dict[str, dict[str, Any]] = {
    mixer.kind: {"mixers": (mixer,)} for mixer in OTHERS["recurrences"]["mixers"]
} | {"rwkv7": {"mixers": (_RWKV7,), "channel_mixers": ("rwkv7_channel",)}}


def vary(config: ModelConfig, **changes: Any) -> ModelConfig:
    """The network with other numbers, those of its layers among them, and shorthands:

    ``mixers``: in each block of the pattern; ``channel_mixers``: their kinds; ``positions``: "rope"
    or "learned". A channel mixer may be None.
    """
    if positions := changes.pop("positions", None):
        changes["learned_positions"] = positions == "learned"
        changes.setdefault("rope_theta", None if positions == "learned" else 100.0)
    given = [changes[name] for name in ("mixers", "channel_mixers") if name in changes]
    mixers = changes.pop("mixers", [block.mixer for block in config.blocks])
    own_kinds = [block.channel_mixer and block.channel_mixer.kind for block in config.blocks]
    kinds = changes.pop("channel_mixers", own_kinds)
    own = {field: changes.pop(field) for field in _LAYER_FIELDS & changes.keys()}
    blocks = []
    for place in range(max(map(len, given or [config.blocks]))):
        mixer, kind = mixers[place % len(mixers)], kinds[place % len(kinds)]
        mlp = config.blocks[place % len(config.blocks)].channel_mixer
        if kind is None or mlp is None or kind != mlp.kind:
            mlp = None if kind is None else _MLPS[kind](d_ff=40 if mlp is None else mlp.d_ff)
        blocks.append(BlockConfig(mixer=_with(mixer, own), channel_mixer=_with(mlp, own)))
    return replace(config, blocks=tuple(blocks), **changes)


_LAYER_FIELDS = {field for kind in (*MIXERS, *CHANNEL_MIXERS) for field in kind.__struct_fields__}


def _with(layer: Any, values: dict[str, Any]) -> Any:
    if layer is None:
        return None
    mine = {name: value for name, value in values.items() if name in layer.__struct_fields__}
    return msgspec.structs.replace(layer, **mine)


def attention(config: ModelConfig) -> AttentionConfig:
    """The attention of its first block."""
    mixer = config.blocks[0].mixer
    assert isinstance(mixer, AttentionConfig)
    return mixer
