# SPDX-License-Identifier: Apache-2.0
"""What a learning-rate sweep trains: a study of its own, NAME-lr-check."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from experiments.plan.plan import plan
from experiments.plan.point import Point
from experiments.plan.resolve import flops_at, resolve_tokens
from experiments.plan.settings import with_setting
from experiments.study.study import Axis, Ladder, Study
from model.data.manifest import Manifest
from model.field_checks import HUGE, TINY, shown

FIELD = "recipe.optimizer.learning_rate"
RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
FEWEST_RATES = 5
# Places in the logarithmic range of the study's own widths, and of its budgets.
_WIDTHS_AT = (1 / 6, 1 / 2, 5 / 6)
_BUDGETS_AT = (0.0, 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """What is trained: every rate and seed at every width and run length.

    Attributes:
      widths: d_model. n_tokens: run lengths. rates: factors on the recipe's own rate.
    """

    widths: tuple[int, ...]
    n_tokens: tuple[float, ...]
    rates: tuple[float, ...]
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        if 1.0 not in self.rates or len(self.rates) < FEWEST_RATES:
            raise ValueError(
                f"--rates {shown(','.join(f'{rate:g}' for rate in self.rates))}: at least "
                f"{FEWEST_RATES} factors are needed, and 1, the recipe's own rate, among them."
            )


def sweep_within(
    study: Study,
    manifest: Manifest,
    *,
    widths: tuple[int, ...] | None,
    n_tokens: tuple[float, ...] | None,
    rates: tuple[float, ...],
    seeds: tuple[int, ...],
) -> Sweep:
    """A sweep; what is left open costs no more than the study's own runs.

    Raises:
      ValueError: if the rates are too few, or the recipe's own is not among them.
    """
    widths = widths or _widths(study, manifest)
    return Sweep(
        widths=widths,
        n_tokens=n_tokens or _lengths(study, manifest, widths[-1]),
        rates=rates,
        seeds=seeds,
    )


def _widths(study: Study, manifest: Manifest) -> tuple[int, ...]:
    known = sorted({point.spec.model.d_model for point in plan(study, manifest).points})
    wanted = (known[0] * (known[-1] / known[0]) ** place for place in _WIDTHS_AT)
    return tuple(sorted({min(known, key=lambda d: abs(math.log(d / w))) for w in wanted}))


def _lengths(study: Study, manifest: Manifest, d_model: int) -> tuple[float, ...]:
    """Tokens that a width gets within the study's budgets, to two digits."""
    low, high = study.budgets[0], study.budgets[-1]
    per_token = flops_at(study, manifest, d_model)
    budgets = (low * (high / low) ** place for place in _BUDGETS_AT)
    return tuple(sorted({float(f"{budget / per_token:.1e}") for budget in budgets}))


def sweep_points(study: Study, manifest: Manifest, sweep: Sweep) -> list[Point]:
    """The points of a sweep, by tokens, width, rate and seed.

    Raises:
      ValueError: if the recipe cannot train one of them.
    """
    own = study.recipe.optimizer.learning_rate
    return [
        resolve_tokens(
            with_setting(study, {FIELD: rate * own}),
            manifest,
            n_tokens=n_tokens,
            d_model=d_model,
            seed=seed,
            axes={FIELD: rate * own},
        )
        for n_tokens in sweep.n_tokens
        for d_model in sweep.widths
        for rate in sweep.rates
        for seed in sweep.seeds
    ]


def sweep_name(study: Study) -> str:
    return f"{study.name}-lr-check"


def sweep_study(study: Study, sweep: Sweep, points: Sequence[Point]) -> Study:
    """The study that the points are recorded under.

    It would ask for every width at every budget; the plan holds those of equal tokens only.
    """
    own = study.recipe.optimizer.learning_rate
    return dataclasses.replace(
        study,
        name=sweep_name(study),
        question=f"How far is the rate of recipe {study.recipe.name} from the best?",
        budgets=tuple(sorted({point.budget for point in points})),
        sizes=Ladder(d_models=sweep.widths, tokens_per_param=(TINY, HUGE)),
        seeds=sweep.seeds,
        axes=(Axis(field=FIELD, values=tuple(rate * own for rate in sweep.rates)),),
        forecast_budgets=(),
    )
