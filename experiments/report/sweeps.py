# SPDX-License-Identifier: Apache-2.0
"""What the axes of a study show beside its fits: losses along each."""

from collections.abc import Mapping

from experiments.plan.settings import compares_vocabularies
from experiments.study.study import Label, Study
from scaling.tables.loss_curves import LossCurve, loss_curves
from scaling.tables.runs import Runs

Settings = Mapping[str, Label]
# A column of the table.
VOCABULARY = "vocab_size"


def sweeps(study: Study, runs: Runs) -> dict[str, list[LossCurve]]:
    """Of each axis of numbers the curves along it, the other axes at their best; and of the size
    of the vocabulary, where that varies, with the size of the network at its best, too."""
    axes = [axis for axis in study.axes if len(axis.values) > 1]
    found = {
        axis.field: loss_curves(
            runs,
            axis.field,
            ("budget", "n_params"),
            [other.field for other in axes if other is not axis],
        )
        for axis in axes
        if axis.is_numbers
    }
    if compares_vocabularies(study):
        others = ["n_params", *(axis.field for axis in axes)]
        found[VOCABULARY] = loss_curves(runs, VOCABULARY, ("budget",), others)
    return found


def label_axes(settings: Settings) -> list[str]:
    """The values of axes that have no numbers."""
    return [str(value) for value in settings.values() if isinstance(value, str | bool)]
