# SPDX-License-Identifier: Apache-2.0
"""The Optax chain against AdamW written from its paper in NumPy float64; the schedule by hand."""

import math
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from filled_networks import outline
from flax import nnx
from small_networks import vary

from model.network.config import ModelConfig
from model.training.config import ADAMW, ROLES, GroupConfig, ScheduleConfig, TrainConfig
from model.training.optimizers.optimizer import hyper_arrays, optimizer, roles, schedule_factor

N_STEPS = 20
# Small and large in turn, so that clipping acts on some gradients and not on others.
GRADIENT_SCALES = np.tile([0.01, 3.0, 0.05, 0.3], 5)


def role_by_name(path: str) -> str:
    """Role of a parameter from its name alone."""
    if "tokens_vd" in path or "positions_td" in path:
        return "input"
    if "head_dv" in path:
        return "output"
    if path.startswith("['norm']"):
        return "final_norm"
    return "vector" if "gain" in path or "bias" in path else "hidden"


def leaves(tree: nnx.State) -> dict[str, np.ndarray]:
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf, np.float64) for path, leaf in paths}


@pytest.fixture
def shapes(network_config: ModelConfig, one_device: jax.sharding.Mesh) -> nnx.State:
    """The parameters of a network that has every role twice, as shapes."""
    config = vary(network_config, use_bias=True, norm="layernorm", positions="learned")
    return outline(config)[1]


@pytest.fixture
def constants(train_config: TrainConfig) -> TrainConfig:
    """Rate, decay and eps different for every role, eps large enough to matter."""
    table = {
        "input": GroupConfig(learning_rate=2e-2, weight_decay=0.5, eps=1e-3),
        "hidden": GroupConfig(learning_rate=1e-2, weight_decay=2.0, eps=1e-2),
        "output": GroupConfig(learning_rate=5e-3, weight_decay=1.0, eps=3e-2),
        "vector": GroupConfig(learning_rate=3e-2, weight_decay=0.1, eps=1e-1),
        "final_norm": GroupConfig(learning_rate=4e-2, weight_decay=0.2, eps=3e-1),
    }
    return replace(train_config, optimizer=replace(train_config.optimizer, **table))


def factor_by_hand(step: int) -> float:
    """warmup 3, decay 12, 20 steps: the schedule of ``train_config``."""
    return min((step + 1) / 3, 1.0, (20 - step) / 12)


def adamw_by_hand(params: dict, gradients: list[dict], config: TrainConfig) -> dict:
    """Loshchilov & Hutter 2017, algorithm 2, lines 5-12, after clipping by the global norm.

    Their alpha is our rate and their lambda our rate x weight_decay.
    """
    beta1, beta2 = config.optimizer.beta1, config.optimizer.beta2
    fall = config.optimizer.weight_decay_fall
    theta = dict(params)
    m = {name: np.zeros_like(value) for name, value in theta.items()}
    v = {name: np.zeros_like(value) for name, value in theta.items()}
    for t, gradient in enumerate(gradients, start=1):
        norm = math.sqrt(sum(float(np.sum(g**2)) for g in gradient.values()))
        eta = factor_by_hand(t - 1)
        for name, unclipped in gradient.items():
            group = getattr(config.optimizer, role_by_name(name))
            g = unclipped * min(1.0, config.optimizer.clip_norm / norm)
            m[name] = beta1 * m[name] + (1 - beta1) * g
            v[name] = beta2 * v[name] + (1 - beta2) * g**2
            m_hat, v_hat = m[name] / (1 - beta1**t), v[name] / (1 - beta2**t)
            alpha, decay = group.learning_rate, group.learning_rate * group.weight_decay
            decay *= max(1, t / config.optimizer.weight_decay_holds) ** -fall
            step = alpha * m_hat / (np.sqrt(v_hat) + group.eps) + decay * theta[name]
            theta[name] = theta[name] - eta * step
    return theta


