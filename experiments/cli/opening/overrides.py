# SPDX-License-Identifier: Apache-2.0
"""field=value of a command line: any field of a study, recipes by name, axes by their values."""

import dataclasses
from typing import Any

from experiments.files import strict_json
from experiments.plan.settings import VARIED
from experiments.recipes.named import recipe_named
from experiments.study.overrides import override
from experiments.study.study import Axis, Study

_AXIS = "axes=FIELD:VALUE,VALUE names an axis, such as axes=optimizer.learning_rate:0.5,1,2"


def overridden(study: Study, assignments: list[str]) -> Study:
    """The study with every assignment applied; a recipe before the fields of it.

    ``recipe=NAME`` takes another recipe; each ``axes=FIELD:VALUE,VALUE`` is an axis, and together
    they replace the study's own (``axes=`` alone: none). A field that is none of a study is one of
    its recipe.

    Raises:
      ValueError: one line, for what there is not or is not legal.
    """
    recipes = [text.partition("=")[2] for text in assignments if text.startswith("recipe=")]
    axes = [text.partition("=")[2] for text in assignments if text.startswith("axes=")]
    if len(recipes) > 1:
        raise ValueError("recipe: given twice. Give each field once.")
    if recipes:
        study = dataclasses.replace(study, recipe=recipe_named(recipes[0]).recipe)
    if axes:
        study = dataclasses.replace(study, axes=tuple(_axis(text) for text in axes if text))
    return override(study, [t for t in assignments if not t.startswith(("recipe=", "axes="))])


def _axis(text: str) -> Axis:
    field, colon, values = text.partition(":")
    if not (field and colon and values):
        raise ValueError(f"axes={text}: {_AXIS}.")
    if field.partition(".")[0] not in VARIED:
        field = f"recipe.{field}"
    read = (lambda name: recipe_named(name).recipe) if field == "recipe" else _value
    return Axis(field=field, values=tuple(read(value) for value in values.split(",")))


def _value(text: str) -> Any:
    """A number or a flag as JSON has it, else the text itself."""
    try:
        return strict_json.loads(text)
    except ValueError:
        return text
