# SPDX-License-Identifier: Apache-2.0
"""Ledger -> fits -> frontier of one study: every approach, and why one gave no answer."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from experiments.collate import collate
from experiments.ledger import Ledger
from experiments.point import Point
from experiments.storage import replace_text
from experiments.study import Study
from scaling.approach2_bias import with_bias
from scaling.envelope import fit_envelope
from scaling.fit import Fit, FitError
from scaling.frontier import Agreement, Frontier, agreement, frontier
from scaling.isoflop import fit_isoflop
from scaling.runs import Curves, Runs, best_settings, read_curves, read_runs
from scaling.surface import fit_surface

APPROACHES = ("envelope", "isoflop", "additive", "curved")


@dataclass(frozen=True, kw_only=True, eq=False)
class Analysis:
    """What the runs of a study say.

    Attributes:
      runs: of the grid, diverged ones included; forecast runs are never among them.
      curves: of the grid.
      fits: by name of APPROACHES, those that gave an answer.
      refusals: by name, the sentence of those that gave none.
      frontiers: by name, at the study's budgets and forecast budgets.
      agreement: between the approaches at the largest budget; None with fewer than two.
      findings: about the choice of rows.
    """

    runs: Runs
    curves: Curves
    fits: dict[str, Fit]
    refusals: dict[str, str]
    frontiers: dict[str, Frontier]
    agreement: Agreement | None
    findings: tuple[str, ...]


def analyse(ledger: Ledger, study: Study, points: list[Point]) -> Analysis:
    """Fits every approach to the finished runs of the grid, and writes fits/*.json.

    Raises:
      FitError: if there are no finished runs.
      ValueError: if a table is damaged.
    """
    collate(ledger, points)
    if not any(ledger.has_result(point.id) for point in points):
        raise FitError(f"{ledger.folder} has no finished run. `isoflop run` trains them.")
    everything = read_runs(ledger.table, flops=study.flops, params="total")
    is_grid = np.asarray(everything.extra["role"]) == "grid"
    runs = everything.select(is_grid)
    findings: tuple[str, ...] = ()
    if study.axes:
        runs, findings = best_settings(runs, [axis.field for axis in study.axes])
    curves = read_curves(ledger.curves, flops=study.flops)
    fitters: dict[str, Callable[[], Fit]] = {
        "envelope": lambda: fit_envelope(runs, curves),
        "isoflop": lambda: fit_isoflop(runs),
        "additive": lambda: fit_surface(runs, "additive"),
        "curved": lambda: fit_surface(runs, "curved"),
    }
    fits: dict[str, Fit] = {}
    refusals: dict[str, str] = {}
    for name in APPROACHES:
        try:
            fits[name] = fitters[name]()
        except FitError as error:
            refusals[name] = str(error)
    if "isoflop" in fits and "additive" in fits:
        fits["isoflop"] = with_bias(fits["isoflop"], fits["additive"])
    for name, fit in fits.items():
        replace_text(ledger.fits / f"{name}.json", fit.to_json())
    budgets = [*study.budgets, *study.forecast_budgets]
    return Analysis(
        runs=runs,
        curves=curves,
        fits=fits,
        refusals=refusals,
        frontiers={name: frontier(fit, budgets) for name, fit in fits.items()},
        agreement=agreement(list(fits.values()), study.budgets[-1]) if len(fits) > 1 else None,
        findings=findings,
    )
