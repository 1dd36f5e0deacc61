# SPDX-License-Identifier: Apache-2.0
"""isoflop recipe: every number of a recipe and its reason."""

import argparse
import textwrap
from collections.abc import Iterator
from typing import Any

from rich.console import Console

from experiments.recipes.named import RECIPES, recipe_named
from experiments.study.explained import Explained

HELP = "every number of a recipe, its reason and source; without a name: which there are"
WIDTH = 80


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="none: list them")


def run(options: argparse.Namespace, console: Console) -> None:
    if options.overrides:
        raise ValueError(f"{options.overrides[0]!r}: one recipe at a time, as it is.")
    for line in _list() if options.name is None else _page(recipe_named(options.name)):
        console.print(line)


def _list() -> Iterator[str]:
    longest = max(map(len, RECIPES))
    return (f"{name:{longest}}  {found.about}" for name, found in RECIPES.items())


def _page(explained: Explained) -> Iterator[str]:
    """What it is for, then each rule: its numbers, and beside them the reasons."""
    yield f"{explained.recipe.name}: {explained.about}"
    texts = {path: _text(value) for path, value in explained.numbers.items()}
    name = max(len(_last(path)) for path in texts)
    value = max(map(len, texts.values()))
    wrapped = textwrap.TextWrapper(WIDTH - name - value - 6, break_on_hyphens=False)
    rule = reason = ""
    for path, text in texts.items():
        before, rule = rule, path.rpartition(".")[0]
        if rule != before:
            yield f"\n{rule or 'the whole'}"
        said, reason = reason, explained.reasons[path]
        lines = wrapped.wrap("as above" if reason == said else reason)
        yield f"  {_last(path):{name}}  {text:{value}}  {lines[0]}"
        yield from (" " * (name + value + 6) + line for line in lines[1:])
    named = explained.recipe.name
    yield f"\nOn the command line: isoflop run STUDY recipe={named}"
    yield f"In a study file: recipe=recipe_named({named!r}).recipe,"
    yield "which is imported from experiments.recipes.named"


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:.5g}" if isinstance(value, float) else str(value)
