# SPDX-License-Identifier: Apache-2.0
"""How large a byte model for how little compute? A whole isoFLOP study in minutes on two cores.

Question: compute-optimal parameters and tokens between 2e10 and 6e11 FLOPs, on text that comes with
the package, and whether the law holds at three times the largest budget. Method: Hoffmann et al.
2022 (arXiv:2203.15556), all three approaches.

Command: ``make quickstart`` or ``isoflop run quickstart``.
"""

from experiments.recipes.dense import DENSE_MUON
from experiments.study.study import Ladder, Study
from model.data.source import PepsText
from model.training.config import EvalConfig

STUDY = Study(
    name="quickstart",
    question="How large a byte model, on how many bytes, for small budgets?",
    budgets=(2e10, 6e10, 2e11, 6e11),
    sizes=Ladder(
        d_models=(8, 12, 16, 24, 32, 40, 48, 56, 64, 80),
        tokens_per_param=(1.0, 130.0),
    ),
    # Where runs are long their spread is small: another size says more than another seed.
    seeds=((0, 1, 2), (0, 1, 2), (0, 1), (0,)),
    data=PepsText(validation_fraction=0.05),
    seq_len=128,
    evaluation=EvalConfig(n_tokens=65536, curve_tokens=8192, n_points=6, seed=0),
    max_epochs=1.0,
    flops="matmul_full",
    recipe=DENSE_MUON,
    forecast_budgets=(2e12,),
)
