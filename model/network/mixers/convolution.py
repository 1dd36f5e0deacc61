# SPDX-License-Identifier: Apache-2.0
"""A causal dilated convolution (van den Oord et al. 2016, arXiv:1609.03499, sec. 2.1)."""

from typing import cast

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from model.network.context import Context, require_causal
from model.network.counts.convolution import ConvolutionConfig
from model.network.layers import Layer, Said, State, project


class Convolution(Layer):
    """gelu(sum_c x[t - (C - 1 - c) dilation] W_c) W_output; the last tap is the position itself, as
    in torch.nn.Conv1d with zeros on the left. The GELU has GPT-2's tanh form.

    Taps that reach before the first position, or into another segment, take in zeros. They are put
    side by side, so that their products are one.
    """

    taps_cdh: nnx.Param
    output_hd: nnx.Param
    hidden_bias: nnx.Param | None = None
    output_bias: nnx.Param | None = None

    def __call__(
        self, x: Float[Array, "B T D"], context: Context
    ) -> tuple[Float[Array, "B T D"], Context, Said]:
        require_causal(context, "a convolution")
        state = self.init_state(x.shape[0], x.shape[1], x.dtype)
        return self._convolve(x, state["past"], context.segments)[0], context, {}

    def init_state(self, batch_size: int, length: int, dtype: DTypeLike) -> State:
        """The inputs that taps reach back to, [B, (C - 1) dilation, D]: zeros."""
        shape = (batch_size, cast(ConvolutionConfig, self.config).reach, self.net.d_model)
        return {"past": jnp.zeros(shape, dtype, out_sharding=P(*self.layout.act("btd")))}

    def step(
        self, x: Float[Array, "B n D"], state: State, context: Context
    ) -> tuple[Float[Array, "B n D"], Context, State]:
        out, past = self._convolve(x, state["past"], None)
        return out, context, {"past": past}

    def _convolve(
        self,
        x: Float[Array, "B T D"],
        past: Float[Array, "B reach D"],
        segments: Int[Array, "B T"] | None,
    ) -> tuple[Float[Array, "B T D"], Float[Array, "B reach D"]]:
        sizes, act = cast(ConvolutionConfig, self.config), self.layout.act
        length, reach = x.shape[1], sizes.reach
        starts = range(0, reach + 1, sizes.dilation)
        both = jnp.concatenate([past, x], axis=1)
        inputs = [both[:, start : start + length] for start in starts]
        if segments is not None:
            wide = jnp.pad(segments, ((0, 0), (reach, 0)))
            for tap, start in enumerate(starts):
                is_own = wide[:, start : start + length] == segments
                inputs[tap] = jnp.where(is_own[:, :, None], inputs[tap], 0)
        hidden = project(
            "btcd,cdh->bth",
            jnp.stack(inputs, axis=2),
            self.taps_cdh,
            self.hidden_bias,
            P(*act("bth")),
        )
        hidden = jax.nn.gelu(hidden, approximate=True)
        out = project("bth,hd->btd", hidden, self.output_hd, self.output_bias, P(*act("btd")))
        return out, both[:, length:]
