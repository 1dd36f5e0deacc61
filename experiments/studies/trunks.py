# SPDX-License-Identifier: Apache-2.0
"""The question of the quickstart with five budgets and three seeds, on shared trunks.

Runs of one size and seed share warm-up and plateau; each point is the decay of a fifth of its own
length (Hägele et al. 2024, arXiv:2405.18392). `isoflop plan trunks` shows the trees and what they
save; `isoflop run trunks trunks=false` trains every point alone and gives the same table.
"""

from experiments.recipes.tiny_bytes import TINY_BYTES_WSD
from experiments.study.study import Ladder, Study
from model.data.source import StdlibText
from model.training.config import EvalConfig

STUDY = Study(
    name="trunks",
    question="How large a byte model, on how many bytes, where runs share trunks?",
    budgets=(2.5e10, 5e10, 1e11, 2e11, 4e11),
    sizes=Ladder(
        d_models=(12, 16, 20, 24, 32, 40, 48, 64),
        tokens_per_param=(2.2, 110.0),
    ),
    seeds=(0, 1, 2),
    data=StdlibText(validation_fraction=0.05),
    seq_len=128,
    evaluation=EvalConfig(n_tokens=65536, curve_tokens=8192, n_points=3, seed=0),
    max_epochs=1.0,
    flops="matmul_full",
    recipe=TINY_BYTES_WSD,
    trunks=True,
)
