# SPDX-License-Identifier: Apache-2.0
"""The fits of a study's finished runs, ready to be printed, drawn or written."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from experiments.cli.opening.open_study import open_study
from experiments.ledger.ledger import Ledger
from experiments.plan.point import Point
from experiments.study.study import Study
from experiments.terminal.consoles import progress, stderr

if TYPE_CHECKING:
    from experiments.report.build import Report


def open_report(options: argparse.Namespace) -> tuple[Study, Ledger, list[Point], Report]:
    """A study with the report of its finished runs.

    Raises:
      ValueError: if no run is finished, or too few are.
    """
    study, ledger = open_study(options)
    from experiments.report.build import build

    points = ledger.read_plan()
    if not any(ledger.has_result(point.id) for point in points):
        raise ValueError(f"{ledger.folder} has no finished run. `isoflop run` trains them.")
    with progress(stderr()) as tell:
        built = build(ledger, study, points, allow_missing=options.allow_missing, tell=tell)
    return study, ledger, points, built
