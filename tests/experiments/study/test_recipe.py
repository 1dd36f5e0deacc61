# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest

from experiments.plan.plan import plan
from experiments.study.overrides import override
from experiments.study.recipes import TINY_BYTES, TINY_BYTES_MUON


def with_optimizer(study, **changes):
    rule = dataclasses.replace(study.recipe.optimizer, **changes)
    return dataclasses.replace(study, recipe=dataclasses.replace(study.recipe, optimizer=rule))


def test_muon_without_constants_is_refused_in_one_line(study):
    with pytest.raises(ValueError, match=r"^algorithm='muon' needs its constants.*$"):
        with_optimizer(study, algorithm="muon")


def test_a_wrong_choice_in_a_recipe_is_refused_in_one_line(study):
    for field, value in (
        ("recipe.parameterization", "mup"),
        ("recipe.optimizer.algorithm", "sgd"),
        ("recipe.optimizer.decay", "step"),
        ("recipe.optimizer.final_fraction", "1.5"),
    ):
        with pytest.raises(ValueError, match=f"^[^\n]*{field.rsplit('.')[-1]}={value}") as error:
            override(study, [f"{field}={value}"])
        assert "\n" not in str(error.value)


def test_the_recipe_with_muon_differs_from_tiny_bytes_in_its_hidden_group_only(study, manifest):
    tiny, muon = (
        plan(dataclasses.replace(study, recipe=recipe), manifest).points
        for recipe in (TINY_BYTES, TINY_BYTES_MUON)
    )
    assert len(muon) == len(tiny)
    for one, other in zip(tiny, muon, strict=True):
        optimizer = one.spec.train.optimizer
        hidden = other.spec.train.optimizer.hidden
        assert hidden.learning_rate == 0.04
        same = dataclasses.replace(
            optimizer, algorithm="muon", muon=TINY_BYTES_MUON.optimizer.muon, hidden=hidden
        )
        assert other.spec.train == dataclasses.replace(one.spec.train, optimizer=same)
        assert other.spec.model == one.spec.model
