# SPDX-License-Identifier: Apache-2.0
"""A law fitted to a table of others' runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from experiments.fit_tables.output import Output
from experiments.fit_tables.settings import Fitting, Profiled, Reading
from experiments.report.fits.missing_runs import require_enough
from experiments.terminal.consoles import progress, stderr
from experiments.terminal.table import wrapped

if TYPE_CHECKING:
    from scaling.answers.frontier import Frontier
    from scaling.fit import Fit
    from scaling.profiles.profile import Profile
    from scaling.tables.runs import Runs

# Replicates times runs beyond which a person should know why nothing happens.
_LONG = 5_000_000
# Runs that few laws resample (scaling/uncertainty/sandwich.py).
_VERY_MANY = 10_000


def answer_fit(
    path: str, reading: Reading, *, fitting: Fitting, profiled: Sequence[Profiled], output: Output
) -> None:
    """Fits a table, prints the result, writes JSON and figures where asked."""
    from experiments.fit_tables.display import print_fit
    from scaling.answers.best_size import is_one_budget
    from scaling.json_values import encode
    from scaling.solve.progress import heard_by

    runs = read_table(path, reading)
    if fitting.approach in (None, "isoflop") and is_one_budget(runs):
        return _answer_best_size(runs, fitting, output)
    asked = fitting.intervals.n_bootstrap
    n_replicates = 1000 if asked is None else asked
    if n_replicates * len(runs) > _LONG and len(runs) < _VERY_MANY:
        output.console.print(
            f"{n_replicates} replicates of {len(runs)} runs take minutes; --bootstrap N for fewer"
        )
    with progress(stderr()) as tell, heard_by(lambda said: tell(f"fitting {path}: {said}")):
        tell(f"fitting {path}")
        found = fit_table(runs, fitting)
    print_fit(output.console, found)
    beside = None
    if fitting.is_plain and n_replicates and n_replicates * len(runs) <= _LONG:
        from experiments.fit_tables.agreement import agreement_with_others, print_agreement

        beside = agreement_with_others(runs, found)
        if beside is not None:
            print_agreement(output.console, beside)
    profiles = _profiles(found, profiled, output.console)
    said = {"profiles": encode(profiles), "agreement": encode(beside)}
    output.write({**found.to_dict(), **said})
    if output.figures:
        from experiments.fit_tables.figures import draw

        front, names = _whole_frontier(found), _varying(found)
        for image in draw(found, output.figures, front=front, varying=names, profiles=profiles):
            output.console.print(str(image))


def _answer_best_size(runs: Runs, fitting: Fitting, output: Output) -> None:
    """Of one budget the best size: no law is fitted, and no replicates are drawn."""
    from experiments.fit_tables.display import print_findings
    from scaling.answers.best_size import CURVE, best_size
    from scaling.approaches.isoflop.law import JOINT
    from scaling.plots.figures import figure_best_size

    if fitting.curve not in (JOINT, CURVE) or fitting.tokens != "ladder":
        raise ValueError(f"--curve, --tokens: of one budget the {CURVE} over parameters answers.")
    level = fitting.intervals.level
    found = best_size(runs) if level is None else best_size(runs, level=level)
    output.console.print(wrapped(found.sentence()))
    if found.is_minimum:
        output.console.print(f"{100 * found.level:g} % intervals by Student's t.")
    print_findings(output.console, runs.findings)
    output.write(found.to_dict())
    if output.figures:
        output.save(figure_best_size(found), "isoflop")


def _profiles(found: Fit, profiled: Sequence[Profiled], console: Console) -> list[Profile]:
    """Profiles of the quantities named, printed as they are found."""
    if not profiled:
        return []
    from experiments.fit_tables.display import print_profile
    from scaling.profiles.profile import profile

    profiles = []
    for one in profiled:
        profiles.append(profile(found, one.quantity, flops=one.flops))
        print_profile(console, profiles[-1])
    return profiles


def _whole_frontier(fit: Fit) -> Frontier | None:
    """From the least FLOPs of its runs to three times the most; None for a law without optima."""
    from scaling.answers.frontier import frontier
    from scaling.laws.registry import law_named

    if fit.law != "power_laws" and not law_named(fit.law).is_surface:
        return None
    flops = fit.fitted_runs.flops
    return frontier(fit, np.geomspace(flops.min(), 3.0 * flops.max(), 61))


def _varying(fit: Fit) -> list[str]:
    """Parameters that differ between replicates: fixed ones do not."""
    finite = {name: draws[np.isfinite(draws)] for name, draws in fit.replicates.items()}
    return [name for name, draws in finite.items() if draws.size > 1 and np.ptp(draws) > 0]


def read_table(path: str, reading: Reading) -> Runs:
    """The runs of a table; of a study's own, without those that were forecast.

    Raises:
      ValueError: for a study's file; give its table.
      TooManyMissing: if more of its rows than allowed diverged, failed or have no loss.
    """
    from scaling.tables.read_tables import read_runs

    if path.endswith(".py"):
        raise ValueError(f"{path} is a study: give its table, results/NAME/table.csv.")
    runs = read_runs(
        path,
        flops=reading.flops_convention,
        params=reading.params_convention,
        columns=reading.columns,
        where=reading.where,
    )
    role = runs.extra.get("role")
    if role is not None and not any(one.startswith("role") for one in reading.where):
        is_forecast = role == "forecast"
        n = int(np.sum(is_forecast))
        runs_are, them = ("runs are", "them") if n > 1 else ("run is", "it")
        said = f"{n} forecast {runs_are} left out; --where role!=none keeps {them}."
        runs = runs.select(~is_forecast)
        runs = replace(runs, notes=(*runs.notes, *[said] * bool(is_forecast.any())))
    if reading.best_per:
        runs = runs.best_per(reading.best_per)
    way_out = "--columns status=COLUMN:WORD says which word of a status counts."
    require_enough(runs.not_ok, len(runs), reading.allow_missing, way_out)
    return runs


def fit_table(runs: Runs, fitting: Fitting) -> Fit:
    """The fit that is asked for."""
    if fitting.approach == "isoflop":
        return _isoflop(runs, fitting)
    if fitting.approach == "envelope":
        return _envelope(runs, fitting)
    from scaling.approaches.surface.fit import fit_surface

    return fit_surface(runs, fitting.law, **surface_settings(fitting), **fitting.intervals.given())


def surface_settings(fitting: Fitting) -> dict[str, Any]:
    """Objective, constraints and weights, as `fit_surface` takes them."""
    chosen: dict[str, Any] = {}
    if fitting.objective is not None:
        chosen["objective"] = fitting.objective
    if fitting.n_spare is not None:
        chosen["n_spare"] = fitting.n_spare
    if fitting.weights is not None:
        chosen["weights"] = fitting.weights
    return chosen | {"fixed": fitting.fixed, "tied": fitting.tied, "bounds": fitting.bounds}


def _isoflop(runs: Runs, fitting: Fitting) -> Fit:
    """Approach 2, with its bias beside the exponents where a surface can tell it."""
    from scaling.approaches.approach2 import approach2
    from scaling.approaches.isoflop.bias import with_bias
    from scaling.approaches.surface.fit import fit_surface
    from scaling.fit import FitError

    asked: dict[str, Any] = {
        "accept": fitting.accept,
        "seed_noise": fitting.seed_noise,
        "weights": fitting.weights,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    given |= fitting.intervals.given()
    found = approach2(runs, curve=fitting.curve, tokens=fitting.tokens, **given)
    try:
        return with_bias(found, fit_surface(runs, n_bootstrap=0))
    except FitError:
        return found


def _envelope(runs: Runs, fitting: Fitting) -> Fit:
    from scaling.approaches.envelope.fit import fit_envelope
    from scaling.tables.read_tables import read_curves

    if fitting.curves is None:
        raise ValueError("--approach envelope needs --curves, a table of losses along training")
    if fitting.intervals.bootstrap is not None:
        raise ValueError("--method: an envelope resamples its curves, and has no other method")
    curves = read_curves(
        fitting.curves,
        flops=fitting.curves_convention,
        columns=fitting.curves_columns,
        where=fitting.curves_where,
    )
    return fit_envelope(runs, curves, select=fitting.select, **fitting.intervals.given())


def read_fit(path: Path) -> Fit:
    """A fit from a file that `isoflop fit --out` wrote.

    Raises:
      ValueError: if it is another file.
    """
    from scaling.fit import Fit

    try:
        return Fit.from_json(path.read_text(encoding="utf-8"))
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} is no fit that `isoflop fit --out` wrote ({type(error).__name__}: {error})"
        ) from None
