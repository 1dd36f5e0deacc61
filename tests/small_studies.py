# SPDX-License-Identifier: Apache-2.0
"""Study files of planted languages, as users write them: some fields changed, given as Python."""

_TINY = """
from dataclasses import replace
from experiments.recipes.tiny_bytes import TINY_BYTES
from experiments.study.recipe import BatchRule
from experiments.study.study import Ladder, Study
from model.data.source import Zipf
from model.training.config import EvalConfig
batch = BatchRule(reference_tokens=256.0, reference_run=1e4, exponent=0.0, multiple=1)
STUDY = Study(
    name="tiny", question="Does it go on?", budgets=(3e9,),
    sizes=Ladder(d_models=(8, 16), tokens_per_param=(0.1, 1e4)), seeds=(0, 1),
    data=Zipf(alpha=0.5, epsilon=0.1, base=8, n_digits=2, n_answers=1, language_seed=0),
    seq_len=16, evaluation=EvalConfig(n_tokens=512, curve_tokens=256, n_points=3, seed=0),
    max_epochs=1.0, flops="matmul_full", recipe=replace(TINY_BYTES, batch=batch),
)
"""
_MINE = """
from dataclasses import replace
from experiments.recipes.tiny_bytes import TINY_BYTES
from experiments.studies.quickstart import STUDY
from experiments.study.study import Ladder
from model.data.source import TextFiles, Zipf
from model.training.config import EvalConfig
zipf = Zipf(alpha=0.5, epsilon=0.1, base=8, n_digits=2, n_answers=1, language_seed=0)
STUDY = replace(
    STUDY, name="mine", recipe=TINY_BYTES, budgets=(3e8,), seeds=(0,),
    data=zipf, seq_len=16, forecast_budgets=(),
    sizes=Ladder(d_models=(8, 16), tokens_per_param=(0.1, 1e4)),
    evaluation=EvalConfig(n_tokens=512, curve_tokens=256, n_points=2, seed=0),
)
"""


def tiny(changes: str = "") -> str:
    """Trains in seconds: one budget, two widths, two seeds."""
    return f"{_TINY}STUDY = replace(STUDY, {changes})\n"


def mine(changes: str = "") -> str:
    """A small recipe on one budget, two widths, one seed."""
    return f"{_MINE}STUDY = replace(STUDY, {changes})\n"
