# SPDX-License-Identifier: Apache-2.0
"""The trunk: embedding, n_layers x (norm, mixer, norm, channel mixer), norm, head."""

import functools
import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from model.network.config import ModelConfig
from model.network.context import PLAIN_CONTEXT, Context, documents_apart
from model.network.counts.kinds import BlockConfig
from model.network.counts.layer import LayerConfig
from model.network.counts.total import outer_weights
from model.network.execution import PLAIN, Execution
from model.network.layers import PRODUCT, Embedding, Layer, Norm, Said, State, parameter
from model.network.sharding import LAYOUTS, Layout


def implementation(config: LayerConfig) -> type[Layer]:
    """The class that computes a layer of this kind."""
    module, _, name = config.implementation.partition(":")
    return getattr(importlib.import_module(module), name)


class Block(nnx.Module):
    """x + m mixer(norm(x)), then x + m channel_mixer(norm(x)); m = residual_multiplier."""

    def __init__(
        self,
        config: BlockConfig,
        net: ModelConfig,
        *,
        execution: Execution,
        layout: Layout,
        rngs: nnx.Rngs,
    ):
        def layer(config: LayerConfig) -> Layer:
            kind = implementation(config)
            return kind(config, net, execution=execution, layout=layout, rngs=rngs)

        self.mixer_norm = Norm(net, layout, rngs=rngs)
        self.mixer = layer(config.mixer)
        self.branches: tuple[str, ...] = ("mixer",)
        if config.channel_mixer is not None:
            self.channel_mixer_norm = Norm(net, layout, rngs=rngs)
            self.channel_mixer = layer(config.channel_mixer)
            self.branches += ("channel_mixer",)
        self.multiplier = net.residual_multiplier

    def __call__(
        self, x: Float[Array, "B T D"], context: Context
    ) -> tuple[Float[Array, "B T D"], Context, Said]:
        said: Said = {}
        for name in self.branches:
            mixed, context, more = self.branch(name, x, context)
            x, said = x + self.multiplier * mixed, _added(said, more)
        return x, context, said

    def branch(
        self, name: str, x: Float[Array, "B T D"], context: Context
    ) -> tuple[Float[Array, "B T D"], Context, Said]:
        """What the layer of this name adds to the stream, before the multiplier."""
        return self.layer(name)(self._norm(name)(x), context)

    def step(
        self, x: Float[Array, "B n D"], states: dict[str, State], context: Context
    ) -> tuple[Float[Array, "B n D"], Context, dict[str, State]]:
        """The same of the next n positions, and what each layer remembers then."""
        after = {}
        for name in self.branches:
            normed = self._norm(name)(x)
            mixed, context, after[name] = self.layer(name).step(normed, states[name], context)
            x = x + self.multiplier * mixed
        return x, context, after

    def layer(self, name: str) -> Layer:
        return getattr(self, name)

    def _norm(self, name: str) -> Norm:
        return getattr(self, f"{name}_norm")


