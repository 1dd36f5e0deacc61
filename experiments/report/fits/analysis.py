# SPDX-License-Identifier: Apache-2.0
"""Ledger -> fits -> frontier of one study: every approach, and why one gave no answer."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.ledger.flags import FLAGS
from experiments.ledger.ledger import Ledger
from experiments.ledger.tables import collate
from experiments.plan.point import Point
from experiments.plan.settings import compares_vocabularies
from experiments.report.fits.domains import SettingLosses, loss_matrix
from experiments.report.fits.fit_once import digest, fit_once
from experiments.report.fits.kept_fits import Fits
from experiments.report.fits.missing_runs import ALLOWED, listed, require_enough
from experiments.report.fits.settings_apart import settings_apart
from experiments.report.fits.sweeps import sweeps
from experiments.study.study import Study
from scaling.answers.agreement import Agreement, agreement
from scaling.answers.best_size import BestSize, best_size, is_one_budget
from scaling.answers.collapse import Collapse, collapse_near
from scaling.answers.frontier import Frontier, frontier
from scaling.answers.side_by_side import Side, sides
from scaling.answers.true_loss import true_loss_findings
from scaling.fit import Fit, FitError
from scaling.intervals import Estimated
from scaling.tables.best_settings import best_kind, best_settings
from scaling.tables.loss_curves import LossCurve
from scaling.tables.plausibility import settings_findings
from scaling.tables.read_tables import read_curves, read_runs
from scaling.tables.runs import Curves, Runs
from scaling.tables.units import BITS, power
from scaling.uncertainty.seed_components import seed_components

NOT_TRAINED = "not trained"


@dataclass(frozen=True, kw_only=True, eq=False)
class Analysis:
    """What the runs of a study say.

    Attributes:
      of: digest of the rows and curves that were fitted, and of the code.
      runs: of the grid, diverged ones included; forecast runs are never among them.
      curves: of the grid.
      fits: by name of APPROACHES, those that gave an answer.
      refusals: by name, the sentence of those that gave none.
      frontiers: by name, at the study's budgets and forecast budgets.
      sweeps: by axis of numbers, the mean losses over its values at each budget and size, or
        setting without numbers.
      best: where all runs are of one budget; then no approach is fitted.
      agreement: between the approaches at the largest budget; None with fewer than two.
      findings: about the choice of rows, and runs whose curve is unlike the others'.
      domains: by name of a domain, the law fitted to its losses.
      matrix: losses by domain of every budget and setting.
      collapse: the normalised curves of the runs near the optimum; None where they are too few.
      sides: of axes without numbers each setting beside the first, where that has a fit.
    """

    of: str
    runs: Runs
    curves: Curves
    fits: Mapping[str, Fit]
    refusals: Mapping[str, str]
    frontiers: Mapping[str, Frontier]
    sweeps: Mapping[str, Sequence[LossCurve]]
    best: BestSize | None
    agreement: Agreement | None
    findings: tuple[str, ...]
    domains: Mapping[str, Fit] = dataclasses.field(default_factory=dict)
    matrix: Sequence[SettingLosses] = ()
    collapse: Collapse | None = None
    sides: Sequence[Side] = ()


def analyse(
    ledger: Ledger,
    study: Study,
    points: Sequence[Point],
    *,
    allow_missing: float = ALLOWED,
    tell: Callable[[str], None] = lambda said: None,
) -> Analysis:
    """Fits every approach to the finished runs of the grid, and keeps them in fits/.

    Fits that are kept there, of the same rows by the same code, are taken as they are. Of several
    processes one fits; the others wait for it.

    Args:
      allow_missing: fraction of the grid that may have diverged, failed, or not been trained.
      tell: told in words what is being fitted, and how far it is.

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
    # The fits repeat it, where there are any. Of settings of an axis the best are kept below.
    mixed = settings_findings(runs.select(runs.is_ok)) if study.axes else []
    findings = tuple(sentence for sentence in runs.findings if sentence not in mixed)
    if untrained := {run_id: why for run_id, why in missing.items() if why == NOT_TRAINED}:
        left_out = f"{len(untrained)} of {len(grid)} runs of the grid are not fitted"
        findings = (*findings, f"{left_out}: {listed(untrained, 20)}.")
    by_setting, matrix = sweeps(study, runs), loss_matrix(study, runs)
    apart = settings_apart(study, runs)
    for choose, is_numbers in ((best_kind, False), (best_settings, True)):
        if fields := [axis.field for axis in study.axes if axis.is_numbers is is_numbers]:
            runs, said = choose(runs, fields)
            findings = (*findings, *said)
    curves = read_curves(ledger.curves, flops=study.flops, columns=_columns(study))
    fitted = digest(curves, runs, *apart.values())
    best = best_size(runs) if is_one_budget(runs) else None
    made = Fits(fits={}, refusals={})
    if best is None:
        made = fit_once(ledger, fitted, runs, curves, apart, tell)
    fits, budgets = list(made.fits.values()), [*study.budgets, *study.forecast_budgets]
    frontiers = {name: frontier(fit, budgets) for name, fit in made.fits.items()}
    collapsed = collapse_near(runs, curves, fits)
    found_sides = _sides(apart, made)
    return Analysis(
        of=fitted,
        runs=runs,
        curves=curves,
        fits=made.fits,
        refusals=made.refusals,
        frontiers=frontiers,
        sweeps=by_setting,
        best=best,
        agreement=agreement(fits, study.budgets[-1]) if len(fits) > 1 else None,
        findings=(
            *findings,
            *(best.runs.findings if best else ()),
            *_of_flags(runs),
            *_of_epochs(runs),
            *_of_other_text(runs, made.fits, frontiers),
            *_of_seeds(runs),
            *true_loss_findings({**made.fits, **{side.name: side.fit for side in found_sides}}),
            *(collapsed.findings if collapsed else ()),
        ),
        domains=made.domains,
        matrix=matrix,
        collapse=collapsed,
        sides=found_sides,
    )


