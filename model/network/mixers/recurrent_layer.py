# SPDX-License-Identifier: Apache-2.0
"""What mixers have in common that read on from a state."""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from model.network.context import Context, require_causal
from model.network.layers import Layer, Said, State, project


class RecurrentLayer(Layer):
    """A layer that reads positions in their order: all from the state before the first, or the next
    from the state that it was left in."""

    def __call__(
        self, x: Float[Array, "B T D"], context: Context
    ) -> tuple[Float[Array, "B T D"], Context, Said]:
        require_causal(context, f"mixer {self.config.kind!r}")
        before = self.init_state(x.shape[0], x.shape[1], x.dtype)
        out, context, _ = self.read(x, before, context)
        return out, context, {}

    def step(
        self, x: Float[Array, "B n D"], state: State, context: Context
    ) -> tuple[Float[Array, "B n D"], Context, State]:
        return self.read(x, state, context)

    def read(
        self, x: Float[Array, "B T D"], state: State, context: Context
    ) -> tuple[Float[Array, "B T D"], Context, State]:
        """Its output, the context for later layers, and the state after the last position. Where a
        segment begins it remembers nothing."""
        raise NotImplementedError

    def zeros(self, letters: str, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """Laid out as an activation is."""
        return jnp.zeros(shape, dtype, out_sharding=P(*self.layout.act(letters)))

    def convolved(
        self,
        name: str,
        x: Float[Array, "B T D"],
        past: Float[Array, "B reach *width"],
        segments: Int[Array, "B T"] | None,
    ) -> tuple[Float[Array, "B T *width"], Float[Array, "B reach *width"]]:
        """silu(short convolution of x W), float32, with the arrays of this name; its next past."""
        weights = self.config.weights(self.net)
        full = next(full for full in weights if full.startswith(f"{name}_d"))
        letters = weights[full].axes[1:]
        y = project(
            f"btd,d{letters}->bt{letters}",
            x,
            getattr(self, full),
            getattr(self, f"{name}_bias", None),
            P(*self.layout.act(f"bt{letters}")),
        )
        y, past = short_convolution(y, getattr(self, f"{name}_taps")[...], past, segments)
        if (bias := getattr(self, f"{name}_taps_bias", None)) is not None:
            y = y + bias[...][None, None]
        return jax.nn.silu(y), past


def short_convolution(
    x: Float[Array, "B T *width"],
    taps: Float[Array, "C *width"],
    past: Float[Array, "B reach *width"],
    segments: Int[Array, "B T"] | None,
) -> tuple[Float[Array, "B T *width"], Float[Array, "B reach *width"]]:
    """sum_c x[t - (C - 1 - c)] taps[c], float32, as torch.nn.Conv1d with a group for each channel;
    and the inputs that later positions reach back to.

    Args:
      past: the C - 1 inputs before the first.
      segments: inputs of another one are zeros; None: all are of one.
    """
    n_taps, length = len(taps), x.shape[1]
    both = jnp.concatenate([past, x], axis=1)
    terms = []
    for tap in range(n_taps):
        term = both[:, tap : tap + length].astype(jnp.float32) * taps[tap][None, None]
        if segments is not None:
            ahead = jnp.pad(segments, ((0, 0), (n_taps - 1, 0)))[:, tap : tap + length]
            is_own = jnp.equal(ahead, segments).reshape(*segments.shape, *(1,) * (x.ndim - 2))
            term = jnp.where(is_own, term, 0.0)
        terms.append(term)
    return sum(terms[1:], terms[0]), both[:, length:]


def before_each(
    x: Float[Array, "B T D"], last: Float[Array, "B 1 D"], is_first: Bool[Array, "B T"] | None
) -> Float[Array, "B T D"]:
    """The input at the position before each; zeros where a segment begins.

    Args:
      last: what is before the first.
    """
    before = jnp.concatenate([last, x[:, :-1]], axis=1)
    return before if is_first is None else jnp.where(is_first[:, :, None], 0, before)


def begins(segments: Int[Array, "B T"] | None) -> Bool[Array, "B T"] | None:
    """Where a segment begins, but for the first, before which is nothing."""
    if segments is None:
        return None
    return jnp.diff(segments, axis=1, prepend=segments[:, :1]) != 0
