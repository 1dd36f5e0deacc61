# SPDX-License-Identifier: Apache-2.0
"""The figures that a reader of the page explores: one Bokeh document, and the script that shows it.

Bokeh's script is 1.3 MB, plotly's 4.8 MB of the 6 MB that a page may have. Vega's is 0.9 MB, but
comes out of an 84 MB wheel that takes 2 s of each report to bundle it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from bokeh.document import Document
from bokeh.models import ColumnDataSource
from bokeh.resources import Resources

from experiments.report.build import Report
from experiments.report.page import panels
from experiments.report.page.parts import OF_A_RUN, Switches, short

CAPTIONS = {
    "isoflop": (
        "Loss against size at fixed compute: every run, and the fitted curve of each budget with "
        "its minimum (approach 2). Hollow and dashed: left out of the power laws."
    ),
    "frontier": (
        "Compute-optimal parameters N* and tokens D* against compute by every approach, with "
        "intervals. Hollow: extrapolated. Small points: optima of single budgets."
    ),
    "forecast": (
        "Loss at the optimum by every approach, with intervals; the runs; forecasts that were made "
        "before their run was trained, and what came out."
    ),
    "curves": (
        "Validation loss during training. A marker ends each run; it may lie beside the end of its "
        "curve, which is measured on fewer tokens."
    ),
}


def document(report: Report, shown: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """The figures as plain JSON values: the same for the same report.

    Args:
      shown: the rows of the page's table of runs.

    Returns:
      "figures": of each of CAPTIONS that could be drawn, the ids of its panels; "document": what
      holds them, as Bokeh reads it.
    """
    runs, budgets, approaches = _source(report, shown), Switches(), Switches()
    drawn = {
        "isoflop": [panels.isoflop_panel(report, runs, budgets)],
        "frontier": panels.frontier_panels(report, approaches),
        "forecast": [panels.forecast_panel(report, runs, approaches)],
        "curves": [panels.curves_panel(report, runs, budgets)],
    }
    budgets.link()
    approaches.link()
    made = Document(title="")
    # Of all panels at once: each alone would look through those before it again.
    with made.models.freeze():
        for panel in (panel for figure in drawn.values() for panel in figure):
            made.add_root(panel)
    return _renumbered(
        {
            "figures": {name: [{"id": p.id} for p in figure] for name, figure in drawn.items()},
            "document": made.to_json(deferred=False),
        }
    )


def script() -> str:
    """What shows a document, as the text of a script element."""
    library, *_ = Resources(mode="inline", components=["bokeh"]).js_raw
    return library.replace("</", "<\\/")


def _source(report: Report, shown: Sequence[Mapping[str, str]]) -> ColumnDataSource:
    """The runs that may be fitted: numbers to draw, and beside them what the table says."""
    runs = report.analysis.runs.select(report.analysis.runs.is_ok)
    rows = {row["run"]: row for row in shown}
    told = [rows[str(run_id)] for run_id in runs.run_id]
    curves = [report.analysis.curves.of(str(run_id)) for run_id in runs.run_id]
    # Evaluations as FLOPs in the convention of the runs, whatever the table of curves holds.
    flops = [
        curve.n_tokens * each for curve, each in zip(curves, runs.flops_per_token, strict=True)
    ]
    return ColumnDataSource(
        name="runs",
        data={
            **{name: [row[column] for row in told] for name, column in OF_A_RUN.items()},
            "n_params": runs.n_params,
            "flops": runs.flops,
            "loss_nats": runs.loss_nats,
            "budget": runs.budget,
            "curve_flops": [short(x[x > 0]) for x in flops],
            "curve_loss": [
                short(curve.loss_nats[x > 0]) for curve, x in zip(curves, flops, strict=True)
            ],
        },
    )


def _renumbered(tree: dict[str, Any]) -> dict[str, Any]:
    """With ids that count within this document: Bokeh's count within the process."""
    seen: dict[str, str] = {}

    def walk(node: Any) -> Any:
        if isinstance(node, dict):
            return {
                key: seen.setdefault(item, f"m{len(seen)}") if key == "id" else walk(item)
                for key, item in node.items()
            }
        return [walk(item) for item in node] if isinstance(node, list | tuple) else node

    return walk(tree)
