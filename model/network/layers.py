# SPDX-License-Identifier: Apache-2.0
"""Norms, rotary positions, embeddings: one small module each.

A letter is one size in all of model/, in shapes and, in lower case, in einsum and names of arrays:

  ===  ===========================================  ===  =========================
  B    batch, in sequences                          D    d_model
  T    sequence length; T1 = T + 1, a window:       K    d_head
       inputs [:, :-1] and targets [:, 1:]          F    d_ff
  G    key/value heads                              V    vocabulary
  Q    query heads of each of them: n_heads = G Q   R    runs of a pack
  S    most steps of one dispatch                   M    facts (data/zipf.py)
  ===  ===========================================  ===  =========================

Layers and the number of steps have no letter; sizes of one function are words.

Every parameter declares its ``role`` (input, hidden, output, vector, final_norm): the width and
depth rules of model/training/parameterization.py are per role.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from model.network.config import ModelConfig
from model.network.sharding import Dims, Layout, open_sums


def normal(
    rngs: nnx.Rngs,
    shape: tuple[int, ...],
    std: float,
    dims: Dims,
    role: str,
    *,
    n_lead: int = 0,
    n_in: int = 1,
) -> nnx.Param:
    """A float32 parameter ~ N(0, std^2), laid out over the mesh by ``dims``.

    Its first ``n_lead`` axes number matrices (experts, gates). Of each matrix the next ``n_in``
    axes are the inputs, which a product contracts, and the others the outputs; inputs are declared
    from the end, so that a stack of layers may be put in front.
    """
    n = math.prod(shape)
    draws = _standard_normal(rngs.params(), 1 << (n - 1).bit_length())
    first = n_lead - len(shape)
    in_axes = tuple(range(first, first + n_in))
    return nnx.Param(_scaled(draws, std, shape), out_sharding=P(*dims), role=role, in_axes=in_axes)


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


def constant(shape: tuple[int, ...], value: float, dims: Dims, role: str = "vector") -> nnx.Param:
    """A float32 gain or bias."""
    return nnx.Param(jnp.full(shape, value, jnp.float32), out_sharding=P(*dims), role=role)


def shared(x: Float[Array, "B T D"], layout: Layout) -> Float[Array, "B T D"]:
    """What several products take in: their gradients are added before they are reduced."""
    spec = P(*layout.act_btd, reduced=open_sums(layout.unit_axes))
    return jax.sharding.reshard(x, spec)


# What remat "dots" keeps.
PRODUCT = "product with a weight"


def project(
    equation: str, x: Float[Array, "..."], weight: nnx.Param, bias: nnx.Param | None, out: P
) -> Float[Array, "..."]:
    """``einsum(equation, x, weight)``, plus the bias, laid out as ``out``.

    The weight's axes: inputs, outputs. The bias is added in float32, for its gradient is a sum over
    all positions.
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
    n_in = sum(letter in i for letter in w)
    x_spec, factor = P(*_spec(x).partitions, unreduced=_spec(x).reduced), weight.astype(x.dtype)
    if x_spec.unreduced:
        # Both factors of an open sum must be split alike; a weight that was put in may lie whole.
        axes = dict(zip(o, _spec(slope).partitions, strict=True))
        own = zip(w, _spec(weight).partitions, strict=True)
        factor = jax.sharding.reshard(factor, P(*(axes.get(*each) for each in own)))
    x_slope = jnp.einsum(f"{o},{w}->{i}", slope, factor, out_sharding=x_spec)
    into_weight = functools.partial(jnp.einsum, preferred_element_type=weight.dtype)
    fan_in, fan_out = math.prod(weight.shape[:n_in]), math.prod(weight.shape[n_in:])
    if fan_in <= fan_out:
        return x_slope, into_weight(f"{i},{o}->{w}", x, slope, out_sharding=_spec(weight))
    turned, spec = w[n_in:] + w[:n_in], _spec(weight)
    turned_slope = into_weight(
        f"{o},{i}->{turned}", slope, x, out_sharding=P(*spec[n_in:], *spec[:n_in])
    )
    # Without the barrier XLA would undo the order.
    turned_slope = jax.lax.optimization_barrier(turned_slope)
    return x_slope, turned_slope.transpose([turned.index(letter) for letter in w])


