# SPDX-License-Identifier: Apache-2.0
"""Muon against its papers in NumPy float64: Newton-Schulz by its polynomial, and by the SVD."""

import math
import re
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from filled_networks import outline
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from small_networks import vary

from model.network.config import ModelConfig
from model.network.counts.layer import matrix
from model.network.layers import parameter
from model.network.sharding import FSDP_TENSOR, make_mesh
from model.network.transformer import Transformer
from model.training.compile_program import compile_program
from model.training.config import Algorithm, TrainConfig
from model.training.optimizers.muon import scale_by_muon
from model.training.optimizers.optimizer import hyper_arrays, optimizer, roles

ONE = (1, 1, 1, 1)
N_LAYERS, N_EXPERTS, D, G, R, K = 3, 4, 16, 8, 2, 8
# Weights of three layers: shape, axes of the inputs from the end, layout.
WEIGHTS = {
    "q_dgqk": ((N_LAYERS, D, G, R, K), (-4,), P(None, "fsdp", "tensor", None, None)),
    "o_gqkd": ((N_LAYERS, G, R, K, D), (-4, -3, -2), P(None, "tensor", None, None, "fsdp")),
    "square": ((N_LAYERS, D, D), (-2,), P(None, ("fsdp", "tensor"), None)),
    "of_one_layer": ((D, 24), (-2,), P("fsdp", "tensor")),
    "experts": ((N_LAYERS, N_EXPERTS, D, 40), (-2,), P(None, None, "fsdp", "tensor")),
}


def algorithm(**changes) -> Algorithm:
    return Algorithm("muon", nesterov=True, ns_steps=5, scale="spectral")._replace(**changes)


