# SPDX-License-Identifier: Apache-2.0
"""Laws by their names."""

from dataclasses import replace

from scaling.laws.error_laws import ERROR_LAWS
from scaling.laws.law import Law
from scaling.laws.loss_laws import LOSS_LAWS

LAWS: dict[str, Law] = {law.name: law for law in (*LOSS_LAWS, *ERROR_LAWS)}


def law_named(name: str) -> Law:
    """The law of that name; name:column for an error law that predicts another column.

    Raises:
      ValueError: if there is none, naming those there are.
    """
    if name in LAWS:
        return LAWS[name]
    base, _, target = name.partition(":")
    if target and base in {law.name for law in ERROR_LAWS}:
        return register(replace(LAWS[base], name=name, target=target))
    known = [law for law in LAWS if ":" not in law]
    raise ValueError(f"unknown law {name!r}; choose one of {', '.join(known)}")


def register(law: Law) -> Law:
    """The law, known by its name from now on, so that its fits can be drawn and extrapolated.

    Raises:
      ValueError: if another law has that name.
    """
    if LAWS.setdefault(law.name, law) != law:
        raise ValueError(f"another law is called {law.name!r}; give yours a name of its own")
    return law
