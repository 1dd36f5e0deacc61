# SPDX-License-Identifier: Apache-2.0
"""A causal dilated convolution (van den Oord et al. 2016, arXiv:1609.03499, sec. 2.1)."""

from typing import cast

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from model.network.context import Context
from model.network.counts.convolution import Convolving
from model.network.layers import State, project
from model.network.mixers.recurrent_layer import RecurrentLayer


class Convolution(RecurrentLayer):
    """gelu(sum_c x[t - (C - 1 - c) dilation] W_c) W_output; the last tap is the position itself, as
    in torch.nn.Conv1d with zeros on the left. The GELU has GPT-2's tanh form.

    Taps that reach before the first position, or into another segment, take in zeros. They are put
    side by side, so that their products are one.
    """

    taps_cdh: nnx.Param
    output_hd: nnx.Param
    hidden_bias: nnx.Param | None = None
    output_bias: nnx.Param | None = None

    def is_inside(self, context: Context, length: int) -> Bool[Array, "#B T C"] | None:
        """Where each tap takes in a position of the sequence; None: wherever there is one."""
        return None

    def init_state(self, batch_size: int, length: int, dtype: DTypeLike) -> State:
        """The inputs that taps reach back to, [B, reach, D]: zeros."""
        shape = (batch_size, cast(Convolving, self.config).reach, self.net.d_model)
        return {"past": self.zeros("btd", shape, dtype)}

    def read(
        self, x: Float[Array, "B T D"], state: State, context: Context
    ) -> tuple[Float[Array, "B T D"], Context, State]:
        sizes, act = cast(Convolving, self.config), self.layout.act
        length, reach, segments = x.shape[1], sizes.reach, context.segments
        starts = [reach - back for back in sizes.steps_back]
        both = jnp.concatenate([state["past"], x], axis=1)
        inputs = [both[:, start : start + length] for start in starts]
        if segments is not None:
            wide = jnp.pad(segments, ((0, 0), (reach, 0)))
            for tap, start in enumerate(starts):
                is_own = wide[:, start : start + length] == segments
                inputs[tap] = jnp.where(is_own[:, :, None], inputs[tap], 0)
        stacked = jnp.stack(inputs, axis=2)
        if (is_inside := self.is_inside(context, length)) is not None:
            stacked = jnp.where(is_inside[..., None], stacked, 0)
        hidden = project("btcd,cdh->bth", stacked, self.taps_cdh, self.hidden_bias, P(*act("bth")))
        hidden = jax.nn.gelu(hidden, approximate=True)
        out = project("bth,hd->btd", hidden, self.output_hd, self.output_bias, P(*act("btd")))
        return out, context, {"past": both[:, length:]}
