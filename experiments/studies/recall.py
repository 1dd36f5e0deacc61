# SPDX-License-Identifier: Apache-2.0
"""How many pairs does a state of fixed size hold? Associative recall, attention beside DeltaNets.

Question: of P pairs of a key and its value the values of eight are asked again: the nats that an
answer costs against P, of attention, which keeps all pairs, alone and behind a DeltaNet, and of
DeltaNets whose states have 16 to 1024 numbers in all. Predicted: a state of N numbers that sums the
pairs, each of them noise to all others, holds N / (2 ln 2) = 0.72 N bits (Palm 1992, Neural Comput.
4, 703), so P pairs of log2 V bits cost ln V - N / (2 P) nats an answer. A linear readout with the
best weights for these very pairs would tell 2 N bits apart (Cover 1965, IEEE Trans. Electron.
Comput. 14, 326; Gardner 1988, J. Phys. A 21, 257): more than that is not to be had.

Each network is trained on records of 3, 7, 13 and 23 pairs together, for few pairs teach what is
asked: 15 pairs alone are not learned at this width in 4e11 FLOPs. DeltaNets have no convolution
here, as a pair is one token.

It leaves out: other widths, and rates for each. Command: ``isoflop run recall``; ``make
bench-recall`` asks the networks for answers alone and draws them beside what was predicted.
"""

from dataclasses import replace

from experiments.recipes.families import FAMILIES
from experiments.study.recipe import BatchRule, Recipe
from experiments.study.study import Axis, Ladder, Study
from model.data.source import Mixture, Part, Recall
from model.training.config import EvalConfig

SEQ_LEN = 120  # Whole records of 20, 24, 30 and 40 tokens.
PAIRS = (3, 7, 13, 23)


def _recipe(family: str, **changes: object) -> Recipe:
    batch = BatchRule(reference_tokens=960.0, reference_run=8e5, exponent=0.0, multiple=1)
    return replace(FAMILIES[family].with_(**changes), batch=batch)


def _delta_net(d_key: int, d_value: int) -> Recipe:
    """Two layers of two heads, with a state of d_key times d_value each."""
    return _recipe(
        "delta-net",
        name=f"delta-net, {4 * d_key * d_value} numbers",
        shape__blocks__0__mixer__key_ratio=d_key / 16,
        shape__blocks__0__mixer__value_ratio=d_value / 16,
        shape__blocks__0__mixer__taps=1,
    )


STUDY = Study(
    name="recall",
    question="How many pairs do states of 16 to 1024 numbers recall, and attention?",
    budgets=(2e12,),
    sizes=Ladder(d_models=(32,), tokens_per_param=(1.0, 1e4)),
    seeds=(0, 1, 2),
    data=Mixture(
        parts=tuple(
            Part(
                name=f"{n_pairs}-pairs",
                source=Recall(n_keys=24, n_values=4, n_pairs=n_pairs, n_queries=8),
                weight=1.0,
            )
            for n_pairs in PAIRS
        )
    ),
    seq_len=SEQ_LEN,
    evaluation=EvalConfig(n_tokens=SEQ_LEN * 256, curve_tokens=SEQ_LEN * 64, n_points=6, seed=0),
    max_epochs=1.0,
    flops="matmul_full",
    recipe=_recipe("transformer"),
    keep="final",
    axes=(
        Axis(
            field="recipe",
            values=(
                _recipe("transformer"),
                _recipe("hybrid", shape__blocks__0__mixer__taps=1),
                *(_delta_net(*sizes) for sizes in ((2, 2), (2, 4), (2, 8), (16, 16))),
            ),
        ),
    ),
)
