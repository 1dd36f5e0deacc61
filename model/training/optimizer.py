# SPDX-License-Identifier: Apache-2.0
"""AdamW with one group per parameter role, through Optax; every constant is a traced array.

Traced, so that runs which differ in rates, schedule or seed share one compiled program.
"""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from model.training.config import ROLES, TrainConfig, groups

Hyper = dict[str, jax.Array]


def hyper_arrays(config: TrainConfig) -> Hyper:
    """The numbers of the optimiser, the schedule and the loss, as float32 scalars."""
    optimizer, schedule = config.optimizer, config.schedule
    numbers = {
        "beta1": optimizer.beta1,
        "beta2": optimizer.beta2,
        "clip_norm": optimizer.clip_norm,
        "z_loss_weight": config.z_loss_weight,
        "n_steps": schedule.n_steps,
        "warmup_steps": schedule.warmup_steps,
        "decay_steps": schedule.decay_steps,
        "is_cosine": schedule.decay == "cosine",
    }
    for role, group in groups(optimizer).items():
        numbers[f"{role}.learning_rate"] = group.learning_rate
        numbers[f"{role}.weight_decay"] = group.weight_decay
        numbers[f"{role}.eps"] = group.eps
    return {name: jnp.asarray(value, jnp.float32) for name, value in numbers.items()}


def schedule_factor(step: jax.Array, hyper: Hyper) -> jax.Array:
    """Fraction of the peak rate at ``step`` (from 0): see ScheduleConfig."""
    step = step.astype(jnp.float32)
    rise = (step + 1) / jnp.maximum(hyper["warmup_steps"], 1)
    left = jnp.minimum((hyper["n_steps"] - step) / jnp.maximum(hyper["decay_steps"], 1), 1)
    fall = jnp.where(hyper["is_cosine"] > 0, (1 - jnp.cos(jnp.pi * left)) / 2, left)
    return jnp.minimum(jnp.minimum(rise, 1), fall)


def roles(params: nnx.State) -> nnx.State:
    """The role of every parameter, as a prefix tree for ``optax.partition``."""
    is_variable = lambda node: isinstance(node, nnx.Variable)  # noqa: E731
    return jax.tree.map(lambda node: node.get_metadata("role"), params, is_leaf=is_variable)


def adamw(hyper: Hyper, param_roles: nnx.State) -> optax.GradientTransformation:
    """Clip by global norm, then AdamW with the constants of each role.

    Moments and updates in float32; decay is decoupled and follows the schedule. Loshchilov &
    Hutter 2017, algorithm 2.
    """

    def group(role: str) -> optax.GradientTransformation:
        def rate(count: jax.Array) -> jax.Array:
            return hyper[f"{role}.learning_rate"] * schedule_factor(count, hyper)

        return optax.chain(
            optax.scale_by_adam(hyper["beta1"], hyper["beta2"], hyper[f"{role}.eps"]),
            optax.add_decayed_weights(hyper[f"{role}.weight_decay"]),
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
