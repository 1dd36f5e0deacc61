# SPDX-License-Identifier: Apache-2.0
"""A GRU that reads a source: additive soft attention (Bahdanau et al. 2014, arXiv:1409.0473)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from model.network.context import Context, require_causal
from model.network.layers import Said, project, shared
from model.network.mixers.gru import GRU

# What the state is told, and how much it asked of each token of the source.
Read = Callable[[Float[Array, "B H"]], tuple[Float[Array, "B A H"], Float[Array, "B T_memory"]]]


class AttendingGRU(GRU):
    """The gates n, r, z of a GRU hear c W_told beside the input, where c = sum_j a_j m_j of the
    memory m, a = softmax_j(score . tanh(h W_query + m_j W_key)) and h is the state before, at first
    tanh(m_1 W_begin) (app. A.1.2 and A.2.2). Without attention c, and what the state begins with,
    is the last of the memory (Cho et al. 2014, arXiv:1406.1078, sec. 2.2).

    The output is of the state alone, where theirs hears c and the input once more.
    """

    begin_dh: nnx.Param
    told_adh: nnx.Param
    query_uk: nnx.Param | None = None
    key_dk: nnx.Param | None = None
    score_k: nnx.Param | None = None

    def __call__(
        self, x: Float[Array, "B T D"], context: Context
    ) -> tuple[Float[Array, "B T D"], Context, Said]:
        require_causal(context, f"mixer {self.config.kind!r}")
        h, _ = self._states(x, context)
        out = P(*self.layout.act("btd"))
        h = h.astype(x.dtype)
        return project("bth,hd->btd", h, self.output_hd, self.output_bias, out), context, {}

    def alignment(self, x: Float[Array, "B T D"], context: Context) -> Float[Array, "B T T_memory"]:
        """How much each position attends to each of the source."""
        return self._states(x, context)[1]

    def _states(
        self, x: Float[Array, "B T D"], context: Context
    ) -> tuple[Float[Array, "B T H"], Float[Array, "B T T_memory"]]:
        """The state after each position, and how much it asked of each of the source."""
        assert context.memory is not None, "a decoder is given what the encoder made"
        act = self.layout.act
        gates = jnp.moveaxis(self.input_gates(shared(x, self.layout)), 1, 0)
        recurrent, read = self.recurrent_auh[...], self._reader(context.memory)

        def position(h: Array, gates: Array) -> tuple[Array, tuple[Array, Array]]:
            whole = jax.sharding.reshard(h, P(*act("bu")))
            told, weights = read(whole)
            said = jnp.einsum("bu,auh->bah", whole, recurrent, out_sharding=P(*act("bah")))
            none = jnp.zeros_like(told[:, :1])
            gates = gates + jnp.concatenate([told, none], 1) + jnp.concatenate([none, said], 1)
            h = self.cell(gates, {"h": h})["h"]
            return h, (h, weights)

        _, found = jax.lax.scan(position, self._begin(context.memory), gates)
        h, weights = (jnp.moveaxis(each, 0, 1) for each in found)
        return h, weights

    def _begin(self, memory: Float[Array, "B T_memory D"]) -> Float[Array, "B H"]:
        """The state before the first position. An encoder from both ends has seen all of the source
        at its first token, too."""
        end = slice(0, 1) if self.key_dk is not None else slice(-1, None)
        out = P(*self.layout.act("bth"))
        begin = project(
            "btd,dh->bth", shared(memory[:, end], self.layout), self.begin_dh, None, out
        )
        return jnp.tanh(begin[:, 0].astype(jnp.float32))

    def _reader(self, memory: Float[Array, "B T_memory D"]) -> Read:
        """What a state reads of this memory, in float32."""
        act = self.layout.act
        told_adh = jax.sharding.reshard(self.told_adh[...], P(None, None, act("bh")[1]))
        memory32 = memory.astype(jnp.float32)

        def told(c: Float[Array, "B D"]) -> Float[Array, "B A H"]:
            return jnp.einsum("bd,adh->bah", c, told_adh, out_sharding=P(*act("bah")))

        if self.key_dk is None or self.query_uk is None or self.score_k is None:
            last, n = told(memory32[:, -1]), memory.shape[1]
            weights = jnp.broadcast_to(jnp.arange(n) == n - 1, memory.shape[:2])
            return lambda h: (last, weights.astype(jnp.float32))
        keys = project("btd,dk->btk", memory, self.key_dk, None, P(*act("btk")))
        keys, query_uk, score_k = keys.astype(jnp.float32), self.query_uk[...], self.score_k[...]

        def read(h: Array) -> tuple[Array, Array]:
            query = jnp.einsum("bu,uk->bk", h, query_uk)
            scores = jnp.einsum("btk,k->bt", jnp.tanh(keys + query[:, None]), score_k)
            weights = jax.nn.softmax(scores, axis=-1)
            return told(jnp.einsum("bt,btd->bd", weights, memory32)), weights

        return read
