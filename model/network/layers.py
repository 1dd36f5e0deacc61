# SPDX-License-Identifier: Apache-2.0
"""Norms, rotary positions, embeddings: one small module each.

A letter is one size in all of model/, in shapes and, in lower case, in einsum and names of arrays:

  ===  ===========================================  ===  =========================
  B    batch, in sequences                          D    d_model
  T    sequence length; T1 = T + 1, a window:       K    d_head
       inputs [:, :-1] and targets [:, 1:]          F    d_ff
  G    key/value heads                              V    vocabulary
  Q    query heads of each of them: n_heads = G Q   E    experts
  H    units of a state or a convolution            C    taps of a convolution
  P    width of a head's values, where it is        N    chunks of positions, of
       not K                                             n each
  L    rank of a product of two matrices
  U    units of the state before: H again           A    gates of a cell
  S    most steps of one dispatch                   R    runs of a pack
  M    facts (data/synthetic/zipf.py)
  ===  ===========================================  ===  =========================

Layers and the number of steps have no letter; sizes of one function are words.

Every parameter is made from its Weight (network/counts/layer.py): the width and depth rules of
model/training/optimizers/parameterization.py are by its role.
"""

import functools
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from model.network.config import ModelConfig
from model.network.context import Context
from model.network.counts.layer import LayerConfig, Role, Weight, norm_weights
from model.network.counts.total import outer_weights
from model.network.execution import Execution
from model.network.positions import rows_at
from model.network.sharding import Layout, open_sums


def parameter(rngs: nnx.Rngs, weight: Weight, layout: Layout) -> nnx.Param:
    """A float32 parameter as its Weight says, laid out over the mesh.

    Its inputs are declared from the end, so that a stack of layers may be put in front.
    """
    dims, role = P(*layout.weight(weight)), weight.role
    if weight.is_vector and not weight.std:
        flat = jnp.broadcast_to(jnp.asarray(weight.mean, jnp.float32), (weight.size,))
        return nnx.Param(flat.reshape(weight.shape), out_sharding=dims, role=role)
    draws = _standard_normal(_next_key(rngs.params), 1 << (weight.size - 1).bit_length())
    first = weight.n_lead - len(weight.shape)
    in_axes = tuple(range(first, first + weight.n_in))
    value = _scaled(draws, weight.std, weight.shape)
    return nnx.Param(value, out_sharding=dims, role=role, in_axes=in_axes)


def _next_key(stream: nnx.RngStream) -> Array:
    """``stream()``, whose ``count[...] += 1`` has every traced number explain where it is from."""
    key = jax.random.fold_in(stream.key[...], stream.count[...])
    stream.count.set_value(stream.count[...] + 1)
    return key


@functools.partial(jax.jit, static_argnums=1)
def _standard_normal(key: Array, n: int) -> Float[Array, " n"]:
    """Flat, and asked for in powers of two only: compiling the generator takes longer than the
    rest of the initialisation, and so all parameters of all widths share a few programs."""
    return jax.random.normal(key, (n,), jnp.float32)


@functools.partial(jax.jit, static_argnums=2)
def _scaled(
    draws: Float[Array, " n"], std: Float[Array, ""], shape: tuple[int, ...]
) -> Float[Array, "..."]:
    return std * draws[: math.prod(shape)].reshape(shape)


# What a layer has to say beside its output: scalars by name, summed over all layers.
Said = dict[str, Float[Array, ""]]
# What a layer remembers of the positions before.
State = dict[str, Float[Array, "..."]]


