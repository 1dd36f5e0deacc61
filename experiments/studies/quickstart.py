# SPDX-License-Identifier: Apache-2.0
"""How large a byte model for how little compute? A whole isoFLOP study in minutes on two cores.

Question: compute-optimal parameters and tokens between 2.5e10 and 7.5e11 FLOPs, on the source text
of the installed Python's standard library, and whether the law holds at three times the largest
budget. Method: Hoffmann et al. 2022 (arXiv:2203.15556), all three approaches.

Command: ``make quickstart`` or ``isoflop run quickstart``.
"""

from experiments.recipes.tiny_bytes import TINY_BYTES
from experiments.study.study import Ladder, Study
from model.data.source import StdlibText
from model.training.config import EvalConfig

STUDY = Study(
    name="quickstart",
    question="How large a byte model, on how many bytes, for 2.5e10 to 2.5e12 FLOPs?",
    budgets=(2.5e10, 7.5e10, 2.5e11, 7.5e11),
    sizes=Ladder(
        d_models=(12, 16, 20, 24, 32, 40, 48, 64, 80),
        tokens_per_param=(2.2, 110.0),
    ),
    seeds=((0, 1, 2), (0, 1, 2), (0, 1), (0, 1)),
    data=StdlibText(validation_fraction=0.05),
    seq_len=128,
    evaluation=EvalConfig(n_tokens=65536, curve_tokens=8192, n_points=6, seed=0),
    max_epochs=1.0,
    flops="matmul_full",
    recipe=TINY_BYTES,
    forecast_budgets=(2.5e12,),
)
