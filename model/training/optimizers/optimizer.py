# SPDX-License-Identifier: Apache-2.0
"""AdamW and Muon with one group per parameter role, through Optax; constants are traced arrays.

Traced, so that runs which differ in rates, schedule or seed share one compiled program; what cannot
be is the Algorithm, and programs are compiled and cached for each.
"""

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Shaped

from model.training.config import ROLES, Algorithm, TrainConfig, groups
from model.training.optimizers.muon import scale_by_muon

# A scalar, or one for each run of a pack.
Hyper = dict[str, Shaped[Array, "..."]]
DATA_SEED = "data_seed"


def hyper_arrays(config: TrainConfig) -> Hyper:
    """The numbers of the optimiser, the schedule and the loss, as float32 scalars; the seed of the
    data, from which an objective draws, as a whole number."""
    optimizer, schedule = config.optimizer, config.schedule
    numbers = {
        "beta1": optimizer.beta1,
        "beta2": optimizer.beta2,
        "momentum": optimizer.muon.momentum if optimizer.muon else 0.0,
        "clip_norm": optimizer.clip_norm,
        "weight_decay_holds": optimizer.weight_decay_holds,
        "weight_decay_fall": optimizer.weight_decay_fall,
        "z_loss_weight": config.z_loss_weight,
        "mask_ratio": config.mask_ratio or 0.0,
        "n_steps": schedule.n_steps,
        "warmup_steps": schedule.warmup_steps,
        "decay_steps": schedule.decay_steps,
        "final_fraction": schedule.final_fraction,
        "is_cosine": schedule.decay == "cosine",
        "is_one_minus_sqrt": schedule.decay == "one_minus_sqrt",
    }
    for role, group in groups(optimizer).items():
        numbers[f"{role}.learning_rate"] = group.learning_rate
        numbers[f"{role}.weight_decay"] = group.weight_decay
        numbers[f"{role}.eps"] = group.eps
    arrays = {name: jnp.asarray(value, jnp.float32) for name, value in numbers.items()}
    return arrays | {DATA_SEED: jnp.asarray(config.data_seed, jnp.uint32)}


def schedule_factor(step: Shaped[Array, "..."], hyper: Hyper) -> Float[Array, "..."]:
    """Fraction of the peak rate at ``step`` (from 0): see ScheduleConfig."""
    step = step.astype(jnp.float32)
    rise = (step + 1) / jnp.maximum(hyper["warmup_steps"], 1)
    left = jnp.minimum((hyper["n_steps"] - step) / jnp.maximum(hyper["decay_steps"], 1), 1)
    fall = jnp.where(hyper["is_cosine"] > 0, (1 - jnp.cos(jnp.pi * left)) / 2, left)
    fall = jnp.where(hyper["is_one_minus_sqrt"] > 0, 1 - jnp.sqrt(1 - left), fall)
    final = hyper["final_fraction"]
    return jnp.minimum(jnp.minimum(rise, 1), final + (1 - final) * fall)


def decay_factor(step: Shaped[Array, "..."], hyper: Hyper) -> Float[Array, "..."]:
    """Fraction of a role's weight decay at ``step`` (from 0): see OptimizerConfig."""
    times = (step.astype(jnp.float32) + 1) / jnp.maximum(hyper["weight_decay_holds"], 1)
    return jnp.maximum(times, 1) ** -hyper["weight_decay_fall"]


def roles(params: nnx.State) -> nnx.State:
    """The role of every parameter, as a prefix tree for ``optax.partition``."""
    is_variable = lambda node: isinstance(node, nnx.Variable)  # noqa: E731
    return jax.tree.map(lambda node: node.get_metadata("role"), params, is_leaf=is_variable)


def optimizer(
    hyper: Hyper, param_roles: nnx.State, algorithm: Algorithm
) -> optax.GradientTransformation:
    """Clip by global norm, then AdamW with the constants of each role; Muon for hidden matrices if
    it is the algorithm.

    Moments and updates in float32; decay is decoupled and times the rate of the step, for Muon too
    (Liu et al. 2025, sec. 2.2). Loshchilov & Hutter 2017, algorithm 2.
    """

    def direction(role: str) -> optax.GradientTransformation:
        eps = hyper[f"{role}.eps"]
        if role == "hidden" and algorithm.name == "muon":
            return scale_by_muon(hyper["momentum"], eps, algorithm)
        return optax.scale_by_adam(hyper["beta1"], hyper["beta2"], eps)

    def group(role: str) -> optax.GradientTransformation:
        def rate(count: jax.Array) -> jax.Array:
            return hyper[f"{role}.learning_rate"] * schedule_factor(count, hyper)

        def decay(count: jax.Array) -> jax.Array:
            return hyper[f"{role}.weight_decay"] * decay_factor(count, hyper)

        return optax.chain(
            direction(role),
            optax.add_decayed_weights(decay),
            optax.scale_by_learning_rate(rate),
        )

    chain = optax.chain(
        optax.clip_by_global_norm(hyper["clip_norm"]),
        optax.partition({role: group(role) for role in ROLES}, param_roles),
    )

    def update(grads: nnx.State, state: optax.OptState, params: nnx.State) -> tuple:
        # Optax's bias correction raises a float array to the power of an integer array.
        with jax.numpy_dtype_promotion("standard"):
            return chain.update(grads, state, params)

    return optax.GradientTransformation(chain.init, update)
