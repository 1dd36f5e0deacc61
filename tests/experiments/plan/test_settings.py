# SPDX-License-Identifier: Apache-2.0
"""Axes of a study: numbers, and whatever else a study can say."""

import dataclasses

import pytest

from experiments.plan.plan import plan
from experiments.plan.point import point_from_json, to_json
from experiments.plan.settings import settings
from experiments.recipes.tiny_bytes import TINY_BYTES, TINY_BYTES_MUON
from experiments.study.recipe import BlockRule
from experiments.study.study import Axis
from model.network.counts.gru import GRURule
from model.network.counts.mlp import MLPRule
from model.network.counts.moe import MoERule
from model.network.counts.total import count_params

(SWIGLU,) = TINY_BYTES.shape.blocks
GELU = BlockRule(
    mixer=SWIGLU.mixer, channel_mixer=MLPRule(activation="gelu", ff_ratio=4.0, ff_multiple=4)
)


def planned(study, manifest, *axes):
    """By label the specs of what is planned."""
    points = plan(dataclasses.replace(study, axes=axes), manifest).points
    assert all(point_from_json(to_json(point)) == point for point in points)
    found = {}
    for point in points:
        found.setdefault(tuple(point.axes.values()), []).append(point.spec)
    return found


def test_an_architecture_is_an_axis(study, manifest):
    axis = Axis(field="recipe.shape.blocks", values=((SWIGLU,), (GELU,)), labels=("swiglu", "gelu"))
    found = planned(study, manifest, axis)
    assert found.keys() == {("swiglu",), ("gelu",)}
    for (label,), specs in found.items():
        assert {spec.model.pattern for spec in specs} == {f"attention+{label}"}
    bare = {point.spec.model for point in plan(study, manifest).points}
    assert {spec.model for spec in found["swiglu",]} == bare


def test_a_hybrid_ratio_is_an_axis(study, manifest):
    """No, one or three recurrent blocks before each of attention, at depths that the pattern
    divides."""
    recipe = study.recipe.with_(shape__min_layers=4, shape__max_layers=4)
    study = dataclasses.replace(study, recipe=recipe)
    gru = GRURule(state_ratio=1.0, state_multiple=8, use_gate_bias=True)
    recurrent = dataclasses.replace(SWIGLU, mixer=gru)
    axis = Axis(
        field="recipe.shape.blocks",
        values=tuple((recurrent,) * n + (SWIGLU,) for n in (0, 1, 3)),
        labels=("0:1", "1:1", "3:1"),
    )
    for (label,), specs in planned(study, manifest, axis).items():
        for model in (spec.model for spec in specs):
            assert model.n_layers == 4
            kinds = [block.mixer.kind for block in model.blocks * model.n_repeats]
            of_two = ["gru", "attention"] * 2
            expected = {"0:1": ["attention"] * 4, "1:1": of_two, "3:1": ["gru"] * 3 + of_two[1:2]}
            assert kinds == expected[label]


def test_windows_are_an_axis_of_numbers(study, manifest):
    axis = Axis(field="recipe.shape.blocks.0.mixer.window", values=(16, 64))
    for (window,), specs in planned(study, manifest, axis).items():
        assert {spec.model.blocks[0].mixer.window for spec in specs} == {window}


