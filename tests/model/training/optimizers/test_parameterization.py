# SPDX-License-Identifier: Apache-2.0
"""CompleteP and Muon's rows against their tables by hand, and by what they promise: updates that
keep their size. The standard parameterisation by that too: there they do not."""

import functools
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from model.network.config import ModelConfig
from model.network.context import PLAIN_CONTEXT
from model.network.counts.attention import AttentionConfig
from model.network.counts.kinds import BlockConfig
from model.network.counts.mlp import GELUConfig
from model.network.sharding import make_mesh
from model.network.transformer import Transformer
from model.training.config import (
    ADAMW,
    Algorithm,
    EvalConfig,
    GroupConfig,
    MuonConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
)
from model.training.optimizers.optimizer import hyper_arrays, optimizer, roles
from model.training.optimizers.parameterization import BaseConstants, Transferred
from model.training.optimizers.parameterization import transfer as transfer_by

BASE = BaseConstants(
    d_model=32,
    n_layers=4,
    hidden_rate=0.016,
    input_rate=0.04,
    output_rate=0.02,
    vector_rate=0.01,
    eps=1e-8,
    residual_multiplier=0.5,
    logit_multiplier=0.3,
)
DECAY = 1e-3
transfer = functools.partial(transfer_by, parameterization="completep", muon_scale=None)
# Dey et al. 2025 (arXiv:2505.01618), table 1, alpha = 1, by hand: rates and decay of hidden
# matrices; eps of embeddings and head; eps inside the blocks; residual and logit multiplier.
TABLE = {
    # (d_model, n_layers): base shape, twice as wide, twice as deep, both, 1/2 wide and 1/4 deep.
    (32, 4): (0.016, 0.0625, 1e-8, 1e-8, 0.5, 0.3),
    (64, 4): (0.008, 0.125, 0.5e-8, 0.5e-8, 0.5, 0.15),
    (32, 8): (0.016, 0.0625, 1e-8, 0.5e-8, 0.25, 0.3),
    (128, 16): (0.004, 0.25, 0.25e-8, 0.0625e-8, 0.125, 0.075),
    (16, 1): (0.032, 0.03125, 2e-8, 8e-8, 2.0, 0.6),
}


@pytest.mark.parametrize("shape", TABLE)
def test_constants_at_other_widths_and_depths_are_those_of_the_table(shape: tuple) -> None:
    hidden_rate, hidden_decay, eps, block_eps, residual, logit = TABLE[shape]
    found = transfer(BASE, d_model=shape[0], n_layers=shape[1], decay_per_step=DECAY)
    expected = {
        "input": (0.04, DECAY / 0.04, eps),
        "output": (0.02, DECAY / 0.02, eps),
        "hidden": (hidden_rate, hidden_decay, block_eps),
        "vector": (0.01, 0.0, block_eps),
        # In no residual branch: deeper networks make its gradient no smaller.
        "final_norm": (0.01, 0.0, eps),
    }
    for role, numbers in expected.items():
        group = getattr(found, role)
        constants = (group.learning_rate, group.weight_decay, group.eps)
        assert constants == pytest.approx(numbers, rel=1e-12, abs=0), role
    multipliers = (found.residual_multiplier, found.logit_multiplier)
    assert multipliers == pytest.approx((residual, logit), rel=1e-12)


# Yang et al. 2023 (arXiv:2310.17813), condition 1, by hand for the same shapes: rate and eps of
# hidden matrices, with updates scaled to the spectral norm and to AdamW's entries.
MUON_TABLE = {
    (32, 4): (0.016, 0.016, 1e-8),
    (64, 4): (0.016, 0.016 / 2**0.5, 1e-8),
    (32, 8): (0.016, 0.016, 0.5e-8),
    (128, 16): (0.016, 0.008, 0.25e-8),
    (16, 1): (0.016, 0.016 * 2**0.5, 4e-8),
}


@pytest.mark.parametrize("shape", MUON_TABLE)
def test_hidden_constants_of_muon_are_those_of_its_table_and_all_others_stay(shape: tuple) -> None:
    spectral_rate, rms_rate, eps = MUON_TABLE[shape]
    asked = {"d_model": shape[0], "n_layers": shape[1], "decay_per_step": DECAY}
    adamw = transfer(BASE, **asked)
    for scale, rate in (("spectral", spectral_rate), ("rms", rms_rate)):
        found = transfer(BASE, **asked, muon_scale=scale)
        group = found.hidden
        constants = (group.learning_rate, group.weight_decay, group.eps)
        assert constants == pytest.approx((rate, DECAY / rate, eps), rel=1e-12, abs=0), scale
        assert replace(found, hidden=adamw.hidden) == adamw