@pytest.mark.parametrize("fall", [0.0, 0.5])
def test_twenty_steps_equal_adamw_of_the_paper_with_the_constants_of_each_role(
    shapes: nnx.State, constants: TrainConfig, fall: float
) -> None:
    """Without a fall, and with decays that fall as 1 / sqrt(step) from step 4 on."""
    falling = replace(constants.optimizer, weight_decay_holds=4, weight_decay_fall=fall)
    constants = replace(constants, optimizer=falling)
    rng = np.random.default_rng(0)

    def random(scale: float) -> nnx.State:
        draw = lambda leaf: jnp.asarray(scale * rng.normal(size=leaf.shape), jnp.float32)  # noqa: E731
        return jax.tree.map(draw, shapes)

    params, gradients = random(1.0), [random(scale) for scale in GRADIENT_SCALES]
    expected = adamw_by_hand(leaves(params), [leaves(g) for g in gradients], constants)

    @jax.jit
    def step(params: nnx.State, state: tuple, gradient: nnx.State, hyper: dict) -> tuple:
        updates, state = optimizer(hyper, roles(shapes), ADAMW).update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    hyper = hyper_arrays(constants)
    state = jax.jit(optimizer(hyper, roles(shapes), ADAMW).init)(params)
    for gradient in gradients:
        params, state = step(params, state, gradient, hyper)
    found = leaves(params)
    assert {role_by_name(name) for name in found} == set(ROLES)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=2e-6, err_msg=name)


def test_the_test_clips_some_gradients_and_not_others(shapes: nnx.State) -> None:
    n_params = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
    norms = GRADIENT_SCALES * math.sqrt(n_params)
    assert norms.min() < 0.9 < 1.1 < norms.max()


def test_every_parameter_declares_the_role_that_its_name_says(shapes: nnx.State) -> None:
    declared = jax.tree_util.tree_flatten_with_path(roles(shapes))[0]
    for path, role in declared:
        assert role == role_by_name(jax.tree_util.keystr(path)), path
    assert len(declared) == len(jax.tree.leaves(shapes))


@pytest.mark.parametrize("role", ROLES)
def test_a_role_without_a_rate_stays_and_all_others_move(
    run_steps: Callable, train_config: TrainConfig, still_config: TrainConfig, role: str
) -> None:
    still = getattr(still_config.optimizer, role)
    config = replace(train_config, optimizer=replace(train_config.optimizer, **{role: still}))
    before = leaves(run_steps(config, 0)[0].params)
    after = leaves(run_steps(config, 2)[0].params)
    stayed = {name for name in before if np.array_equal(before[name], after[name])}
    assert stayed == {name for name in before if role_by_name(name) == role}


HALF = math.cos(math.pi / 3)
SCHEDULES = [
    # n_steps, warmup_steps, decay_steps, decay, factor of every step; all fall to zero
    (8, 4, 2, "linear", [1 / 4, 2 / 4, 3 / 4, 1, 1, 1, 1, 1 / 2]),
    (8, 4, 4, "linear", [1 / 4, 2 / 4, 3 / 4, 1, 1, 3 / 4, 2 / 4, 1 / 4]),
    (6, 0, 6, "linear", [1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]),
    (6, 3, 3, "cosine", [1 / 3, 2 / 3, 1, 1, (1 + HALF) / 2, (1 - HALF) / 2]),
    (5, 1, 2, "cosine", [1, 1, 1, 1, 1 / 2]),
    (4, 2, 0, "linear", [1 / 2, 1, 1, 1]),
    (4, 0, 0, "cosine", [1, 1, 1, 1]),
    (4, 4, 0, "linear", [1 / 4, 2 / 4, 3 / 4, 1]),
    (1, 0, 0, "linear", [1]),
    (1, 1, 0, "cosine", [1]),
    (1, 0, 1, "linear", [1]),
    (1, 0, 1, "cosine", [1]),
    (1, 0, 1, "one_minus_sqrt", [1]),
    (4, 2, 0, "one_minus_sqrt", [1 / 2, 1, 1, 1]),
    # 1 - sqrt((step - 4) / 4), to four digits.
    (8, 1, 4, "one_minus_sqrt", [1, 1, 1, 1, 1, 0.5, 0.292893, 0.133975]),
]


