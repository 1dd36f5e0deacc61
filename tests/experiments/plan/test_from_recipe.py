# SPDX-License-Identifier: Apache-2.0
import dataclasses
import math

import numpy as np
import pytest
from small_networks import attention

from experiments.plan.from_recipe import model_config
from experiments.plan.plan import plan
from experiments.recipes.dense import DENSE
from experiments.study.overrides import override
from experiments.study.study import Axis
from model.network.counts.total import count_params
from model.training.config import MuonConfig


def by_width(study, manifest, budget):
    return {
        p.spec.model.d_model: p
        for p in plan(study, manifest).points
        if p.budget == budget and p.seed == 0
    }


@pytest.mark.parametrize("per_kv_head", [1, 4])
def test_every_width_has_heads_that_fill_it_but_for_the_rounding(study, per_kv_head):
    """Of 32 multiples of 8 up to 256, 12 were refused, and one in a ladder ended the plan."""
    recipe = study.recipe.with_(shape__blocks__0__mixer__queries_per_kv_head=per_kv_head)
    for d_model in range(8, 1025, 4):
        model = model_config(recipe, d_model, vocab_size=256, seq_len=128)
        heads, mlp = model.layers
        assert heads.n_heads == per_kv_head * heads.n_kv_heads
        assert abs(heads.n_heads - max(d_model / 16, 2)) < max(per_kv_head, 2)
        assert abs(heads.d_head - d_model / heads.n_heads) <= 1
        assert abs(mlp.d_ff - 8 / 3 * d_model) <= 2


def test_halves_are_rounded_up_at_every_width(study):
    """12 and 20 are 2 heads of twice 3 and 5; 14 is twice 3.5, and 4 is nearer above."""
    heads = [
        (attention(model).n_heads, attention(model).d_head)
        for d_model in (12, 14, 20)
        for model in [model_config(study.recipe, d_model, vocab_size=256, seq_len=128)]
    ]
    assert heads == [(2, 6), (2, 8), (2, 10)]


def test_shapes_follow_the_recipe(study, manifest):
    # 8/3 of the width in multiples of 4; heads of 16, at least two; two layers.
    expected = {16: (2, 8, 44), 32: (2, 16, 84), 64: (4, 16, 172)}
    for d_model, point in by_width(study, manifest, 1e11).items():
        model = point.spec.model
        heads, mlp = model.layers
        assert (heads.n_heads, heads.d_head, mlp.d_ff) == expected[d_model]
        assert (model.n_layers, heads.n_kv_heads) == (2, heads.n_heads)


def test_depth_follows_the_width_between_its_bounds(study, manifest, changed):
    deep = changed(study, "recipe.shape.width_per_layer", 10.0)
    deep = changed(deep, "recipe.shape.max_layers", 5)
    deep = changed(deep, "sizes.tokens_per_param", (0.1, 1000.0))
    layers = {p.spec.model.d_model: p.spec.model.n_layers for p in plan(deep, manifest).points}
    assert layers == {16: 2, 32: 3, 64: 5}  # round(1.6) = 2, round(3.2) = 3, round(6.4) = 6 > 5.


def test_rates_schedule_and_moments_follow_the_rules(study, manifest):
    """CompleteP, table 1, by hand: base width 64, depth 2, hidden rate 0.01."""
    for budget in study.budgets:
        for d_model, point in by_width(study, manifest, budget).items():
            train, model = point.spec.train, point.spec.model
            m = d_model / 64
            steps = train.schedule.n_steps
            rates = {role: getattr(train.optimizer, role) for role in ("input", "hidden", "vector")}
            assert rates["hidden"].learning_rate == pytest.approx(0.01 / m)
            assert rates["input"].learning_rate == pytest.approx(0.02)
            assert rates["vector"].learning_rate == pytest.approx(0.01)
            # 1 / (rate x decay) is half of a run of 20 tokens per parameter, in steps, at every
            # width and rate, and half as much of a run four times as long.
            ratio = point.n_tokens / point.params.total / 20
            for role in ("input", "hidden"):
                timescale = 1 / (rates[role].learning_rate * rates[role].weight_decay)
                assert timescale == pytest.approx(0.5 * steps / math.sqrt(ratio), rel=1e-6)
            assert rates["vector"].weight_decay == 0.0
            assert rates["hidden"].eps == pytest.approx(1e-8 / m)
            assert model.residual_multiplier == pytest.approx(math.sqrt(0.5))
            assert model.logit_multiplier == pytest.approx(0.3 / m)
            assert train.schedule.warmup_steps == round(0.15 * steps)
            assert train.schedule.warmup_steps + train.schedule.decay_steps in (steps - 1, steps)
            tokens = train.batch_size * 128
            assert train.optimizer.beta2 ** (7000 / tokens) == pytest.approx(0.5)
            asked = point.budget / (point.flops["matmul_full"] / point.n_tokens)
            assert train.batch_size == max(1, round(512 * math.sqrt(asked / 8e5) / 128))


