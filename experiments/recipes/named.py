# SPDX-License-Identifier: Apache-2.0
"""All recipes of this project, with their reasons."""

from experiments.recipes import dense, families, llama_like, tiny_bytes
from experiments.study.explained import Explained

RECIPES: dict[str, Explained] = {
    explained.recipe.name: explained
    for room in (tiny_bytes, dense, llama_like, families)
    for explained in room.EXPLAINED
}


def recipe_named(name: str) -> Explained:
    """Raises ValueError for an unknown name."""
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}: known are {', '.join(RECIPES)}.")
    return RECIPES[name]
