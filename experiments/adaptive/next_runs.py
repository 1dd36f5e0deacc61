# SPDX-License-Identifier: Apache-2.0
"""isoflop next: which runs of a study's family narrow the answer most, for the FLOPs given."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
from rich.console import Console

from experiments.adaptive.choose_points import (
    aim,
    choose_next,
    gains_alone,
    posterior_and_target,
    runs_of,
)
from experiments.adaptive.family import family
from experiments.adaptive.next_display import sentence, show
from experiments.adaptive.next_record import FILE, IDLE, NextRuns, Proposed, Remaining
from experiments.adaptive.prices import prices
from experiments.files import checked_json
from experiments.ledger.ledger import Ledger
from experiments.plan.plan import plan
from experiments.plan.point import Point
from experiments.study.study import Study
from model.data.manifest import Manifest

if TYPE_CHECKING:
    from experiments.report.fits.analysis import Analysis
    from scaling.design.propose import Proposal
    from scaling.intervals import Interval

TargetName = Literal["loss", "n_params_opt", "exponent", "all"]
TARGETS: tuple[TargetName, ...] = get_args(TargetName)
_QUANTITY = {"loss": "loss", "n_params_opt": "n_params_opt", "exponent": "a"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What is to be known better.

    Attributes:
      budget: FLOPs that may be spent.
      target, target_flops: what, and the training budget that it is for.
      rounds: how often it is chosen again; only the first round's runs are proposed.
    """

    budget: float
    target: TargetName
    target_flops: float
    rounds: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pool:
    """Points by what became of them: of the study and its family, and of the plan alone."""

    done: list[Point]
    left: list[Point]
    planned_and_left: list[Point]


def propose_next(
    question: Question, study: Study, *, ledger: Ledger, manifest: Manifest, console: Console
) -> None:
    """Proposes runs, shows them, and writes next.json and a figure.

    Raises:
      ValueError: for a target or a budget that cannot be, or a study with axes.
    """
    from experiments.report.fits.analysis import analyse
    from scaling.design.propose import require_affordable
    from scaling.plots.design import figure_proposal
    from scaling.plots.style import save

    _refuse_axes(study)
    pool = _pool(study, manifest, ledger, question.budget)
    planned = runs_of(pool.left, study.flops)
    cost = np.array(prices(study, pool.done, pool.left, ledger.has_trunk))
    require_affordable(planned, cost, question.budget, question.rounds)
    # Refused before anything is fitted.
    everything = runs_of([*pool.done, *pool.left], study.flops)
    aim(everything, question.target, question.target_flops)
    analysis = analyse(ledger, study, pool.done, allow_missing=1.0) if pool.done else None
    finished = analysis.runs if analysis else runs_of([], study.flops)
    posterior, target = posterior_and_target(
        finished, planned, target=question.target, flops=question.target_flops
    )
    proposal, flops = choose_next(
        posterior,
        target,
        study=study,
        known=pool.done,
        left=pool.left,
        has_trunk=ledger.has_trunk,
        budget=question.budget,
        rounds=question.rounds,
    )
    remaining = runs_of(pool.planned_and_left, study.flops)
    found = _record(
        question,
        study,
        pool,
        proposal=proposal,
        flops=flops,
        gains=gains_alone(posterior, target, remaining),
        analysis=analysis,
    )
    ledger.storage.replace(FILE, checked_json.encode(found))
    gains = gains_alone(posterior, target, planned)
    figure = figure_proposal(finished, planned, gains, proposal, sentence=sentence(found))
    ledger.figures.mkdir(parents=True, exist_ok=True)
    image, _ = save(figure, ledger.figures / "next")
    show(found, console)
    console.print(f"{ledger.folder / FILE}\n{image}")


def _refuse_axes(study: Study) -> None:
    if study.axes:
        raise ValueError(
            f"study {study.name} varies {', '.join(axis.field for axis in study.axes)}: which "
            "setting should the next runs have? Give the recipe that value, and axes=()."
        )


def _pool(study: Study, manifest: Manifest, ledger: Ledger, most: float) -> _Pool:
    asked = plan(study, manifest).points
    both = {point.id: point for point in (*asked, *family(study, manifest, most))}
    done = {name for name in both if ledger.has_result(name)}
    return _Pool(
        done=[point for name, point in both.items() if name in done],
        left=[point for name, point in both.items() if name not in done],
        planned_and_left=[point for point in asked if point.id not in done],
    )


def _record(
    question: Question,
    study: Study,
    pool: _Pool,
    *,
    proposal: Proposal,
    flops: float,
    gains: list[float],
    analysis: Analysis | None,
) -> NextRuns:
    shares = zip(proposal.rows, proposal.share, strict=True)
    chosen = [(pool.left[row], float(share)) for row, share in shares]
    told = _interval(analysis, question, proposal.ratio)
    return NextRuns(
        study=study.name,
        target=question.target,
        target_flops=question.target_flops,
        budget=question.budget,
        rounds=question.rounds,
        flops=flops,
        n_runs_finished=len(analysis.runs) if analysis else 0,
        width_after_over_before=_finite(proposal.ratio),
        estimate=told.estimate,
        before=told.before,
        after=told.after,
        level=told.level,
        law=told.law,
        findings=tuple(proposal.findings),
        proposed=tuple(
            Proposed(**_run(point, study), share=share, point=point) for point, share in chosen
        ),
        remaining=tuple(
            Remaining(**_run(point, study), gain=gain, is_idle=gain < IDLE)
            for point, gain in zip(pool.planned_and_left, gains, strict=True)
        ),
    )


def _run(point: Point, study: Study) -> dict[str, Any]:
    """The fields of a Run."""
    return {
        "id": point.id,
        "budget": point.budget,
        "d_model": point.spec.model.d_model,
        "seed": point.seeds,
        "flops": point.flops[study.flops],
    }


class _Told(NamedTuple):
    """The interval that a goal is judged by, and what is expected of it afterwards."""

    estimate: float | None = None
    before: tuple[float, float] | None = None
    after: tuple[float, float] | None = None
    level: float | None = None
    law: str | None = None


def _interval(analysis: Analysis | None, question: Question, ratio: float) -> _Told:
    """``ratio``: expected width over that of now."""
    from scaling.answers.goal import judge, target_estimate
    from scaling.fit import FitError

    if analysis is None or question.target == "all":
        return _Told()
    try:
        fit = judge(list(analysis.fits.values()), quantity := _QUANTITY[question.target])
    except FitError:
        return _Told()
    found = target_estimate(fit, quantity, question.target_flops)
    estimate, ends = found.value, found.interval
    if not ends.is_known or not math.isfinite(ratio):
        return _Told(estimate=_finite(estimate))
    after = _narrowed(estimate, ends, ratio, is_log=question.target != "exponent")
    return _Told(estimate, (ends.lower, ends.upper), after, fit.level, fit.law)


def _narrowed(
    estimate: float, ends: Interval, ratio: float, *, is_log: bool
) -> tuple[float, float]:
    """The ends drawn towards the estimate, in logarithm where the target is one."""
    if is_log:
        low, high = (estimate * (end / estimate) ** ratio for end in (ends.lower, ends.upper))
    else:
        low, high = (estimate + ratio * (end - estimate) for end in (ends.lower, ends.upper))
    return low, high


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
