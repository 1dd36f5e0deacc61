# SPDX-License-Identifier: Apache-2.0
"""How many pairs does a state of fixed size hold? Associative recall, attention beside DeltaNets.

Question: of P pairs of a key and its value the values of six are asked again: the nats that an
answer costs against P, of attention, which keeps all pairs, alone and behind a DeltaNet whose short
convolution joins a key and its value, and of DeltaNets whose states have 8, 16 and 64 rows in all.
A matrix of so many rows holds as many keys whose values do not mix (Schlag et al. 2021,
arXiv:2102.11174, sec. 4.1), so where P is larger, answers of 1 - rows / P of the keys should cost
ln V. That is predicted of linear memories and no bound: the numbers of a state have more bits than
the values of all pairs.

It leaves out: longer training, other widths, and rates for each. At this compute P = 4 alone is
learned, and not by attention alone (results/benchmarks/recall.md): the question stays open.
Records of all P fill windows of 315 tokens, 5 of 63 to 15 of 21.

Command: ``isoflop run recall``; ``make bench-recall`` draws the answers and what was predicted.
"""

from dataclasses import replace

from experiments.recipes.families import FAMILIES
from experiments.study.recipe import BatchRule, Recipe
from experiments.study.study import Axis, Ladder, Study
from model.data.source import Recall
from model.training.config import EvalConfig

BATCH = BatchRule(reference_tokens=2520.0, reference_run=8e5, exponent=0.0, multiple=1)


def _delta_net(key_ratio: float) -> Recipe:
    """Rows of the states: two layers of two heads of 16 key_ratio."""
    recipe = FAMILIES["delta-net"].with_(
        name=f"delta-net, {64 * key_ratio:g} rows",
        shape__blocks__0__mixer__key_ratio=key_ratio,
    )
    return replace(recipe, batch=BATCH)


STUDY = Study(
    name="recall",
    question="How many pairs do states of 8 to 64 rows recall, and attention, at 4e11 FLOPs?",
    budgets=(4e11,),
    sizes=Ladder(d_models=(32,), tokens_per_param=(0.1, 1e4)),
    seeds=(0,),
    data=Recall(n_keys=26, n_values=8, n_pairs=4, n_queries=6),
    seq_len=315,
    evaluation=EvalConfig(n_tokens=315 * 256, curve_tokens=315 * 64, n_points=3, seed=0),
    max_epochs=1.0,
    flops="matmul_full",
    recipe=replace(FAMILIES["transformer"], batch=BATCH),
    axes=(
        Axis(field="data.n_pairs", values=(4, 11, 16, 25)),
        Axis(
            field="recipe",
            values=(
                replace(FAMILIES["transformer"], batch=BATCH),
                replace(FAMILIES["hybrid"], batch=BATCH),
                *map(_delta_net, (0.125, 0.25, 1.0)),
            ),
        ),
    ),
)
