# SPDX-License-Identifier: Apache-2.0
"""How many nats the recipe's learning rate loses against the best one.

The sweep has the points, the ledger and the workers of any other study: it may be stopped and
started again, and `isoflop status STUDY name=NAME-lr-check` shows it.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from experiments.checks.learning_rate.sweep import Sweep, sweep_points, sweep_study
from experiments.ledger.ledger import Ledger
from experiments.ledger.tables import collate
from experiments.machine.jax_setup import prepare_to_fit
from experiments.machine.provenance import software_facts
from experiments.plan.point import Point
from experiments.study.study import Study
from experiments.train.run_points import Training, train
from experiments.train.runner import Elsewhere, Failures
from model.data.manifest import Manifest


def lr_check(
    training: Training,
    study: Study,
    ledger: Ledger,
    *,
    manifest: Manifest,
    sweep: Sweep,
    out: Path | None,
    command: str,
    console: Console,
    notices: Console,
) -> Failures:
    """Trains what is missing of the sweep, prints the costs, writes the table, page and figure.

    Args:
      study: whose recipe is checked. ledger, manifest: of ``sweep_name(study)``.
      out: folder of what is written; None for the sweep's own.
      command: what gives the same answer again, for the page.
      console: for the answer. notices: for progress.

    Returns:
      The runs that failed; the answer is that which the others allow.
    """
    began = time.monotonic()
    points = sweep_points(study, manifest, sweep)
    asked = sweep_study(study, sweep, points)
    try:
        failures = train(training, asked, ledger, notices, points, points)
    except Elsewhere as error:
        notices.print(f"{error}\nthe same command shows the answer when these runs are done.")
        return []
    collate(ledger, points)
    prepare_to_fit()
    from experiments.checks.learning_rate.basins import measure, verdict
    from experiments.checks.learning_rate.page import write

    measured = measure(ledger, sweep, points)
    for one in measured:
        console.print(one.sentence)
    console.print(verdict(measured))
    about: dict[str, str | int] = {
        "command": command,
        "recipe": study.recipe.name,
        "seconds": round(time.monotonic() - began),
        "device": ", ".join(sorted(_devices(ledger, points))),
        **software_facts(),
    }
    for path in write(measured, out or ledger.folder, about):
        console.print(str(path))
    return failures


def _devices(ledger: Ledger, points: Sequence[Point]) -> set[str]:
    """What the runs were trained on."""
    found = [ledger.read_result(point.id) for point in points]
    return {result.provenance.device for result in found if result is not None}
