# SPDX-License-Identifier: Apache-2.0
"""Which widths a study trains at a budget, and which of its ladder it leaves out. No JAX."""

import math
from dataclasses import dataclass

from experiments.plan.from_recipe import Refused, flops_of_a_token
from experiments.plan.resolve import network
from experiments.plan.settings import data_of
from experiments.study.study import Ladder, Study
from model.data.manifest import Manifest
from model.network.counts.total import count_params
from scaling.tables.units import power

MAX_WIDTH = 2**16  # Several times the widest network that is known; a search must end.


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """A width that is not trained at a budget, and why."""

    budget: float
    d_model: int
    reason: str


def widths(study: Study, manifest: Manifest, budget: float) -> tuple[list[int], list[Refusal]]:
    """The widths of a budget, ascending, and those of the ladder that are out of its range."""
    low, high = study.sizes.tokens_per_param
    if isinstance(study.sizes, Ladder):
        ratios = {d: _tokens_per_param(study, manifest, budget, d) for d in study.sizes.d_models}
        outside = {
            d: f"fewer than {low:g}" if ratio < low else f"more than {high:g}"
            for d, ratio in ratios.items()
            if not low <= ratio <= high
        }
        reasons = {
            d: f"{ends} token{'s' * (not ends.endswith(' 1'))} per parameter."
            for d, ends in outside.items()
        }
        return [d for d in ratios if d not in outside], [
            Refusal(budget=budget, d_model=d, reason=reason) for d, reason in reasons.items()
        ]
    steps = study.sizes.n_sizes - 1
    targets = [high * (low / high) ** (i / steps) for i in range(steps + 1)]
    widths = sorted({width_for(study, manifest, budget, target) for target in targets})
    if len(widths) < len(targets):
        raise ValueError(
            f"budget {power(budget)}: {len(targets)} sizes over {low:g}...{high:g} tokens per "
            f"parameter fall on only {len(widths)} widths (multiples of "
            f"{study.recipe.shape.width_multiple}). Ask for fewer sizes or a wider range."
        )
    return widths, []


def width_for(study: Study, manifest: Manifest, budget: float, tokens_per_param: float) -> int:
    """The width whose ratio of tokens to parameters at this budget is nearest, in logarithm.

    Raises:
      ValueError: if it is beyond MAX_WIDTH.
    """

    def ratio(d_model: int) -> float:
        try:
            return _tokens_per_param(study, manifest, budget, d_model)
        except Refused:
            return math.inf

    multiple = study.recipe.shape.width_multiple
    top = multiple
    while ratio(top) > tokens_per_param:
        if top > MAX_WIDTH:
            raise ValueError(
                f"budget {power(budget)}: {tokens_per_param:.3g} tokens per parameter need a "
                f"network wider than {MAX_WIDTH}. Lower the budget, or ask for more tokens "
                "per parameter."
            )
        top *= 2
    return min(
        range(multiple, top + 1, multiple),
        key=lambda d_model: abs(math.log(ratio(d_model) / tokens_per_param)),
    )


def _tokens_per_param(study: Study, manifest: Manifest, budget: float, d_model: int) -> float:
    model = network(study, data_of(study, manifest), d_model)
    per_token = flops_of_a_token(study.recipe, model, study.flops)
    return budget / per_token / count_params(model).total
