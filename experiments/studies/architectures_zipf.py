# SPDX-License-Identifier: Apache-2.0
"""Does every family of `architectures_all` find the same truth? Its E against the true entropy.

Question: the irreducible loss E of each family's own fit, on the language of `zipf_truth`, whose
entropy per token is known. It is one number for all of them: what a network is, moves its N* and
how fast it learns, and not what is left in the end. Findings say of every fit whether its interval
of E holds the entropy, and if not, how far above it the lowest loss is.

It leaves out: the largest budget of `zipf_truth`, a second seed, and other languages.

Command: ``isoflop run architectures_zipf``.
"""

from dataclasses import replace

from experiments.recipes.families import FAMILIES
from experiments.studies import zipf_truth
from experiments.study.study import Axis, Ladder

STUDY = replace(
    zipf_truth.STUDY,
    name="architectures_zipf",
    question="Do all families of networks find the same irreducible loss, the true entropy?",
    budgets=(1e10, 3e10, 1e11, 3e11),
    sizes=Ladder(d_models=(8, 16, 24, 32, 48, 64, 96), tokens_per_param=(0.4, 450.0)),
    seeds=(0,),
    recipe=FAMILIES["transformer"],
    axes=(Axis(field="recipe", values=tuple(FAMILIES.values())),),
)