@pytest.mark.parametrize("muon_scale", [None, "spectral", "rms"])
def test_the_standard_parameterisation_changes_nothing_but_the_heads_initial_size(
    muon_scale: str | None,
) -> None:
    for d_model, n_layers, factor in [(32, 4, 1.0), (128, 4, 0.5), (128, 16, 0.5), (8, 1, 2.0)]:
        found = transfer(
            BASE,
            d_model=d_model,
            n_layers=n_layers,
            decay_per_step=DECAY,
            parameterization="standard",
            muon_scale=muon_scale,
        )
        rates = {"input": 0.04, "hidden": 0.016, "output": 0.02, "vector": 0.01}
        rates["final_norm"] = 0.01
        for role, rate in rates.items():
            decay = 0.0 if role in ("vector", "final_norm") else DECAY / rate
            group = GroupConfig(learning_rate=rate, weight_decay=decay, eps=1e-8)
            assert getattr(found, role) == group
        assert (found.residual_multiplier, found.logit_multiplier) == (0.5, 0.3)
        assert found.output_init_factor == factor


@pytest.mark.parametrize("role", ["input", "hidden", "output"])
def test_rate_times_decay_is_the_same_at_every_width_and_depth(role: str) -> None:
    for d_model, n_layers in [(8, 1), (32, 4), (96, 3), (4096, 64)]:
        group = getattr(
            transfer(BASE, d_model=d_model, n_layers=n_layers, decay_per_step=DECAY), role
        )
        assert group.learning_rate * group.weight_decay == pytest.approx(DECAY, rel=1e-12)


def test_the_base_shape_keeps_its_constants() -> None:
    found = transfer(BASE, d_model=32, n_layers=4, decay_per_step=0.0)
    assert found.hidden == GroupConfig(learning_rate=0.016, weight_decay=0.0, eps=1e-8)
    assert (found.residual_multiplier, found.logit_multiplier) == (0.5, 0.3)
    assert found.output_init_factor == 1.0


# The coordinate check of Yang et al. 2022 (arXiv:2203.03466), appendix D.1: after a few steps on
# random tokens, how far did the residual stream and the logits move, root mean square?
WIDTHS = (16, 64, 256)  # Each compiles for a second or two.
ENDS = WIDTHS[::2]
N_STEPS = 4
TOKENS = np.random.default_rng(0).integers(32, size=(8, 9), dtype=np.int32)


MUON = MuonConfig(momentum=0.9, nesterov=True, ns_steps=5, scale="spectral")


@functools.cache
def network(d_model: int, algorithm: Algorithm = ADAMW) -> tuple[Callable, nnx.State]:
    """(training that returns both changes, parameters) of one width; its multiplier of the logits
    is an argument, so that one program serves all constants."""
    config = ModelConfig(
        vocab_size=32,
        seq_len=8,
        d_model=d_model,
        n_layers=1,
        blocks=(
            BlockConfig(
                mixer=AttentionConfig(
                    n_heads=d_model // 8,
                    n_kv_heads=d_model // 8,
                    d_head=8,
                    rope_theta=100.0,
                    use_qk_norm=False,
                ),
                channel_mixer=GELUConfig(d_ff=2 * d_model),
            ),
        ),
        norm="rmsnorm",
        norm_eps=1e-6,
        learned_positions=False,
        use_bias=False,
        tie_embeddings=False,
        embedding_init_std=0.5,
        hidden_init_gain=1.0,
        branch_init_gain=1.0,
        output_init_std=0.5,
        residual_multiplier=1.0,
        logit_multiplier=1.0,
    )
    graphdef, params = nnx.split(
        Transformer(config, compute_dtype=jnp.float32, rngs=nnx.Rngs(params=0))
    )

    def activations(params: nnx.State, multiplier: jax.Array) -> tuple[jax.Array, jax.Array]:
        model = nnx.merge(graphdef, params)
        x = model.embedding(jnp.asarray(TOKENS[:, :-1]), jnp.float32)
        x, _ = model._through_blocks(x, PLAIN_CONTEXT)
        return x, multiplier * jnp.einsum("btd,dv->btv", model.norm(x), model.head())

    def loss(params: nnx.State, multiplier: jax.Array) -> jax.Array:
        log_p = jax.nn.log_softmax(activations(params, multiplier)[1])
        return -jnp.mean(jnp.sum(log_p * jax.nn.one_hot(TOKENS[:, 1:], 32), axis=-1))

    def run(params: nnx.State, hyper: dict, multiplier: jax.Array) -> tuple:
        chain = optimizer(hyper, roles(params), algorithm)

        def step(_: jax.Array, carry: tuple) -> tuple:
            params, state = carry
            updates, state = chain.update(jax.grad(loss)(params, multiplier), state, params)
            return jax.tree.map(jnp.add, params, updates), state

        trained = jax.lax.fori_loop(0, N_STEPS, step, (params, chain.init(params)))[0]
        before, after = activations(params, multiplier), activations(trained, multiplier)
        return tuple(jnp.sqrt(jnp.mean((b - a) ** 2)) for a, b in zip(before, after, strict=True))

    lowered = jax.jit(run).lower(params, hyper_arrays(train_config(at_width(16))), jnp.float32(1))
    # What compiles fast is enough for four steps.
    return lowered.compile({"xla_backend_optimization_level": 0}), params


