# SPDX-License-Identifier: Apache-2.0
"""What is compiled of training: the initial state, a chunk of steps, an evaluation.

Pure functions of one run. What is fixed when they are compiled is in a Computation, their first
argument; what may differ between runs that share a program is traced.
"""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, Key

from model.network.config import ModelConfig
from model.network.execution import Execution
from model.network.sharding import BATCH, LAYOUTS
from model.network.transformer import Transformer
from model.training import memory
from model.training.config import Algorithm
from model.training.objectives.next_token import LinearHead
from model.training.optimizer import Hyper, optimizer, roles


class TrainState(NamedTuple):
    """What a checkpoint holds: parameters, moments, and the number of steps done."""

    params: nnx.State
    opt_state: optax.OptState
    step: Int[Array, "*R"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Computation:
    """What is fixed when a program is compiled; see ``computation``.

    Attributes:
      config: the network.
      compute_dtype: of activations and matrix products, "float32" or "bfloat16".
      algorithm: of the optimiser.
      mesh: the devices.
      execution: how it is computed, nothing left open.
      graphdef: the network without its parameters.
      abstract_params: their shapes and shardings.
    """

    config: ModelConfig
    compute_dtype: str
    algorithm: Algorithm
    mesh: jax.sharding.Mesh
    execution: Execution
    graphdef: nnx.GraphDef
    abstract_params: nnx.State

    @property
    def matmul_precision(self) -> str:
        """Float32 means float32: by default GPUs would multiply in TF32 and TPUs in bfloat16."""
        return "highest" if self.compute_dtype == "float32" else "default"

    def network(self, params: nnx.State) -> Transformer:
        """The network with these parameters."""
        return nnx.merge(self.graphdef, params)

    def head(self, n_chunks: int) -> LinearHead:
        """The output head, which computes its logits in so many parts."""
        return LinearHead(self.config.logit_multiplier, n_chunks, LAYOUTS[self.execution.layout])

    def optimizer(self, hyper: Hyper) -> optax.GradientTransformation:
        """The optimiser with the constants of a run."""
        return optimizer(hyper, roles(self.abstract_params), self.algorithm)


def computation(
    config: ModelConfig,
    *,
    compute_dtype: str,
    algorithm: Algorithm,
    mesh: jax.sharding.Mesh,
    execution: Execution,
) -> Computation:
    """How this network is computed on this mesh."""
    with jax.set_mesh(mesh):
        # An abstract key: the devices of a topology that is not here cannot hold one.
        key = jax.eval_shape(lambda: jax.random.key(0))
        make = functools.partial(build, config, compute_dtype, execution)
        graphdef, abstract_params = nnx.split(nnx.eval_shape(make, key))
    return Computation(
        config=config,
        compute_dtype=compute_dtype,
        algorithm=algorithm,
        mesh=mesh,
        execution=execution,
        graphdef=graphdef,
        abstract_params=abstract_params,
    )


def build(
    config: ModelConfig, compute_dtype: str, execution: Execution, key: Key[Array, ""]
) -> Transformer:
    """The network with initial parameters. Not jitted as a whole: see layers.normal."""
    return Transformer(
        config,
        compute_dtype=jnp.dtype(compute_dtype),
        rngs=nnx.Rngs(params=key),
        execution=execution,
    )


@functools.partial(jax.jit, static_argnums=0)
def init_moments(this: Computation, params: nnx.State, hyper: Hyper) -> optax.OptState:
    """What the optimiser remembers before the first step."""
    return this.optimizer(hyper).init(params)


def init_state(this: Computation, key: Key[Array, ""], hyper: Hyper) -> TrainState:
    """The state of a run before its first step."""
    params = nnx.state(build(this.config, this.compute_dtype, this.execution, key))
    return TrainState(params, init_moments(this, params, hyper), jnp.zeros((), jnp.int32))


def loss(
    this: Computation,
    params: nnx.State,
    windows: Int[Array, "B T1"],
    z_loss_weight: Float[Array, ""],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """(what is minimised, mean nats per token): they differ by the z-loss."""
    network = this.network(params)
    x, _ = network.features(windows[:, :-1])
    head = this.head(this.execution.n_loss_chunks)
    return head.loss(x, network.head(), _placed_like(windows[:, 1:], x), z_loss_weight)


def gradients(
    this: Computation,
    params: nnx.State,
    windows: Int[Array, "B T1"],
    z_loss_weight: Float[Array, ""],
) -> tuple[nnx.State, Float[Array, ""]]:
    """Mean gradients over the batch, and its mean nats; in parts of equal size, so the mean of
    their means is the same."""
    n = this.execution.n_microbatches
    slope = jax.grad(functools.partial(loss, this), has_aux=True)
    if n == 1:
        return slope(params, windows, z_loss_weight)
    # Every device's rows are dealt out over the parts: no part moves rows between devices.
    shape = (windows.shape[0] // n, n, windows.shape[1])
    parts = jax.lax.reshape(windows, shape, out_sharding=P(BATCH, None, None))
    parts = jnp.moveaxis(parts, 1, 0)

    def add(total: tuple, part: Int[Array, "n T1"]) -> tuple[tuple, None]:
        new = slope(params, part, z_loss_weight)
        return jax.tree.map(lambda a, b: a + b / n, total, new), None

    zero = jnp.zeros((), jnp.float32, out_sharding=P())
    zeros = jax.tree.map(jnp.zeros_like, params), zero
    return jax.lax.scan(add, zeros, parts)[0]


def train_step(
    this: Computation, state: TrainState, hyper: Hyper, windows: Int[Array, "B T1"]
) -> tuple[TrainState, Float[Array, ""], Float[Array, ""]]:
    """(state after one step, mean nats per token, norm of the gradients before clipping)."""
    grads, plain = gradients(this, state.params, windows, hyper["z_loss_weight"])
    updates, opt_state = this.optimizer(hyper).update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(params, opt_state, state.step + 1), plain, optax.tree.norm(grads)


def train_chunk(
    this: Computation,
    state: TrainState,
    hyper: Hyper,
    batches: Int[Array, "S B T1"],
    first: Int[Array, ""],
    end: Int[Array, ""],
) -> tuple[TrainState, Float[Array, " S"], Float[Array, " S"]]:
    """(state, mean nats, gradient norms) of steps ``first`` to ``end`` - 1 of a chunk; zeros for
    the others.

    The bounds are traced: one program serves every number of steps up to S, and a resumed run,
    whose chunks begin elsewhere, executes the very same instructions per step. On a GPU, XLA asks
    the host after each step of such a loop whether to go on, and not where the count is fixed
    (xla/backends/gpu/runtime/while_thunk.cc); but each fixed count would be a program of its own.
    What this costs has not been measured on a GPU.
    """

    def body(i: Int[Array, ""], carry: tuple) -> tuple:
        state, losses, norms = carry
        windows = jax.lax.dynamic_index_in_dim(batches, i, keepdims=False)
        state, plain, norm = train_step(this, state, hyper, windows)
        return state, losses.at[i].set(plain), norms.at[i].set(norm)

    zeros = jnp.zeros(batches.shape[0], jnp.float32)
    with jax.default_matmul_precision(this.matmul_precision):
        return jax.lax.fori_loop(first, end, body, (state, zeros, zeros))


def evaluate(
    this: Computation,
    params: nnx.State,
    batches: Int[Array, "n_batches B T1"],
    weights: Float[Array, "n_batches B"],
    n: Int[Array, ""],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Weighted sums over the windows of the first ``n`` batches, one weight for each window: of
    their nats, and of the squares of those."""
    n_chunks = memory.loss_chunks(this.config, batches.shape[1], this.mesh, this.execution.layout)

    def body(i: Int[Array, ""], sums: tuple[Array, Array]) -> tuple[Array, Array]:
        windows = jax.lax.dynamic_index_in_dim(batches, i, keepdims=False)
        weight = jax.lax.dynamic_index_in_dim(weights, i, keepdims=False)
        network = this.network(params)
        x, _ = network.features(windows[:, :-1])
        targets = _placed_like(windows[:, 1:], x)
        nats = this.head(n_chunks).nats(x, network.head(), targets)
        squares = jnp.sum(nats, axis=1) ** 2
        return sums[0] + jnp.sum(nats * weight[:, None]), sums[1] + jnp.sum(squares * weight)

    zero = jnp.zeros((), jnp.float32, out_sharding=P())
    with jax.default_matmul_precision(this.matmul_precision):
        return jax.lax.fori_loop(0, n, body, (zero, zero))


def _placed_like(targets: Int[Array, "B T"], x: Float[Array, "B T D"]) -> Int[Array, "B T"]:
    """The targets where the features of their positions are."""
    return jax.sharding.reshard(targets, P(*jax.typeof(x).sharding.spec[:2]))
