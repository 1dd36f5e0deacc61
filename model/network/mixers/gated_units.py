# SPDX-License-Identifier: Apache-2.0
"""Layers of gated recurrent units: one cell, applied position by position."""

import functools
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from model.network.context import Context
from model.network.layers import State, project, shared
from model.network.mixers.recurrent_layer import RecurrentLayer, begins
from model.network.reshaped import reshaped
from model.network.sharding import Layout

Cell = Callable[[Float[Array, "B A H"], State], State]


class GatedUnits(RecurrentLayer):
    """What the units hold after a position is cell(gates, what they held before it); the gates add
    up what the input says to them and h W_recurrent; the output is h' W_output.

    The products with the input are one, before the scan. State and scan are float32. Where a
    segment begins the state is zero.
    """

    holds: ClassVar[tuple[str, ...]]
    """Names of what the units hold; "h", which they say, among them."""

    input_adh: nnx.Param
    recurrent_auh: nnx.Param
    output_hd: nnx.Param
    gate_bias: nnx.Param | None = None
    output_bias: nnx.Param | None = None

    def cell(self, gates: Float[Array, "B A H"], held: State) -> State:
        """The state of the next position. Of ``held["h"]`` the gates know the product already."""
        raise NotImplementedError

    def input_gates(self, x: Float[Array, "B T D"]) -> Float[Array, "B T A H"]:
        """What the input says to the gates, float32. Those that the state speaks to come last."""
        out = P(*self.layout.act("btah"))
        gates = project("btd,adh->btah", x, self.input_adh, self.gate_bias, out)
        return gates.astype(jnp.float32)

    def init_state(self, batch_size: int, length: int, dtype: DTypeLike) -> State:
        """Zeros, [B, H] each."""
        shape = (batch_size, self.output_hd.shape[-2])  # Blocks may be stacked.
        return dict.fromkeys(self.holds, self.zeros("bh", shape, jnp.float32))

    def read(
        self, x: Float[Array, "B T D"], state: State, context: Context
    ) -> tuple[Float[Array, "B T D"], Context, State]:
        is_first = begins(context.segments)
        gates = jnp.moveaxis(self.input_gates(shared(x, self.layout)), 1, 0)
        is_kept = None if is_first is None else ~is_first.T[:, :, None]
        recurrent = self.recurrent_auh[...]
        state, h = _recur(self.layout, self.cell, gates, recurrent, state, is_kept)
        h = jnp.moveaxis(h, 0, 1).astype(x.dtype)
        out = P(*self.layout.act("btd"))
        y = project("bth,hd->btd", h, self.output_hd, self.output_bias, out)
        return y, context, state


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _recur(
    layout: Layout,
    cell: Cell,
    gates: Float[Array, "T B A H"],
    recurrent: Float[Array, "A_recurrent H H"],
    state: State,
    is_kept: Bool[Array, "T B 1"] | None,
) -> tuple[State, Float[Array, "T B H"]]:
    """(the state after all positions, h at each), of what the input says to the gates.

    It has its own derivative: JAX's would add an [A, H, H] outer product at every position, and
    reduce it over the mesh there. This one is a single product after the scan.
    """
    return _recur_forward(layout, cell, gates, recurrent, state, is_kept)[0]


def _recur_forward(
    layout: Layout,
    cell: Cell,
    gates: Array,
    recurrent: Array,
    state: State,
    is_kept: Array | None,
) -> tuple:
    n_own = gates.shape[2] - len(recurrent)  # Gates that hear the input alone.
    by_unit = recurrent.transpose(1, 0, 2)  # Not at every position.

    def position(state: State, inputs: tuple) -> tuple[State, tuple]:
        gates, is_kept = inputs
        state = _kept(state, is_kept)
        whole = jax.sharding.reshard(state["h"], P(*layout.act("bu")))
        out = P(*layout.act("bah"))
        told = jnp.einsum("bu,uah->bah", whole, by_unit, out_sharding=out)
        gates = gates + (jnp.pad(told, ((0, 0), (n_own, 0), (0, 0))) if n_own else told)
        after = cell(gates, state)
        return after, (after["h"], (gates, state))

    after, (h, saved) = jax.lax.scan(position, state, (gates, is_kept))
    return (after, h), (saved, recurrent, is_kept)


def _recur_backward(layout: Layout, cell: Cell, saved: tuple, slopes: tuple) -> tuple:
    """Of the positions, last to first; then of the recurrent weights."""
    (gates, before), recurrent, is_kept = saved
    act, n_own = layout.act, gates.shape[2] - len(recurrent)
    by_gate = recurrent.transpose(0, 2, 1)

    def position(later: State, inputs: tuple) -> tuple[State, Array]:
        slope, gates, held, is_kept = inputs
        _, pull = jax.vjp(cell, gates, held)
        by_gates, by_state = pull(later | {"h": later["h"] + slope})
        told, out = by_gates[:, n_own:], P(*act("bh"))
        by_h = jnp.einsum("bah,ahu->bu", told, by_gate, out_sharding=out)
        return _kept(by_state | {"h": by_state["h"] + by_h}, is_kept), by_gates

    inputs = (slopes[1], gates, before, is_kept)
    by_state, by_gates = jax.lax.scan(position, slopes[0], inputs, reverse=True)
    whole = jax.sharding.reshard(before["h"], P(*act("tbu")))
    # Over one axis, and in the order of the product: else XLA's CPU takes twice as long.
    h, told = (
        reshaped(x, (x.shape[0] * x.shape[1], *x.shape[2:]), (0, *range(2, x.ndim)))
        for x in (jnp.moveaxis(whole, 1, 0), jnp.moveaxis(by_gates[:, :, n_own:], 1, 0))
    )
    a, u, unit = jax.typeof(recurrent).sharding.spec
    by_unit = jnp.einsum("nu,nah->uah", h, told, out_sharding=P(u, a, unit))
    by_recurrent = jax.lax.optimization_barrier(by_unit).transpose(1, 0, 2)
    return by_gates, by_recurrent, by_state, None


_recur.defvjp(_recur_forward, _recur_backward)


def _kept(state: State, is_kept: Bool[Array, "B 1"] | None) -> State:
    """Zero where a segment begins."""
    if is_kept is None:
        return state
    return {name: jnp.where(is_kept, value, 0.0) for name, value in state.items()}
