# SPDX-License-Identifier: Apache-2.0
"""The question of the quickstart, asked with the recipe dense-muon.

Command: ``isoflop run dense``.
"""

import dataclasses

from experiments.recipes.dense import DENSE_MUON
from experiments.studies.quickstart import STUDY as QUICKSTART
from experiments.study.study import Ladder

STUDY = dataclasses.replace(
    QUICKSTART,
    name="dense",
    recipe=DENSE_MUON,
    sizes=Ladder(d_models=(8, 16, 24, 32, 40, 48, 64, 80, 96), tokens_per_param=(1.0, 110.0)),
)