def _spec(x: Array) -> P:
    return jax.typeof(x).sharding.spec


_product.defvjp(_product_forward, _product_backward)


class RMSNorm(nnx.Module):
    """x / sqrt(mean(x^2) + eps) * gain, in float32 (Zhang & Sennrich 2019, arXiv:1910.07467)."""

    def __init__(self, width: int, dims: Dims, *, eps: float, role: str = "vector"):
        self.gain = constant((width,), 1.0, dims, role)
        self.eps = eps

    def __call__(self, x: Float[Array, "... width"]) -> Float[Array, "... width"]:
        x32 = x.astype(jnp.float32)
        scale = jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + self.eps)
        return (x32 * scale * _last(self.gain, x)).astype(x.dtype)


class LayerNorm(nnx.Module):
    """(x - mean) / sqrt(var + eps) * gain + bias, in float32 (Ba et al. 2016, arXiv:1607.06450)."""

    def __init__(self, width: int, dims: Dims, *, eps: float, use_bias: bool, role: str = "vector"):
        self.gain = constant((width,), 1.0, dims, role)
        self.bias = constant((width,), 0.0, dims, role) if use_bias else None
        self.eps = eps

    def __call__(self, x: Float[Array, "... width"]) -> Float[Array, "... width"]:
        x32 = x.astype(jnp.float32)
        centred = x32 - jnp.mean(x32, axis=-1, keepdims=True)
        scale = jax.lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + self.eps)
        y = centred * scale * _last(self.gain, x)
        return (y if self.bias is None else y + _last(self.bias, x)).astype(x.dtype)


def _last(vector: nnx.Param, x: Array) -> Array:
    """The vector with the leading axes of ``x``, so that no rank is promoted silently."""
    return vector[...].reshape((1,) * (x.ndim - 1) + (-1,))


def make_norm(config: ModelConfig, layout: Layout, *, role: str = "vector") -> RMSNorm | LayerNorm:
    """The norm of the residual stream that the configuration names."""
    width, dims, eps = config.d_model, layout.vector_d, config.norm_eps
    if config.norm == "rmsnorm":
        return RMSNorm(width, dims, eps=eps, role=role)
    return LayerNorm(width, dims, eps=eps, use_bias=config.use_bias, role=role)


def rotate(x: Float[Array, "B T *heads K"], theta: float) -> Float[Array, "B T *heads K"]:
    """Rotary positions: the pair (x_j, x_{j+K/2}) turns by position * theta^(-2j/K).

    Su et al. 2021 (arXiv:2104.09864), eq. 15, with the pairing of Llama. The angles are constants
    of the program, computed in float64: inside it XLA would recompute them for every head.
    """
    length, half = x.shape[1], x.shape[-1] // 2
    angle = np.outer(np.arange(length), theta ** (-np.arange(half) / half))
    angle = angle.reshape(1, length, *(1,) * (x.ndim - 3), half)
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)


class Embedding(nnx.Module):
    """Token embedding [V, D], plus learned positions [T, D] where the configuration has them."""

    def __init__(self, config: ModelConfig, layout: Layout, *, rngs: nnx.Rngs):
        std = config.embedding_init_std
        shape = (config.vocab_size, config.d_model)
        self.tokens_vd = normal(rngs, shape, std, layout.embed_vd, "input")
        shape = (config.seq_len, config.d_model)
        is_learned = config.positions == "learned"
        self.positions_td = (
            normal(rngs, shape, std, layout.position_td, "input") if is_learned else None
        )
        self.layout = layout

    def __call__(self, tokens: Int[Array, "B T"], dtype: DTypeLike) -> Float[Array, "B T D"]:
        # Float32 until the end: a frequent token's gradient is a sum over thousands of positions,
        # of which bfloat16 would lose most. Gathered whole before the lookup: from a table split
        # over the mesh XLA would rematerialise the looked-up activations on every device instead.
        table = jax.sharding.reshard(self.tokens_vd[...], P(None, None))
        tokens = jax.sharding.reshard(tokens, P(*self.layout.act_btd[:2]))
        x = table.at[tokens].get(out_sharding=P(*self.layout.act_btd))
        if self.positions_td is not None:
            positions = self.positions_td[: tokens.shape[1]]
            x = x + jax.sharding.reshard(positions, P(None, None))[None]
        return x.astype(dtype)
