# SPDX-License-Identifier: Apache-2.0
"""Four families of sequence mixers on one grid: what is each worth in compute?

Question: at equal compute, on the same text and the same validation bytes, which loss has the best
size of each, and how much compute would the Transformer need for it? One recipe each
(experiments/recipes/families.py), which differs in its mixer and its learning rate. The report has
the frontiers on one figure, the compute-equivalent gain as a curve over the loss with its band, N*
and D* of each, loss by position in the context, and the seconds beside the FLOPs.

It leaves out: the other families (`isoflop run architectures_all`), windows longer than 128 bytes,
depth (two layers up to width 64), and a sweep of rates at every size.

Command: ``isoflop run architectures``.
"""

from experiments.recipes.families import FAMILIES
from experiments.study.study import Axis, Ladder, Study
from model.data.source import PepsText
from model.training.config import EvalConfig

STUDY = Study(
    name="architectures",
    question="What are four families of sequence mixers worth in compute, at 5e9 to 1.6e11 FLOPs?",
    budgets=(5e9, 3e10, 1.6e11),
    sizes=Ladder(d_models=(8, 12, 16, 24, 32, 48, 64), tokens_per_param=(0.7, 90.0)),
    seeds=(0, 1),
    data=PepsText(validation_fraction=0.05),
    seq_len=128,
    evaluation=EvalConfig(n_tokens=65536, curve_tokens=8192, n_points=4, seed=0),
    max_epochs=1.0,
    flops="matmul_full",
    recipe=FAMILIES["transformer"],
    axes=(
        Axis(
            field="recipe",
            values=tuple(
                FAMILIES[name] for name in ("transformer", "lstm", "convolution", "mamba2")
            ),
        ),
    ),
)