class Layer(nnx.Module):
    """A mixer or channel mixer: its arrays are those of its table of weights, under their names.

    Args:
      config: its own sizes.
      net: the network that it is in.
      execution: how it is computed.
      layout: letter of a dimension -> mesh axes.
    """

    def __init__(
        self,
        config: LayerConfig,
        net: ModelConfig,
        *,
        execution: Execution,
        layout: Layout,
        rngs: nnx.Rngs,
    ):
        self.config, self.net, self.execution, self.layout = config, net, execution, layout
        for name, weight in config.weights(net).items():
            setattr(self, name, parameter(rngs, weight, layout))

    def __call__(
        self, x: Float[Array, "B T D"], context: Context
    ) -> tuple[Float[Array, "B T D"], Context, Said]:
        """(what is added to the stream, the context for later layers, what it has to say)."""
        raise NotImplementedError

    def shared_values(self, x: Float[Array, "B T D"]) -> dict[str, Array]:
        """What it leaves for later layers, as it is before the first block; ``x``: the stream."""
        return {}

    def init_state(self, batch_size: int, length: int, dtype: DTypeLike) -> State:
        """What it remembers before the first token, for ``step``. Its arrays may be those of many
        layers, stacked: sizes are ``config``'s.

        Args:
          length: most tokens that will be given to it.
        """
        return {}

    def step(
        self, x: Float[Array, "B n D"], state: State, context: Context
    ) -> tuple[Float[Array, "B n D"], Context, State]:
        """Its output for the next n positions, the context for later layers, and what it remembers
        after them; without gradients. ``context.positions`` says which they are."""
        out, context, _ = self(x, context)
        return out, context, state


def shared(x: Float[Array, "B T D"], layout: Layout) -> Float[Array, "B T D"]:
    """What several products take in: their gradients are added before they are reduced."""
    spec = P(*layout.act("btd"), reduced=open_sums(layout.unit_axes))
    return jax.sharding.reshard(x, spec)


# What remat "dots" keeps.
PRODUCT = "product with a weight"


def project(
    equation: str, x: Float[Array, "..."], weight: nnx.Param, bias: nnx.Param | None, out: P
) -> Float[Array, "..."]:
    """``einsum(equation, x, weight)``, plus the bias, laid out as ``out``.

    The bias is added in float32, for its gradient is a sum over all positions.
    """
    y = checkpoint_name(_product(equation, x, weight[...], out), PRODUCT)
    if bias is None:
        return y
    value = bias[...].reshape((1,) * (y.ndim - bias.ndim) + bias.shape)
    return (y.astype(jnp.float32) + value).astype(y.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 3))
def _product(equation: str, x: Array, weight: Array, out: P) -> Array:
    """In the dtype of ``x``, with its own derivative.

    The gradient of the weight is float32, within a device and where it is reduced over many: a ring
    of 256 that adds in bfloat16 is 2 to 5 % off. Asked for as JAX would, g x^T transposed, it would
    miss the fast kernels of the CPU, and transpose the larger of two arrays.
    """
    return jnp.einsum(equation, x, weight.astype(x.dtype), out_sharding=out)


def _product_forward(equation: str, x: Array, weight: Array, out: P) -> tuple:
    return _product(equation, x, weight, out), (x, weight)


def _product_backward(equation: str, out: P, saved: tuple, slope: Array) -> tuple[Array, Array]:
    x, weight = saved
    terms, o = equation.split("->")
    i, w = terms.split(",")
    x_spec, factor = P(*_spec(x).partitions, unreduced=_spec(x).reduced), weight.astype(x.dtype)
    if x_spec.unreduced:
        # Both factors of an open sum must be split alike; a weight that was put in may lie whole.
        axes = dict(zip(o, _spec(slope).partitions, strict=True))
        own = zip(w, _spec(weight).partitions, strict=True)
        factor = jax.sharding.reshard(factor, P(*(axes.get(*each) for each in own)))
    x_slope = jnp.einsum(f"{o},{w}->{i}", slope, factor, out_sharding=x_spec)
    into_weight = functools.partial(jnp.einsum, preferred_element_type=weight.dtype)
    size, split = (dict(zip(w, each, strict=True)) for each in (weight.shape, _spec(weight)))
    fan_in, fan_out = ("".join(at for at in w if (at in i) == is_in) for is_in in (True, False))
    if math.prod(size[at] for at in fan_in) <= math.prod(size[at] for at in fan_out):
        terms, turned, factors = f"{i},{o}", fan_in + fan_out, (x, slope)
    else:
        terms, turned, factors = f"{o},{i}", fan_out + fan_in, (slope, x)
    dims = P(*map(split.get, turned))
    turned_slope = into_weight(f"{terms}->{turned}", *factors, out_sharding=dims)
    if turned == w:
        return x_slope, turned_slope
    # Without the barrier XLA would undo the order.
    turned_slope = jax.lax.optimization_barrier(turned_slope)
    return x_slope, turned_slope.transpose([turned.index(letter) for letter in w])


