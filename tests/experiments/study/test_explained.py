# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest

from experiments.recipes.named import RECIPES
from experiments.study.explained import Explained


def paths(node, prefix="") -> set[str]:
    """Of every number, found another way than by what is tested."""
    tree = dataclasses.asdict(node)
    stack, found = [(prefix, tree)], set()
    while stack:
        path, value = stack.pop()
        if isinstance(value, tuple) and value:
            value = {str(place): inner for place, inner in enumerate(value)}
        if isinstance(value, dict):
            stack += [(f"{path}.{name}".lstrip("."), inner) for name, inner in value.items()]
        else:
            found.add(path)
    return found - {"name"}


@pytest.mark.parametrize("name", RECIPES)
def test_every_number_of_every_recipe_has_a_reason(name):
    explained = RECIPES[name]
    assert explained.recipe.name == name
    assert set(explained.reasons) == set(explained.numbers) == paths(explained.recipe)
    assert all(len(reason) > 3 for reason in explained.reasons.values())


def test_a_number_without_a_reason_is_named():
    tiny = RECIPES["tiny-bytes"]
    why = {path: reason for path, reason in tiny.reasons.items() if path != "optimizer.beta1"}
    with pytest.raises(ValueError, match=r"^recipe tiny-bytes: no reason for optimizer\.beta1\.$"):
        Explained(recipe=tiny.recipe, about="", why=why)


def test_a_number_that_was_changed_needs_a_reason_of_its_own():
    tiny = RECIPES["tiny-bytes"]
    changed = tiny.recipe.with_(
        name="mine", optimizer__beta1=0.8, shape__blocks__0__mixer__head_width=32
    )
    with pytest.raises(ValueError, match=r"no reason for \S*head_width, optimizer\.beta1\.$"):
        Explained(recipe=changed, about="", why={}, like=tiny)
    why = {"shape.blocks.0.mixer.head_width optimizer.beta1": "better here"}
    mine = Explained(recipe=changed, about="", why=why, like=tiny).reasons
    assert mine["shape.blocks.0.mixer.head_width"] == mine["optimizer.beta1"] == "better here"
    assert mine["optimizer.clip_norm"] == tiny.reasons["optimizer.clip_norm"]


def test_a_reason_for_what_is_no_number_is_refused():
    tiny = RECIPES["tiny-bytes"]
    with pytest.raises(ValueError, match=r"a reason for optimizer\.speed: no such field"):
        Explained(recipe=tiny.recipe, about="", why={"optimizer.speed": "faster"}, like=tiny)
