# SPDX-License-Identifier: Apache-2.0
"""Does a 7B model fit on a pod of TPU v5e, and how long would it take? A study to be checked.

The shape of Llama 3 8B with a vocabulary of 32,000, T = 4096, batches of a million tokens.

Command: ``isoflop check large_7b --topology v5e:16x16``. Running it is not needed.
"""

import dataclasses

from experiments.recipes.llama_like import LLAMA_LIKE
from experiments.studies import large_1b
from experiments.study.study import Ladder

STUDY = dataclasses.replace(
    large_1b.STUDY,
    name="large_7b",
    question="Does a model of 7B parameters fit on 256 TPU v5e, and how long does it take?",
    budgets=(6.5e21,),
    sizes=Ladder(d_models=(4096,), tokens_per_param=(1.0, 100.0)),
    seq_len=4096,
    recipe=LLAMA_LIKE.with_(batch__reference_tokens=2.0**20),
    mesh=(1, 1, 256, 1),
)
