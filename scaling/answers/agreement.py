# SPDX-License-Identifier: Apache-2.0
"""Whether approaches agree on the exponents and on the optimum at one budget."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from scaling.answers.frontier import frontier
from scaling.fit import Fit
from scaling.intervals import Estimated, Interval
from scaling.tables.short_repr import ShortRepr
from scaling.tables.units import power


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Agreement(ShortRepr):
    """Exponents and optima of several approaches side by side, and whether they agree.

    One entry per approach; optima are at `flops`.
    """

    flops: float
    level: float
    approaches: tuple[str, ...]
    exponent_a: tuple[Estimated, ...]
    exponent_b: tuple[Estimated, ...]
    n_params_opt: tuple[Estimated, ...]
    n_tokens_opt: tuple[Estimated, ...]
    is_certified: tuple[bool, ...]
    findings: tuple[str, ...]


def agreement(fits: Sequence[Fit], flops: float) -> Agreement:
    """Whether the approaches agree on the exponents and on the optimum at one budget.

    Two approaches agree on a quantity when their intervals overlap. Their replicates come from
    the same runs and are not independent: overlap is a coarse test, its failure is a sure one.

    Args:
      flops: the budget at which optima are compared, in the fits' FLOP convention.

    Raises:
      ValueError: if fits differ in convention, or there are none.
    """
    conventions = {(f.runs.params_convention, f.runs.flops_convention) for f in fits}
    if len(conventions) != 1:
        raise ValueError(f"fits to compare must share one convention, these have {conventions}")
    fronts = [frontier(fit, flops) for fit in fits]
    rows = {
        "exponent_a": tuple(
            Estimated(value=f.exponent_a, interval=f.intervals["exponent_a"]) for f in fits
        ),
        "exponent_b": tuple(
            Estimated(value=f.exponent_b, interval=f.intervals["exponent_b"]) for f in fits
        ),
        "n_params_opt": tuple(f.n_params_opt.at(0) for f in fronts),
        "n_tokens_opt": tuple(f.n_tokens_opt.at(0) for f in fronts),
    }
    names = tuple(fit.name for fit in fits)
    labels = {
        "exponent_a": "exponent a",
        "exponent_b": "exponent b",
        "n_params_opt": f"N* at {power(flops)} FLOPs",
        "n_tokens_opt": f"D* at {power(flops)} FLOPs",
    }
    findings = [_compare(labels[key], names, row) for key, row in rows.items()]
    doubtful = [fit.name for fit in fits if not fit.is_certified]
    if doubtful:
        findings.append(f"not certified: {', '.join(doubtful)}.")
    return Agreement(
        flops=float(flops),
        level=fits[0].level,
        approaches=names,
        **rows,
        is_certified=tuple(fit.is_certified for fit in fits),
        findings=tuple(findings),
    )


def _compare(label: str, names: Sequence[str], row: Sequence[Estimated]) -> str:
    ends = [one.interval for one in row]
    shown = ", ".join(
        f"{name} {one.value:.3g} ({one.interval.lower:.3g} to {one.interval.upper:.3g})"
        for name, one in zip(names, row, strict=True)
    )
    apart = [
        f"{names[i]} and {names[j]}"
        for i, j in itertools.combinations(range(len(names)), 2)
        if are_apart(ends[i], ends[j])
    ]
    verdict = f"do not all overlap ({'; '.join(apart)})" if apart else "overlap"
    return f"{label}: the intervals {verdict}: {shown}."


def are_apart(one: Interval, other: Interval) -> bool:
    """Whether two intervals, both known, have nothing in common."""
    is_known = one.is_known and other.is_known
    return is_known and max(one.lower, other.lower) > min(one.upper, other.upper)
