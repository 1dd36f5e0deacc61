# SPDX-License-Identifier: Apache-2.0
"""Ledger -> fits -> frontier -> figures, the terminal's table and one HTML page of a study."""

import base64
import csv
import datetime
import math
import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from rich.console import Console
from rich.table import Table

from experiments.cost import planned_cost, planned_vs_real
from experiments.cost.planned_cost import Planned
from experiments.cost.planned_vs_real import Compared, Real
from experiments.files.checked_json import Damaged
from experiments.files.storage import replace_text
from experiments.ledger.ledger import Ledger
from experiments.plan.point import Point
from experiments.report.analysis import APPROACHES, Analysis, analyse
from experiments.report.cost_figure import figure_cost
from experiments.report.missing_runs import ALLOWED
from experiments.study.study import Study
from experiments.terminal.table import duration, plain_table
from model.data.manifest import Manifest
from scaling.answers.frontier import Frontier
from scaling.answers.loss_forecast import choose_forecaster
from scaling.fit import Fit
from scaling.intervals import Band, Estimated, Interval
from scaling.plots import figures
from scaling.plots.style import save

CAPTIONS = {
    "isoflop": "Loss against size at fixed compute, with fitted minima (approach 2).",
    "frontier": "Compute-optimal parameters and tokens by every approach.",
    "forecast": "Forecasts made before the run beyond the grid, and what came out.",
    "surface": "Fitted loss surface with the efficient frontier (approach 3).",
    "residuals": "Residuals of the surface.",
    "agreement": "Exponents and optima of the approaches side by side.",
    "curves": "Validation loss during training.",
    "cost": "Device-seconds of every run as they were planned, and as they came out.",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """Everything that a report shows.

    Attributes:
      analysis: fits and frontiers.
      main: name of the approach whose frontier is the answer.
      forecasts: records of experiments/report/forecast.py, with "outcome" added where it is known.
      costs: rows of costs.csv.
      planned: what was planned to be spent; None where nothing was, or it is damaged.
      compared: the finished runs of which it told the time.
    """

    analysis: Analysis
    main: str | None
    forecasts: list[dict[str, Any]]
    costs: list[dict[str, str]]
    planned: Planned | None = None
    compared: tuple[Compared, ...] = ()


def build(
    ledger: Ledger, study: Study, points: list[Point], *, allow_missing: float = ALLOWED
) -> Report:
    """Fits what is finished.

    Raises:
      FitError: if nothing is.
      TooManyMissing: if less than ``allow_missing`` asks for.
    """
    analysis = analyse(ledger, study, points, allow_missing=allow_missing)
    with ledger.costs.open(newline="") as file:
        costs = list(csv.DictReader(file))
    asked = {point.id for point in points}
    forecasts = [
        record | {"outcome": _outcome(ledger, record)}
        for record in ledger.read_forecasts()
        if record["point"]["id"] in asked
    ]
    planned, compared = _against_plan(ledger, points, costs)
    return Report(
        analysis=analysis,
        main=_main(analysis),
        forecasts=forecasts,
        costs=costs,
        planned=planned,
        compared=compared,
    )


def _against_plan(
    ledger: Ledger, points: list[Point], costs: list[dict[str, str]]
) -> tuple[Planned | None, tuple[Compared, ...]]:
    """The plan of costs, and the finished runs of which it told the time."""
    try:
        planned = planned_cost.read(ledger)
    except Damaged:
        return None, ()  # `isoflop doctor` and `isoflop status` name it; no answer waits for it.
    if planned is None:
        return None, ()
    asked = {point.id: point for point in points}
    with ledger.table.open(newline="") as file:
        whole = {row["run_id"] for row in csv.DictReader(file) if row["status"] == "ok"}
    done = [
        Real(
            run_id=row["run_id"],
            role=asked[row["run_id"]].role,
            budget=asked[row["run_id"]].budget,
            d_model=asked[row["run_id"]].spec.model.d_model,
            device_seconds=float(row["device_seconds"]),
            joules=float(row["joules"]) if row.get("joules") else None,
            joules_source=row.get("joules_source") or "",
        )
        for row in costs
        if row["run_id"] in whole and float(row.get("device_seconds") or 0) > 0
    ]
    sizes = {point.cluster_id: (point.budget, point.spec.model.d_model) for point in points}
    done += planned_vs_real.of_trunks(ledger.trunks(sizes), sizes)
    return planned, tuple(planned_vs_real.compare(planned, done))


def _main(analysis: Analysis) -> str | None:
    """The surface that forecasts best, else whatever gave an answer."""
    surfaces = [fit for fit in analysis.fits.values() if fit.law != "power_laws"]
    if surfaces:
        return choose_forecaster(surfaces).law
    return next((name for name in ("isoflop", "envelope") if name in analysis.fits), None)


def _outcome(ledger: Ledger, record: dict[str, Any]) -> float | None:
    result = ledger.read_result(record["point"]["id"])
    return None if result is None else result["loss_nats"]


def print_answer(console: Console, study: Study, ledger: Ledger, report: Report) -> None:
    """The frontier, the exponents, the findings and the forecasts, on the terminal."""
    analysis = report.analysis
    console.print(_exponent_table(analysis))
    for name, reason in analysis.refusals.items():
        console.print(f"{name}: no answer: {reason}")
    for sentence in _findings(analysis):
        console.print(f"- {sentence}")
    if report.main is not None:
        console.print(_frontier_table(analysis.frontiers[report.main]))
    for record in report.forecasts:
        for row in forecast_rows(record):
            console.print(row["sentence"])


def _exponent_table(analysis: Analysis) -> Table:
    table = plain_table("approach", "a (N* ~ C^a)", "b (D* ~ C^b)", "runs", "status")
    for fit in _ordered(analysis):
        table.add_row(*_exponent_row(fit))
    return table


def _ordered(analysis: Analysis) -> list[Fit]:
    return [analysis.fits[name] for name in APPROACHES if name in analysis.fits]


def _exponent_row(fit: Fit) -> tuple[str, ...]:
    a = _with_interval(fit.exponent_a, fit.intervals["a"], "{:.3f}")
    b = _with_interval(fit.exponent_b, fit.intervals["b"], "{:.3f}")
    status = "certified" if fit.is_certified else f"NOT CERTIFIED: {fit.status.value}"
    return (fit.name, a, b, str(len(fit.fitted_runs)), status)


def _with_interval(value: float, interval: Interval, form: str) -> str:
    if not interval.is_known:
        return f"{form.format(value)} (no interval)"
    ends = f"{form.format(interval.lower)} to {form.format(interval.upper)}"
    return f"{form.format(value)} ({ends})"


def _findings(analysis: Analysis) -> list[str]:
    """Every sentence once, with the approaches that say it."""
    said: dict[str, list[str]] = {sentence: [] for sentence in analysis.findings}
    for name, fit in analysis.fits.items():
        for sentence in (*fit.findings, *analysis.frontiers[name].findings):
            if fit.name not in said.setdefault(sentence, []):
                said[sentence].append(fit.name)
    if analysis.agreement is not None:
        said |= {sentence: [] for sentence in analysis.agreement.findings}
    return [f"{', '.join(names)}: {s}" if names else s for s, names in said.items()]


def frontier_rows(frontier: Frontier) -> list[dict[str, str]]:
    """The answer, one row per budget, every number with its interval."""
    columns = {
        "N* parameters": (frontier.n_params_opt, "{:.3g}"),
        "D* tokens": (frontier.n_tokens_opt, "{:.3g}"),
        "tokens per parameter": (frontier.tokens_per_param, "{:.3g}"),
        "loss, nats per token": (frontier.loss_opt, "{:.4f}"),
    }
    rows = []
    for i, flops in enumerate(frontier.flops):
        mark = "extrapolated" if frontier.is_extrapolated[i] else ""
        cells = {name: _band_cell(band, i, form) for name, (band, form) in columns.items()}
        rows.append({"C, FLOPs": f"{flops:.3g}", **cells, "": mark})
    return rows


def _band_cell(band: Band, i: int, form: str) -> str:
    found = band.at(i)
    return _with_interval(found.value, found.interval, form)


def _frontier_table(frontier: Frontier) -> Table:
    title = f"Compute-optimal frontier, {frontier.approach}, {frontier.level:.0%} intervals"
    rows = frontier_rows(frontier)
    table = plain_table(*rows[0], no_wrap=True, title=title)
    for row in rows:
        table.add_row(*row.values())
    return table


def forecast_rows(record: dict[str, Any]) -> list[dict[str, str]]:
    """One row per surface: forecast, interval, outcome, in numbers and as a sentence."""
    rows = []
    for law, forecast in record["forecasts"].items():
        ends = [forecast["lower"], forecast["upper"]]
        interval = "unknown" if None in ends else f"{ends[0]:.4f} to {ends[1]:.4f}"
        row = {
            "C, FLOPs": f"{record['budget']:.3g}",
            "parameters": f"{record['point']['params']['total']:,}",
            "tokens": f"{record['point']['n_tokens']:,}",
            "law": law,
            "forecast": f"{forecast['value']:.4f}",
            f"{record['level']:.0%} interval": interval,
        }
        outcome = record["outcome"]
        came = "not trained yet"
        if outcome is not None:
            is_inside = None not in ends and ends[0] <= outcome <= ends[1]
            difference = outcome - forecast["value"]
            where = "inside" if is_inside else "OUTSIDE"
            came = f"{outcome:.4f} ({difference:+.4f}, {where})"
        row["came out"] = came
        text = f"forecast at {row['C, FLOPs']} FLOPs, {law}: {row['forecast']} nats ({interval})"
        rows.append(row | {"sentence": f"{text}; came out: {came}"})
    return rows


def draw(ledger: Ledger, report: Report) -> dict[str, Path]:
    """Writes every figure that the fits allow as PNG and SVG; name -> PNG."""
    analysis, fits = report.analysis, report.analysis.fits
    drawn = {"curves": figures.figure_curves(analysis.curves, analysis.runs)}
    if "isoflop" in fits:
        drawn["isoflop"] = figures.figure_isoflop(fits["isoflop"])
    if fits:
        fronts = [analysis.frontiers[name] for name in APPROACHES if name in fits]
        drawn["frontier"] = figures.figure_frontier(fronts, _ordered(analysis))
    if report.compared:
        drawn["cost"] = figure_cost(report.compared)
    if analysis.agreement is not None:
        drawn["agreement"] = figures.figure_agreement(analysis.agreement, _ordered(analysis))
    if report.main in ("additive", "curved"):
        fit, front = fits[report.main], analysis.frontiers[report.main]
        drawn["surface"] = figures.figure_surface(fit, front)
        drawn["residuals"] = figures.figure_residuals(fit)
        if report.forecasts:
            drawn["forecast"] = _forecast_figure(report.forecasts[-1], fit, front)
    ledger.figures.mkdir(parents=True, exist_ok=True)
    return {name: save(drawn[name], ledger.figures / name)[0] for name in CAPTIONS if name in drawn}


def _forecast_figure(record: dict[str, Any], fit: Fit, front: Frontier) -> Any:
    forecasts = {
        law: Estimated(
            value=_nan(f["value"]),
            interval=Interval(lower=_nan(f["lower"]), upper=_nan(f["upper"])),
        )
        for law, f in record["forecasts"].items()
    }
    return figures.figure_forecast(
        front, fit, forecasts, flops=record["budget"], outcome=record["outcome"]
    )


def _nan(value: float | None) -> float:
    return math.nan if value is None else value


def write(ledger: Ledger, study: Study, points: list[Point], report: Report) -> None:
    """Writes the figures and report.html: one file, no network, everything escaped."""
    images = {
        name: base64.b64encode(path.with_suffix(".svg").read_bytes()).decode()
        for name, path in draw(ledger, report).items()
    }
    replace_text(ledger.report, page(ledger, study, points, report, images))


def page(
    ledger: Ledger, study: Study, points: list[Point], report: Report, images: dict[str, str]
) -> str:
    """The HTML of a report; ``images`` are SVG files in base64 by name of CAPTIONS."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    analysis = report.analysis
    main = analysis.frontiers[report.main] if report.main else None
    return environment.get_template("report.html").render(
        study=study,
        answer=frontier_rows(main) if main else [],
        answer_title=f"{main.approach}, {main.level:.0%} intervals" if main else "",
        exponents=[_exponent_row(fit) for fit in _ordered(analysis)],
        refusals=analysis.refusals,
        findings=_findings(analysis),
        forecasts=[row for record in report.forecasts for row in forecast_rows(record)],
        figures=[(name, CAPTIONS[name], image) for name, image in images.items()],
        runs=_run_rows(ledger, points),
        recipe=_flat(study.recipe),
        data_notes=Manifest.read(ledger.manifest).notes,
        data_fingerprint=Manifest.read(ledger.manifest).fingerprint,
        provenance=_provenance(report.costs),
        totals=_totals(points, report.costs),
        planned=planned_vs_real.totals(report.planned, report.compared) if report.planned else [],
        planned_runs=(
            planned_vs_real.run_rows(report.planned, report.compared) if report.planned else []
        ),
        written=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _run_rows(ledger: Ledger, points: list[Point]) -> list[dict[str, str]]:
    with ledger.table.open(newline="") as file:
        finished = {row["run_id"]: row for row in csv.DictReader(file)}
    rows = []
    for point in points:
        row = finished.get(point.id)
        loss = row["loss_nats"] if row else ""
        rows.append(
            {
                "run": point.id,
                "role": point.role,
                "C asked": f"{point.budget:.3g}",
                "d_model": str(point.spec.model.d_model),
                "parameters": f"{point.params.total:,}",
                "tokens": f"{point.n_tokens:,}",
                "steps": str(point.spec.train.schedule.n_steps),
                "batch": str(point.spec.train.batch_size),
                "seed": str(point.seed),
                "loss": f"{float(loss):.4f}" if loss else "",
                "status": row["status"] if row else "missing",
                "reason": row["reason"] if row else "",
            }
        )
    return rows


def _flat(node: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Every number of a nested configuration, as (path, value)."""
    rows: list[tuple[str, str]] = []
    for name in node.__slots__:
        value = getattr(node, name)
        if hasattr(value, "__slots__") and not isinstance(value, str | int | float | tuple):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((prefix + name, str(value)))
    return rows


def _provenance(costs: list[dict[str, str]]) -> list[tuple[str, str]]:
    """Versions, hardware and flags; where runs differ, every value with its count."""
    skip = ("run_id", "seconds", "joules", "flops_", "mfu", "resumed_at", "trunk")
    names = [n for n in (costs[0] if costs else {}) if not any(part in n for part in skip)]
    rows = []
    for name in names:
        counts = Counter(row[name] for row in costs)
        values = [f"{value} ({n} runs)" for value, n in counts.most_common()]
        rows.append((name, next(iter(counts)) if len(counts) == 1 else ", ".join(values)))
    return rows


def _totals(points: list[Point], costs: list[dict[str, str]]) -> list[tuple[str, str]]:
    done = {row["run_id"] for row in costs}
    finished = [point for point in points if point.id in done]

    def total(name: str) -> float:
        return sum(float(row[name] or 0) for row in costs)

    rows = [("runs finished", f"{len(finished)} of {len(points)}")]
    if finished:
        for convention in finished[0].flops:
            flops = sum(point.flops[convention] for point in finished)
            spent = sum(float(row.get(f"flops_spent_{convention}") or 0) for row in costs)
            less = f", {spent:.4g} spent" if 0 < spent < 0.999 * flops else ""
            rows.append((f"FLOPs ({convention})", f"{flops:.4g}{less}"))
    rows += [
        ("tokens", f"{sum(point.n_tokens for point in finished):,}"),
        ("worker time, last attempts", duration(total("wall_seconds"))),
        ("of this compiling", duration(total("compile_seconds"))),
        ("of this training", duration(total("train_seconds"))),
        ("of this waiting for data", f"{total('stall_seconds'):.1f} s"),
        *_utilisation(costs),
        *_energy(costs),
    ]
    return rows


def _utilisation(costs: list[dict[str, str]]) -> list[tuple[str, str]]:
    """Median share of the peak that the runs reached, with the range."""
    rows = []
    for convention in ("matmul_full", "matmul_causal"):
        # Absent from results of an earlier version.
        shares = sorted(float(row[name]) for row in costs if row.get(name := f"mfu_{convention}"))
        if shares:
            middle = statistics.median(shares)
            text = f"{middle:.1%} ({shares[0]:.1%} to {shares[-1]:.1%})"
            rows.append((f"MFU ({convention}), median", text))
    return rows


def _energy(costs: list[dict[str, str]]) -> list[tuple[str, str]]:
    """Watt hours by where they come from: what was measured is not added to what was not."""
    joules: dict[str, float] = {}
    for row in costs:
        if row.get("joules"):  # Absent from results of an earlier version.
            source = row["joules_source"]
            joules[source] = joules.get(source, 0.0) + float(row["joules"])
    return [(f"energy, {source}", f"{sum_ / 3600:.2f} Wh") for source, sum_ in joules.items()]
