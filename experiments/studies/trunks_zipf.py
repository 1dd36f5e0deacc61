# SPDX-License-Identifier: Apache-2.0
"""The study `trunks` on a language of known entropy (model/data/synthetic/) instead of text."""

from dataclasses import replace

from experiments.studies.trunks import STUDY as TEXT
from experiments.study.study import Ladder
from model.data.source import Zipf
from model.training.config import EvalConfig

STUDY = replace(
    TEXT,
    name="trunks_zipf",
    question="Do trunks and runs trained alone find one law where the true entropy is known?",
    sizes=Ladder(d_models=(16, 20, 24, 32, 40, 48, 64), tokens_per_param=(2.0, 160.0)),
    data=Zipf(alpha=0.8, epsilon=0.25, base=16, n_digits=2, n_answers=3, language_seed=0),
    seq_len=126,
    evaluation=EvalConfig(n_tokens=126 * 512, curve_tokens=126 * 64, n_points=3, seed=0),
)