@pytest.mark.parametrize("exponent", [-0.5, -0.2])
def test_decays_that_fall_add_up_to_those_of_runs_that_end_there(
    study, manifest, changed, exponent
):
    study = changed(study, "recipe.optimizer.weight_decay_exponent", exponent)
    falling = changed(study, "recipe.optimizer.weight_decay_falls", True)
    for point in plan(falling, manifest).points:
        optimizer, schedule = point.spec.train.optimizer, point.spec.train.schedule
        held, n_steps = schedule.warmup_steps, schedule.n_steps
        assert optimizer.weight_decay_holds == held
        steps = np.arange(held + 1, n_steps + 1)
        falls = (steps / held) ** -optimizer.weight_decay_fall
        # 1 / (rate x decay) of a run of so many steps is half of them at 20 tokens per parameter.
        tokens_per_param = np.array([held, n_steps]) / n_steps * point.n_tokens / point.params.total
        before, whole = 2 / (tokens_per_param / 20) ** exponent
        for role in ("input", "hidden"):
            group = getattr(optimizer, role)
            added = group.learning_rate * group.weight_decay * falls.sum()
            # A sum of steps for an integral over them.
            assert added == pytest.approx(whole - before, rel=1 / held)
        assert optimizer.vector.weight_decay == 0.0


def test_doubling_the_depth_halves_residual_branches_and_epsilon(study, manifest, changed):
    shallow = by_width(study, manifest, 4e11)[64].spec
    deep_study = changed(study, "recipe.shape.max_layers", 4)
    deep_study = changed(deep_study, "recipe.shape.min_layers", 4)
    deep = by_width(deep_study, manifest, 4e11)[64].spec
    assert deep.model.residual_multiplier == pytest.approx(shallow.model.residual_multiplier / 2)
    for role, ratio in (("hidden", 0.5), ("vector", 0.5), ("input", 1.0), ("output", 1.0)):
        ours, theirs = (getattr(s.train.optimizer, role) for s in (deep, shallow))
        assert ours.eps == pytest.approx(ratio * theirs.eps)
        assert ours.learning_rate == pytest.approx(theirs.learning_rate)


MUON = MuonConfig(momentum=0.95, nesterov=True, ns_steps=5, scale="spectral")


def with_optimizer(study, **changes):
    named = {f"optimizer__{name}": value for name, value in changes.items()}
    return dataclasses.replace(study, recipe=study.recipe.with_(**named))


def test_a_recipe_with_muon_has_its_constants_in_every_run_and_one_hidden_rate(study, manifest):
    plain = {(p.budget, p.spec.model.d_model): p for p in plan(study, manifest).points}
    for point in plan(with_optimizer(study, algorithm="muon", muon=MUON), manifest).points:
        optimizer = point.spec.train.optimizer
        assert (optimizer.algorithm, optimizer.muon) == ("muon", MUON)
        assert optimizer.hidden.learning_rate == pytest.approx(0.01)  # At every width.
        theirs = plain[point.budget, point.spec.model.d_model].spec.train.optimizer
        decays = [
            group.learning_rate * group.weight_decay for group in (optimizer.hidden, theirs.hidden)
        ]
        assert decays[0] == pytest.approx(decays[1])
        assert optimizer.input == dataclasses.replace(
            theirs.input, weight_decay=optimizer.input.weight_decay, eps=optimizer.input.eps
        )


def test_muons_constants_of_a_recipe_with_adamw_are_in_no_run(study, manifest):
    ready = plan(with_optimizer(study, muon=MUON), manifest)
    assert ready.points == plan(study, manifest).points


