# SPDX-License-Identifier: Apache-2.0
"""The shape of a network. Standard library only, so that planning needs no JAX."""

from dataclasses import dataclass
from typing import Literal

from model.field_checks import (
    check_choice,
    check_flags,
    check_names,
    check_real,
    check_whole,
    shown,
)

# A pattern is written out over the depth: a million layers are a mistake, not a network.
MAX_LAYERS = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """A decoder-only Transformer, fully resolved: no field has a default, none is derived later.

    Attributes:
      vocab_size: V, number of token ids.
      seq_len: T, tokens per training sequence; sizes learned positions and the attention FLOPs.
      d_model: D, width of the residual stream.
      n_layers: number of blocks, a multiple of the length of each pattern below.
      n_heads: query heads; a multiple of ``n_kv_heads``.
      n_kv_heads: key and value heads; fewer than ``n_heads`` is grouped-query attention
        (Ainslie et al. 2023, arXiv:2305.13245).
      d_head: K, width of one head; even where positions are rotary.
      d_ff: F, hidden width of the channel mixer.
      mixers: pattern of sequence mixers by name, repeated over the depth.
      channel_mixers: pattern of channel mixers by name ("swiglu", "gelu"), likewise.
      norm: "rmsnorm" or "layernorm"; both come before the mixer (pre-norm).
      norm_eps: added to the variance.
      positions: "rope" (Su et al. 2021, arXiv:2104.09864) or "learned" (GPT-2).
      rope_theta: base of the rotary frequencies.
      use_bias: biases in every linear map and in LayerNorm (GPT-2: true, Llama: false).
      use_qk_norm: RMSNorm with gain on queries and keys, per head, before the rotation
        (Henry et al. 2020, arXiv:2010.04245; Qwen3).
      tie_embeddings: the output head is the transposed embedding.
      embedding_init_std: standard deviation of embeddings and learned positions.
      hidden_init_gain: hidden matrices ~ N(0, (gain^2 / fan_in)).
      output_init_std: standard deviation of an untied head.
      residual_multiplier: factor on every residual branch (CompleteP's m_L^-alpha).
      logit_multiplier: factor on the logits (muP's 1/m_N).
    """

    vocab_size: int
    seq_len: int
    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_ff: int
    mixers: tuple[str, ...]
    channel_mixers: tuple[str, ...]
    norm: Literal["rmsnorm", "layernorm"]
    norm_eps: float
    positions: Literal["rope", "learned"]
    rope_theta: float
    use_bias: bool
    use_qk_norm: bool
    tie_embeddings: bool
    embedding_init_std: float
    hidden_init_gain: float
    output_init_std: float
    residual_multiplier: float
    logit_multiplier: float

    def __post_init__(self) -> None:
        check_whole(self, "vocab_size seq_len d_model n_heads n_kv_heads d_head d_ff")
        check_whole(self, "n_layers", high=MAX_LAYERS)
        check_real(self, "rope_theta hidden_init_gain residual_multiplier logit_multiplier")
        check_real(self, "norm_eps embedding_init_std output_init_std", low=0.0)
        check_choice(self, "norm", ("rmsnorm", "layernorm"))
        check_choice(self, "positions", ("rope", "learned"))
        check_flags(self, "use_bias use_qk_norm tie_embeddings")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(
                f"n_heads={self.n_heads} is not a multiple of n_kv_heads={self.n_kv_heads}."
            )
        for name in ("mixers", "channel_mixers"):
            pattern = getattr(self, name)
            check_names(self, name)
            if self.n_layers % len(pattern):
                raise ValueError(
                    f"{name}={shown(pattern)}: the length of the pattern must divide "
                    f"n_layers={self.n_layers}."
                )
        if self.positions == "rope" and self.d_head % 2:
            raise ValueError(f"d_head={self.d_head}: rotary positions need an even head width.")

    @property
    def queries_per_kv_head(self) -> int:
        return self.n_heads // self.n_kv_heads

    @property
    def layer_mixers(self) -> tuple[str, ...]:
        """Name of the sequence mixer of each layer, first to last."""
        return self.mixers * (self.n_layers // len(self.mixers))

    @property
    def layer_channel_mixers(self) -> tuple[str, ...]:
        """Name of the channel mixer of each layer, first to last."""
        return self.channel_mixers * (self.n_layers // len(self.channel_mixers))
