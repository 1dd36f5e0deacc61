# SPDX-License-Identifier: Apache-2.0
"""Softmax attention to what an encoder has made of the source."""

import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from model.network.context import Context
from model.network.layers import Said, project, rms_norm, shared
from model.network.mixers.attention import Attention
from model.network.mixers.plain_attention import attend_to, attention_weights


class CrossAttention(Attention):
    """softmax(q k^T / sqrt(K)) v of every position to all of the source (Vaswani et al. 2017,
    arXiv:1706.03762, sec. 3.2.3): queries are of the stream, keys and values of the memory."""

    def __call__(
        self, x: Float[Array, "B T D"], context: Context
    ) -> tuple[Float[Array, "B T D"], Context, Said]:
        q, k, v = self._queries_and_memory(x, context)
        return self._output(attend_to(q, k, v, None)), context, {}

    def alignment(self, x: Float[Array, "B T D"], context: Context) -> Float[Array, "B T T_memory"]:
        """How much each position attends to each of the source: the mean over the heads."""
        q, k, _ = self._queries_and_memory(x, context)
        weights = attention_weights(q, k, None)
        folded = weights.reshape(*weights.shape[:2], -1, x.shape[1], k.shape[1])
        return jnp.mean(folded, axis=(1, 2))

    def _queries_and_memory(
        self, x: Float[Array, "B T D"], context: Context
    ) -> tuple[
        Float[Array, "B T G Q K"], Float[Array, "B T_memory G K"], Float[Array, "B T_memory G K"]
    ]:
        assert context.memory is not None, "a decoder is given what the encoder made"
        act, layout = self.layout.act, self.layout
        x, memory = shared(x, layout), shared(context.memory, layout)
        q = project("btd,dgqk->btgqk", x, self.q_dgqk, self.q_bias, P(*act("btgqk")))
        k = project("btd,dgk->btgk", memory, self.k_dgk, self.k_bias, P(*act("btgk")))
        v = project("btd,dgk->btgk", memory, self.v_dgk, self.v_bias, P(*act("btgk")))
        if self.q_gain is not None and self.k_gain is not None:
            eps = self.net.norm_eps
            q, k = rms_norm(q, self.q_gain, eps), rms_norm(k, self.k_gain, eps)
        return q, k, v