def train_config(constants: Transferred, muon: MuonConfig | None = None) -> TrainConfig:
    optimizer = OptimizerConfig(
        algorithm="muon" if muon else "adamw",
        muon=muon,
        input=constants.input,
        hidden=constants.hidden,
        output=constants.output,
        vector=constants.vector,
        final_norm=constants.final_norm,
        beta1=0.9,
        beta2=0.95,
        clip_norm=1e9,
    )
    return TrainConfig(
        batch_size=8,
        optimizer=optimizer,
        schedule=ScheduleConfig(
            n_steps=N_STEPS, warmup_steps=0, decay_steps=0, decay="linear", final_fraction=0.0
        ),
        evaluation=EvalConfig(n_tokens=1, curve_tokens=1, n_points=1, seed=0),
        z_loss_weight=0.0,
        compute_dtype="float32",
        init_seed=0,
        data_seed=0,
    )


def at_width(d_model: int, **choices) -> Transferred:
    base = replace(BASE, d_model=16, n_layers=1, logit_multiplier=1.0)
    return transfer(base, d_model=d_model, n_layers=1, decay_per_step=0.0, **choices)


def changes(
    constants_at: Callable, muon: MuonConfig | None = None, widths: tuple[int, ...] = WIDTHS
) -> tuple[list[float], list[float]]:
    """Changes of the residual stream and of the logits, by width."""
    moved = []
    with jax.set_mesh(make_mesh((1, 1, 1, 1))):
        for width in widths:
            constants = constants_at(width)
            config = train_config(constants, muon)
            run, params = network(width, config.optimizer.compiled)
            multiplier = jnp.float32(constants.logit_multiplier)
            moved.append(run(params, hyper_arrays(config), multiplier))
    return [float(x) for x, _ in moved], [float(logit) for _, logit in moved]


@pytest.mark.slow(reason="9 s of compiling; the coordinate check is in the quick suite")
def test_activations_move_equally_far_at_every_width_under_the_transfer() -> None:
    for moved in changes(at_width):
        assert max(moved) < 2 * min(moved), moved


@pytest.mark.slow(reason="trains networks of several widths and depths")
def test_activations_move_equally_far_at_every_width_with_muon() -> None:
    spectral = functools.partial(at_width, muon_scale="spectral")
    for moved in changes(spectral, MUON):
        assert max(moved) < 2 * min(moved), moved


@pytest.mark.slow(reason="5 s of compiling; its rules are checked by hand, and the other one here")
def test_in_the_standard_parameterisation_stream_and_logits_move_further_when_wider() -> None:
    for moved in changes(functools.partial(at_width, parameterization="standard"), widths=ENDS):
        assert moved[1] > 3 * moved[0], moved


@pytest.mark.slow(reason="6 s; that transferred rates are flat is quick")
def test_with_hidden_rates_not_transferred_the_residual_stream_moves_further_when_wider() -> None:
    hidden = at_width(16).hidden
    stream, _ = changes(lambda width: replace(at_width(width), hidden=hidden), widths=ENDS)
    assert stream[1] > 4 * stream[0], stream


def test_with_the_multiplier_not_transferred_the_logits_move_further_when_wider() -> None:
    _, logits = changes(lambda width: replace(at_width(width), logit_multiplier=1.0), widths=ENDS)
    assert logits[1] > 3 * logits[0], logits
