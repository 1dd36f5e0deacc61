# SPDX-License-Identifier: Apache-2.0
"""A study that was written is read back equal, whatever it holds."""

import dataclasses
import itertools
import json

import pytest

from experiments.plan.point import to_json
from experiments.recipes.dense import DENSE, DENSE_MUON
from experiments.recipes.named import RECIPES
from experiments.studies import (
    diffusion,
    diffusion_repeated,
    large_7b,
    masked,
    quickstart,
    translation,
    trunks,
    zipf_truth,
)
from experiments.study.from_json import study_from_json
from experiments.study.recipe import BlockRule
from experiments.study.study import Axis, LogSpaced
from model.data.source import PepsText, TextFiles
from model.network.counts.kinds import rules
from model.network.counts.lstm import LSTMRule
from model.network.execution import Execution

STUDIES = {module.__name__.rpartition(".")[2]: module.STUDY
           for module in (diffusion, diffusion_repeated, large_7b, masked, quickstart,
                          translation, trunks, zipf_truth)}  # fmt: skip
BLOCK = DENSE_MUON.shape.blocks[0]
LSTM = LSTMRule(state_ratio=1.0, state_multiple=8, use_gate_bias=True, forget_bias=1.0)
RATES = Axis(field="recipe.optimizer.learning_rate", values=(0.5, 1.0))
OF_NETWORKS = (
    Axis(
        field="recipe.shape.blocks",
        values=((BLOCK,), (BLOCK, BlockRule(mixer=LSTM, channel_mixer=None))),
        labels=("plain", "hybrid"),
    ),
    Axis(field="recipe.shape.blocks.0.mixer", values=(BLOCK.mixer, LSTM), labels=("a", "b")),
    Axis(field="sizes", values=(LogSpaced(n_sizes=3, tokens_per_param=(1.0, 9.0)),), labels=("c",)),
)
CHANGES = {
    "rates": {"axes": (RATES,)},
    "networks": {"axes": OF_NETWORKS, "forecast_budgets": ()},
    "recipes": {"axes": (Axis(field="recipe", values=(DENSE, DENSE_MUON)),),
                "forecast_budgets": ()},
    "spaced": {"sizes": LogSpaced(n_sizes=3, tokens_per_param=(1.0, 9.0))},
    "computed": {"execution": Execution(remat="block"), "mesh": (1, 1, 2, 1), "data_seeds": (3, 4)},
    "text": {"data": TextFiles(paths=("a", "b"), validation_fraction=0.1, format="jsonl")},
}  # fmt: skip
ALL = STUDIES | {
    name: dataclasses.replace(quickstart.STUDY, **changes) for name, changes in CHANGES.items()
}


@pytest.mark.parametrize("name", ALL)
def test_a_study_comes_back_equal(name):
    study = ALL[name]
    again = study_from_json(to_json(study), study.data)
    assert again == study
    assert to_json(again) == to_json(study)


def test_a_study_from_before_a_field_with_a_default_comes_back_equal():
    study = quickstart.STUDY
    fields = json.loads(to_json(study))
    del fields["keep"], fields["recipe"]["objective"], fields["recipe"]["mask_ratio"]
    assert study_from_json(json.dumps(fields), study.data) == study
    del fields["recipe"]["compute_dtype"]
    with pytest.raises(ValueError, match="is nothing that is known"):
        study_from_json(json.dumps(fields), study.data)


def test_no_rule_of_a_layer_has_fields_that_may_be_those_of_another():
    fields = {rule: dataclasses.fields(rule) for rule in rules()}
    every = {rule: {field.name for field in fields[rule]} for rule in fields}
    needed = {
        rule: {field.name for field in fields[rule] if field.default is dataclasses.MISSING}
        for rule in fields
    }
    alike = [
        (one.__name__, other.__name__)
        for one, other in itertools.combinations(fields, 2)
        if needed[one] | needed[other] <= every[one] & every[other]
    ]
    assert alike == [], "study.json tells rules by their fields: give one of them another"


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_comes_back_equal(name):
    study = dataclasses.replace(quickstart.STUDY, recipe=RECIPES[name].recipe)
    assert study_from_json(to_json(study), study.data).recipe == study.recipe


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "no study"),
        ('{"name": "x"}', "no study"),
        ('{"data": {}, "recipe": {"evil": 1}}', "evil is nothing"),
        ('{"data": {}, "evaluation": {"seed": 0}}', "seed is nothing"),
        ("{", "."),
    ],
)
def test_what_is_no_study_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        study_from_json(text, PepsText(validation_fraction=0.1))
