# SPDX-License-Identifier: Apache-2.0
"""The figures of one fit to a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from scaling.answers.frontier import frontier
from scaling.fit import Fit
from scaling.laws.loss_laws import law_named
from scaling.plots import figures
from scaling.plots.fit import figure_fit
from scaling.plots.profiles import figure_bootstrap_pairs, figure_profiles
from scaling.plots.style import save
from scaling.profiles.profile import Profile

# Parameters drawn against each other; more make panels too small to read.
_MOST_PAIRS = 6


def draw(fit: Fit, folder: Path, profiles: Sequence[Profile] = ()) -> list[Path]:
    """Writes the figures that the fit has, as PNG and SVG; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    found = _figures(fit)
    if profiles:
        found["profiles"] = figure_profiles(profiles)
    return [path for name, one in found.items() for path in save(one, folder / name)]


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
        moved = [n for n in fit.replicates if fit.replicates[n].size and _moves(fit.replicates[n])]
        if len(moved) > 1:
            found["bootstrap_pairs"] = figure_bootstrap_pairs(fit, moved[:_MOST_PAIRS])
    return found


def _moves(draws: np.ndarray) -> bool:
    """Whether replicates differ: fixed parameters do not."""
    finite = draws[np.isfinite(draws)]
    return finite.size > 1 and float(np.ptp(finite)) > 0
