# SPDX-License-Identifier: Apache-2.0
"""The answer of a study: a sentence and a table for a person, one object for a program."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from rich.console import Console

from experiments.files.storage import replace_text
from experiments.ledger.ledger import Ledger
from experiments.report import rows
from experiments.report.build import Report
from experiments.report.fits.settings_apart import side_rows
from experiments.report.fits.sweeps import VOCABULARY
from experiments.report.frontier_table import frontier_rows, print_frontier
from experiments.report.setting_rows import (
    as_objects,
    best_values,
    course,
    edges,
    setting_rows,
    ties,
)
from experiments.terminal.table import fitting_tables, wrapped
from scaling.answers.agreement import are_apart
from scaling.answers.frontier import Frontier
from scaling.approaches.surface.findings import resolves_gamma
from scaling.fit import Fit
from scaling.intervals import Estimated
from scaling.json_values import encode
from scaling.shown import counted, with_interval
from scaling.tables.units import bits_words

MOST_WARNINGS = 3


def print_answer(console: Console, report: Report) -> None:
    """The sentence, the frontier, the forecasts, and what matters most of what was found.

    Where no law is fitted the settings that were compared are the answer, and the best size.
    """
    if report.main is None:
        for name, curves in report.analysis.sweeps.items():
            console.print(f"Mean loss by {name}, {report.loss_unit}:")
            console.print(fitting_tables(setting_rows(curves), console.width, n_keys=2))
            console.print(wrapped(ties(name, curves)))
            if said := course(name, curves):
                console.print(wrapped(said))
            console.print()
        if said := sentence(report):
            console.print(wrapped(said))
        elif not report.analysis.sweeps:
            console.print("No approach gave an answer.")
    else:
        front = report.analysis.frontiers[report.main]
        console.print(wrapped(sentence(report)))
        console.print()
        print_frontier(console, front, report.unit, report.loss_unit, report.bits_per_nat)
        console.print()
        if report.analysis.sides:
            found = side_rows(report.analysis.sides)
            console.print(f"Each setting beside {report.analysis.sides[0].name}:")
            console.print(fitting_tables(found, console.width))
            console.print()
        if VOCABULARY in report.analysis.sweeps:
            found = setting_rows(report.analysis.sweeps[VOCABULARY])
            console.print(f"Lowest loss of any size by vocabulary, {report.loss_unit}:")
            console.print(fitting_tables(found, console.width, n_keys=1))
            console.print()
        for name, curves in report.analysis.sweeps.items():
            if name != VOCABULARY and (said := best_values(name, curves)):
                console.print(wrapped(said))
                console.print()
    for judged in report.forecasts:
        console.print(
            wrapped(rows.forecast_rows(judged, report.unit, report.bits_per_nat)[0]["sentence"])
        )
    for warning in warnings(report)[:MOST_WARNINGS]:
        console.print(wrapped(f"- {warning}", indent="  "))


def sentence(report: Report) -> str:
    """What to train for the largest budget that is asked for, and how that grows; of one budget
    the best size; empty where neither is known."""
    if report.main is None:
        return "" if report.analysis.best is None else report.analysis.best.sentence(report.unit)
    fit, front = report.analysis.fits[report.main], report.analysis.frontiers[report.main]
    i = len(front.flops) - 1
    row = frontier_rows(front, report.unit, report.loss_unit, report.bits_per_nat)[i]
    flops, n_params, loss, n_tokens = list(row.values())[:4]
    # Of bytes it is the same number in another unit.
    name = bits_words(report.loss_unit)
    bits = f", {row[name]} {name}" if report.unit != "byte" and name in row else ""
    doubt = "" if fit.is_certified else f" Not certified: {fit.status.value} ({fit.name})."
    a = with_interval(fit.exponent_a, fit.intervals["exponent_a"], "{:.2f}")
    return (
        f"For {flops.strip('*')} FLOPs train {n_params} parameters on {n_tokens} {report.unit}s: "
        f"{loss} {report.loss_unit}{bits}. N* grows as C^{a}.{doubt}"
    )


def warnings(report: Report) -> list[str]:
    """What changes how far the answer can be trusted, worst first."""
    return list(_warnings(report))


def _warnings(report: Report) -> Iterator[str]:
    analysis = report.analysis
    if report.main is not None:
        main = analysis.fits[report.main]
        if not main.is_certified:
            yield f"no approach is certified; shown is {main.name}: {main.status.value}."
        narrow = [said for said in main.findings if "The intervals are likely too narrow" in said]
        yield from (f"{main.name}, which answers: {said}" for said in narrow)
        if said := _unbent(main, analysis.fits.get("curved")):
            yield said
        yield from _others(analysis.fits, analysis.frontiers, report.main)
    for judged in report.forecasts:
        if judged.ended:
            yield f"the run whose loss was forecast has none: it {judged.ended}."
        elif rows.is_outside(judged):
            yield "the loss that was forecast came out outside of its interval."
    bad = analysis.runs.not_ok
    if bad:
        n = len(analysis.runs)
        yield f"{len(bad)} of {n} runs are in no fit: {', '.join(sorted(set(bad.values())))}."
    for name, curves in analysis.sweeps.items():
        if said := edges(name, curves):
            yield said
    # Whoever compares settings alone asks for no law.
    is_asked = report.main is not None or not analysis.sweeps
    for name, reason in analysis.refusals.items() if is_asked else ():
        yield f"{name} gives no answer: {reason}"
    for name, fit in analysis.fits.items():
        if name != report.main and not fit.is_certified:
            main = analysis.fits[report.main] if report.main is not None else fit
            instead = f"; {main.name} answers" * main.is_certified
            yield f"{fit.name} is not certified, and not used{instead}: {fit.status.value}."


def _unbent(main: Fit, curved: Fit | None) -> str:
    """That the additive law answers although the runs tell it from the curved one."""
    if main.law != "additive" or curved is None or not curved.is_certified:
        return ""
    gamma = curved.intervals["gamma"]
    if not resolves_gamma(gamma):
        return ""
    return (
        f"{main.name}, which answers, is not of the form of these runs: gamma of {curved.name} is "
        f"{gamma.lower:.2f} to {gamma.upper:.2f}, not 1. That one is not used, for its E is at a "
        "bound; losses of either may be wrong beyond the runs."
    )


def _others(fits: Mapping[str, Fit], fronts: Mapping[str, Frontier], main: str) -> Iterator[str]:
    """Certified approaches whose N* at the largest budget that was trained is another."""

    def optimum(name: str) -> Estimated:
        trained = [i for i, beyond in enumerate(fronts[name].is_extrapolated) if not beyond]
        return fronts[name].n_params_opt.at(trained[-1] if trained else 0)

    mine = optimum(main)
    for name, fit in fits.items():
        if name != main and fit.is_certified and are_apart(mine.interval, optimum(name).interval):
            yield (
                f"{fit.name} finds another N*, {counted(optimum(name))}: its interval and "
                f"that of {fits[main].name} do not overlap."
            )


def details(report: Report) -> str:
    """Every approach, every finding."""
    analysis = report.analysis
    lines = [sentence(report)] if analysis.best else []
    lines += [" | ".join(row) for row in rows.exponent_rows(analysis)]
    for name, curves in analysis.sweeps.items():
        for row in setting_rows(curves):
            cells = [f"{column} {cell}" for column, cell in row.items() if cell]
            lines.append(" | ".join([name, *cells]))
        lines += filter(None, (ties(name, curves), course(name, curves)))
    lines += [f"{name}: no answer: {reason}" for name, reason in analysis.refusals.items()]
    for judged in report.forecasts:
        lines += [
            row["sentence"] for row in rows.forecast_rows(judged, report.unit, report.bits_per_nat)
        ]
    lines += [f"- {finding}" for finding in rows.findings(analysis)]
    return "\n".join(lines) + "\n"


def as_object(report: Report) -> dict[str, Any]:
    """The answer for a program; null for what is not known."""
    analysis, main = report.analysis, report.main
    return {
        "answer": sentence(report) or None,
        "approach": main,
        "is_certified": main is not None and analysis.fits[main].is_certified,
        "unit": report.unit,
        "loss_unit": report.loss_unit,
        "bits_per_nat": report.bits_per_nat,
        "frontier": None if main is None else analysis.frontiers[main].to_dict(),
        "best_size": None if analysis.best is None else analysis.best.to_dict(),
        "exponents": {
            name: {
                "a": fit.exponent_a,
                "b": fit.exponent_b,
                "a_interval": encode(fit.intervals["exponent_a"]),
                "b_interval": encode(fit.intervals["exponent_b"]),
                "status": fit.status.name,
                "is_certified": fit.is_certified,
            }
            for name, fit in analysis.fits.items()
        },
        "settings": {name: as_objects(curves) for name, curves in analysis.sweeps.items()},
        "refusals": dict(analysis.refusals),
        "forecasts": [
            {
                "flops": judged.forecast.budget,
                "run": judged.forecast.point.id,
                "level": judged.forecast.level,
                "by_law": msgspec.to_builtins(judged.forecast.forecasts),
                "conformal": msgspec.to_builtins(judged.forecast.conformal),
                "came_out": None
                if judged.outcome is None or not math.isfinite(judged.outcome)
                else judged.outcome,
            }
            for judged in report.forecasts
        ],
        "warnings": warnings(report),
    }


def write_answer(ledger: Ledger, report: Report) -> None:
    """fits/answer.json and fits/findings.txt."""
    replace_text(ledger.answer, json.dumps(as_object(report), indent=1, allow_nan=False) + "\n")
    replace_text(ledger.findings, details(report))
