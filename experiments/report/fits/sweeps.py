# SPDX-License-Identifier: Apache-2.0
"""What the axes of a study show beside its fits: losses along each."""

from collections.abc import Mapping

from experiments.plan.settings import compares_vocabularies
from experiments.study.study import Label, Study
from scaling.answers.side_by_side import split_by
from scaling.tables.loss_curves import LossCurve, loss_curves
from scaling.tables.runs import Runs

Settings = Mapping[str, Label]
# A column of the table.
VOCABULARY = "vocab_size"


def sweeps(study: Study, runs: Runs) -> dict[str, list[LossCurve]]:
    """Of each axis of numbers the curves along it, the other axes of numbers at their best; where
    axes have no numbers, of each of their settings, the size of the network at its best, too. And
    of the size of the vocabulary, where that varies, all else at its best."""
    axes = [axis for axis in study.axes if len(axis.values) > 1]
    numbers = [axis.field for axis in axes if axis.is_numbers]
    names = [axis.field for axis in axes if not axis.is_numbers]
    same, best = (("budget",), ["n_params"]) if names else (("budget", "n_params"), [])
    found: dict[str, list[LossCurve]] = {}
    for field in numbers:
        others = [*best, *(other for other in numbers if other != field)]
        curves = [
            curve
            for setting, own in (split_by(runs, names) if names else {"": runs}).items()
            for curve in loss_curves(own, field, same, others, setting)
        ]
        found[field] = sorted(curves, key=lambda curve: curve.at["budget"])
    if compares_vocabularies(study):
        others = ["n_params", *(axis.field for axis in axes)]
        found[VOCABULARY] = loss_curves(runs, VOCABULARY, ("budget",), others)
    return found


def label_axes(settings: Settings) -> list[str]:
    """The values of axes that have no numbers."""
    return [str(value) for value in settings.values() if isinstance(value, str | bool)]