def _of_flags(runs: Runs) -> tuple[str, ...]:
    """How many of the fitted runs have which flag."""
    cells = [str(cell).split() for cell in np.asarray(runs.extra["flags"])[runs.is_ok]]
    counts = {flag: sum(flag in cell for cell in cells) for flag in FLAGS}
    said = ", ".join(f"{flag} {n}" for flag, n in counts.items() if n)
    return (f"flagged of {len(cells)} runs, and fitted like the others: {said}.",) if said else ()


def _of_epochs(runs: Runs) -> tuple[str, ...]:
    """How many of the fitted runs read their training data more than once, and how often."""
    epochs = np.asarray(runs.extra["epochs"], float)[runs.is_ok]
    repeated = epochs[epochs > 1]
    if not len(repeated):
        return ()
    return (
        f"{len(repeated)} of {len(epochs)} runs read their training data more than once, up to "
        f"{repeated.max():.2f} times: D counts every reading, and the laws take them for new "
        "tokens (`isoflop laws` has some that do not).",
    )


def _of_other_text(
    runs: Runs, fits: Mapping[str, Fit], frontiers: Mapping[str, Frontier]
) -> tuple[str, ...]:
    """What E and the loss at the largest budget are beyond this one set of validation windows.

    The intervals of the fits are of losses on that set, whose error all runs have in common: it
    moves no exponent, and no forecast of a loss on the same set.
    """
    is_bits = runs.loss_unit == BITS
    name_of_error, unit = ("se_bits_per_byte", BITS) if is_bits else ("loss_se_nats", "nats")
    errors = np.asarray(runs.extra.get(name_of_error, ()), float)
    name = next((name for name in ("additive", "isoflop") if name in fits), None)
    if name is None or not np.isfinite(errors).any():
        return ()
    error, fit, front = float(np.nanmean(errors)), fits[name], frontiers[name]
    largest = int(np.argmax(np.where(front.is_extrapolated, 0, front.flops)))
    numbers = {f"L* at {power(front.flops[largest])} FLOPs": front.loss_opt.at(largest)}
    if "E" in fit.parameters:
        floor = Estimated(value=fit.parameters["E"], interval=fit.intervals["E"])
        numbers = {"E": floor, **numbers}
    wider = {what: found.with_error(error, front.level) for what, found in numbers.items()}
    said = [
        f"{what} {found.value:.4f} ({found.interval.lower:.4f} to {found.interval.upper:.4f})"
        for what, found in wider.items()
        if found.interval.is_known
    ]
    about = f"losses are of one validation set, whose standard error is {error:.4f} {unit}"
    return (f"{about}; for all text of this source: {', '.join(said)}." if said else f"{about}.",)


def _of_seeds(runs: Runs) -> tuple[str, ...]:
    """Where the spread between seeds comes from, of a study that crosses them."""
    tables: dict[tuple, dict[tuple, float]] = {}
    for i in np.flatnonzero(runs.is_ok):
        pair = (runs.extra["seed"][i], runs.extra["data_seed"][i])
        tables.setdefault((runs.budget[i], runs.n_params[i]), {})[pair] = runs.loss_nats[i]
    crossed = []
    for losses in tables.values():
        init, data = (sorted(set(seeds)) for seeds in zip(*losses, strict=True))
        if min(len(init), len(data)) > 1 and len(losses) == len(init) * len(data):
            crossed.append(np.array([[losses[i, d] for d in data] for i in init]))
    if not crossed:
        return ()
    found = seed_components(crossed)
    unit = runs.loss_unit.partition(" ")[0]
    return (
        f"spread between seeds, standard deviations in {unit}: initialisation {found.init_sd:.4f}, "
        f"order of the data {found.data_sd:.4f}, the rest {found.rest_sd:.4f} "
        f"({found.n_points} points with crossed seeds).",
    )


def _sides(apart: Mapping[str, Runs], made: Fits) -> list[Side]:
    """None where the first setting, or every other, has no fit."""
    fits = {name: made.settings[i] for i, name in enumerate(apart) if i in made.settings}
    return sides(fits) if 0 in made.settings and len(fits) > 1 else []


def grid_runs(ledger: Ledger, study: Study, points: Sequence[Point]) -> Runs:
    """The finished runs of the grid, diverged ones included, from the table that this writes.

    Raises:
      FitError: if there are none.
      ValueError: if a table is damaged.
    """
    collate(ledger, points)
    if not any(ledger.has_result(point.id) for point in points):
        raise FitError(f"{ledger.folder} has no finished run. `isoflop run` trains them.")
    everything = read_runs(
        ledger.table, flops=study.flops, params="total", columns=_columns(study, "n_params")
    )
    return everything.select(np.asarray(everything.extra["role"]) == "grid")


def _columns(study: Study, *names: str) -> dict[str, str]:
    """Where a table's losses are, if not in nats per token; and what else has then to be named."""
    if not compares_vocabularies(study):
        return {}
    same = {name: name for name in names}
    return {"flops": f"flops_{study.flops}", "loss_nats": "bits_per_byte:bits", **same}


def _missing(grid: list[str], runs: Runs) -> dict[str, str]:
    """Planned run -> why it is in no fit: its status in the table, or that it is not trained."""
    known, bad = set(runs.run_id), runs.not_ok
    absent = {run_id: NOT_TRAINED for run_id in grid if run_id not in known}
    return {run_id: why for run_id in grid if (why := (bad | absent).get(run_id))}
