# SPDX-License-Identifier: Apache-2.0
"""isoflop lr-check: how many nats the recipe's learning rate loses against the best one.

The sweep is a study of its own, NAME-lr-check, with the points, the ledger and the workers of any
other: it may be stopped and started again, and `isoflop status STUDY name=NAME-lr-check` shows it.
"""

import argparse
import dataclasses
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.checks.learning_rate.sweep import FIELD, Sweep
from experiments.ledger.ledger import Ledger
from experiments.ledger.tables import collate
from experiments.machine.jax_setup import prepare_to_fit
from experiments.machine.provenance import software_facts
from experiments.plan.plan import plan
from experiments.plan.point import Point
from experiments.plan.resolve import flops_of_a_token, resolve_tokens
from experiments.study.study import Axis, Ladder, Study
from experiments.terminal.argument_types import positive_numbers, seeds, whole_numbers
from experiments.train import run_points
from model.data.manifest import Manifest
from model.field_checks import HUGE, TINY, shown

RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
FEWEST_RATES = 5
# Places in the logarithmic range of the study's own widths, and of its budgets.
_WIDTHS_AT = (1 / 6, 1 / 2, 5 / 6)
_BUDGETS_AT = (1 / 2, 1.0)


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    text = "d_model (three of the study's own)"
    add("--widths", type=whole_numbers, default=None, metavar="LIST", help=text)
    text = "run lengths (the widest network's at the middle and the largest budget)"
    add("--tokens", type=positive_numbers, default=None, metavar="LIST", help=text)
    text = "factors on the recipe's rate, 1 among them (1/8 to 8)"
    add("--rates", type=positive_numbers, default=RATES, metavar="LIST", help=text)
    add("--seeds", type=seeds, default=(0, 1), metavar="LIST", help="of each rate (0,1)")
    text = "folder of lr_check.json, .md and .png (that of the sweep)"
    add("--out", type=Path, default=None, metavar="DIR", help=text)


def sweep_of(options: Any, study: Study, manifest: Manifest) -> Sweep:
    """What the options ask for; what they leave open costs no more than the study's own runs.

    Raises:
      ValueError: if the rates are too few, or the recipe's own is not among them.
    """
    if 1.0 not in options.rates or len(options.rates) < FEWEST_RATES:
        raise ValueError(
            f"--rates {shown(','.join(f'{rate:g}' for rate in options.rates))}: at least "
            f"{FEWEST_RATES} factors are needed, and 1, the recipe's own rate, among them."
        )
    widths = options.widths or _widths(study, manifest)
    return Sweep(
        widths=widths,
        n_tokens=options.tokens or _lengths(study, manifest, widths[-1]),
        rates=options.rates,
        seeds=options.seeds,
    )


def _widths(study: Study, manifest: Manifest) -> tuple[int, ...]:
    known = sorted({point.spec.model.d_model for point in plan(study, manifest).points})
    wanted = (known[0] * (known[-1] / known[0]) ** place for place in _WIDTHS_AT)
    return tuple(sorted({min(known, key=lambda d: abs(math.log(d / w))) for w in wanted}))


def _lengths(study: Study, manifest: Manifest, d_model: int) -> tuple[float, ...]:
    """Tokens that a width gets within the study's budgets, to two digits."""
    low, high = study.budgets[0], study.budgets[-1]
    per_token = flops_of_a_token(study, manifest, d_model)
    budgets = (low * (high / low) ** place for place in _BUDGETS_AT)
    return tuple(sorted({float(f"{budget / per_token:.1e}") for budget in budgets}))


def sweep_points(study: Study, manifest: Manifest, sweep: Sweep) -> list[Point]:
    """The points of a sweep, by tokens, width, rate and seed.

    Raises:
      ValueError: if the recipe cannot train one of them.
    """
    own = study.recipe.optimizer.learning_rate
    return [
        resolve_tokens(
            study, manifest, n_tokens=n_tokens, d_model=d_model, seed=seed, axes={FIELD: rate * own}
        )
        for n_tokens in sweep.n_tokens
        for d_model in sweep.widths
        for rate in sweep.rates
        for seed in sweep.seeds
    ]


def sweep_name(study: Study) -> str:
    return f"{study.name}-lr-check"


def sweep_study(study: Study, sweep: Sweep, points: Sequence[Point]) -> Study:
    """The study that the points are recorded under.

    It would ask for every width at every budget; the plan holds those of equal tokens only.
    """
    own = study.recipe.optimizer.learning_rate
    return dataclasses.replace(
        study,
        name=sweep_name(study),
        question=f"How far is the rate of recipe {study.recipe.name} from the best?",
        budgets=tuple(sorted({point.budget for point in points})),
        sizes=Ladder(d_models=sweep.widths, tokens_per_param=(TINY, HUGE)),
        seeds=sweep.seeds,
        axes=(Axis(field=FIELD, values=tuple(rate * own for rate in sweep.rates)),),
        forecast_budgets=(),
    )


def lr_check(
    options: Any, study: Study, ledger: Ledger, manifest: Manifest, console: Console
) -> None:
    """Trains what is missing of the sweep, prints the costs, writes the table, page and figure.

    Args:
      study: whose recipe is checked. ledger, manifest: of ``sweep_name(study)``.

    Raises:
      RunsFailed: after the answer that the other runs allow.
    """
    began = time.monotonic()
    sweep = sweep_of(options, study, manifest)
    points = sweep_points(study, manifest, sweep)
    asked = sweep_study(study, sweep, points)
    try:
        failures = run_points.train(options, asked, ledger, console, points, points)
    except run_points.Elsewhere:
        console.print("the same command shows the answer when these runs are done.")
        return
    collate(ledger, points)
    prepare_to_fit()
    from experiments.checks.learning_rate import page

    measured = page.measure(ledger, sweep, points)
    for one in measured:
        console.print(one.sentence)
    about = {
        "command": _command(options, sweep),
        "recipe": study.recipe.name,
        "seconds": round(time.monotonic() - began),
        "device": ", ".join(sorted(_devices(ledger, points))),
        **software_facts(),
    }
    for path in page.write(measured, options.out or ledger.folder, about):
        console.print(str(path))
    run_points.require_none(failures, options.max_attempts, f"{options.study} name={asked.name}")


def _command(options: Any, sweep: Sweep) -> str:
    """What gives the same answer again, whatever the defaults will be."""
    said = ["isoflop lr-check", options.study, *options.overrides]
    for name, values in (
        ("widths", sweep.widths),
        ("tokens", sweep.n_tokens),
        ("rates", sweep.rates),
        ("seeds", sweep.seeds),
    ):
        said.append(f"--{name} {','.join(f'{value:.12g}' for value in values)}")
    return " ".join(said)


def _devices(ledger: Ledger, points: Sequence[Point]) -> set[str]:
    """What the runs were trained on."""
    found = [ledger.read_result(point.id) for point in points]
    return {record["provenance"]["device"] for record in found if record is not None}
