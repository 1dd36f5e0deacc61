# SPDX-License-Identifier: Apache-2.0
"""What does each family of sequence mixers make of a longer context?

Question: at equal compute, on the same validation bytes, the loss against the length T of the
windows, of families whose memory is the past itself (attention), the last 28 or 62 positions of it
(convolution, window), or a state of fixed size. Every step has 512 tokens whatever T is, so that
lengths differ in nothing else; a longer window costs attention more FLOPs, and so tokens. Each
window begins with nothing.

It leaves out: other sizes (one width, two layers, 40k to 48k parameters), and rates for each
length. The report has losses against T, a line per family (figures/settings.png), and losses by
position in the context, of the best length of each.

Command: ``isoflop run contexts``.
"""

from dataclasses import replace

from experiments.recipes.families import FAMILIES
from experiments.study.recipe import BatchRule
from experiments.study.study import Axis, Ladder, Study
from model.data.source import PepsText
from model.training.config import EvalConfig

NAMES = ("transformer", "window", "convolution", "gru", "mamba2", "gated-delta-net", "rwkv7")
BATCH = BatchRule(reference_tokens=512.0, reference_run=8e5, exponent=0.0, multiple=1)

STUDY = Study(
    name="contexts",
    question="What is a longer context worth to each family of mixers, at 5e10 FLOPs?",
    budgets=(5e10,),
    sizes=Ladder(d_models=(32,), tokens_per_param=(0.1, 90.0)),
    seeds=(0, 1),
    data=PepsText(validation_fraction=0.05),
    seq_len=128,
    evaluation=EvalConfig(n_bytes=65536, curve_bytes=8192, n_points=2, seed=0),
    max_epochs=1.0,
    flops="matmul_full",
    recipe=FAMILIES["transformer"],
    axes=(
        Axis(field="seq_len", values=(64, 128, 256, 512)),
        Axis(field="recipe", values=tuple(replace(FAMILIES[name], batch=BATCH) for name in NAMES)),
    ),
)
