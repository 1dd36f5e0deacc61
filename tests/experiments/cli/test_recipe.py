# SPDX-License-Identifier: Apache-2.0
import re

import pytest

from experiments.recipes.named import RECIPES, recipe_named


def test_every_recipe_is_a_line(isoflop):
    code, out, _ = isoflop("recipe")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(RECIPES)
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_shown_with_every_number_and_reason_in_80_columns(isoflop, name):
    code, out, _ = isoflop("recipe", name)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith(f"{name}: ")
    assert max(map(len, lines)) <= 80
    shown = [line.split()[0] for line in lines if re.match(r"  [a-z]", line)]
    assert shown == [path.rpartition(".")[2] for path in RECIPES[name].numbers]
    words = " ".join(out.split())
    for reason in RECIPES[name].reasons.values():
        assert reason in words


def test_the_number_itself_stands_before_its_reason(isoflop):
    _, out, _ = isoflop("recipe", "tiny-bytes-muon")
    assert re.search(r"^  hidden_rate +0\.04 +0\.01 to 0\.06 swept", out, re.MULTILINE)
    assert re.search(r"^optimizer\.muon\n  momentum +0\.9 +", out, re.MULTILINE)


def test_a_recipe_says_how_a_study_has_it(isoflop):
    _, out, _ = isoflop("recipe", "gru")
    assert "isoflop run STUDY recipe=gru\n" in out
    assert "recipe=recipe_named('gru').recipe," in out
    assert recipe_named("gru").recipe.name == "gru"
