# SPDX-License-Identifier: Apache-2.0
"""The published results that can be computed again, by name; each is imported when asked for."""

import importlib

from scaling.published.case import Case

# In the order in which --all runs them.
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


def case_named(name: str) -> Case:
    """The case of that name.

    Raises:
      ValueError: if there is none, naming those there are.
    """
    if name not in NAMES:
        raise ValueError(f"unknown case {name!r}; choose one of {', '.join(NAMES)}")
    found = importlib.import_module(f"scaling.published.{name}").CASE
    assert isinstance(found, Case)
    return found
