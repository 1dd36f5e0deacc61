# SPDX-License-Identifier: Apache-2.0
"""Several settings of one table: the optima of each, and the compute that each is worth."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scaling.answers.compute_multiplier import Multiplier, compute_multiplier
from scaling.answers.frontier import Frontier, frontier
from scaling.fit import Fit, FitError
from scaling.tables.runs import Runs
from scaling.tables.units import BOUND

N_BUDGETS = 25


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """One setting beside the first.

    Attributes:
      name: of the setting.
      fit: of its runs.
      front: its frontier along its budgets, the largest last.
      gain: compute of the first over compute of this one at equal loss, above 1 where this one
        needs less; None of the first, and where the two have no loss in common.
      why: then the reason.
    """

    name: str
    fit: Fit
    front: Frontier
    gain: Multiplier | None
    why: str = ""

    @property
    def title(self) -> str:
        """The name, and that its losses are bounds where they are."""
        return f"{self.name}, {BOUND}" if self.fit.fitted_runs.is_bound.all() else self.name


def split_by(runs: Runs, columns: Sequence[str]) -> dict[str, Runs]:
    """The runs of each setting, in the order of the table; a setting is what the columns say.

    Raises:
      ValueError: if there is no such column.
    """
    known = {**runs.extra, "n_params": runs.n_params, "budget": runs.budget}
    for column in columns:
        if column not in known:
            names = ", ".join(sorted(known))
            raise ValueError(f"{column!r} is no column to compare by: there are {names}.")
    rows = zip(*(np.asarray(known[column]).tolist() for column in columns), strict=True)
    found: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        found.setdefault(" ".join(map(_shown, row)), []).append(place)
    return {name: runs.select(places) for name, places in found.items()}


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def side_by_side(
    by_name: Mapping[str, Runs], fit: Callable[[Runs], Fit]
) -> tuple[list[Side], dict[str, str]]:
    """(each setting beside the first, by name why a setting has no fit).

    Raises:
      FitError: if the first, which the others are compared with, has no fit.
    """
    fits: dict[str, Fit] = {}
    refused: dict[str, str] = {}
    for name, runs in by_name.items():
        try:
            fits[name] = fit(runs)
        except FitError as error:
            refused[name] = str(error)
    first = next(iter(by_name))
    if first not in fits:
        raise FitError(f"{first}, which others are compared with: {refused[first]}")
    return sides(fits), refused


def sides(fits: Mapping[str, Fit]) -> list[Side]:
    """Each fit beside the first."""
    first, *_ = fits
    found = []
    for name, own in fits.items():
        flops = own.fitted_runs.flops
        front = frontier(own, np.geomspace(flops.min(), flops.max(), N_BUDGETS))
        gain, why = None, ""
        if name != first:
            try:
                gain = compute_multiplier(fits[first], own, names=(first, name))
            except FitError as error:
                why = str(error)
        found.append(Side(name=name, fit=own, front=front, gain=gain, why=why))
    return found
