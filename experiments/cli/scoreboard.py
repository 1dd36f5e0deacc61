# SPDX-License-Identifier: Apache-2.0
"""isoflop scoreboard: every forecast of folders of results beside what came out."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from experiments.cli.opening.open_study import RESULTS
from experiments.cli.options.argument_types import file_path
from experiments.terminal.consoles import stderr
from experiments.terminal.table import fitting_tables, wrapped

if TYPE_CHECKING:
    from experiments.report.scoreboard import Covered, Scored

HELP = "every forecast beside what came out, and how often intervals held it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    text = "folders with a folder for each study, or one study's own (results)"
    parser.add_argument("folders", nargs="*", type=file_path, metavar="RESULTS", help=text)
    parser.add_argument("--json", action="store_true", help="one object, on stdout alone")
    text = "draw observed against nominal coverage (none)"
    parser.add_argument("--figure", type=file_path, metavar="FILE.png", help=text)


def run(options: argparse.Namespace, console: Console) -> None:
    from experiments.report.scoreboard import as_object, covered, scoreboard

    folders = [*options.folders, *map(Path, options.overrides)] or [RESULTS]
    if missing := [str(folder) for folder in folders if not folder.is_dir()]:
        raise ValueError(f"{missing[0]}: no such folder. Name one that `isoflop run` wrote into.")
    found, damaged = scoreboard(folders)
    if options.figure is not None:
        _draw(options.figure, found)
    if options.json:
        console.print_json(json.dumps(as_object(found, damaged), allow_nan=False))
        return
    for sentence in damaged:
        stderr().print(sentence)
    if not found:
        console.print(f"no forecast in {', '.join(map(str, folders))}.")
        return
    console.print(fitting_tables([_row(one) for one in found], console.width, n_keys=2))
    console.print()
    for said in (*map(_covered, covered(found)), *_left_out(found)):
        console.print(wrapped(said))


def _draw(path: Path, found: Sequence[Scored]) -> None:
    from experiments.report.scoreboard import calibrated

    curve = calibrated(found)
    if curve is None:
        raise ValueError(
            f"--figure {path}: no forecast that has come out kept its quantiles. Leave it out."
        )
    from scaling.plots.calibration import figure_calibration
    from scaling.plots.style import save

    save(figure_calibration(curve), path.with_suffix(""))


def _row(one: Scored) -> dict[str, str]:
    """What a person wants first stands left; what does not fit follows in a second table."""
    made, guess = one.forecast, one.forecast.judged
    is_known = guess.lower is not None and guess.upper is not None
    came_out, error = one.came_out, one.error
    is_known_loss = came_out is not None and math.isfinite(came_out)
    return {
        "study": one.study,
        "beyond": f"{one.factor:.3g}x",
        "forecast": f"{guess.value:.3f}",
        f"{made.level:.0%} interval": f"{guess.lower:.3f} to {guess.upper:.3f}" if is_known else "",
        "came out": f"{came_out:.3f}" if is_known_loss else one.ended,
        "error": f"{error:+.3f}" if is_known_loss else "",
        "verdict": one.verdict,
        "written": time.strftime("%Y-%m-%d %H:%M", time.gmtime(one.made_at))
        + "*" * (not one.is_dated),
        "commit": made.git_commit[:7] + "+" * bool(made.git_dirty_sha256),
        "sha256": one.sha256[:8],
        "law": next(iter(made.forecasts)),
        "run": one.run,
    }


def _covered(one: Covered) -> str:
    low, high = one.factors
    reach = f"{low:g} to {high:g}" if math.isfinite(high) else f"{low:g} or more"
    ends = one.share.interval
    return (
        f"{reach} times beyond the grid: {one.n_inside} of {one.n_forecasts} inside their "
        f"{one.level:.0%} intervals, {one.share.value:.0%} ({ends.lower:.0%} to {ends.upper:.0%}, "
        f"{one.n_studies} studies); median |error| {one.median_error:.3f} nats."
    )


def _left_out(found: Sequence[Scored]) -> list[str]:
    """What does not count, and what marks mean."""
    counts = {
        "not trained yet": "are not trained yet",
        "late": "do not count: nobody can tell that they are older than their run",
    }
    said = [
        f"{n} forecasts {words}."
        for verdict, words in counts.items()
        if (n := sum(one.verdict == verdict for one in found))
    ]
    if not all(one.is_dated for one in found):
        said.append("* by the time of the file: the forecast is older than the field.")
    return said
