# SPDX-License-Identifier: Apache-2.0
"""What compute does absorbing diffusion need for the loss of next-token prediction?

Question: at equal loss, how much more compute does diffusion take, on plenty of text? The networks
and the validation text are the same; the report has the ratio as a curve over the loss with its
interval. The loss of diffusion is a bound: its true loss is at most that, and so the ratio is one
at equal bound (some 16 times on OpenWebText: Nie et al. 2024, arXiv:2410.18514).

Budgets span 350 times, so that both reach some of the same losses. The rates of next bytes are the
recipe's; diffusion has twice those, the best of 0.5, 1, 2 and 4 times at width 16 and 4e10 FLOPs.
The first byte of a window is predicted from the one before it, and filled in without it.
`isoflop run diffusion_repeated` asks the same of little text.

Command: ``isoflop run diffusion``.
"""

from experiments.recipes.dense import DENSE_MUON
from experiments.study.study import Axis, Ladder, Study
from model.data.source import PepsText
from model.training.config import EvalConfig

TEXT = PepsText(validation_fraction=0.05)
NEXT_TOKEN = DENSE_MUON.with_(name="next-token")
DIFFUSION = DENSE_MUON.with_(name="diffusion", objective="diffusion", optimizer__learning_rate=2.0)

STUDY = Study(
    name="diffusion",
    question="What compute do next tokens and diffusion need for one loss, at 1e9 to 3.5e11 FLOPs?",
    budgets=(1e9, 7e9, 5e10, 3.5e11),
    sizes=Ladder(d_models=(8, 12, 16, 24, 32, 48, 64), tokens_per_param=(0.3, 130.0)),
    seeds=(0, 1),
    data=TEXT,
    seq_len=128,
    evaluation=EvalConfig(n_tokens=131072, curve_tokens=16384, n_points=3, seed=0),
    max_epochs=1.0,
    flops="matmul_full",
    recipe=NEXT_TOKEN,
    axes=(Axis(field="recipe", values=(NEXT_TOKEN, DIFFUSION)),),
)
