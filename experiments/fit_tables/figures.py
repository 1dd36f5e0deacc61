# SPDX-License-Identifier: Apache-2.0
"""The figures of one fit to a table."""

from collections.abc import Sequence
from pathlib import Path

from scaling.answers.frontier import Frontier
from scaling.fit import Fit
from scaling.plots import figures
from scaling.plots.fit import figure_fit
from scaling.plots.profiles import figure_bootstrap_pairs, figure_profiles
from scaling.plots.style import save
from scaling.profiles.profile import Profile

# Parameters drawn against each other; more make panels too small to read.
_MOST_PAIRS = 6


def draw(
    fit: Fit,
    folder: Path,
    *,
    front: Frontier | None,
    varying: Sequence[str],
    profiles: Sequence[Profile],
) -> list[Path]:
    """Writes the figures that the fit has, as PNG and SVG; returns their paths.

    Args:
      front: as `frontier_to_draw`. varying: parameters drawn against each other.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = {"fit": figure_fit(fit)}
    if front is not None:
        found["frontier"] = figures.figure_frontier([front], [fit])
        if fit.law != "power_laws":
            found["surface"] = figures.figure_surface(fit, front)
    if fit.approach == "isoflop":
        found["isoflop"] = figures.figure_isoflop(fit)
    if fit.law != "power_laws":
        found["residuals"] = figures.figure_residuals(fit)
        if len(varying) > 1:
            found["bootstrap_pairs"] = figure_bootstrap_pairs(fit, varying[:_MOST_PAIRS])
    if profiles:
        found["profiles"] = figure_profiles(profiles)
    return [path for name, one in found.items() for path in save(one, folder / name)]
