# SPDX-License-Identifier: Apache-2.0
"""How often a new run beyond the grid falls into its forecast: by the bootstrap, by the bootstrap
widened where budgets that are left out say so, and conformally.

`make bench-coverage` writes coverage_forecasts.md from these counts.

A count has the key (study, "forecast", method, what); what is one of "simulations", "answers",
"inside", and "width", a sum in nats over the answers.
"""

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np

from experiments.benchmarks.coverage.page import ALLOWED
from experiments.benchmarks.coverage.run import ESTIMATOR
from experiments.benchmarks.coverage.studies import STUDIES, SimulatedStudy
from experiments.files import markdown
from scaling.answers.conformal import conformal_loss, leave_out
from scaling.answers.loss_forecast import average_loss
from scaling.approaches.surface.fit import fit_surface
from scaling.fit import FitError
from scaling.intervals import UNKNOWN, Interval
from scaling.laws.closed_form_optimum import optimal_params
from scaling.tables.runs import Runs

FORMS = ("additive", "curved")
METHODS = ("bootstrap", "widened", "conformal")
N_REPLICATES = 60  # Of each form: few enough to be drawn so often.


def level_of(study: SimulatedStudy) -> float:
    """The highest that its budgets support; both methods are asked for it."""
    return len(study.budgets) / (len(study.budgets) + 1)


def count_forecasts(study: SimulatedStudy, index: int, n: int) -> Counter[Any]:
    """Counts of n simulations: one new run each, at the optimum ten times beyond the grid."""
    rng = np.random.default_rng([index, 1, *study.name.encode()])
    runs = study.runs()
    noise = study.noise_draws(runs.loss_nats, n, rng)
    # Of a run of the largest budget, drawn anew.
    of_new = study.noise_draws(runs.loss_nats, n, rng)[:, -1]
    n_params = float(optimal_params(np.array(study.parameters), study.flops))
    at = (n_params, study.flops / (6 * n_params))
    truth = float(study.surface.loss(study.parameters, *at))
    counts: Counter[Any] = Counter()
    for row, new in zip(noise, of_new, strict=True):
        noisy = replace(runs, loss_nats=runs.loss_nats * np.exp(row))
        came = truth * np.exp(new)
        found = _intervals(study, noisy, at)
        for method, ends in zip(METHODS, found, strict=True):
            key = (study.name, ESTIMATOR, method)
            counts[(*key, "simulations")] += 1
            if ends.is_known:
                counts[(*key, "answers")] += 1
                counts[(*key, "inside")] += int(ends.lower <= came <= ends.upper)
                counts.update({(*key, "width"): ends.upper - ends.lower})
    return counts


def _intervals(
    study: SimulatedStudy, runs: Runs, at: tuple[float, float]
) -> tuple[Interval, Interval, Interval]:
    """By METHODS, at the level of the study; unknown where there is none."""
    try:
        fits = [
            fit_surface(runs, form, n_bootstrap=N_REPLICATES, replicate_starts=1) for form in FORMS
        ]
        bootstrap = average_loss(fits, *at, level=level_of(study)).interval
    except FitError:
        return UNKNOWN, UNKNOWN, UNKNOWN
    try:
        found = conformal_loss(fits, leave_out(fits, n_bootstrap=N_REPLICATES), *at)
    except FitError:
        return bootstrap, bootstrap, UNKNOWN
    wider = Interval(lower=found.widened(bootstrap.lower), upper=found.widened(bootstrap.upper))
    return bootstrap, wider, found.interval


def page(counts: Counter[Any], about: str) -> str:
    """coverage_forecasts.md.

    Args:
      about: what was run, where and when, in a line.
    """
    lines = [
        "# Coverage of forecasts on simulated studies",
        "",
        f"{about} One run ten times beyond each grid, at the true optimum there. All intervals "
        "are of one level, the highest that the budgets support when one after another is left "
        "out (`scaling/answers/conformal.py`); the bootstrap is that of `average_loss`, widened by "
        "Birge's ratio of the budgets left out. Inside: "
        "share of the new runs, in per cent, among the simulations with an answer; widths are "
        "means. "
        f"**Bold**: off by more than {ALLOWED:g} points beyond two standard errors.",
        "",
    ]
    heads = ["study", "budgets", "level, %", "standard error"]
    for method in METHODS:
        heads += [f"{method}: inside", "width, nats", "answered"]
    names = dict.fromkeys(key[0] for key in counts)
    known = {study.name: study for study in STUDIES}
    return (
        "\n".join([*lines, *markdown.table(heads, [_row(counts, known[n]) for n in names])]) + "\n"
    )


def _row(counts: Counter[Any], study: SimulatedStudy) -> list[object]:
    level = 100 * level_of(study)
    n = counts[(study.name, ESTIMATOR, METHODS[0], "simulations")]
    se = math.sqrt(level * (100 - level) / n)
    row = [study.name, len(study.budgets), f"{level:.1f}", f"{se:.1f}"]
    for method in METHODS:
        key = (study.name, ESTIMATOR, method)
        n_answers = counts[(*key, "answers")]
        share, width = (counts[(*key, what)] / max(n_answers, 1) for what in ("inside", "width"))
        mark = "**" * (abs(100 * share - level) > ALLOWED + 2 * se)
        row += [f"{mark}{100 * share:.1f}{mark}", f"{width:.3f}", f"{100 * n_answers / n:.0f} %"]
    return row
