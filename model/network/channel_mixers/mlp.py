# SPDX-License-Identifier: Apache-2.0
"""Dense channel mixers: SwiGLU (Shazeer 2020, arXiv:2002.05202, eq. 6) and GELU."""

import math

import jax
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from model.network.config import ModelConfig
from model.network.layers import constant, normal, project, shared
from model.network.sharding import Layout


class SwiGLU(nnx.Module):
    """(silu(x W_gate) * x W_up) W_down."""

    def __init__(self, config: ModelConfig, layout: Layout, *, rngs: nnx.Rngs):
        self.gate = Linear(config, layout, is_input=True, rngs=rngs)
        self.up = Linear(config, layout, is_input=True, rngs=rngs)
        self.down = Linear(config, layout, is_input=False, rngs=rngs)
        self.layout = layout

    def __call__(self, x: Float[Array, "B T D"]) -> tuple[Float[Array, "B T D"], dict]:
        x = shared(x, self.layout)
        return self.down(jax.nn.silu(self.gate(x)) * self.up(x)), {}


class GELU(nnx.Module):
    """gelu(x W_up) W_down, with GPT-2's tanh form of the GELU."""

    def __init__(self, config: ModelConfig, layout: Layout, *, rngs: nnx.Rngs):
        self.up = Linear(config, layout, is_input=True, rngs=rngs)
        self.down = Linear(config, layout, is_input=False, rngs=rngs)

    def __call__(self, x: Float[Array, "B T D"]) -> tuple[Float[Array, "B T D"], dict]:
        return self.down(jax.nn.gelu(self.up(x), approximate=True)), {}


class Linear(nnx.Module):
    """x W (+ b) from the residual stream into the hidden units, or back."""

    def __init__(self, config: ModelConfig, layout: Layout, *, is_input: bool, rngs: nnx.Rngs):
        D, F = config.d_model, config.d_ff
        shape, weight, bias, out = (
            ((D, F), layout.mlp_in_df, layout.mlp_in_bias_f, layout.act_btf)
            if is_input
            else ((F, D), layout.mlp_out_fd, layout.vector_d, layout.act_btd)
        )
        std = config.hidden_init_gain / math.sqrt(shape[0])
        self.weight = normal(rngs, shape, std, weight, "hidden")
        self.bias = constant((shape[1],), 0.0, bias) if config.use_bias else None
        self.out = P(*out)

    def __call__(self, x: Float[Array, "B T n_in"]) -> Float[Array, "B T n_out"]:
        return project("bti,io->bto", x, self.weight, self.bias, self.out)
