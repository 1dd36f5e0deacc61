# SPDX-License-Identifier: Apache-2.0
"""Ledger -> fits -> frontier of one study: every approach, and why one gave no answer."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from experiments.files.storage import replace_text
from experiments.ledger.ledger import Ledger
from experiments.ledger.tables import collate
from experiments.plan.point import Point
from experiments.report.missing_runs import ALLOWED, listed, require_enough
from experiments.study.study import Study
from scaling.answers.agreement import Agreement, agreement
from scaling.answers.frontier import Frontier, frontier
from scaling.approaches.envelope import fit_envelope
from scaling.approaches.isoflop import fit_isoflop
from scaling.approaches.isoflop_bias import with_bias
from scaling.approaches.surface import fit_surface
from scaling.fit import Fit, FitError
from scaling.tables.read_tables import read_curves, read_runs
from scaling.tables.runs import Curves, Runs, best_settings

NOT_TRAINED = "not trained"
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


def analyse(
    ledger: Ledger, study: Study, points: list[Point], *, allow_missing: float = ALLOWED
) -> Analysis:
    """Fits every approach to the finished runs of the grid, and writes fits/*.json.

    Args:
      allow_missing: fraction of the grid that may have diverged, failed, or not been trained.

    Raises:
      FitError: if there are no finished runs.
      TooManyMissing: if more of them are missing; the tables are written all the same.
      ValueError: if a table is damaged.
    """
    runs = grid_runs(ledger, study, points)
    grid = [point.id for point in points if point.role == "grid"]
    missing = _missing(grid, runs)
    way_out = f"`isoflop run` trains what is not trained; the others are in {ledger.table}."
    require_enough(missing, len(grid), allow_missing, way_out)
    findings = runs.findings  # The fits repeat it, where there are any.
    if untrained := {run_id: why for run_id, why in missing.items() if why == NOT_TRAINED}:
        left_out = f"{len(untrained)} of {len(grid)} runs of the grid are not fitted"
        findings = (*findings, f"{left_out}: {listed(untrained, 20)}.")
    if study.axes:
        runs, said = best_settings(runs, [axis.field for axis in study.axes])
        findings = (*findings, *said)
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


def grid_runs(ledger: Ledger, study: Study, points: list[Point]) -> Runs:
    """The finished runs of the grid, diverged ones included, from the table that this writes.

    Raises:
      FitError: if there are none.
      ValueError: if a table is damaged.
    """
    collate(ledger, points)
    if not any(ledger.has_result(point.id) for point in points):
        raise FitError(f"{ledger.folder} has no finished run. `isoflop run` trains them.")
    everything = read_runs(ledger.table, flops=study.flops, params="total")
    return everything.select(np.asarray(everything.extra["role"]) == "grid")


def _missing(grid: list[str], runs: Runs) -> dict[str, str]:
    """Planned run -> why it is in no fit: its status in the table, or that it is not trained."""
    known, bad = set(runs.run_id), runs.not_ok
    absent = {run_id: NOT_TRAINED for run_id in grid if run_id not in known}
    return {run_id: why for run_id in grid if (why := (bad | absent).get(run_id))}