def test_the_algorithm_and_its_constants_can_be_set_and_swept(study, manifest):
    constants = '{"momentum":0.9,"nesterov":false,"ns_steps":5,"scale":"rms"}'
    given = ["recipe.optimizer.algorithm=muon", f"recipe.optimizer.muon={constants}"]
    axis = Axis(field="recipe.optimizer.muon.momentum", values=(0.9, 0.95))
    swept = dataclasses.replace(override(study, given), axes=(axis,))
    found = {p.spec.train.optimizer.muon.momentum for p in plan(swept, manifest).points}
    assert found == {0.9, 0.95}


@pytest.mark.parametrize("decay", ["linear", "cosine", "one_minus_sqrt"])
def test_every_run_has_the_decay_of_the_recipe(study, manifest, decay):
    chosen = with_optimizer(study, decay=decay, final_fraction=0.1, decay_fraction=0.2)
    for point in plan(chosen, manifest).points:
        schedule = point.spec.train.schedule
        assert (schedule.decay, schedule.final_fraction) == (decay, 0.1)
        assert schedule.decay_steps == round(0.2 * schedule.n_steps)


def test_in_the_standard_parameterisation_only_the_head_follows_the_width(study, manifest, changed):
    standard = changed(study, "recipe.parameterization", "standard")
    standard = changed(standard, "recipe.shape.tie_embeddings", False)
    for d_model, point in by_width(standard, manifest, 1e11).items():
        model, optimizer = point.spec.model, point.spec.train.optimizer
        assert optimizer.hidden.learning_rate == 0.01
        assert {optimizer.hidden.eps, optimizer.input.eps, optimizer.vector.eps} == {1e-8}
        assert (model.residual_multiplier, model.logit_multiplier) == (2**-0.5, 0.3)
        assert model.output_init_std == pytest.approx(math.sqrt(64 / d_model))
        assert (model.embedding_init_std, model.hidden_init_gain) == (0.5, 1.0)


def test_one_dial_makes_networks_of_a_hundred_thousand_to_ten_billion_parameters():
    """(layers, heads, width of a head) by width."""
    expected = {
        16: (2, 1, 16), 64: (2, 4, 16), 128: (4, 8, 16), 512: (16, 32, 16), 1024: (32, 32, 32),
        2048: (64, 32, 64), 3072: (96, 32, 96),
    }  # fmt: skip
    found, sizes = {}, {}
    for width in expected:
        model = model_config(DENSE, width, vocab_size=256, seq_len=128)
        heads = model.blocks[0].mixer
        found[width] = (model.n_layers, heads.n_heads, heads.d_head)
        sizes[width] = count_params(model).total
    assert found == expected
    assert sizes[64] == pytest.approx(1.3e5, rel=0.05)
    assert sizes[3072] == pytest.approx(1.1e10, rel=0.05)


def test_beta2_is_one_for_all_lengths_where_its_half_life_grows_as_the_batch(study, manifest):
    wide = dataclasses.replace(study, recipe=study.recipe.with_(batch__reference_tokens=2.0**16))
    both = {
        exponent: [
            point.spec.train
            for point in plan(
                dataclasses.replace(
                    wide, recipe=wide.recipe.with_(optimizer__beta2_halflife_exponent=exponent)
                ),
                manifest,
            ).points
        ]
        for exponent in (0.0, 0.5)
    }
    tokens = [train.batch_size * 128 for train in both[0.0]]
    assert max(tokens) > 3 * min(tokens)
    for train, each in zip(both[0.0], tokens, strict=True):
        assert train.optimizer.beta2 == pytest.approx(2 ** (-each / 7e3))
    # 2^16 tokens a step are so many half-lives of 7e3 tokens at every length.
    for train in both[0.5]:
        assert math.log2(train.optimizer.beta2) == pytest.approx(-(2**16) / 7e3, rel=0.01)


def test_networks_from_a_size_on_are_computed_in_bfloat16(study, manifest):
    sizes = sorted({point.params.total for point in plan(study, manifest).points})
    split = dataclasses.replace(study, recipe=study.recipe.with_(bfloat16_from_params=sizes[1]))
    found = {
        point.params.total: point.spec.train.compute_dtype for point in plan(split, manifest).points
    }
    assert found == dict(zip(sizes, ("float32", "bfloat16", "bfloat16"), strict=True))
    assert {p.spec.train.compute_dtype for p in plan(study, manifest).points} == {"float32"}
