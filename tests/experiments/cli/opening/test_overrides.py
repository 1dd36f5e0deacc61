# SPDX-License-Identifier: Apache-2.0
"""Recipes and axes on the command line."""

import dataclasses

import pytest

from experiments.cli.opening.load_study import load_study
from experiments.cli.opening.overrides import overridden
from experiments.recipes.dense import DENSE, DENSE_MUON
from experiments.recipes.tiny_bytes import TINY_BYTES
from experiments.study.study import Axis


@pytest.fixture
def study():
    return dataclasses.replace(load_study("quickstart"), forecast_budgets=())


def test_a_recipe_is_taken_by_its_name_before_its_fields_are_set(study):
    found = overridden(study, ["recipe.optimizer.beta1=0.8", "recipe=tiny-bytes", "seq_len=64"])
    assert found.recipe == TINY_BYTES.with_(optimizer__beta1=0.8)
    assert found.seq_len == 64


def test_axes_are_named_by_field_and_values(study):
    given = [
        "axes=optimizer.learning_rate:0.5,1",
        "axes=seq_len:64,128",
        "axes=recipe:dense,dense-muon",
        "axes=recipe.optimizer.decay:linear,cosine",
    ]
    assert overridden(study, given).axes == (
        Axis(field="recipe.optimizer.learning_rate", values=(0.5, 1)),
        Axis(field="seq_len", values=(64, 128)),
        Axis(field="recipe", values=(DENSE, DENSE_MUON)),
        Axis(field="recipe.optimizer.decay", values=("linear", "cosine")),
    )
    assert overridden(overridden(study, given), ["axes="]).axes == ()


WRONG = (
    (["recipe=no-such"], "unknown recipe 'no-such': known are "),
    (["recipe=dense", "recipe=dense"], "recipe: given twice"),
    (["axes=optimizer.learning_rate"], "axes=FIELD:VALUE,VALUE names an axis"),
    (["axes=:1,2"], "axes=FIELD:VALUE,VALUE names an axis"),
    (["axes=recipe:dense,no-such"], "unknown recipe 'no-such'"),
    (["axes=seq_len:64,64"], "each once"),
    (["flops=6nd"], "flops=6nd: must be 6n_total, 6n_non_embedding, matmul_full, matmul_causal."),
    (["seeds=a"], "seeds=a: Expected int | array, got str. It is now "),
)


@pytest.mark.parametrize(("given", "words"), WRONG, ids=str)
def test_what_cannot_be_is_one_line(study, given, words):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        overridden(study, given)
    assert words in str(error.value)
