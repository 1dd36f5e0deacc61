# SPDX-License-Identifier: Apache-2.0
"""What is attention worth to a recurrent decoder, as sources get longer?

Question: at one budget and one width, from 4 to 32 words of source, what does a target cost with
the additive attention of Bahdanau et al. 2014 (arXiv:1409.0473), and what where the decoder knows
the last state of the encoder alone? Their conjecture: one vector is a bottleneck, the more so the
longer the source (sec. 1). Targets follow from their sources word for word: the best loss is 0.
The answer has the mean loss at each length; figures/settings.png draws it, a line per decoder.

``seq_len`` is a window: a separator, S words, "go", S words. Parameters differ by the attention
alone, 4 %. Rates are those of `dense-muon`, which were tuned on next bytes with attention.

Command: ``isoflop run translation``.
"""

from dataclasses import replace

from experiments.recipes.dense import DENSE_MUON
from experiments.study.recipe import EncoderRule, Recipe
from experiments.study.study import Axis, Ladder, Study
from model.data.source import Pairs
from model.network.counts.attending_gru import AttendingGRURule
from model.network.counts.gru import GRURule
from model.training.config import EvalConfig

(BLOCK,) = DENSE_MUON.shape.blocks
FROM_BOTH_ENDS = replace(
    BLOCK,
    mixer=GRURule(state_ratio=1.0, state_multiple=8, use_gate_bias=True, is_bidirectional=True),
)


def _translating(name: str, attention_ratio: float | None) -> Recipe:
    """One block of GRUs from both ends, and one GRU that reads what they made."""
    decoder = AttendingGRURule(
        state_ratio=1.0, state_multiple=8, use_gate_bias=True, attention_ratio=attention_ratio
    )
    return DENSE_MUON.with_(
        name=name,
        objective="translation",
        shape__min_layers=1,
        shape__max_layers=1,
        shape__blocks=(replace(BLOCK, mixer=decoder),),
        shape__encoder=EncoderRule(source_share=0.5, blocks=(FROM_BOTH_ENDS,)),
    )


ATTENDING = _translating("attention", 1.0)
LAST_STATE = _translating("last-state", None)

STUDY = Study(
    name="translation",
    question="What does attention save, at 1e11 FLOPs, as sources grow from 4 to 32 words?",
    budgets=(1e11,),
    sizes=Ladder(d_models=(32,), tokens_per_param=(0.1, 1000.0)),
    seeds=(0, 1),
    data=Pairs(task="translation", n_words=32, language_seed=0),
    seq_len=18,
    evaluation=EvalConfig(n_tokens=33000, curve_tokens=6600, n_points=3, seed=0),
    max_epochs=1.0,
    flops="matmul_full",
    recipe=ATTENDING,
    axes=(
        Axis(field="recipe", values=(ATTENDING, LAST_STATE)),
        Axis(field="seq_len", values=(10, 18, 34, 66)),
    ),
)
