# SPDX-License-Identifier: Apache-2.0
"""The trunk: embedding, n_layers x (norm, mixer, norm, channel mixer), norm, head."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from model.network.channel_mixers.mlp import GELU, SwiGLU
from model.network.config import ModelConfig
from model.network.execution import PLAIN, Execution
from model.network.layers import PRODUCT, Embedding, make_norm, normal
from model.network.mixers.attention import Attention
from model.network.sharding import LAYOUTS, Layout

MIXERS = {"attention": Attention}
CHANNEL_MIXERS = {"swiglu": SwiGLU, "gelu": GELU}


class Block(nnx.Module):
    """x + m mixer(norm(x)), then x + m channel_mixer(norm(x)); m = residual_multiplier."""

    def __init__(
        self,
        config: ModelConfig,
        mixer: str,
        channel_mixer: str,
        layout: Layout,
        kernel: str,
        rngs: nnx.Rngs,
    ):
        self.mixer_norm = make_norm(config, layout)
        self.mixer = MIXERS[mixer](config, layout, kernel=kernel, rngs=rngs)
        self.channel_mixer_norm = make_norm(config, layout)
        self.channel_mixer = CHANNEL_MIXERS[channel_mixer](config, layout, rngs=rngs)
        self.multiplier = config.residual_multiplier

    def __call__(self, x: Float[Array, "B T D"]) -> tuple[Float[Array, "B T D"], dict]:
        mixed, mixer_aux = self.mixer(self.mixer_norm(x))
        x = x + self.multiplier * mixed
        mixed, channel_aux = self.channel_mixer(self.channel_mixer_norm(x))
        return x + self.multiplier * mixed, _added(mixer_aux, channel_aux)


class Transformer(nnx.Module):
    """Decoder-only Transformer; GPT-2, Llama and Qwen3 are configurations of it.

    Build it with a mesh in context (``jax.set_mesh``): one device is a mesh of ones. The pattern of
    mixers is repeated over the depth; ``blocks`` holds one block per place in the pattern, its
    parameters stacked over the repeats, [n_repeats, ...].

    Args:
      config: the shape; every number that matters is in it.
      compute_dtype: dtype of activations and matrix products; parameters stay float32, and so
        do norms, softmax and logits.
      execution: its attention, layers and remat must be resolved, not "auto".
      rngs: ``params`` stream.
      layout: array -> mesh axes; None is the execution's.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        compute_dtype: DTypeLike,
        rngs: nnx.Rngs,
        execution: Execution = PLAIN,
        layout: Layout | None = None,
    ):
        layout = layout or LAYOUTS[execution.layout]
        kernel = execution.attention
        self.embedding = Embedding(config, layout, rngs=rngs)
        blocks = [
            Block(config, mixer, channel_mixer, layout, kernel, rngs)
            for mixer, channel_mixer in zip(
                config.layer_mixers, config.layer_channel_mixers, strict=True
            )
        ]
        period = math.lcm(len(config.mixers), len(config.channel_mixers))
        self.blocks = nnx.List(_stacked(blocks[place::period]) for place in range(period))
        self.norm = make_norm(config, layout, role="final_norm")
        shape, std = (config.d_model, config.vocab_size), config.output_init_std
        is_tied = config.tie_embeddings
        self.head_dv = None if is_tied else normal(rngs, shape, std, layout.head_dv, "output")
        self.logit_multiplier = config.logit_multiplier
        self.compute_dtype = compute_dtype
        self.execution = execution
        self.layout = layout

    def __call__(self, tokens: Int[Array, "B T"]) -> tuple[Float[Array, "B T V"], dict]:
        """Float32 logits of the next token at every position, and what the blocks have to say."""
        x, aux = self.features(tokens)
        logits = jnp.einsum(
            "btd,dv->btv",
            x,
            self.head().astype(x.dtype),
            preferred_element_type=jnp.float32,
            out_sharding=P(*self.layout.logits_btv),
        )
        return logits * self.logit_multiplier, aux

    def features(self, tokens: Int[Array, "B T"]) -> tuple[Float[Array, "B T D"], dict]:
        """What the head multiplies, and what the blocks have to say, summed over all layers."""
        x, aux = self._through_blocks(self.embedding(tokens, self.compute_dtype))
        return self.norm(x), aux

    def head(self) -> Float[Array, "D V"]:
        return self.head_dv[...] if self.head_dv is not None else self.embedding.tokens_vd[...].T

    def _through_blocks(self, x: Float[Array, "B T D"]) -> tuple[Float[Array, "B T D"], dict]:
        graphdef, stacked = nnx.split(self.blocks)

        def repeat(x: Array, state: nnx.State) -> tuple[Array, dict]:
            aux: dict = {}
            for block in nnx.merge(graphdef, state):
                x, block_aux = block(x)
                aux = _added(aux, block_aux)
            return x, aux

        repeat = remat(repeat, self.execution.remat)
        if self.execution.layers == "scanned":
            x, by_repeat = jax.lax.scan(repeat, x, stacked)
            return x, jax.tree.map(functools.partial(jnp.sum, axis=0), by_repeat)
        aux: dict = {}
        for state in _unstacked(stacked):
            x, repeat_aux = repeat(x, state)
            aux = _added(aux, repeat_aux)
        return x, aux


def _added(one: dict[str, Array], other: dict[str, Array]) -> dict[str, Array]:
    """Sums by name, of what either has."""
    return one | {
        name: one[name] + value if name in one else value for name, value in other.items()
    }


def remat(function: Callable, name: str) -> Callable:
    """The function, computed again in the backward pass but for what the policy keeps."""
    if name == "none":
        return function
    keep = jax.checkpoint_policies.save_only_these_names(PRODUCT) if name == "dots" else None
    return jax.checkpoint(function, policy=keep)


def _stacked(blocks: list[Block]) -> Block:
    """One block whose parameters carry those of all, [n, ...], every device its own parts."""
    graphdef = nnx.graphdef(blocks[0])

    def stack(*params: nnx.Variable) -> nnx.Variable:
        dims = (None, *params[0].get_metadata("out_sharding"))
        value = jnp.stack([param[...] for param in params])
        return params[0].replace(value).copy(out_sharding=P(*dims))

    is_param = lambda node: isinstance(node, nnx.Variable)  # noqa: E731
    states = [nnx.state(block) for block in blocks]
    return nnx.merge(graphdef, jax.tree.map(stack, *states, is_leaf=is_param))


def _unstacked(state: nnx.State) -> list[nnx.State]:
    """The states of the single layers. The transpose of a split is one concatenation."""
    leaves, structure = jax.tree.flatten(state)
    parts = [[part[0] for part in jax.lax.split(leaf, (1,) * len(leaf))] for leaf in leaves]
    return [jax.tree.unflatten(structure, layer) for layer in zip(*parts, strict=True)]