def gradients(n: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [
        {name: rng.normal(size=shape) for name, (shape, _, _) in WEIGHTS.items()} for _ in range(n)
    ]


def as_params(values: dict[str, np.ndarray], mesh: jax.sharding.Mesh) -> nnx.State:
    def param(name: str, value: np.ndarray) -> nnx.Param:
        _, in_axes, spec = WEIGHTS[name]
        value = jax.device_put(np.float32(value), NamedSharding(mesh, spec))
        return nnx.Param(value, in_axes=in_axes, out_sharding=spec)

    return nnx.State({name: param(name, value) for name, value in values.items()})


def updates(mesh_shape: tuple[int, ...], given: Algorithm, steps: list) -> dict[str, np.ndarray]:
    """The update after the last of several steps, momentum 0.9 and eps 1e-8."""
    mesh = make_mesh(mesh_shape)
    with jax.set_mesh(mesh), jax.numpy_dtype_promotion("standard"):
        chain = scale_by_muon(jnp.float32(0.9), jnp.float32(1e-8), given)
        state = jax.jit(chain.init)(as_params(steps[0], mesh))
        update = jax.jit(chain.update)
        for step in steps:
            found, state = update(as_params(step, mesh), state)
    return {name: np.asarray(found[name][...], np.float64) for name in steps[0]}


def as_matrices(value: np.ndarray, name: str) -> np.ndarray:
    """[matrices, fan_in, fan_out]."""
    n_layers = 1 if name == "of_one_layer" else N_LAYERS
    n_matrices = n_layers * (N_EXPERTS if name == "experts" else 1)
    return value.reshape(n_matrices, G * R * K if name == "o_gqkd" else D, -1)


def newton_schulz_by_hand(matrix: np.ndarray, n_steps: int = 5) -> np.ndarray:
    """Jordan et al. 2024: X <- a X + b (X X^T) X + c (X X^T)^2 X, from X of Frobenius norm 1."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix / np.sqrt(np.sum(matrix**2))
    for _ in range(n_steps):
        x = a * x + b * (x @ x.T) @ x + c * (x @ x.T) @ (x @ x.T) @ x
    return x


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("n_steps", [5, 2])
def test_updates_are_newton_schulz_of_the_momentum_matrix_by_matrix(
    nesterov: bool, n_steps: int
) -> None:
    steps = gradients(3)
    found = updates(ONE, algorithm(nesterov=nesterov, ns_steps=n_steps), steps)
    for name in WEIGHTS:
        momentum = np.zeros_like(steps[0][name])
        for step in steps:
            momentum = 0.9 * momentum + step[name]
        direction = steps[-1][name] + 0.9 * momentum if nesterov else momentum
        for update, each in zip(
            as_matrices(found[name], name), as_matrices(direction, name), strict=True
        ):
            fan_in, fan_out = each.shape
            expected = math.sqrt(fan_out / fan_in) * newton_schulz_by_hand(each, n_steps)
            np.testing.assert_allclose(update, expected, rtol=0, atol=1e-5, err_msg=name)


def test_an_update_has_the_singular_vectors_of_the_gradient_and_singular_values_near_one() -> None:
    (step,) = gradients(1)
    found = updates(ONE, algorithm(), [step])
    for name in WEIGHTS:
        for update, each in zip(
            as_matrices(found[name], name), as_matrices(step[name], name), strict=True
        ):
            u, values, vt = np.linalg.svd(each, full_matrices=False)
            if values[-1] < 0.02 * np.sqrt(np.sum(values**2)):
                continue  # Below that five iterations do not reach one.
            fan_in, fan_out = each.shape
            turned = u.T @ update @ vt.T / math.sqrt(fan_out / fan_in)
            np.testing.assert_allclose(turned, np.diag(np.diag(turned)), atol=1e-5)
            # The polynomial's known band (Jordan et al. 2024).
            assert np.all((np.diag(turned) > 0.67) & (np.diag(turned) < 1.21)), name


def test_every_expert_of_every_layer_is_a_matrix_of_its_own(
    one_device: jax.sharding.Mesh,
) -> None:
    weight = matrix("edf", (N_EXPERTS, D, 40), 1.0, n_lead=1)
    layers = [parameter(nnx.Rngs(params=seed), weight, FSDP_TENSOR) for seed in range(N_LAYERS)]
    stacked = layers[0].replace(jnp.stack([layer[...] for layer in layers]))
    with jax.numpy_dtype_promotion("standard"):
        chain = scale_by_muon(jnp.float32(0.9), jnp.float32(1e-8), algorithm())
        state = nnx.State({"experts": stacked})
        update, _ = jax.jit(chain.update)(state, chain.init(state))
    values = np.linalg.svd(update["experts"][...], compute_uv=False) / math.sqrt(40 / D)
    assert values.shape == (N_LAYERS, N_EXPERTS, D)
    assert np.all((values > 0.67) & (values < 1.21)), "the polynomial's known band, as above"


def test_the_scale_of_an_update_is_its_spectral_norm_or_the_size_of_its_entries() -> None:
    steps = gradients(1)
    spectral = updates(ONE, algorithm(), steps)
    rms = updates(ONE, algorithm(scale="rms"), steps)
    for name in WEIGHTS:
        for by_norm, by_entry in zip(
            as_matrices(spectral[name], name), as_matrices(rms[name], name), strict=True
        ):
            fan_in, fan_out = by_norm.shape
            norm = np.linalg.norm(by_norm, 2)
            assert norm / math.sqrt(fan_out / fan_in) == pytest.approx(1, abs=0.21), name
            assert np.sqrt(np.mean(by_entry**2)) == pytest.approx(0.2, rel=0.2), name


AS_THREE = pytest.mark.slow(reason="3 s of compiling; a mesh of three axes is in the quick suite")


@pytest.mark.parametrize(
    "mesh",
    [
        (1, 2, 2, 2),
        pytest.param((1, 8, 1, 1), marks=AS_THREE),
        pytest.param((1, 1, 8, 1), marks=AS_THREE),
        pytest.param((1, 1, 1, 8), marks=AS_THREE),
    ],
    ids=str,
)
def test_eight_devices_make_the_updates_of_one_without_gathering_whole_stacks(
    mesh: tuple[int, ...], capfd: pytest.CaptureFixture
) -> None:
    steps = gradients(2)
    expected, found = updates(ONE, algorithm(), steps), updates(mesh, algorithm(), steps)
    for name in WEIGHTS:
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-5, err_msg=name)
    assert "rematerialization" not in capfd.readouterr().err


def test_where_parameters_are_split_over_all_devices_matrices_move_by_all_to_all_only() -> None:
    mesh = make_mesh((1, 1, 2, 4))
    with jax.set_mesh(mesh), jax.numpy_dtype_promotion("standard"):
        chain = scale_by_muon(jnp.float32(0.9), jnp.float32(1e-8), algorithm())
        params = as_params(gradients(1)[0], mesh)
        lowered = jax.jit(chain.update).lower(params, chain.init(params))
    program = lowered.compile().as_text()
    assert "all-to-all" in program
    assert not {"all-gather", "collective-permute"} & set(re.findall(r"[a-z][a-z-]+", program))


@pytest.fixture
def shapes(network_config: ModelConfig, one_device: jax.sharding.Mesh) -> nnx.State:
    """The parameters of a network that has every role, as shapes."""
    config = vary(network_config, use_bias=True, norm="layernorm", positions="learned")
    return outline(config)[1]


def test_hidden_weights_are_drawn_and_declared_with_the_same_inputs(
    network_config: ModelConfig, one_device: jax.sharding.Mesh
) -> None:
    """Variance x fan_in is hidden_init_gain^2: the axes that a product contracts."""
    config = vary(
        network_config, hidden_init_gain=0.8, branch_init_gain=0.8, d_model=64, d_ff=144, n_layers=2
    )
    build = lambda: Transformer(config, compute_dtype=jnp.float32, rngs=nnx.Rngs(params=0))  # noqa: E731
    is_variable = lambda node: isinstance(node, nnx.Variable)  # noqa: E731
    params = jax.tree.leaves(jax.jit(lambda: nnx.state(build()))(), is_leaf=is_variable)
    hidden = [param for param in params if param.get_metadata("role") == "hidden"]
    assert hidden
    for param in hidden:
        fan_in = math.prod(param.shape[axis] for axis in param.get_metadata("in_axes"))
        assert float(jnp.std(param[...])) * math.sqrt(fan_in) == pytest.approx(0.8, rel=0.1)


def test_with_muon_the_other_roles_have_the_updates_of_adamw(
    shapes: nnx.State, train_config: TrainConfig, muon_config: TrainConfig
) -> None:
    rng = np.random.default_rng(0)
    draw = lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32)  # noqa: E731
    params, grads = (jax.tree.map(draw, shapes) for _ in range(2))
    moved = []
    for config in (train_config, muon_config):
        chain = optimizer(hyper_arrays(config), roles(shapes), config.optimizer.compiled)
        update = jax.jit(lambda g, p, chain=chain: chain.update(g, chain.init(p), p)[0])
        moved.append(update(grads, params))
    for role, one, other in zip(*map(jax.tree.leaves, (roles(shapes), *moved)), strict=True):
        assert np.array_equal(one, other) == (role != "hidden")


def test_two_steps_with_clipping_schedule_and_decoupled_decay_equal_those_by_hand(
    shapes: nnx.State, muon_config: TrainConfig
) -> None:
    """Rate 0.05, decay 0.4 and then 0.4 / sqrt 2, momentum 0.9, in a warm-up of three steps."""
    falling = replace(muon_config.optimizer, weight_decay_holds=1, weight_decay_fall=0.5)
    muon_config = replace(muon_config, optimizer=falling)
    rng = np.random.default_rng(0)
    draw = lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32)  # noqa: E731
    params, *grads = (jax.tree.map(draw, shapes) for _ in range(3))
    chain = optimizer(hyper_arrays(muon_config), roles(shapes), muon_config.optimizer.compiled)
    update, state, found = jax.jit(chain.update), jax.jit(chain.init)(params), []
    # The second norm is far above clip_norm = 1, the first far below.
    grads[0] = jax.tree.map(lambda g: jnp.asarray(0.01 * np.asarray(g)), grads[0])
    for gradient in grads:
        updates, state = update(gradient, state, params)
        found.append(hidden_down(updates))
    norms = [math.sqrt(sum(float(np.sum(np.square(g))) for g in jax.tree.leaves(g))) for g in grads]
    assert norms[0] < 0.9 < 10 < norms[1]
    weight, first, second = map(hidden_down, (params, *grads))
    second = second / norms[1]
    fan_in, fan_out = weight.shape
    for step, (seen, direction) in enumerate(
        [(found[0], first), (found[1], second + 0.9 * (second + 0.9 * first))], start=1
    ):
        made = math.sqrt(fan_out / fan_in) * newton_schulz_by_hand(direction)
        expected = -0.05 * step / 3 * (made + 0.4 / math.sqrt(step) * weight)
        np.testing.assert_allclose(seen, expected, rtol=0, atol=1e-6)


def hidden_down(state: nnx.State) -> np.ndarray:
    """The weights back into the residual stream, [F, D]."""
    found = [
        np.asarray(leaf, np.float64)
        for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]
        if "down_fd" in jax.tree_util.keystr(path)
    ]
    (weight,) = found
    return weight.reshape(weight.shape[-2:])


def test_runs_that_differ_in_momentum_share_a_program_and_others_do_not(
    network_config: ModelConfig, muon_config: TrainConfig, train_config: TrainConfig
) -> None:
    def program(**changes) -> object:
        muon = replace(muon_config.optimizer.muon, **changes)
        optimizer = replace(muon_config.optimizer, muon=muon)
        return compile_program(network_config, replace(muon_config, optimizer=optimizer), ONE)

    assert program() is program(momentum=0.5)
    others = [program(), program(nesterov=False), program(ns_steps=4), program(scale="rms")]
    adamw = compile_program(network_config, train_config, ONE)
    assert len({id(each) for each in (*others, adamw)}) == 5


@pytest.mark.slow(reason="10 s of compiling; updates on eight devices are in the quick suite")
def test_training_with_muon_is_the_same_on_eight_devices_and_lowers_the_loss(
    run_steps: Callable, muon_config: TrainConfig
) -> None:
    one, losses, norms = run_steps(muon_config)
    _, losses_of_eight, norms_of_eight = run_steps(muon_config, mesh=(1, 2, 2, 2))
    np.testing.assert_allclose(losses_of_eight, losses, rtol=1e-5)
    np.testing.assert_allclose(norms_of_eight, norms, rtol=1e-4)
    assert losses[-1] < losses[0] - 0.3
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(one.params))


def test_the_state_has_one_momentum_per_hidden_weight_and_two_moments_of_all_others(
    shapes: nnx.State, muon_config: TrainConfig
) -> None:
    chain = optimizer(hyper_arrays(muon_config), roles(shapes), muon_config.optimizer.compiled)
    state = jax.tree.leaves(jax.eval_shape(chain.init, shapes))
    n_held = sum(math.prod(leaf.shape) for leaf in state if leaf.dtype == jnp.float32)
    sizes = [math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)]
    by_role = zip(jax.tree.leaves(roles(shapes)), sizes, strict=True)
    assert n_held == sum(size if role == "hidden" else 2 * size for role, size in by_role)
