# SPDX-License-Identifier: Apache-2.0
"""The figures of one fit to a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from scaling import figures
from scaling.fit import Fit
from scaling.fit_plots import figure_fit
from scaling.frontier import frontier
from scaling.laws import law_named
from scaling.plot_style import save


def draw(fit: Fit, folder: Path) -> list[Path]:
    """Writes the figures that the fit has, as PNG and SVG; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    return [path for name, one in _figures(fit).items() for path in save(one, folder / name)]


def _figures(fit: Fit) -> dict[str, Figure]:
    found = {"fit": figure_fit(fit)}
    is_surface = fit.law != "power_laws" and law_named(fit.law).is_surface
    if is_surface or fit.law == "power_laws":
        flops = fit.fitted_runs.flops
        front = frontier(fit, np.geomspace(flops.min(), 3.0 * flops.max(), 61))
        found["frontier"] = figures.figure_frontier([front], [fit])
        if is_surface:
            found["surface"] = figures.figure_surface(fit, front)
    if fit.approach == "isoflop":
        found["isoflop"] = figures.figure_isoflop(fit)
    if fit.law != "power_laws":
        found["residuals"] = figures.figure_residuals(fit)
    return found
