# SPDX-License-Identifier: Apache-2.0
"""The report of a study as one HTML page."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from experiments.cost import planned_vs_real
from experiments.files.storage import replace_text
from experiments.ledger.ledger import Ledger
from experiments.ledger.tables import csv_text, table_row
from experiments.plan.point import Point
from experiments.report import rows
from experiments.report.answer import as_object, sentence
from experiments.report.build import Report
from experiments.report.figures.write import CAPTIONS, draw
from experiments.report.fits.domains import domain_rows, matrix_rows
from experiments.report.fits.settings_apart import cost_rows, side_rows
from experiments.report.frontier_table import frontier_rows
from experiments.report.page import interactive
from experiments.report.setting_rows import setting_rows, ties
from experiments.report.totals import provenance, totals
from experiments.study.changes import leaves
from experiments.study.study import Study
from model.data.manifest import Manifest
from scaling.tables.units import bits_words


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
        sentence=sentence(report),
        answer=(
            frontier_rows(main, report.unit, report.loss_unit, report.bits_per_nat) if main else []
        ),
        answer_title=f"{main.approach}, {main.level:.0%} intervals" if main else "",
        loss_unit=report.loss_unit,
        bits_per_nat=report.bits_per_nat,
        bits_unit=bits_words(report.loss_unit),
        settings={
            name: (setting_rows(curves), ties(name, curves))
            for name, curves in analysis.sweeps.items()
        },
        domains=domain_rows(analysis.domains, study.budgets[-1], report.unit),
        matrix=matrix_rows(analysis.matrix),
        sides=side_rows(analysis.sides),
        side_costs=cost_rows(points, report.verdicts),
        exponents=rows.exponent_rows(analysis),
        refusals=analysis.refusals,
        findings=rows.findings(analysis),
        forecasts=_forecasts(report),
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
        data_notes=(*manifest.notes, *_between_documents(study)),
        provenance=provenance(report.records),
        totals=totals(points, report),
        planned=planned_vs_real.totals(report.planned, report.compared) if report.planned else [],
        planned_runs=(
            planned_vs_real.run_rows(report.planned, report.compared) if report.planned else []
        ),
    )


def _forecasts(report: Report) -> list[dict[str, str]]:
    """A row per surface of each forecast, with a column of conformal intervals if one is known."""
    found = [
        row
        for judged in report.forecasts
        for row in rows.forecast_rows(judged, report.unit, report.bits_per_nat)
    ]
    if not any(judged.forecast.conformal for judged in report.forecasts):
        for row in found:
            del row["conformal"]
    return found


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


def _between_documents(study: Study) -> tuple[str, ...]:
    """What the notes of the data leave to the study."""
    said = "Documents in one window are apart: no position sees another document than its own."
    return (said,) * study.documents_apart


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
