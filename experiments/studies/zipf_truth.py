# SPDX-License-Identifier: Apache-2.0
"""Does the whole path find a truth that is known? Real training on a language of known entropy.

Question: the irreducible loss E that the fitted surfaces extrapolate to, against the entropy per
token of the source, which is a closed formula (model/data/synthetic/). 256 facts of three answers
each, every answer drawn at random with probability .25; the largest runs end within a few percent
of the entropy.

Command: ``isoflop run zipf_truth``, or ``make bench-truth`` for five such studies.
"""

from experiments.recipes.tiny_bytes import TINY_BYTES
from experiments.study.study import Ladder, Study
from model.data.source import Zipf
from model.training.config import EvalConfig

STUDY = Study(
    name="zipf_truth",
    question="Which irreducible loss do the fits find where the true entropy is known?",
    budgets=(1e10, 3e10, 1e11, 3e11, 1e12),
    sizes=Ladder(d_models=(8, 16, 24, 32, 48, 64, 96), tokens_per_param=(1.0, 400.0)),
    seeds=((0, 1, 2), (0, 1, 2), (0, 1, 2), (0, 1, 2), (0, 1)),
    data=Zipf(alpha=0.8, epsilon=0.25, base=16, n_digits=2, n_answers=3, language_seed=0),
    seq_len=126,
    evaluation=EvalConfig(n_tokens=126 * 2048, curve_tokens=126 * 64, n_points=4, seed=0),
    max_epochs=1.0,
    flops="matmul_full",
    recipe=TINY_BYTES,
)
