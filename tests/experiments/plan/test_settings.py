# SPDX-License-Identifier: Apache-2.0
"""Axes of a study: numbers, and whatever else a study can say."""

import dataclasses
import hashlib
import json

import msgspec
import pytest

from experiments.plan.plan import plan
from experiments.plan.point import point_from_json, spec_id, to_json
from experiments.plan.settings import settings
from experiments.recipes.tiny_bytes import TINY_BYTES, TINY_BYTES_MUON
from experiments.study.recipe import BlockRule
from experiments.study.study import Axis
from model.network.counts.mlp import MLPRule

(SWIGLU,) = TINY_BYTES.shape.blocks
GELU = BlockRule(
    mixer=SWIGLU.mixer,
    channel_mixer=MLPRule(activation="gelu", ff_ratio=4.0, ff_multiple=4),
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
    """One in two, and one in four, at depths that the pattern divides."""
    recipe = study.recipe.with_(shape__min_layers=4, shape__max_layers=4)
    study = dataclasses.replace(study, recipe=recipe)
    axis = Axis(
        field="recipe.shape.blocks",
        values=((SWIGLU, GELU), (SWIGLU, GELU, GELU, GELU)),
        labels=("1:1", "1:3"),
    )
    for (label,), specs in planned(study, manifest, axis).items():
        for model in (spec.model for spec in specs):
            assert model.n_layers == 4
            assert len(model.blocks) == {"1:1": 2, "1:3": 4}[label]


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


def test_a_field_with_its_default_is_no_part_of_an_id(points):
    """So that one which is added later changes no id of before."""
    spec, train = points[0].spec, points[0].spec.train
    told = msgspec.to_builtins(spec)
    del told["train"]["objective"]
    for name in ("weight_decay_holds", "weight_decay_fall"):
        del told["train"]["optimizer"][name]
    for name in ("n_bytes", "curve_bytes"):
        del told["train"]["evaluation"][name]
    del told["model"]["separator"]
    assert msgspec.convert(told, type(spec)) == spec
    rounded = json.loads(json.dumps(told), parse_float=lambda text: float(f"{float(text):.8g}"))
    text = json.dumps(rounded, sort_keys=True, separators=(",", ":"))
    assert spec_id(spec) == points[0].id == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert spec_id(dataclasses.replace(spec, train=dataclasses.replace(train, data_seed=9))) != text
