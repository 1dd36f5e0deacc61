# SPDX-License-Identifier: Apache-2.0
import dataclasses
import itertools
import math

import pytest

from experiments.study.overrides import override
from experiments.study.study import Axis

GOOD = (
    ("budgets=1e11,3e11", "budgets", (1e11, 3e11)),
    ("budgets=[2e11]", "budgets", (2e11,)),
    ("seeds=3", "seeds", (3,)),
    ("seeds=0,1,2", "seeds", (0, 1, 2)),
    ("seeds=[[0,1],[5]]", "seeds", ((0, 1), (5,))),
    ("name=other", "name", "other"),
    ("question=Is 1 = 1?", "question", "Is 1 = 1?"),
    ("seq_len=64", "seq_len", 64),
    ("max_epochs=2", "max_epochs", 2.0),
    ("flops=6n_total", "flops", "6n_total"),
    ("mesh=1,2,1,1", "mesh", (1, 2, 1, 1)),
    ("sizes.d_models=16,32", "sizes.d_models", (16, 32)),
    ("data.validation_fraction=0.1", "data.validation_fraction", 0.1),
    ("recipe.optimizer.decay=cosine", "recipe.optimizer.decay", "cosine"),
    ("recipe.shape.use_bias=true", "recipe.shape.use_bias", True),
    ("recipe.shape.blocks.0.mixer.head_width=32", "recipe.shape.blocks.0.mixer.head_width", 32),
    (
        'axes=[{"field": "recipe.optimizer.beta1", "values": [0.8, 0.9]}]',
        "axes",
        (Axis(field="recipe.optimizer.beta1", values=(0.8, 0.9)),),
    ),
)

BAD = (
    ("budgets", "look like field=value"),
    ("=1", "no field ''"),
    ("budget=1e11", "budget: Study has no field 'budget'"),
    ("recipe.optimiser.beta1=1", "recipe.optimiser"),
    ("recipe.optimizer.speed=1", "recipe.optimizer.speed"),
    ("recipe=tiny", "recipe: set one of its fields"),
    ("recipe.optimizer=1", "recipe.optimizer"),
    ("budgets.first=1", "budgets has no fields"),
    ("seq_len.x=1", "seq_len has no fields"),
    ("seq_len=many", "seq_len=many"),
    ("seq_len=1.5", "seq_len=1.5"),
    ("seq_len=", "seq_len="),
    ("seq_len=true", "seq_len=true"),
    ("seq_len=null", "seq_len=null"),
    ("mesh=1,1,1", "mesh=1,1,1"),
    ("budgets=1e11,x", "budgets=1e11,x"),
    ("budgets=[1e11", "budgets=[1e11"),
    ("budgets=NaN", "budgets=NaN"),
    ("budgets=Infinity", "budgets=Infinity"),
    ("budgets=1e999", "budgets"),
    ("max_epochs=NaN", "max_epochs=NaN"),
    ("max_epochs=-Infinity", "max_epochs=-Infinity"),
    ("recipe.optimizer.learning_rate=nan", "recipe.optimizer.learning_rate=nan"),
    ("recipe.optimizer.learning_rate=1e999", "recipe.optimizer.learning_rate"),
    ("flops=6nd", "flops=6nd"),
    ("recipe.optimizer.decay=sqrt", "recipe.optimizer.decay=sqrt"),
    ("seeds=__import__('os')", "seeds=__import__('os')"),
    ("axes=optimizer.beta1", "axes=optimizer.beta1"),
    ("data.paths=x", "data.paths"),
)


def field(study, path):
    for name in path.split("."):
        study = study[int(name)] if name.isdecimal() else getattr(study, name)
    return study


@pytest.mark.parametrize(("assignment", "path", "value"), GOOD, ids=[g[0] for g in GOOD])
def test_a_field_takes_the_value_of_its_type(study, assignment, path, value):
    got = field(override(study, [assignment]), path)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(("assignment", "words"), BAD, ids=[b[0] for b in BAD])
def test_a_wrong_override_is_one_line_that_names_the_field(study, assignment, words):
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the words are checked below)
        override(study, [assignment])
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("path", "value", "now"),
    [
        ("forecast_budgets", (), "forecast_budgets="),
        ("forecast_budgets", (2e12, 1.5e13), "forecast_budgets=2e12,1.5e13"),
        ("budgets", (1e11, 123456789e3), "budgets=1e11,123456789000.0"),
        ("seeds", ((0, 1, 2), (0,)), "seeds=[[0,1,2],[0]]"),
        ("seeds", (0, 1), "seeds=0,1"),
        ("trunks", False, "trunks=false"),
        ("max_epochs", 1.0, "max_epochs=1"),
        ("keep", "auto", "keep=auto"),
    ],
)
def test_a_refusal_shows_the_value_as_an_override_gives_it(study, changed, path, value, now):
    study = changed(study, path, value)
    with pytest.raises(ValueError, match=f"^{path}=") as error:
        override(study, [f"{path}=(),(1)"])
    said = str(error.value).partition("It is now ")[2].rstrip(".").partition(";")[0]
    assert said == now
    assert override(study, [said]) == study


def test_the_order_of_overrides_does_not_matter(study):
    # Each alone would be refused: budgets and seeds per budget are checked together.
    changes = ["budgets=1e11", "seeds=[[4]]", "recipe.optimizer.beta1=0.8"]
    results = {override(study, list(order)) for order in itertools.permutations(changes)}
    assert len(results) == 1
    assert results.pop().seeds == ((4,),)


def test_a_field_given_twice_is_refused_in_any_order(study):
    with pytest.raises(ValueError, match="seq_len: given twice"):
        override(study, ["seq_len=64", "seq_len=128"])
    clash = ["recipe=x", "recipe.optimizer.beta1=0.8"]
    for order in (clash, clash[::-1]):
        with pytest.raises(ValueError, match="recipe"):
            override(study, order)


def test_nothing_that_was_not_named_changes(study):
    changed = override(study, ["recipe.optimizer.beta1=0.8"])
    back = override(changed, [f"recipe.optimizer.beta1={study.recipe.optimizer.beta1}"])
    assert back == study
    assert override(study, []) == study
    assert math.isclose(changed.recipe.optimizer.beta1, 0.8)
    assert dataclasses.replace(changed, recipe=study.recipe) == study
