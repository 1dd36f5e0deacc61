# SPDX-License-Identifier: Apache-2.0
"""Laws by their names."""

from dataclasses import replace

from scaling.laws.crossed_laws import CROSSED_LAWS
from scaling.laws.error_laws import ERROR_LAWS
from scaling.laws.expert_laws import EXPERT_LAWS
from scaling.laws.further_laws import FURTHER_LAWS
from scaling.laws.law import Law
from scaling.laws.loss_laws import LOSS_LAWS
from scaling.laws.mixture_laws import MIXTURE_LAWS
from scaling.laws.pair_laws import PAIR
from scaling.laws.parallel_laws import PARALLEL_LAWS
from scaling.laws.rate_laws import RATES
from scaling.laws.repeat_laws import REPEAT_LAWS
from scaling.laws.schedule_laws import MULTI_POWER
from scaling.laws.vocabulary_laws import VOCABULARY_LAWS

LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        *(*LOSS_LAWS, *CROSSED_LAWS, *REPEAT_LAWS, *PARALLEL_LAWS, *VOCABULARY_LAWS),
        *(*EXPERT_LAWS, RATES, *(family(5) for family in MIXTURE_LAWS.values())),
        *(*FURTHER_LAWS, *ERROR_LAWS, PAIR, MULTI_POWER),
    )
}


def law_named(name: str) -> Law:
    """The law of that name; name:column for an error law that predicts another column, name:M for
    a mixture law of M domains.

    Raises:
      ValueError: if there is none, naming those there are.
    """
    if name in LAWS:
        return LAWS[name]
    base, _, tail = name.partition(":")
    if tail and base in {law.name for law in ERROR_LAWS}:
        return register(replace(LAWS[base], name=name, target=tail))
    if base in MIXTURE_LAWS and tail.isdecimal() and 2 <= int(tail) <= 100:
        return register(MIXTURE_LAWS[base](int(tail)))
    known = [law for law in LAWS if law.partition(":")[0] in MIXTURE_LAWS or ":" not in law]
    raise ValueError(f"unknown law {name!r}; choose one of {', '.join(known)}")


def register(law: Law) -> Law:
    """The law, known by its name from now on, so that its fits can be drawn and extrapolated.

    Raises:
      ValueError: if another law has that name.
    """
    if LAWS.setdefault(law.name, law) != law:
        raise ValueError(f"another law is called {law.name!r}; give yours a name of its own")
    return law
