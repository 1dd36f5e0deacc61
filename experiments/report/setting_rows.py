# SPDX-License-Identifier: Apache-2.0
"""Losses along the axes of a study, as rows of text and as JSON values."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from scaling.json_values import encode
from scaling.tables.loss_curves import LossCurve
from scaling.tables.units import count, power

# Behind a loss that cannot be told from the lowest.
TIED = " ="


def setting_rows(curves: Sequence[LossCurve]) -> list[dict[str, str]]:
    """Of each budget and size the best value of a setting, and the mean loss of every value; those
    equal to the best are marked."""
    values = sorted({value for curve in curves for value in curve.values})
    return [_row(curve, values) for curve in curves]


def _row(curve: LossCurve, values: Sequence[float]) -> dict[str, str]:
    losses = dict(zip(curve.values, curve.losses, strict=True))
    tied, size = curve.values[curve.ties], curve.at.get("n_params")
    return {
        "FLOPs": power(curve.at["budget"]),
        **({} if size is None else {"parameters": count(size)}),
        **({"setting": curve.setting} if curve.setting else {}),
        "best": _best(curve),
        **{f"{value:g}": _loss(losses.get(value)) + TIED * (value in tied) for value in values},
    }


def _best(curve: LossCurve) -> str:
    if curve.lowest is None:
        return "none"
    return f"{curve.values[curve.lowest]:g}" + ", at the edge" * curve.is_at_edge


def _loss(loss: float | None) -> str:
    """Empty where the value is of no run, a dash where its runs have no loss."""
    return "" if loss is None else "-" if loss != loss else f"{loss:.4f}"


def best_values(name: str, curves: Sequence[LossCurve]) -> str:
    """A sentence on which values of a setting are best, and how often; empty where none is."""
    found = Counter(float(one.values[one.lowest]) for one in curves if one.lowest is not None)
    if not found or max(len(one.values) for one in curves) < 2:
        return ""
    parts = [f"{value:g} at {n}" for value, n in found.most_common()]
    of_all = f"of {len(curves)} {_cases(curves)}"
    return f"The best {name.rpartition('.')[2]} is {', '.join(parts)} {of_all}."


def ties(name: str, curves: Sequence[LossCurve]) -> str:
    """A sentence on values that cannot be told from the best; empty where there is one value."""
    if max(len(curve.values) for curve in curves) < 2:
        return ""
    short = name.rpartition(".")[2]
    if not any(np.isfinite(curve.errors).any() for curve in curves):
        return f"One run of each {short}: which values are equal to the best is not known."
    n = sum(bool(curve.ties) for curve in curves)
    many = f"{len(curves)} {_cases(curves)}" if len(curves) > 1 else "the one budget and size"
    if not n:
        return f"No other {short} is within a standard error of the best at {many}."
    return (
        f"{TIED.strip()} is another {short} within a standard error of the best: at {n} of {many}."
    )


def course(name: str, curves: Sequence[LossCurve]) -> str:
    """A sentence on how the loss of every setting that has a name goes from the first value to the
    last, at the largest budget; empty where there is none."""
    budget = max(curve.at["budget"] for curve in curves)
    named = [one for one in curves if one.setting and one.at["budget"] == budget]
    if not named or min(len(one.values) for one in named) < 2:
        return ""
    ends = [
        f"from {_loss(one.losses[0])} to {_loss(one.losses[-1])} ({one.setting})" for one in named
    ]
    low, high = named[0].values[[0, -1]]
    return (
        f"At {power(budget)} FLOPs, from {name.rpartition('.')[2]} {low:g} to {high:g}, the loss "
        f"goes {', '.join(ends)}."
    )


def edges(name: str, curves: Sequence[LossCurve]) -> str:
    """A sentence where the best value of a setting may lie beyond those tried; else empty."""
    n = sum(curve.is_at_edge for curve in curves)
    return (
        f"the best {name} is the first or the last value at {n} of {len(curves)} {_cases(curves)}: "
        "a better one may lie beyond."
    ) * bool(n)


def _cases(curves: Sequence[LossCurve]) -> str:
    return "budgets and settings" if curves[0].setting else "budgets and sizes"


def as_objects(curves: Sequence[LossCurve]) -> list[dict[str, Any]]:
    """Null for what has no loss."""
    return [
        {
            **encode(curve),
            "best": None if curve.lowest is None else float(curve.values[curve.lowest]),
            "equal_to_best": curve.values[curve.ties].tolist(),
            "is_at_edge": curve.is_at_edge,
        }
        for curve in curves
    ]