def _spec(x: Array) -> P:
    return jax.typeof(x).sharding.spec


_product.defvjp(_product_forward, _product_backward)


class Norm(nnx.Module):
    """The norm of the stream: RMSNorm or LayerNorm, with a gain, as the configuration says."""

    gain: nnx.Param
    bias: nnx.Param | None = None

    def __init__(self, net: ModelConfig, layout: Layout, *, rngs: nnx.Rngs, role: Role = "vector"):
        for name, weight in norm_weights(net, role).items():
            setattr(self, name, parameter(rngs, weight, layout))
        self.kind, self.eps = net.norm, net.norm_eps

    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        if self.kind == "rmsnorm":
            return rms_norm(x, self.gain, self.eps)
        return layer_norm(x, self.gain, self.bias, self.eps)


def rms_norm(
    x: Float[Array, "... width"], gain: nnx.Param, eps: float
) -> Float[Array, "... width"]:
    """x / sqrt(mean(x^2) + eps) * gain, in float32 (Zhang & Sennrich 2019, arXiv:1910.07467)."""
    x32 = x.astype(jnp.float32)
    scale = jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + eps)
    return (x32 * scale * _last(gain, x)).astype(x.dtype)


def layer_norm(
    x: Float[Array, "... width"], gain: nnx.Param, bias: nnx.Param | None, eps: float
) -> Float[Array, "... width"]:
    """(x - mean) / sqrt(var + eps) * gain + bias, in float32 (Ba et al. 2016, arXiv:1607.06450)."""
    x32 = x.astype(jnp.float32)
    centred = x32 - jnp.mean(x32, axis=-1, keepdims=True)
    scale = jax.lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + eps)
    y = centred * scale * _last(gain, x)
    return (y if bias is None else y + _last(bias, x)).astype(x.dtype)


def _last(vector: nnx.Param, x: Array) -> Array:
    """The vector with the leading axes of ``x``, so that no rank is promoted silently."""
    return vector[...].reshape((1,) * (x.ndim - 1) + (-1,))


class Embedding(nnx.Module):
    """Token embedding [V, D], plus learned positions [T, D] where the configuration has them."""

    tokens_vd: nnx.Param
    positions_td: nnx.Param | None = None

    def __init__(self, net: ModelConfig, layout: Layout, *, rngs: nnx.Rngs):
        for path, weight in outer_weights(net).items():
            module, _, name = path.rpartition(".")
            if module == "embedding":
                setattr(self, name, parameter(rngs, weight, layout))
        self.layout = layout

    def __call__(
        self,
        tokens: Int[Array, "B T"],
        dtype: DTypeLike,
        positions: Int[Array, "#B T"] | None = None,
    ) -> Float[Array, "B T D"]:
        """Of tokens at ``positions``; None: 0 to T - 1."""
        # Float32 until the end: a frequent token's gradient is a sum over thousands of positions,
        # of which bfloat16 would lose most. Gathered whole before the lookup: from a table split
        # over the mesh XLA would rematerialise the looked-up activations on every device instead.
        table = jax.sharding.reshard(self.tokens_vd[...], P(None, None))
        tokens = jax.sharding.reshard(tokens, P(*self.layout.act("bt")))
        x = table.at[tokens].get(out_sharding=P(*self.layout.act("btd")))
        if self.positions_td is not None:
            if positions is None:
                own = jax.sharding.reshard(self.positions_td[...], P(None, None))
                x = x + own[None, : tokens.shape[1]]
            else:
                x = x + rows_at(self.positions_td[...], positions, x)
        return x.astype(dtype)
