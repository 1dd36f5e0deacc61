# SPDX-License-Identifier: Apache-2.0
"""The figures of a study, and its report as one HTML page."""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from experiments.cost import planned_vs_real
from experiments.files.storage import replace_text
from experiments.ledger.ledger import Ledger
from experiments.ledger.tables import csv_text, table_row
from experiments.plan.point import Point
from experiments.report import interactive, rows
from experiments.report.analysis import APPROACHES
from experiments.report.answer import as_object, sentence
from experiments.report.build import JudgedForecast, Report
from experiments.report.cost_figure import figure_cost
from experiments.report.totals import provenance, totals
from experiments.study.changes import leaves
from experiments.study.study import Study
from model.data.manifest import Manifest
from scaling.answers.frontier import Frontier
from scaling.fit import Fit
from scaling.intervals import Estimated, Interval
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


def draw(ledger: Ledger, report: Report) -> dict[str, Path]:
    """Writes every figure that the fits allow as PNG and SVG; name -> PNG."""
    analysis, fits = report.analysis, report.analysis.fits
    drawn = {"curves": figures.figure_curves(analysis.curves, analysis.runs)}
    if "isoflop" in fits:
        drawn["isoflop"] = figures.figure_isoflop(fits["isoflop"])
    if fits:
        fronts = [analysis.frontiers[name] for name in APPROACHES if name in fits]
        drawn["frontier"] = figures.figure_frontier(fronts, rows.ordered(analysis))
    if report.compared:
        drawn["cost"] = figure_cost(report.compared)
    if analysis.agreement is not None:
        drawn["agreement"] = figures.figure_agreement(analysis.agreement, rows.ordered(analysis))
    if report.main in ("additive", "curved"):
        fit, front = fits[report.main], analysis.frontiers[report.main]
        drawn["surface"] = figures.figure_surface(fit, front)
        drawn["residuals"] = figures.figure_residuals(fit)
        if report.forecasts:
            drawn["forecast"] = _forecast_figure(report.forecasts[-1], fit, front)
    ledger.figures.mkdir(parents=True, exist_ok=True)
    return {name: save(drawn[name], ledger.figures / name)[0] for name in CAPTIONS if name in drawn}


def _forecast_figure(judged: JudgedForecast, fit: Fit, front: Frontier) -> Figure:
    made = judged.forecast
    forecasts = {
        law: Estimated(value=f.value, interval=Interval(lower=_nan(f.lower), upper=_nan(f.upper)))
        for law, f in made.forecasts.items()
    }
    return figures.figure_forecast(front, fit, forecasts, flops=made.budget, outcome=judged.outcome)


def _nan(value: float | None) -> float:
    return math.nan if value is None else value


def write(ledger: Ledger, study: Study, points: Sequence[Point], report: Report) -> None:
    """Writes the figures and report.html: one file, no network, everything escaped.

    The same ledger gives the same bytes.
    """
    images = {
        name: (
            base64.b64encode(path.with_suffix(".svg").read_bytes()).decode(),
            path.with_suffix(".txt").read_text(),
        )
        for name, path in draw(ledger, report).items()
    }
    manifest = Manifest.read(ledger.manifest)
    replace_text(ledger.report, page(study, manifest, points, report, images))


def page(
    study: Study,
    manifest: Manifest,
    points: Sequence[Point],
    report: Report,
    images: Mapping[str, tuple[str, str]],
) -> str:
    """The HTML of a report.

    Args:
      images: SVG files in base64 with their captions, by name of CAPTIONS; those that an explorable
        figure replaces are left out.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    # Bokeh reads what stands first before what refers to it.
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    analysis = report.analysis
    main = analysis.frontiers[report.main] if report.main else None
    runs = rows.run_rows(points, report.verdicts)
    explorable = interactive.document(report, runs)
    return environment.get_template("report.html").render(
        study=study,
        sentence=sentence(report) if main else "",
        answer=rows.frontier_rows(main, report.unit) if main else [],
        answer_title=f"{main.approach}, {main.level:.0%} intervals" if main else "",
        exponents=rows.exponent_rows(analysis),
        refusals=analysis.refusals,
        findings=rows.findings(analysis),
        forecasts=[
            row for judged in report.forecasts for row in rows.forecast_rows(judged, report.unit)
        ],
        explorable=explorable,
        explorable_captions=interactive.CAPTIONS,
        figures=[
            (name, CAPTIONS[name], image, said)
            for name, (image, said) in images.items()
            if not explorable["figures"].get(name)
        ],
        runs=runs,
        downloads=_downloads(study, points, report),
        bokeh=Markup(interactive.script()),
        own_script=Markup(Path(__file__).with_name("report.js").read_text()),
        recipe=[(path, str(value)) for path, value in leaves(study.recipe).items()],
        data=_described(manifest),
        data_notes=manifest.notes,
        provenance=provenance(report.records),
        totals=totals(points, report),
        planned=planned_vs_real.totals(report.planned, report.compared) if report.planned else [],
        planned_runs=(
            planned_vs_real.run_rows(report.planned, report.compared) if report.planned else []
        ),
    )


def _downloads(study: Study, points: Sequence[Point], report: Report) -> dict[str, str]:
    """File name -> text: the table of the runs; the answer with the runs."""
    verdicts = [(point, report.verdicts[point.id]) for point in points]
    runs = [
        table_row(point, verdict)
        for point, verdict in verdicts
        if verdict.result is not None or verdict.state == "failed"
    ]
    # By column: half the size, and what a data frame is made from.
    names = dict.fromkeys(name for run in runs for name in run)
    columns = {name: [run.get(name) for run in runs] for name in names}
    everything = {"study": study.name, **as_object(report), "runs": columns}
    return {
        f"{study.name}.csv": csv_text(runs),
        f"{study.name}.json": json.dumps(everything, allow_nan=False),
    }


def _described(manifest: Manifest) -> list[tuple[str, str]]:
    """Where the text came from, how much there is, and how it is split."""
    amounts = (
        ("documents", manifest.n_documents),
        ("bytes", manifest.n_bytes),
        ("documents to train", manifest.n_train_documents),
        ("documents to validate", manifest.n_validation_documents),
        ("tokens to train", manifest.n_train_tokens),
        ("tokens to validate", manifest.n_validation_tokens),
        ("vocabulary", manifest.vocab_size),
    )
    return [
        *((f"source: {name}", str(value)) for name, value in manifest.source.items()),
        *((name, f"{amount:,}") for name, amount in amounts if amount is not None),
        ("fingerprint", manifest.fingerprint),
    ]