def test_experts_and_their_granularity_are_axes(study, manifest):
    """Of finer experts more are active, each narrower: the same active weights but for routers,
    which are left out here."""
    moe = MoERule(
        n_experts=4,
        n_active=1,
        ff_ratio=4.0,
        shared_ratio=0.0,
        ff_multiple=1,
        is_renormalized=True,
        router_init_gain=1.0,
        balance_loss_weight=0.01,
        router_z_loss_weight=0.0,
    )
    block = dataclasses.replace(SWIGLU, channel_mixer=moe)
    study = dataclasses.replace(study, recipe=study.recipe.with_(shape__blocks=(block,)))
    path = "recipe.shape.blocks.0.channel_mixer"
    finer = tuple(
        dataclasses.replace(moe, n_experts=4 * g, n_active=g, ff_ratio=4.0 / g) for g in (1, 2, 4)
    )
    experts = planned(study, manifest, Axis(field=f"{path}.n_experts", values=(2, 4, 8)))
    grains = planned(study, manifest, Axis(field=path, values=finer, labels=("1", "2", "4")))
    active: dict[int, set[int]] = {}
    for (n_experts,), specs in experts.items():
        for model in (spec.model for spec in specs):
            counts, width = count_params(model), model.d_model
            expert = 3 * 4 * width * width * model.n_layers
            assert counts.total - counts.active == (n_experts - 1) * expert
            routers = n_experts * width * model.n_layers
            active.setdefault(width, set()).add(counts.active - routers)
    for (label,), specs in grains.items():
        for model in (spec.model for spec in specs):
            routers = 4 * int(label) * model.d_model * model.n_layers
            active[model.d_model].add(count_params(model).active - routers)
    assert all(len(found) == 1 for found in active.values()), active


def test_a_depth_rule_is_an_axis(study, manifest):
    flat, deep = (study.recipe.shape.min_layers,) * 2, (4, 4)
    rules = tuple(
        dataclasses.replace(study.recipe.shape, min_layers=low, max_layers=high)
        for low, high in (flat, deep)
    )
    axis = Axis(field="recipe.shape", values=rules, labels=("flat", "deep"))
    found = planned(study, manifest, axis)
    depths = {label: {spec.model.n_layers for spec in specs} for (label,), specs in found.items()}
    assert depths == {"flat": {2}, "deep": {4}}


def test_recipes_name_themselves_and_lengths_are_numbers(study, manifest):
    recipes = Axis(field="recipe", values=(TINY_BYTES, TINY_BYTES_MUON))
    lengths = Axis(field="seq_len", values=(64, 128))
    found = planned(study, manifest, recipes, lengths)
    assert found.keys() == {(r.name, n) for r in recipes.values for n in (64.0, 128.0)}
    for (name, length), specs in found.items():
        assert {spec.model.seq_len for spec in specs} == {length}
        algorithm = "muon" if name == "tiny-bytes-muon" else "adamw"
        assert {spec.train.optimizer.algorithm for spec in specs} == {algorithm}


@pytest.mark.parametrize(
    ("axis", "words"),
    [
        ({"field": "recipe.optimizer.speed", "values": (1.0,)}, r"OptimizerRule has no field"),
        ({"field": "recipe.optimizer.beta1.x", "values": (1.0,)}, r"beta1 has no fields"),
        ({"field": "budgets", "values": (1e11,)}, r"axis 'budgets': .* recipe, seq_len, sizes"),
        ({"field": "optimizer.beta1", "values": (0.9,)}, r"such as recipe\.optimizer"),
        ({"field": "seq_len", "values": (0,)}, r"seq_len=0: must be a whole number"),
    ],
)
def test_an_axis_that_cannot_be_is_refused_in_one_line(study, axis, words):
    with pytest.raises(ValueError, match=words) as refused:
        settings(dataclasses.replace(study, axes=(Axis(**axis),)))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("axis", "words"),
    [
        ({"values": ()}, "one at least"),
        ({"values": ((SWIGLU,),)}, "Give labels"),
        ({"values": (1.0, 2.0), "labels": ("one",)}, "one for each"),
        ({"values": (1, 1.0)}, "each once"),
        ({"values": (1.0, 2.0), "labels": ("one", "one")}, "each once"),
        ({"values": (float("nan"),)}, "Give labels"),
    ],
)
def test_values_that_no_table_can_tell_apart_are_refused(axis, words):
    with pytest.raises(ValueError, match=words):
        Axis(field="recipe.shape.blocks", **axis)
