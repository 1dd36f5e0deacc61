# SPDX-License-Identifier: Apache-2.0
"""A long short-term memory (Hochreiter & Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735) with
forget gates (Gers et al. 2000, doi:10.1162/089976600300015015), as torch.nn.LSTM has it.
"""

import functools
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from model.network.context import Context, require_causal
from model.network.counts.lstm import LSTMConfig
from model.network.layers import Layer, Said, State, project, shared
from model.network.sharding import Layout


class Memory(NamedTuple):
    """Of one position: what the units say, and what they hold."""

    h: Float[Array, "B H"]
    c: Float[Array, "B H"]


class LSTM(Layer):
    """i, f, g, o = x W_input + h W_recurrent + bias; c' = sigmoid(f + forget_bias) c + sigmoid(i)
    tanh(g); h' = sigmoid(o) tanh(c'); the output is h' W_output.

    The products with the input are one, before the scan. State and scan are float32. Where a
    segment begins the state is zero.
    """

    input_adh: nnx.Param
    recurrent_auh: nnx.Param
    output_hd: nnx.Param
    gate_bias: nnx.Param | None = None
    output_bias: nnx.Param | None = None

    def __call__(
        self, x: Float[Array, "B T D"], context: Context
    ) -> tuple[Float[Array, "B T D"], Context, Said]:
        require_causal(context, "an LSTM")
        before = self.init_state(x.shape[0], x.shape[1], x.dtype)
        is_first = None
        if (segments := context.segments) is not None:
            is_first = jnp.diff(segments, axis=1, prepend=segments[:, :1]) != 0
        return self._read(x, before, is_first)[0], context, {}

    def init_state(self, batch_size: int, length: int, dtype: DTypeLike) -> State:
        """Zeros, [B, H] each."""
        shape = (batch_size, cast(LSTMConfig, self.config).d_state)
        zeros = jnp.zeros(shape, jnp.float32, out_sharding=P(*self.layout.act("bh")))
        return {"h": zeros, "c": zeros}

    def step(
        self, x: Float[Array, "B n D"], state: State, context: Context
    ) -> tuple[Float[Array, "B n D"], State]:
        return self._read(x, state, None)

    def _read(
        self, x: Float[Array, "B T D"], state: State, is_first: Bool[Array, "B T"] | None
    ) -> tuple[Float[Array, "B T D"], State]:
        sizes, act = cast(LSTMConfig, self.config), self.layout.act
        x = shared(x, self.layout)
        gates = project("btd,adh->btah", x, self.input_adh, self.gate_bias, P(*act("btah")))
        gates = jnp.moveaxis(gates.astype(jnp.float32), 1, 0)
        is_kept = None if is_first is None else ~is_first.T[:, :, None]
        memory, h = _recur(
            self.layout,
            sizes.forget_bias,
            gates,
            self.recurrent_auh[...],
            Memory(**state),
            is_kept,
        )
        h = jnp.moveaxis(h, 0, 1).astype(x.dtype)
        out = project("bth,hd->btd", h, self.output_hd, self.output_bias, P(*act("btd")))
        return out, memory._asdict()


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _recur(
    layout: Layout,
    forget_bias: float,
    gates: Float[Array, "T B 4 H"],
    recurrent: Float[Array, "4 H H"],
    memory: Memory,
    is_kept: Bool[Array, "T B 1"] | None,
) -> tuple[Memory, Float[Array, "T B H"]]:
    """(the state after all positions, h at each), of what the input says to the gates.

    It has its own derivative: JAX's would add a [4, H, H] outer product at every position, and
    reduce it over the mesh there. This one is a single product after the scan.
    """
    return _recur_forward(layout, forget_bias, gates, recurrent, memory, is_kept)[0]


def _recur_forward(
    layout: Layout,
    forget_bias: float,
    gates: Array,
    recurrent: Array,
    memory: Memory,
    is_kept: Array | None,
) -> tuple:
    def position(memory: Memory, inputs: tuple) -> tuple[Memory, tuple]:
        gates, is_kept = inputs
        if is_kept is not None:
            memory = Memory(*(jnp.where(is_kept, value, 0.0) for value in memory))
        whole = jax.sharding.reshard(memory.h, P(*layout.act("bu")))
        out = P(*layout.act("bah"))
        gates = gates + jnp.einsum("bu,auh->bah", whole, recurrent, out_sharding=out)
        after = _cell(gates, memory.c, forget_bias)
        return after, (after.h, (gates, memory))

    after, (h, saved) = jax.lax.scan(position, memory, (gates, is_kept))
    return (after, h), (saved, recurrent, is_kept)


def _recur_backward(layout: Layout, forget_bias: float, saved: tuple, slopes: tuple) -> tuple:
    """Of the positions, last to first; then of the recurrent weights."""
    (gates, before), recurrent, is_kept = saved
    act = layout.act

    def position(later: Memory, inputs: tuple) -> tuple[Memory, Array]:
        slope, gates, c, is_kept = inputs
        _, pull = jax.vjp(lambda gates, c: _cell(gates, c, forget_bias), gates, c)
        by_gates, by_c = pull(Memory(later.h + slope, later.c))
        by_h = jnp.einsum("bah,auh->bu", by_gates, recurrent, out_sharding=P(*act("bh")))
        by_memory = Memory(by_h, by_c)
        if is_kept is not None:
            by_memory = Memory(*(jnp.where(is_kept, value, 0.0) for value in by_memory))
        return by_memory, by_gates

    inputs = (slopes[1], gates, before.c, is_kept)
    by_memory, by_gates = jax.lax.scan(position, slopes[0], inputs, reverse=True)
    whole = jax.sharding.reshard(before.h, P(*act("tbu")))
    by_recurrent = jnp.einsum(
        "tbu,tbah->auh", whole, by_gates, out_sharding=jax.typeof(recurrent).sharding.spec
    )
    return by_gates, by_recurrent, by_memory, None


_recur.defvjp(_recur_forward, _recur_backward)


def _cell(gates: Float[Array, "B 4 H"], c: Float[Array, "B H"], forget_bias: float) -> Memory:
    """The state of the next position, in torch's order of the gates."""
    i, f, g, o = (gates[:, gate] for gate in range(4))
    c = jax.nn.sigmoid(f + forget_bias) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return Memory(jax.nn.sigmoid(o) * jnp.tanh(c), c)
