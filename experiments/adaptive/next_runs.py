# SPDX-License-Identifier: Apache-2.0
"""isoflop next: which runs of a study's family narrow the answer most, for the FLOPs given.

The family: the study's budgets, those half-way between them and up to one step above them; at each
the sizes of its rule; its seeds and two more. What has a result is left out. Nothing lies below the
study's lowest budget: by any law cheap runs tell most per FLOP, and there it holds least.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from experiments.adaptive.prices import Charge, HasTrunk, planned_jobs_of, prices, training_flops
from experiments.files.checked_json import seal_record, unseal
from experiments.ledger.ledger import Ledger
from experiments.plan.plan import plan
from experiments.plan.point import Point, to_json
from experiments.study.study import LogSpaced, Study
from experiments.terminal.table import number_table
from model.data.manifest import Manifest

if TYPE_CHECKING:
    from experiments.report.analysis import Analysis
    from scaling.design.propose import Proposal
    from scaling.intervals import Interval
    from scaling.tables.runs import Runs

FILE = "next.json"
TARGETS = ("loss", "n_params_opt", "exponent", "all")
# A planned run that alone gives less than this share of what all planned runs would is marked:
# its outcome cannot matter.
IDLE = 0.01
NEW_SEEDS = 2
MOST_SHOWN = 20
_QUANTITY = {"loss": "loss", "n_params_opt": "n_params_opt", "exponent": "a"}
_LABEL = {
    "loss": "loss at the optimum, nats per token",
    "n_params_opt": "N*, parameters",
    "exponent": "exponent a of N* ~ C^a",
    "all": "all parameters",
}


def add_options(sub: argparse.ArgumentParser) -> None:
    """Options of `isoflop next`."""
    sub.add_argument("--budget", type=float, required=True, help="FLOPs that may be spent")
    text = "the training budget that the answer is for"
    sub.add_argument("--target-flops", type=float, required=True, metavar="C", help=text)
    sub.add_argument("--target", choices=TARGETS, default="loss", help="what to know better")
    text = "how often to choose again: proposes the first round's runs"
    sub.add_argument("--rounds", type=int, default=1, metavar="N", help=text)


def propose_next(
    options: Any, study: Study, ledger: Ledger, manifest: Manifest, console: Console
) -> dict[str, Any]:
    """Proposes runs, shows them, and writes next.json and a figure; returns what was written.

    Raises:
      ValueError: for a target or a budget that cannot be, or a study with axes.
    """
    from experiments.report.analysis import analyse
    from scaling.design.propose import require_affordable
    from scaling.plots.design import figure_proposal
    from scaling.plots.style import save

    if study.axes:
        raise ValueError(
            f"study {study.name} varies {', '.join(axis.field for axis in study.axes)}: which "
            "setting should the next runs have? Give the recipe that value, and axes=()."
        )
    asked = list(plan(study, manifest).points)
    pool = {point.id: point for point in (*asked, *family(study, manifest, options.budget))}
    done = [point for point in pool.values() if ledger.has_result(point.id)]
    left = [point for point in pool.values() if not ledger.has_result(point.id)]
    remaining = [point for point in asked if not ledger.has_result(point.id)]
    planned = _runs(left, study)
    cost = np.array(prices(study, done, left, ledger.has_trunk))
    require_affordable(planned, cost, options.budget, options.rounds)
    _aim(_runs(list(pool.values()), study), options.target, options.target_flops)
    analysis = analyse(ledger, study, done, allow_missing=1.0) if done else None
    finished = analysis.runs if analysis else _runs([], study)
    posterior, target = posterior_and_target(
        finished, planned, options.target, options.target_flops
    )
    proposal, flops = choose_next(
        posterior,
        target,
        study,
        done,
        left,
        ledger.has_trunk,
        options.budget,
        rounds=options.rounds,
    )
    gains = _alone(posterior, target, _runs(remaining, study))
    record = {
        "study": study.name,
        "target": options.target,
        "target_flops": options.target_flops,
        "budget": options.budget,
        "rounds": options.rounds,
        "flops": flops,
        "n_runs_finished": len(finished),
        "width_after_over_before": _finite(proposal.ratio),
        **_interval(analysis, options, proposal),
        "findings": list(proposal.findings),
        "proposed": [
            _row(left[row], study) | {"share": float(share), "point": _plain(left[row])}
            for row, share in zip(proposal.rows, proposal.share, strict=True)
        ],
        "remaining": [
            _row(point, study) | {"gain": gain, "is_idle": gain < IDLE}
            for point, gain in zip(remaining, gains, strict=True)
        ],
    }
    ledger.storage.replace(FILE, seal_record(record))
    figure = figure_proposal(
        finished, planned, _alone(posterior, target, planned), proposal, sentence=_sentence(record)
    )
    ledger.figures.mkdir(parents=True, exist_ok=True)
    image, _ = save(figure, ledger.figures / "next")
    _show(console, record)
    console.print(f"{ledger.folder / FILE}\n{image}")
    return record


def family(study: Study, manifest: Manifest, most: float) -> list[Point]:
    """The points that a study of this kind could have, each of at most so many FLOPs.

    Budgets at which no size can be trained are left out.
    """
    points: list[Point] = []
    seeds = sorted({seed for seeds in study.seeds_per_budget for seed in seeds})
    seeds += [seeds[-1] + 1 + i for i in range(NEW_SEEDS)]
    for budget in _budgets(study, most):
        for sizes in _finer(study.sizes):
            one = dataclasses.replace(
                study, budgets=(budget,), seeds=(tuple(seeds),), sizes=sizes, forecast_budgets=()
            )
            try:
                points += plan(one, manifest).points
                break
            except ValueError:  # Fewer widths than sizes asked for, or nothing can be trained.
                continue
    return [point for point in points if point.flops[study.flops] <= most]


def _budgets(study: Study, most: float) -> list[float]:
    """The study's, those half-way in logarithm, and half a step and a step above them."""
    own = study.budgets
    ratios = [b / a for a, b in itertools.pairwise(own)] or [math.sqrt(10.0)]
    between = [a * math.sqrt(r) for a, r in zip(own, ratios, strict=False)][: len(own) - 1]
    above = [own[-1] * math.sqrt(ratios[-1]), own[-1] * ratios[-1]]
    return sorted(budget for budget in (*own, *between, *above) if budget <= 1.01 * most)


