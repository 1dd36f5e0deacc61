# SPDX-License-Identifier: Apache-2.0
"""A recipe with the reason of each of its numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from experiments.study.changes import leaves
from experiments.study.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Explained:
    """Every number with its reason; none may lack one.

    Attributes:
      recipe: what each of its fields means is in its docstring.
      about: what it is for, in a line.
      why: reason and source by the path of a field, or of several with blanks between; the end of
        a path is enough, "mixer.head_width", and means all fields that end so.
      like: its reasons hold here for every field that has the same value.
    """

    recipe: Recipe
    about: str
    why: Mapping[str, str]
    like: "Explained | None" = None

    def __post_init__(self) -> None:
        numbers = self.numbers
        asked = [path for paths in self.why for path in paths.split()]
        if unknown := [path for path in asked if not _ending(numbers, path)]:
            raise ValueError(
                f"recipe {self.recipe.name}: a reason for {unknown[0]}: no such field."
            )
        if lacking := [path for path in numbers if path not in self.reasons]:
            raise ValueError(f"recipe {self.recipe.name}: no reason for {', '.join(lacking)}.")

    @cached_property
    def numbers(self) -> dict[str, Any]:
        """Every field but the name, by its path."""
        return {path: value for path, value in leaves(self.recipe).items() if path != "name"}

    @cached_property
    def reasons(self) -> dict[str, str]:
        """By the path of each field."""
        if self.like is None:
            return self._mine()
        theirs, values = self.like.reasons, self.like.numbers
        same = {path for path, value in self.numbers.items() if values.get(path, self) == value}
        return {path: theirs[path] for path in same} | self._mine()

    def _mine(self) -> dict[str, str]:
        return {
            path: reason
            for paths, reason in self.why.items()
            for ending in paths.split()
            for path in _ending(self.numbers, ending)
        }


def _ending(paths: Mapping[str, Any], end: str) -> list[str]:
    return [path for path in paths if f".{path}".endswith(f".{end}")]
