# SPDX-License-Identifier: Apache-2.0
"""The trunk: embedding, n_layers x (norm, mixer, norm, channel mixer), norm, head."""

import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from model.channel_mixers.mlp import GELU, SwiGLU
from model.config import ModelConfig
from model.layers import Embedding, make_norm, normal
from model.mixers.attention import Attention
from model.sharding import FSDP_TENSOR, Layout

MIXERS = {"attention": Attention}
CHANNEL_MIXERS = {"swiglu": SwiGLU, "gelu": GELU}


class Block(nnx.Module):
    """x + m mixer(norm(x)), then x + m channel_mixer(norm(x)); m = residual_multiplier."""

    def __init__(
        self, config: ModelConfig, mixer: str, channel_mixer: str, layout: Layout, rngs: nnx.Rngs
    ):
        self.mixer_norm = make_norm(config, layout)
        self.mixer = MIXERS[mixer](config, layout, rngs=rngs)
        self.channel_mixer_norm = make_norm(config, layout)
        self.channel_mixer = CHANNEL_MIXERS[channel_mixer](config, layout, rngs=rngs)
        self.multiplier = config.residual_multiplier

    def __call__(self, x: Float[Array, "B L D"]) -> tuple[Float[Array, "B L D"], dict]:
        mixed, mixer_aux = self.mixer(self.mixer_norm(x))
        x = x + self.multiplier * mixed
        mixed, channel_aux = self.channel_mixer(self.channel_mixer_norm(x))
        return x + self.multiplier * mixed, mixer_aux | channel_aux


class Transformer(nnx.Module):
    """Decoder-only Transformer; GPT-2, Llama and Qwen3 are configurations of it.

    Build it with a mesh in context (``jax.set_mesh``): one device is a mesh of ones.

    Args:
      config: the shape; every number that matters is in it.
      compute_dtype: dtype of activations and matrix products; parameters stay float32, and so
        do norms, softmax and logits.
      rngs: ``params`` stream.
      layout: array -> mesh axes.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        compute_dtype: DTypeLike,
        rngs: nnx.Rngs,
        layout: Layout = FSDP_TENSOR,
    ):
        names = zip(config.layer_mixers, config.layer_channel_mixers, strict=True)
        self.embedding = Embedding(config, layout, rngs=rngs)
        self.blocks = nnx.List(
            Block(config, mixer, channel_mixer, layout, rngs) for mixer, channel_mixer in names
        )
        self.norm = make_norm(config, layout)
        shape, std = (config.d_model, config.vocab_size), config.output_init_std
        is_tied = config.tie_embeddings
        self.head_dv = None if is_tied else normal(rngs, shape, std, layout.head_dv, "output")
        self.logit_multiplier = config.logit_multiplier
        self.compute_dtype = compute_dtype
        self.layout = layout

    def __call__(self, tokens: Int[Array, "B L"]) -> tuple[Float[Array, "B L V"], dict]:
        """Float32 logits of the next token at every position, and what the blocks have to say."""
        x = self.embedding(tokens, self.compute_dtype)
        aux: dict = {}
        for block in self.blocks:
            x, block_aux = block(x)
            aux |= block_aux
        return self._logits(self.norm(x)), aux

    def _logits(self, x: Float[Array, "B L D"]) -> Float[Array, "B L V"]:
        head = self.head_dv[...] if self.head_dv is not None else self.embedding.tokens_vd[...].T
        logits = jnp.einsum(
            "bld,dv->blv",
            x,
            head.astype(x.dtype),
            preferred_element_type=jnp.float32,
            out_sharding=P(*self.layout.logits_blv),
        )
        return logits * self.logit_multiplier
