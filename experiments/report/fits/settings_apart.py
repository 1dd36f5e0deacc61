# SPDX-License-Identifier: Apache-2.0
"""Settings without numbers, such as architectures: a fit for each, and each beside the first."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.ledger.verdict import Verdict
from experiments.plan.point import Point
from experiments.report.fits.sweeps import label_axes
from experiments.study.study import Study
from experiments.terminal.table import amount
from scaling.answers.side_by_side import Side, split_by
from scaling.answers.true_loss import true_loss_findings
from scaling.intervals import Interval
from scaling.shown import counted, loss_text, with_interval
from scaling.tables.best_settings import best_settings
from scaling.tables.runs import Runs
from scaling.tables.units import power


def settings_apart(study: Study, runs: Runs) -> dict[str, Runs]:
    """The runs of each setting of the axes without numbers, at the best values of the others; none
    where there is one setting only."""
    axes = [axis for axis in study.axes if len(axis.values) > 1]
    fields = [axis.field for axis in axes if not axis.is_numbers]
    numbers = [axis.field for axis in axes if axis.is_numbers]
    found = split_by(runs, fields) if fields else {}
    if numbers:
        found = {name: best_settings(own, numbers)[0] for name, own in found.items()}
    return found if len(found) > 1 else {}


def side_rows(found: Sequence[Side]) -> list[dict[str, str]]:
    """Of each setting its optimum at its largest budget, and its gain at the ends of the curve."""
    rows = []
    for side in found:
        front, gain = side.front, side.gain
        row = {
            "setting": side.title,
            "runs": str(len(side.fit.fitted_runs)),
            "law": side.fit.law,
            "FLOPs": power(front.flops[-1]),
            "parameters N*": counted(front.n_params_opt.at(-1)),
            "tokens D*": counted(front.n_tokens_opt.at(-1)),
            "loss L*": loss_text(front.loss_opt.at(-1)),
            "a": with_interval(side.fit.exponent_a, side.fit.intervals["exponent_a"], "{:.2f}"),
        }
        for name, place in (("gain, little compute", 0), ("gain, most compute", -1)):
            row[name] = "1" if side is found[0] else "none"
            if gain is not None:
                ends = Interval(lower=float(gain.lower[place]), upper=float(gain.upper[place]))
                at = with_interval(float(gain.ratio[place]), ends, "{:.3g}")
                row[name] = f"{at} at loss {gain.loss[place]:.3g}"
        rows.append(row)
    return rows


def side_findings(found: Sequence[Side], refused: Mapping[str, str]) -> list[str]:
    """What is not certified, not comparable, or has no fit."""
    said = [f"{name} has no fit: {why}" for name, why in refused.items()]
    for side in found:
        if not side.fit.is_certified:
            said.append(f"{side.name} is not certified: {side.fit.status.value}.")
        if side.why:
            said.append(f"{side.name} is not compared with {found[0].name}: {side.why}")
        sentences = side.gain.findings if side.gain else ()
        said += [f"{side.name}: {one}" for one in sentences if "not certified" not in one]
    return [*said, *true_loss_findings({side.name: side.fit for side in found})]


def cost_rows(points: Sequence[Point], verdicts: Mapping[str, Verdict]) -> list[dict[str, str]]:
    """Of each setting what a run of its largest budget took: a network that is cheap in FLOPs may
    be slow."""
    taken: dict[str, dict[float, list[tuple[float, float, float | None]]]] = {}
    for point in points:
        result = verdicts[point.id].result
        if point.role == "grid" and result is not None and result.status == "ok":
            costs = result.costs
            own = taken.setdefault(" ".join(label_axes(point.axes)), {})
            own.setdefault(point.budget, []).append(
                (costs.train_seconds, 1e6 * costs.train_seconds / point.n_tokens, costs.joules)
            )
    rows = []
    for name, by_budget in taken.items() if len(taken) > 1 else ():
        budget = max(by_budget)
        seconds, per_million, joules = zip(*by_budget[budget], strict=True)
        known = [each for each in joules if each is not None]
        rows.append(
            {
                "setting": name,
                "FLOPs": power(budget),
                "seconds of training": f"{np.mean(seconds):.3g}",
                "seconds per 1M tokens": f"{np.mean(per_million):.3g}",
                "joules": amount(float(np.mean(known)) if len(known) == len(joules) else None),
            }
        )
    return rows
