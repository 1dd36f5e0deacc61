# SPDX-License-Identifier: Apache-2.0
"""The published results that can be computed again, by name; each is imported when asked for."""

import importlib
import importlib.util

from scaling.published.case import Case

NAMES = (
    "chinchilla",
    "misfitting",
    "kyotakano",
    "olmo",
    "gadre",
    "muennighoff",
    "isoflop_sets",
    "approach2_bias",
    "porian",
    "steplaw",
    "multipower",
)


def case_names() -> tuple[str, ...]:
    """Names of the cases that this version has, in the order in which --all runs them."""
    found = (importlib.util.find_spec(f"scaling.published.{name}") for name in NAMES)
    return tuple(name for name, spec in zip(NAMES, found, strict=True) if spec is not None)


def case_named(name: str) -> Case:
    """The case of that name.

    Raises:
      ValueError: if there is none, naming those there are.
    """
    if name not in case_names():
        raise ValueError(f"unknown case {name!r}; choose one of {', '.join(case_names())}")
    found = importlib.import_module(f"scaling.published.{name}").CASE
    assert isinstance(found, Case)
    return found
