# SPDX-License-Identifier: Apache-2.0
"""Does a 70B model fit on 512 TPU v5p, and how long would it take? A study to be checked.

The shape of Llama 3 70B (Grattafiori et al. 2024, arXiv:2407.21783, table 3: 80 layers of width
8192, 64 heads, 8 of keys and values), vocabulary 128,000, T = 4096, batches of four million tokens.

Command: ``isoflop check large_70b --topology v5p:8x8x8``. Running it is not needed.
"""

import dataclasses

from experiments.recipes.llama_like import LLAMA_LIKE
from experiments.studies import large_1b
from experiments.study.study import Ladder
from model.data.source import Zipf

STUDY = dataclasses.replace(
    large_1b.STUDY,
    name="large_70b",
    question="Does a model of 70B parameters fit on 512 TPU v5p, and how long does it take?",
    budgets=(6.3e23,),
    sizes=Ladder(d_models=(8192,), tokens_per_param=(1.0, 100.0)),
    data=Zipf(alpha=0.5, epsilon=0.1, base=127_999, n_digits=1, n_answers=2, language_seed=0),
    seq_len=4096,
    recipe=LLAMA_LIKE.with_(
        name="llama-like-70b",
        shape__width_per_layer=102.4,
        shape__blocks__0__mixer__queries_per_kv_head=8,
        batch__reference_tokens=2.0**22,
    ),
    mesh=(1, 1, 512, 1),
)