@pytest.mark.parametrize(("n_steps", "warmup_steps", "decay_steps", "decay", "factors"), SCHEDULES)
def test_the_schedule_rises_stays_and_falls_as_computed_by_hand(
    train_config: TrainConfig,
    n_steps: int,
    warmup_steps: int,
    decay_steps: int,
    decay: str,
    factors: list,
) -> None:
    schedule = ScheduleConfig(
        n_steps=n_steps,
        warmup_steps=warmup_steps,
        decay_steps=decay_steps,
        decay=decay,
        final_fraction=0.0,
    )
    hyper = hyper_arrays(replace(train_config, schedule=schedule))
    found = schedule_factor(jnp.arange(8), hyper)[:n_steps]
    np.testing.assert_allclose(found, factors, rtol=0, atol=1e-6)


def factors(train_config: TrainConfig, schedule: ScheduleConfig) -> np.ndarray:
    hyper = hyper_arrays(replace(train_config, schedule=schedule))
    return np.asarray(schedule_factor(jnp.arange(schedule.n_steps), hyper))


@pytest.mark.parametrize("final_fraction", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("warmup_steps", [1, 30])
def test_the_cosine_is_that_of_optax(
    train_config: TrainConfig, warmup_steps: int, final_fraction: float
) -> None:
    """Chinchilla's: a warm-up, then a cosine to a tenth of the peak over the rest of the run."""
    schedule = ScheduleConfig(
        n_steps=200,
        warmup_steps=warmup_steps,
        decay_steps=200 - warmup_steps,
        decay="cosine",
        final_fraction=final_fraction,
    )
    reference = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=1.0,
        warmup_steps=warmup_steps,
        decay_steps=200,
        end_value=final_fraction,
    )
    # Optax spends a step at a rate of zero; here the first step has a share of the peak.
    steps = [float(step + (step < warmup_steps)) for step in range(200)]
    expected = [reference(step) for step in steps]
    np.testing.assert_allclose(factors(train_config, schedule), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("final_fraction", [0.0, 0.1])
@pytest.mark.parametrize(("warmup_steps", "decay_steps"), [(20, 180), (20, 40), (0, 200)])
def test_linear_decay_after_a_plateau_is_that_of_optax(
    train_config: TrainConfig, warmup_steps: int, decay_steps: int, final_fraction: float
) -> None:
    schedule = ScheduleConfig(
        n_steps=200,
        warmup_steps=warmup_steps,
        decay_steps=decay_steps,
        decay="linear",
        final_fraction=final_fraction,
    )
    rise = optax.linear_schedule(0.0, 1.0, warmup_steps) if warmup_steps else lambda _: 1.0
    fall = optax.linear_schedule(1.0, final_fraction, decay_steps, 200 - decay_steps)
    expected = [
        float(rise(step + 1)) if step < warmup_steps else float(fall(step)) for step in range(200)
    ]
    np.testing.assert_allclose(factors(train_config, schedule), expected, rtol=0, atol=1e-6)


def test_one_minus_sqrt_is_the_published_formula_between_peak_and_final_rate(
    train_config: TrainConfig,
) -> None:
    """Hägele et al. 2024: f(n) = 1 - sqrt((n - (N - N_decay)) / N_decay), above a floor."""
    schedule = ScheduleConfig(
        n_steps=100, warmup_steps=10, decay_steps=20, decay="one_minus_sqrt", final_fraction=0.05
    )
    expected = [min(1.0, (n + 1) / 10) for n in range(80)]
    expected += [0.05 + 0.95 * (1 - math.sqrt((n - 80) / 20)) for n in range(80, 100)]
    np.testing.assert_allclose(factors(train_config, schedule), expected, rtol=0, atol=1e-6)