def _finer(sizes: Any) -> list[Any]:
    """The rule with sizes half-way between its own, then the rule itself."""
    if not isinstance(sizes, LogSpaced):
        return [sizes]
    return [dataclasses.replace(sizes, n_sizes=2 * sizes.n_sizes - 1), sizes]


def choose_next(
    posterior: Any,
    target: Any,
    study: Study,
    known: Sequence[Point],
    left: Sequence[Point],
    has_trunk: HasTrunk,
    budget: float,
    *,
    rounds: int = 1,
    charge: Charge | None = None,
) -> tuple[Proposal, float]:
    """`scaling.design.propose.propose` of the points that are left, and what it spends in all.

    Branches of one new trunk cost less together than one by one: what that leaves of the budget is
    spent again.

    Args:
      known, has_trunk: as `prices.planned_jobs_of`.
      rounds: as `propose`; of several the first leaves most of the budget anyway.
      charge: what the budget is counted in: FLOPs if it is not given.

    Raises:
      ValueError: if the budget pays for no point.
    """
    from scaling.design.propose import propose

    charge = charge or training_flops(study)
    planned, rest = _runs(left, study), budget
    rows: tuple[int, ...] = ()
    new: set[str] = set()

    def is_there(trunk_id: str) -> bool:
        return trunk_id in new or has_trunk(trunk_id)

    while True:
        chosen = [left[row] for row in rows]
        cost = prices(study, [*known, *chosen], left, is_there, charge)
        proposal = propose(
            posterior, target, planned, np.array(cost), budget=rest, rounds=rounds, taken=rows
        )
        planned_jobs = planned_jobs_of(
            study, known, [left[row] for row in proposal.rows], has_trunk
        )
        new = {planned_job.job.id for planned_job in planned_jobs}
        spends = sum(map(charge, planned_jobs))
        rest = budget - spends
        is_same = proposal.rows == rows
        rows = proposal.rows
        others = [price for row, price in enumerate(cost) if row not in set(rows)]
        if is_same or rounds > 1 or not study.trunks or rest < min(others, default=math.inf):
            return proposal, spends


def posterior_and_target(
    finished: Runs, planned: Runs, target: str, flops: float
) -> tuple[Any, Any]:
    """The posterior after the finished runs, and the target at a budget."""
    from scaling.design.outlook import joined
    from scaling.design.posterior import fit_posterior
    from scaling.design.prior import Prior

    both = joined(finished, planned)
    return fit_posterior(finished, Prior.published(both)), _aim(both, target, flops)


def _aim(runs: Runs, name: str, flops: float) -> Any:
    from scaling.design.target import Target

    if not len(runs):
        raise ValueError("no run is finished and none is left to plan: widen the study's budgets")
    return Target(name=name, flops=flops, low=float(runs.budget.min()))


def _alone(posterior: Any, target: Any, planned: Runs) -> list[float]:
    from scaling.design.propose import worth as gains

    return gains(posterior, target, planned).tolist() if len(planned) else []


def _runs(points: Sequence[Point], study: Study) -> Runs:
    return runs_of(points, study.flops)


def runs_of(points: Sequence[Point], convention: Any) -> Runs:
    """Points as runs that have no loss yet."""
    from scaling.tables.runs import Runs

    return Runs.from_columns(
        n_params=[point.params.total for point in points],
        n_tokens=[point.n_tokens for point in points],
        loss_nats=[math.nan] * len(points),
        flops=[point.flops[convention] for point in points],
        budget=[point.budget for point in points],
        run_id=[point.id for point in points],
        cluster_id=[point.cluster_id for point in points],
        flops_convention=convention,
    )


