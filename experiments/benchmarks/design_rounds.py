# SPDX-License-Identifier: Apache-2.0
"""Sequential designs: fit, choose, "train", until an interval is as narrow as it should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from experiments.benchmarks.design_problems import Problem
from scaling.belief import Prior, believe
from scaling.design import propose
from scaling.design_targets import Target
from scaling.fit import Fit, FitError
from scaling.goal import judge, target_interval
from scaling.runs import Runs
from scaling.surface import fit_surface

Array = np.ndarray

LAWS = ("additive", "curved")
QUANTITY = {"loss": "loss", "n_params_opt": "n_params_opt", "exponent": "a"}
# FLOPs of a round's end, over those of the uniform grid.
STAGES = (0.02, 0.04, 0.07, 0.11, 0.17, 0.26, 0.38, 0.5, 0.7, 1.0)
# Of a table there is more than the grid.
BEYOND_THE_GRID = (1.4, 1.9, 2.6)
_REPLICATES, _DRAWS = 100, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """An interval after some FLOPs: width in log units, for the exponent as it is."""

    flops: float
    n_runs: int
    width: float
    covers: bool | None
    law: str


def read(
    problem: Problem, runs: Runs, target: str, *, seed: int = 0, laws: Sequence[str] = LAWS
) -> Reading:
    """The 95 % interval that a goal is judged by, of runs that are trained."""
    fits: list[Fit] = []
    for law in laws:
        try:
            fits.append(
                fit_surface(runs, law, n_bootstrap=_REPLICATES, seed=seed, replicate_starts=1)
            )
        except FitError:
            continue
    reading = Reading(flops=runs.flops.sum(), n_runs=len(runs), width=np.inf, covers=None, law="")
    if not fits:
        return reading
    fit = judge(fits, QUANTITY[target])
    _, interval = target_interval(fit, QUANTITY[target], problem.flops)
    if not interval.is_known:
        return reading
    ends = np.array([interval.lower, interval.upper])
    width = np.ptp(ends if target == "exponent" else np.log(ends))
    covers = None
    if problem.truth is not None:
        covers = bool(interval.lower <= problem.truth[target] <= interval.upper)
    return replace(reading, width=float(width), covers=covers, law=fit.law)


def sequential(
    problem: Problem,
    target: str,
    goal: float,
    *,
    seed: int,
    stages: Sequence[float] = STAGES,
    stops: bool = True,
    laws: Sequence[str] = LAWS,
    gamma_sd: float | None = None,
) -> list[Reading]:
    """Readings after each round, up to the first that meets the goal, or all.

    gamma_sd: of the prior; that of `next` where it is None.
    """
    rng = np.random.default_rng([seed, 1])
    trained = problem.trained(problem.pool, rng)  # What each run would give if it were trained.
    prior = Prior.published(trained)
    if gamma_sd is not None:
        prior = replace(prior, sd=np.array([*prior.sd[:5], gamma_sd]))
    aim = Target(name=target, flops=problem.flops, low=float(trained.budget.min()))
    rows, readings = np.zeros(0, int), []
    for stage in stages:
        left = np.setdiff1d(np.arange(len(trained)), rows)
        budget = stage * problem.full - trained.flops[rows].sum()
        if not len(left) or budget < trained.flops[left].min():
            continue
        belief = believe(trained.select(rows), prior, n_draws=_DRAWS, seed=seed)
        pool = trained.select(left)
        chosen = propose(belief, aim, pool, pool.flops, budget=budget)
        rows = np.concatenate([rows, left[list(chosen.rows)]])
        readings.append(read(problem, trained.select(rows), target, seed=seed, laws=laws))
        if stops and readings[-1].width <= goal:
            break
    return readings


def random(
    problem: Problem, target: str, share: float, *, seed: int, laws: Sequence[str] = LAWS
) -> Reading:
    """Runs in random order up to a share of the uniform grid's FLOPs."""
    rng = np.random.default_rng([seed, 2])
    trained = problem.trained(problem.pool, rng)
    rows, left = [], share * problem.full
    for row in rng.permutation(len(trained)):
        if trained.flops[row] <= left:
            rows.append(row)
            left -= trained.flops[row]
    return read(problem, trained.select(np.array(rows, int)), target, seed=seed, laws=laws)


def everything(problem: Problem, target: str) -> Reading:
    """Every run of a table."""
    return read(problem, problem.pool, target)


def uniform(problem: Problem, target: str, *, seed: int, laws: Sequence[str] = LAWS) -> Reading:
    """The uniform grid, trained; of several the one that the seed picks."""
    rng = np.random.default_rng([seed, 3])
    runs = problem.trained(problem.uniform[seed % len(problem.uniform)], rng)
    return read(problem, runs, target, seed=seed, laws=laws)
