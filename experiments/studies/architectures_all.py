# SPDX-License-Identifier: Apache-2.0
"""Every family of `architectures` on a longer grid: the same question, more budgets and sizes.

Resumable like any study: the same command goes on after an interruption. It leaves out what
`architectures` leaves out, but for the families.

Command: ``isoflop run architectures_all``.
"""

from dataclasses import replace

from experiments.recipes.families import FAMILIES
from experiments.studies import architectures
from experiments.study.study import Axis, Ladder

STUDY = replace(
    architectures.STUDY,
    name="architectures_all",
    question="What is each family of networks worth in compute, at 8e9 to 2.5e11 FLOPs?",
    budgets=(8e9, 2.5e10, 8e10, 2.5e11),
    sizes=Ladder(d_models=(8, 12, 16, 24, 32, 48, 64, 96), tokens_per_param=(0.6, 90.0)),
    axes=(Axis(field="recipe", values=tuple(FAMILIES.values())),),
)
