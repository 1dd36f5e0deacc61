# SPDX-License-Identifier: Apache-2.0
"""Which share of the tokens should a masked language model hide, and does that change with compute?

Question: at each budget and size the share whose network guesses hidden bytes best. Validation
hides 15 % of each window whatever training hid, so that shares compare; larger ones give more to
learn from each window, and less to see (Wettig et al. 2022, arXiv:2202.08005). The loss is nats per
masked byte: no loss of next bytes compares with it.

The recipe's rates were tuned for next bytes.

Command: ``isoflop run masked``.
"""

from experiments.recipes.dense import DENSE_MUON
from experiments.study.study import Axis, Ladder, Study
from model.data.source import PepsText
from model.training.config import EvalConfig

STUDY = Study(
    name="masked",
    question="Which share of the bytes should be hidden, for 1e10 to 1.6e11 FLOPs?",
    budgets=(1e10, 4e10, 1.6e11),
    sizes=Ladder(d_models=(8, 12, 16, 24, 32, 48, 64), tokens_per_param=(0.7, 130.0)),
    seeds=(0, 1),
    data=PepsText(validation_fraction=0.05),
    seq_len=128,
    evaluation=EvalConfig(n_tokens=131072, curve_tokens=16384, n_points=3, seed=0),
    max_epochs=1.0,
    flops="matmul_full",
    recipe=DENSE_MUON.with_(name="dense-muon-masked", objective="masked", mask_ratio=0.3),
    axes=(Axis(field="recipe.mask_ratio", values=(0.15, 0.3, 0.6)),),
)