def _interval(analysis: Analysis | None, options: Any, proposal: Proposal) -> dict[str, Any]:
    """The interval that a goal is judged by, and what is expected of it afterwards."""
    from scaling.answers.goal import judge, target_estimate
    from scaling.fit import FitError

    nothing: dict[str, Any] = {"estimate": None, "before": None, "after": None}
    if analysis is None or options.target == "all":
        return nothing
    try:
        fit = judge(list(analysis.fits.values()), quantity := _QUANTITY[options.target])
    except FitError:
        return nothing
    found = target_estimate(fit, quantity, options.target_flops)
    estimate, ends = found.value, found.interval
    if not ends.is_known or not math.isfinite(proposal.ratio):
        return nothing | {"estimate": _finite(estimate)}
    after = _narrowed(estimate, ends, proposal.ratio, is_log=options.target != "exponent")
    return {
        "estimate": estimate,
        "level": fit.level,
        "law": fit.law,
        "before": [ends.lower, ends.upper],
        "after": after,
    }


def _narrowed(estimate: float, ends: Interval, ratio: float, *, is_log: bool) -> list[float]:
    """The ends drawn towards the estimate, in logarithm where the target is one."""
    if is_log:
        return [estimate * (end / estimate) ** ratio for end in (ends.lower, ends.upper)]
    return [estimate + ratio * (end - estimate) for end in (ends.lower, ends.upper)]


def _row(point: Point, study: Study) -> dict[str, Any]:
    return {
        "id": point.id,
        "budget": point.budget,
        "d_model": point.spec.model.d_model,
        "seed": point.seed,
        "flops": point.flops[study.flops],
    }


def _plain(point: Point) -> dict[str, Any]:
    return dict(json.loads(to_json(point)))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _sentence(record: dict[str, Any]) -> str:
    what = f"{_LABEL[record['target']]} at {record['target_flops']:.3g} FLOPs"
    spent = f"{len(record['proposed'])} runs, {record['flops']:.3g} FLOPs"
    if record["before"] is None:
        ratio = record["width_after_over_before"]
        times = "" if ratio is None else f"; expected width {ratio:.2f} times that of now"
        return f"{what}: no interval yet; {spent}{times}."
    form = "{:.3g}" if record["target"] == "n_params_opt" else "{:.4f}"
    before, after = (
        " to ".join(form.format(end) for end in record[name]) for name in ("before", "after")
    )
    return f"{what}: {record['level']:.0%} interval {before}; expected after {spent}: {after}."


def marks(ledger: Ledger) -> list[str]:
    """What the last `isoflop next` said of runs that are left; for `isoflop plan`."""
    if (data := ledger.storage.read(FILE)) is None:
        return []
    if (text := unseal(data)) is None:
        return [f"{ledger.folder / FILE} is damaged. Delete it; `isoflop next` writes it again."]
    record = json.loads(text)
    left = [row for row in record["remaining"] if not ledger.has_result(row["id"])]
    idle = [row for row in left if row["is_idle"]]
    what = f"{_LABEL[record['target']]} at {record['target_flops']:.3g} FLOPs"
    lines = [f"{len(left)} runs left; isoflop next, for {what}: share of what all would tell:"]
    for row in sorted(left, key=lambda row: -row["gain"])[:MOST_SHOWN]:
        mark = "  cannot matter" if row["is_idle"] else ""
        size = f"{row['budget']:.3g} d{row['d_model']} seed {row['seed']}"
        lines.append(f"  {row['gain']:6.1%}  {size}{mark}")
    if len(left) > MOST_SHOWN:
        lines.append(f"  and {len(left) - MOST_SHOWN} more, in {FILE}")
    lines.append(f"{len(idle)} of {len(left)} cannot matter (less than {IDLE:.0%} each).")
    return lines if left else []


def _show(console: Console, record: dict[str, Any]) -> None:
    columns = ("budget", "d_model", "seed", "FLOPs", "share of the gain")
    table = number_table(*columns)
    for row in record["proposed"]:
        cells = (f"{row['budget']:.3g}", str(row["d_model"]), str(row["seed"]))
        table.add_row(*cells, f"{row['flops']:.3g}", f"{row['share']:.1%}")
    console.print(table)
    console.print(_sentence(record))
    idle = [row for row in record["remaining"] if row["is_idle"]]
    if record["remaining"]:
        console.print(
            f"{len(record['remaining'])} planned runs are not finished; {len(idle)} of them would "
            f"alone give less than {IDLE:.0%} of what all would: their outcome cannot matter."
        )
    for row in idle[:20]:
        console.print(
            f"- {row['id']} ({row['budget']:.3g} FLOPs, d_model {row['d_model']}, seed "
            f"{row['seed']}): {row['gain']:.2%}"
        )
    if len(idle) > 20:
        console.print(f"- and {len(idle) - 20} more, in {FILE}")
    for sentence in record["findings"]:
        console.print(f"- {sentence}")
