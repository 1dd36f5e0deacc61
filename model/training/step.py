# SPDX-License-Identifier: Apache-2.0
"""The compiled part of training: initial state, a chunk of steps, an evaluation."""

import functools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from model.config import ModelConfig
from model.sharding import FSDP_TENSOR, make_mesh
from model.training.objectives.next_token import next_token_nats
from model.training.optimizer import Hyper, adamw, roles
from model.transformer import Transformer


class TrainState(NamedTuple):
    """What a checkpoint holds: parameters, moments, and the number of steps done."""

    params: nnx.State
    opt_state: Any
    step: Int[Array, ""]


@dataclass(frozen=True, kw_only=True)
class Program:
    """The jitted functions of one network on one mesh; shared by all runs of that shape.

    Attributes:
      mesh: the mesh they run on; enter it with ``jax.set_mesh`` before calling them.
      init: (key, hyper) -> TrainState.
      train_chunk: (state, hyper, batches [K, B, T+1], n <= K) -> (state, loss [K], grad_norm [K]);
        the state is donated.
      evaluate: (params, windows [K, B, T+1], weights [K, B], n <= K) -> summed nats.
    """

    mesh: jax.sharding.Mesh
    init: Any
    train_chunk: Any
    evaluate: Any

    @property
    def n_batch_shards(self) -> int:
        """Parts into which the mesh splits a batch."""
        return math.prod(self.mesh.shape[axis] for axis in FSDP_TENSOR.tokens_bl[0] or ())

    def put(self, array: Any) -> jax.Array:
        """A host array of shape [n, B, ...] on the mesh, its batch split as the layout says.

        Every process passes the whole array; each copies the parts of its own devices.
        """
        batch_axes = FSDP_TENSOR.tokens_bl[0]
        dims = (None, batch_axes, *(None,) * (array.ndim - 2))
        sharding = NamedSharding(self.mesh, P(*dims))
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


@functools.cache
def compile_program(
    config: ModelConfig, compute_dtype: str, mesh_shape: tuple[int, ...]
) -> Program:
    """The program of a network; cached, so that points of one shape compile once per process."""
    mesh = make_mesh(mesh_shape)

    def build(key: jax.Array) -> Transformer:
        dtype = jnp.dtype(compute_dtype)
        return Transformer(config, compute_dtype=dtype, rngs=nnx.Rngs(params=key))

    with jax.set_mesh(mesh):
        graphdef, abstract = nnx.split(nnx.eval_shape(build, jax.random.key(0)))
    param_roles = roles(abstract)

    def init(key: jax.Array, hyper: Hyper) -> TrainState:
        # Not jitted as a whole: see layers.normal.
        params = nnx.state(build(key))
        return TrainState(params, init_moments(params, hyper), jnp.zeros((), jnp.int32))

    @jax.jit
    def init_moments(params: nnx.State, hyper: Hyper) -> Any:
        return adamw(hyper, param_roles).init(params)

    def loss(params: nnx.State, batch: Int[Array, "B T1"], z_loss_weight: Array) -> tuple:
        logits, _ = nnx.merge(graphdef, params)(batch[:, :-1])
        nats, log_z = next_token_nats(logits, batch[:, 1:])
        plain = jnp.mean(nats)
        return plain + z_loss_weight * jnp.mean(jnp.square(log_z)), plain

    def train_step(state: TrainState, hyper: Hyper, batch: Int[Array, "B T1"]) -> tuple:
        grads, plain = jax.grad(loss, has_aux=True)(state.params, batch, hyper["z_loss_weight"])
        optimizer = adamw(hyper, param_roles)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(params, opt_state, state.step + 1), plain, optax.tree.norm(grads)

    def train_chunk(
        state: TrainState, hyper: Hyper, batches: Int[Array, "K B T1"], n: Int[Array, ""]
    ) -> tuple[TrainState, Float[Array, " K"], Float[Array, " K"]]:
        # The trip count is traced: one program serves every chunk length up to K, and a resumed
        # run, whose chunks begin elsewhere, executes the very same instructions per step.
        def body(i: Array, carry: tuple) -> tuple:
            state, losses, norms = carry
            batch = jax.lax.dynamic_index_in_dim(batches, i, keepdims=False)
            state, plain, norm = train_step(state, hyper, batch)
            return state, losses.at[i].set(plain), norms.at[i].set(norm)

        zeros = jnp.zeros(batches.shape[0], jnp.float32)
        return jax.lax.fori_loop(0, n, body, (state, zeros, zeros))

    def evaluate(
        params: nnx.State,
        windows: Int[Array, "K B T1"],
        weights: Float[Array, "K B"],
        n: Int[Array, ""],
    ) -> Float[Array, ""]:
        def body(i: Array, total: Array) -> Array:
            tokens = jax.lax.dynamic_index_in_dim(windows, i, keepdims=False)
            weight = jax.lax.dynamic_index_in_dim(weights, i, keepdims=False)
            logits, _ = nnx.merge(graphdef, params)(tokens[:, :-1])
            nats = next_token_nats(logits, tokens[:, 1:])[0]
            return total + jnp.sum(nats * weight[:, None])

        return jax.lax.fori_loop(0, n, body, jnp.zeros((), jnp.float32))

    return Program(
        mesh=mesh,
        init=init,
        train_chunk=jax.jit(train_chunk, donate_argnums=0),
        evaluate=jax.jit(evaluate),
    )