class Transformer(nnx.Module):
    """A stack of residual blocks over token ids; GPT-2, Llama and Qwen3 are configurations of it.

    Build it with a mesh in context (``jax.set_mesh``): one device is a mesh of ones. The pattern of
    blocks is repeated over the depth; ``blocks`` holds one block per place in the pattern, its
    parameters stacked over the repeats, [n_repeats, ...].

    Args:
      config: the shape; every number that matters is in it.
      compute_dtype: dtype of activations and matrix products; parameters stay float32, and so
        do norms, softmax and logits.
      execution: its attention, layers and remat must be resolved, not "auto".
      rngs: ``params`` stream.
      layout: letter of a dimension -> mesh axes; None is the execution's.
    """

    head_dv: nnx.Param | None = None

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
        self.embedding = Embedding(config, layout, rngs=rngs)
        period = len(config.blocks)
        blocks = [
            Block(block, config, execution=execution, layout=layout, rngs=rngs)
            for block in config.blocks * config.n_repeats
        ]
        self.blocks = nnx.List(_stacked(blocks[place::period]) for place in range(period))
        self.norm = Norm(config, layout, rngs=rngs, role="final_norm")
        if not config.tie_embeddings:
            self.head_dv = parameter(rngs, outer_weights(config)["head_dv"], layout)
        self.config = config
        self.compute_dtype = compute_dtype
        self.execution = execution
        self.layout = layout

    def __call__(
        self, tokens: Int[Array, "B T"], context: Context = PLAIN_CONTEXT
    ) -> tuple[Float[Array, "B T V"], Said]:
        """Float32 logits at every position, and what the layers have to say."""
        x, said = self.features(tokens, context)
        return self._logits(x), said

    def features(
        self, tokens: Int[Array, "B T"], context: Context = PLAIN_CONTEXT
    ) -> tuple[Float[Array, "B T D"], Said]:
        """What the head multiplies, and what the layers have to say, summed over all of them."""
        if self.config.separator is not None and context.segments is None:
            context = documents_apart(tokens, self.config.separator, context)
        x = self.embedding(tokens, self.compute_dtype, context.positions)
        x, said = self._through_blocks(x, context)
        return self.norm(x), said

    def head(self) -> Float[Array, "D V"]:
        return self.head_dv[...] if self.head_dv is not None else self.embedding.tokens_vd[...].T

    def _logits(self, x: Float[Array, "B T D"]) -> Float[Array, "B T V"]:
        logits = jnp.einsum(
            "btd,dv->btv",
            x,
            self.head().astype(x.dtype),
            preferred_element_type=jnp.float32,
            out_sharding=P(*self.layout.act("btv")),
        )
        return logits * self.config.logit_multiplier

    def _through_blocks(
        self, x: Float[Array, "B T D"], context: Context
    ) -> tuple[Float[Array, "B T D"], Said]:
        (graphdef, stacked), period = self._split_blocks(), len(self.blocks)
        begin = dict(context.shared) | self.shared_values(x)

        def repeat(carry: tuple, inputs: tuple) -> tuple[tuple, Said]:
            x, shared = carry
            number, state = inputs
            said: Said = {}
            for place, block in enumerate(nnx.merge(graphdef, state)):
                own = context._replace(shared=shared)
                if context.key is not None:
                    depth = period * number + place
                    own = own._replace(key=jax.random.fold_in(context.key, depth))
                x, own, more = block(x, own)
                shared, said = own.shared, _added(said, more)
            return (x, shared), said

        repeat, n = remat(repeat, self.execution.remat), self.config.n_repeats
        if self.execution.layers == "scanned":
            inputs = jnp.arange(n), stacked
            (x, _), by_repeat = jax.lax.scan(repeat, (x, begin), inputs)
            return x, jax.tree.map(functools.partial(jnp.sum, axis=0), by_repeat)
        said: Said = {}
        carry = (x, begin)
        for number, state in enumerate(_unstacked(stacked)):
            carry, more = repeat(carry, (number, state))
            said = _added(said, more)
        return carry[0], said

    def shared_values(self, x: Float[Array, "B T D"]) -> dict[str, Array]:
        """What layers leave for later ones, as it is before the first block."""
        layers = [block.layer(name) for block in self.blocks for name in block.branches]
        return {name: one for layer in layers for name, one in layer.shared_values(x).items()}

    def _split_blocks(self) -> tuple[nnx.GraphDef[Any], nnx.State]:
        return nnx.split(self.blocks)

    def init_state(self, batch_size: int, length: int) -> dict:
        """What the network remembers before the first token.

        Args:
          length: most tokens that will be given to it, at most ``seq_len``.
        """
        layers = [
            {
                name: block.layer(name).init_state(batch_size, length, self.compute_dtype)
                for name in block.branches
            }
            for block in self.blocks
        ]
        return {"position": jnp.int32(0), "layers": [layers] * self.config.n_repeats}

    def step(self, tokens: Int[Array, "B n"], state: dict) -> tuple[Float[Array, "B n V"], dict]:
        """Logits of the next n tokens, and what the network remembers after them.

        The same as of the whole sequence so far, without computing that again: for sampling, on
        one device. All tokens are of one document.
        """
        position = state["position"]
        after: list[list[dict[str, State]]] = []
        positions = position + jnp.arange(tokens.shape[1])[None]
        context = PLAIN_CONTEXT._replace(positions=positions)
        x = self.embedding(tokens, self.compute_dtype, positions)
        context = context._replace(shared=self.shared_values(x))
        graphdef, stacked = self._split_blocks()
        for weights, states in zip(_unstacked(stacked), state["layers"], strict=True):
            after.append([])
            for block, own in zip(nnx.merge(graphdef, weights), states, strict=True):
                x, context, own = block.step(x, own, context)
                after[-1].append(own)
        state = {"position": position + tokens.shape[1], "layers": after}
        return self._logits(self.norm(x)), state


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
