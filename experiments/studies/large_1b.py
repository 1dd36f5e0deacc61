# SPDX-License-Identifier: Apache-2.0
"""Does a 1B model fit on sixteen TPU v5e, and how long would it take? A study to be checked.

Question: memory, traffic and least time of 1.0e9 parameters, vocabulary 32,000, T = 2048, in
bfloat16. Tokens of a synthetic language (model/data/synthetic/), so that nothing is downloaded.

Command: ``isoflop check large_1b --topology v5e:4x4``. Running it is not needed; at 20 tokens per
parameter it would be 1.3e20 FLOPs.
"""

from experiments.recipes.llama_like import LLAMA_LIKE
from experiments.study.study import Ladder, Study
from model.data.source import Zipf
from model.network.execution import Execution
from model.training.config import EvalConfig

STUDY = Study(
    name="large_1b",
    question="Does a model of 1B parameters fit on 16 TPU v5e, and how long does it take?",
    budgets=(6e19, 1.3e20),
    sizes=Ladder(d_models=(2048,), tokens_per_param=(1.0, 100.0)),
    seeds=(0,),
    data=Zipf(alpha=0.5, epsilon=0.1, base=31_999, n_digits=1, n_answers=2, language_seed=0),
    seq_len=2048,
    evaluation=EvalConfig(n_tokens=2048 * 1024, curve_tokens=2048 * 64, n_points=4, seed=0),
    max_epochs=1.0,
    flops="matmul_full",
    recipe=LLAMA_LIKE,
    mesh=(1, 1, 16, 1),
    execution=Execution(remat="block"),
)
