# SPDX-License-Identifier: Apache-2.0
"""The time mix of RWKV-7 (Peng et al. 2025, arXiv:2503.14456, sec. 4.1)."""

import math
from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from model.network.context import Context
from model.network.counts.rwkv7 import RWKV7Config
from model.network.layers import State, project
from model.network.mixers.linear_recurrence import linear_recurrence
from model.network.mixers.recurrent_layer import RecurrentLayer, before_each, begins

# Added to the variance of a head's output, and to |key|^2, in the released code.
NORM_EPS, KEY_EPS = 64e-5, 1e-12
# What the first of these layers leaves for the others.
VALUE, HAS_VALUE = "rwkv7_value", "rwkv7_has_value"


class RWKV7(RecurrentLayer):
    """Each of r, w, k, v, a, g has an input of its own, x + mix (x of the position before - x);
    r, k, v = theirs W; with low(x) = f(x down) up, v moves towards the value of the first layer by
    the share sigmoid(share_base + low(x_v));

        w = exp(-exp(-1/2) sigmoid(w_base + low(x_w))),     a = sigmoid(a_base + low(x_a)),
        e = erased k / |erased k|,                          k' = k (1 + (a - 1) replaced),
        S_t = (diag(w_t) - (a_t e_t) e_t^T) S_{t-1} + k'_t v_t^T,
        y_t = norm(S_t^T r_t) + (r_t . bonus k'_t) v_t

    of each head; the output is (y low(x_g)) W_output. f is tanh for w, a sigmoid for g, else none.
    The norm is a LayerNorm of each head. The first layer has its share's weights too, without
    effect. States and all behind the products are float32.
    """

    r_dgk: nnx.Param
    k_dgk: nnx.Param
    v_dgk: nnx.Param
    w_base: nnx.Param
    a_base: nnx.Param
    share_base: nnx.Param
    erased: nnx.Param
    replaced: nnx.Param
    bonus: nnx.Param
    norm_gain: nnx.Param
    norm_bias: nnx.Param
    output_gkd: nnx.Param
    output_bias: nnx.Param | None = None

    def init_state(self, batch_size: int, length: int, dtype: DTypeLike) -> State:
        """Zeros: the states [B, G, 1, K, K], and the last input."""
        sizes = cast(RWKV7Config, self.config)
        G, K = sizes.n_heads, sizes.d_head
        return {
            "heads": self.zeros("bgqkp", (batch_size, G, 1, K, K), jnp.float32),
            "last": self.zeros("btd", (batch_size, 1, self.net.d_model), dtype),
        }

    def shared_values(self, x: Float[Array, "B T D"]) -> dict[str, Array]:
        sizes = cast(RWKV7Config, self.config)
        shape = (*x.shape[:2], sizes.n_heads, sizes.d_head)
        return {VALUE: self.zeros("btgk", shape, x.dtype), HAS_VALUE: jnp.bool_(False)}

    def read(
        self, x: Float[Array, "B T D"], state: State, context: Context
    ) -> tuple[Float[Array, "B T D"], Context, State]:
        is_first = begins(context.segments)
        change = before_each(x, state["last"], is_first) - x
        inputs = {name: self._mixed(name, x, change) for name in "rwkvag"}
        r, k, value = (self._projected(name, inputs[name]) for name in "rkv")
        first = value
        if VALUE in context.shared:
            first = jnp.where(context.shared[HAS_VALUE], context.shared[VALUE], value)
        shared = {**context.shared, VALUE: first, HAS_VALUE: jnp.bool_(True)}
        r, k, v, first = (each.astype(jnp.float32) for each in (r, k, value, first))
        share = jax.nn.sigmoid(self._all("share_base") + self._low("share", inputs["v"]))
        v = v + share * (first - v)
        decay = jax.nn.sigmoid(self._all("w_base") + self._low("w", inputs["w"], jnp.tanh))
        rate = jax.nn.sigmoid(self._all("a_base") + self._low("a", inputs["a"]))
        erased = self._all("erased") * k
        size = jnp.sum(erased * erased, axis=-1, keepdims=True)
        erased = erased * jax.lax.rsqrt(size + KEY_EPS)
        k = k * (1 + (rate - 1) * self._all("replaced"))

        def one(each: Array) -> Array:
            return each[..., None, :]

        y, heads = linear_recurrence(
            one(r),
            one(-math.exp(-0.5) * decay),
            one(k),
            one(v),
            state["heads"],
            a=one(-erased),
            b=one(rate * erased),
            is_first=is_first,
        )
        y = self._normed(y[..., 0, :])
        y = y + jnp.sum(r * k * self._all("bonus"), axis=-1, keepdims=True) * v
        y = (y * self._low("g", inputs["g"], jax.nn.sigmoid)).astype(x.dtype)
        out = P(*self.layout.act("btd"))
        y = project("btgk,gkd->btd", y, self.output_gkd, self.output_bias, out)
        return y, context._replace(shared=shared), {"heads": heads, "last": x[:, -1:]}

    def _all(self, name: str) -> Float[Array, "1 1 G K"]:
        """A vector, for every position."""
        return getattr(self, name)[...][None, None]

    def _mixed(
        self, name: str, x: Float[Array, "B T D"], change: Float[Array, "B T D"]
    ) -> Float[Array, "B T D"]:
        mix = getattr(self, f"{name}_mix")[...][None, None]
        return (x.astype(jnp.float32) + change.astype(jnp.float32) * mix).astype(x.dtype)

    def _projected(self, name: str, x: Float[Array, "B T D"]) -> Float[Array, "B T G K"]:
        weight, bias = getattr(self, f"{name}_dgk"), getattr(self, f"{name}_bias", None)
        return project("btd,dgk->btgk", x, weight, bias, P(*self.layout.act("btgk")))

    def _low(
        self, name: str, x: Float[Array, "B T D"], between: Callable | None = None
    ) -> Float[Array, "B T G K"]:
        """between(x down) up, float32."""
        act, down, up = self.layout.act, f"{name}_down_dl", f"{name}_up_lgk"
        y = project("btd,dl->btl", x, getattr(self, down), None, P(*act("btl")))
        if between is not None:
            y = between(y.astype(jnp.float32)).astype(x.dtype)
        y = project("btl,lgk->btgk", y, getattr(self, up), None, P(*act("btgk")))
        return y.astype(jnp.float32)

    def _normed(self, y: Float[Array, "B T G K"]) -> Float[Array, "B T G K"]:
        centred = y - jnp.mean(y, axis=-1, keepdims=True)
        variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
        scaled = centred * jax.lax.rsqrt(variance + NORM_EPS)
        return scaled * self._all("norm_gain") + self._all("norm_bias")
