# SPDX-License-Identifier: Apache-2.0
"""Report -> every figure that its fits allow. It takes seconds: see figures.py."""

import numpy as np
from matplotlib.figure import Figure

from experiments.ledger.forecasts import Forecast
from experiments.report import rows
from experiments.report.build import JudgedForecast, Report
from experiments.report.figures.cost import figure_cost
from experiments.report.fits.fit_once import APPROACHES
from experiments.report.fits.sweeps import VOCABULARY
from scaling.answers.frontier import Frontier
from scaling.fit import Fit
from scaling.intervals import Band, Estimated, Interval
from scaling.json_values import number
from scaling.plots import figures
from scaling.plots.collapse import figure_collapse, figure_trajectory
from scaling.plots.loss_curves import (
    figure_contexts,
    figure_settings,
    figure_sizes,
    figure_vocabulary,
)
from scaling.plots.loss_matrix import figure_loss_matrix
from scaling.plots.side_by_side import figure_sides
from scaling.tables.loss_curves import loss_curves


def drawn(report: Report) -> dict[str, Figure]:
    """The figures by name."""
    analysis, fits = report.analysis, report.analysis.fits
    found = {"curves": figures.figure_curves(analysis.curves, analysis.runs)}
    if "isoflop" in fits:
        found["isoflop"] = figures.figure_isoflop(fits["isoflop"])
    elif analysis.best:
        found["isoflop"] = figures.figure_best_size(analysis.best)
    else:
        sizes = loss_curves(analysis.runs, "n_params", ("budget",))
        found["isoflop"] = figure_sizes(analysis.runs, sizes)
    sweeps, unit = dict(analysis.sweeps), analysis.runs.loss_name
    if curves := sweeps.pop(VOCABULARY, None):
        found["vocabulary"] = figure_vocabulary(curves, unit)
    if sweeps:
        found["settings"] = figure_settings(sweeps, unit, analysis.runs.bits_per_nat)
    if analysis.matrix:
        found["domains"] = figure_loss_matrix(
            [one.name for one in analysis.matrix],
            list(analysis.matrix[0].losses),
            np.array([list(one.losses.values()) for one in analysis.matrix]),
            np.array([list(one.bits.values()) for one in analysis.matrix]),
            analysis.runs.loss_name,
        )
    if analysis.sides:
        found["side_by_side"] = figure_sides(analysis.sides)
    if report.contexts:
        found["contexts"] = figure_contexts(report.contexts)
    if fits:
        fronts = [analysis.frontiers[name] for name in APPROACHES if name in fits]
        found["frontier"] = figures.figure_frontier(fronts, rows.ordered(analysis))
    if analysis.collapse is not None:
        found["collapse"] = figure_collapse(analysis.collapse)
    if report.forecasts and (last := report.forecasts[-1]).forecast.trajectory is not None:
        found["trajectory"] = _trajectory(report, last.forecast)
    if report.compared:
        found["cost"] = figure_cost(report.compared)
    if analysis.agreement is not None:
        found["agreement"] = figures.figure_agreement(analysis.agreement, rows.ordered(analysis))
    if report.main in ("additive", "curved"):
        fit, front = fits[report.main], analysis.frontiers[report.main]
        found["surface"] = figures.figure_surface(fit, front)
        found["residuals"] = figures.figure_residuals(fit)
        if report.forecasts:
            found["forecast"] = _forecast(report.forecasts[-1], fit, front)
    return found


def _forecast(judged: JudgedForecast, fit: Fit, front: Frontier) -> Figure:
    made = judged.forecast
    forecasts = {
        law: Estimated(
            value=f.value, interval=Interval(lower=number(f.lower), upper=number(f.upper))
        )
        for law, f in made.forecasts.items()
    }
    return figures.figure_forecast(front, fit, forecasts, flops=made.budget, outcome=judged.outcome)


def _trajectory(report: Report, made: Forecast) -> Figure:
    expected, result = made.trajectory, report.verdicts[made.point.id].result
    assert expected is not None
    came = None
    if result is not None and result.curve:
        tokens, losses = zip(*((p.n_tokens, p.loss_nats) for p in result.curve), strict=True)
        came = (np.array(tokens) / made.point.n_tokens, np.array(losses))
    band = Band(
        value=np.array(expected.value),
        lower=np.array(expected.lower),
        upper=np.array(expected.upper),
    )
    unit = report.analysis.runs.loss_name
    return figure_trajectory(np.array(expected.share), band, expected.level, unit, came)
