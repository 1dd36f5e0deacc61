# SPDX-License-Identifier: Apache-2.0
"""Residual blocks: n_layers x (norm, mixer, norm, channel mixer), and a norm behind the last."""

import functools
import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from model.network.config import ModelConfig
from model.network.context import Context
from model.network.counts.kinds import BlockConfig
from model.network.counts.layer import LayerConfig, Role
from model.network.execution import Execution
from model.network.layers import PRODUCT, Layer, Norm, Said, State
from model.network.sharding import Layout


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
            x, said = x + self.multiplier * mixed, added(said, more)
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


class Stack(nnx.Module):
    """The blocks of a network, and the norm behind them.

    The pattern of blocks is repeated over the depth; ``blocks`` holds one block per place in the
    pattern, its parameters stacked over the repeats, [n_repeats, ...].

    Args:
      net: its ``blocks`` are built.
      role: of the norm behind them.
    """

    def __init__(
        self,
        net: ModelConfig,
        *,
        execution: Execution,
        layout: Layout,
        rngs: nnx.Rngs,
        role: Role = "vector",
    ):
        period = len(net.blocks)
        blocks = [
            Block(block, net, execution=execution, layout=layout, rngs=rngs)
            for block in net.blocks * net.n_repeats
        ]
        self.blocks = nnx.List(_stacked(blocks[place::period]) for place in range(period))
        self.norm = Norm(net, layout, rngs=rngs, role=role)
        self.n_repeats, self.execution = net.n_repeats, execution

    def through(
        self, x: Float[Array, "B T D"], context: Context
    ) -> tuple[Float[Array, "B T D"], Said]:
        """The stream behind the blocks and the norm; what the layers say, summed over all."""
        x, said = self._through_blocks(x, context)
        return self.norm(x), said

    def _through_blocks(
        self, x: Float[Array, "B T D"], context: Context
    ) -> tuple[Float[Array, "B T D"], Said]:
        (graphdef, stacked), period = self.split_blocks(), len(self.blocks)
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
                shared, said = own.shared, added(said, more)
            return (x, shared), said

        repeat, n = remat(repeat, self.execution.remat), self.n_repeats
        if self.execution.layers == "scanned":
            inputs = jnp.arange(n), stacked
            (x, _), by_repeat = jax.lax.scan(repeat, (x, begin), inputs)
            return x, jax.tree.map(functools.partial(jnp.sum, axis=0), by_repeat)
        said: Said = {}
        carry = (x, begin)
        for number, state in enumerate(unstacked(stacked)):
            carry, more = repeat(carry, (number, state))
            said = added(said, more)
        return carry[0], said

    def shared_values(self, x: Float[Array, "B T D"]) -> dict[str, Array]:
        """What layers leave for later ones, as it is before the first block."""
        layers = [block.layer(name) for block in self.blocks for name in block.branches]
        return {name: one for layer in layers for name, one in layer.shared_values(x).items()}

    def split_blocks(self) -> tuple[nnx.GraphDef[Any], nnx.State]:
        return nnx.split(self.blocks)


def added(one: dict[str, Array], other: dict[str, Array]) -> dict[str, Array]:
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


def unstacked(state: nnx.State) -> list[nnx.State]:
    """The states of the single layers. The transpose of a split is one concatenation."""
    leaves, structure = jax.tree.flatten(state)
    parts = [[part[0] for part in jax.lax.split(leaf, (1,) * len(leaf))] for leaf in leaves]
    return [jax.tree.unflatten(structure, layer) for layer in zip(*parts, strict=True)]
