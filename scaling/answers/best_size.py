# SPDX-License-Identifier: Apache-2.0
"""The best size at the one budget that was trained: no law is needed, and none can be fitted."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from scaling.approaches.isoflop.curves import Curve, fewest, fit_curve
from scaling.approaches.isoflop.intervals import (
    NOT_SEEN,
    Minimum,
    polynomial_minimum,
    scatters,
    why_not,
)
from scaling.fit import SCHEMA_VERSION, FitError, Optimum
from scaling.intervals import UNKNOWN, Estimated, Interval
from scaling.json_values import encode
from scaling.laws.size_ladder import Ladder
from scaling.shown import counted, loss_text
from scaling.tables.loss_curves import loss_curves
from scaling.tables.runs import Runs
from scaling.tables.short_repr import MOST_COLUMNS, ShortRepr
from scaling.tables.units import count, loss_words, power

CURVE = "parabola"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class BestSize(ShortRepr):
    """The best size at one budget.

    Fields:
      optimum: the minimum of the budget's parabola with intervals; with a reason in it, why there
        is none, and the size of the lowest mean loss without intervals.
      n_runs, n_sizes: that were tried. level: of the intervals, Student's t.
      runs: those it is of.
    """

    optimum: Optimum
    n_runs: int
    n_sizes: int
    level: float
    runs: Runs

    @property
    def optima(self) -> tuple[Optimum]:
        """As a `Fit` has them, for figures; ``settings`` likewise."""
        return (self.optimum,)

    @property
    def settings(self) -> Mapping[str, str]:
        return {"curve": CURVE}

    @property
    def is_minimum(self) -> bool:
        return not self.optimum.reason

    def sentence(self, unit: str = "token") -> str:
        """What to train, or the best that was tried and why it is no minimum; no exponent.

        Args:
          unit: of the loss and of what is counted as tokens: "byte" or "token".
        """
        one, at = self.optimum, f"At {power(self.optimum.budget)} FLOPs"
        per = loss_words(self.runs.loss_name, unit)
        n_params, n_tokens, loss = (
            Estimated(value=value, interval=interval)
            for value, interval in (
                (one.n_params_opt, one.interval_n_params),
                (one.n_tokens_opt, one.interval_n_tokens),
                (one.loss_opt, one.interval_loss),
            )
        )
        if self.is_minimum:
            return (
                f"{at} train {counted(n_params)} parameters on {counted(n_tokens)} {unit}s: "
                f"{loss_text(loss)} {per}, the minimum of a {CURVE} through "
                f"{self.n_runs} runs at {self.n_sizes} sizes{'; ' * bool(one.note)}{one.note}."
            )
        tried = f"best of {self.n_sizes} sizes" if self.n_sizes > 1 else "only size"
        return (
            f"{at} the {tried} tried has {count(n_params.value)} parameters, on "
            f"{count(n_tokens.value)} {unit}s: {loss.value:.4f} {per}. It is no minimum: "
            f"{one.reason}."
        )

    def _told(self) -> list[str]:
        return textwrap.wrap(self.sentence(), MOST_COLUMNS, break_on_hyphens=False)

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values without the runs; NaN becomes null."""
        names = ("optimum", "n_runs", "n_sizes", "level")
        told = {name: encode(getattr(self, name)) for name in names}
        return {"schema_version": SCHEMA_VERSION, "is_minimum": self.is_minimum, **told}


def is_one_budget(runs: Runs) -> bool:
    """Whether all runs that can be fitted are of one budget."""
    return len(np.unique(runs.budget[runs.is_ok])) == 1


def best_size(runs: Runs, *, level: float = 0.95) -> BestSize:
    """The minimum of the parabola through runs of one budget (Hoffmann et al. 2022, sec. 3.2).

    It is one where Approach 2 would use the budget: see `isoflop_intervals.why_not`.

    Raises:
      FitError: if the runs are of several budgets, or none is ok.
    """
    if not is_one_budget(runs):
        raise FitError("the best size is asked of runs of one budget; fit a law to several.")
    ok = runs.select(runs.is_ok)
    flops, ladder = float(np.exp(np.log(ok.flops).mean())), Ladder.from_runs(ok)
    curve, found, reason = _parabola(ok, level)
    if reason or curve is None:
        (means,) = loss_curves(ok, "n_params", ("budget",))
        n_params, loss = means.values[means.lowest], means.losses[means.lowest]
        found = replace(found, size=UNKNOWN, loss=UNKNOWN)
    else:
        n_params, loss = curve.size(curve.minimum), curve.loss(np.array(curve.minimum))
    sizes = np.array([n_params, found.size.upper, found.size.lower])
    n_tokens, fewest_tokens, most_tokens = ladder.n_tokens(flops, sizes).tolist()
    optimum = Optimum(
        budget=float(ok.budget[0]),
        flops=flops,
        n_params_opt=float(n_params),
        n_tokens_opt=n_tokens,
        loss_opt=float(loss),
        interval_n_params=found.size,
        interval_n_tokens=Interval(lower=fewest_tokens, upper=most_tokens),
        interval_loss=found.loss,
        curve=() if curve is None else curve.stored,
        reason=reason,
        note=found.sentence,
    )
    n_sizes = len(np.unique(ok.n_params))
    return BestSize(optimum=optimum, n_runs=len(ok), n_sizes=n_sizes, level=level, runs=runs)


def _parabola(ok: Runs, level: float) -> tuple[Curve | None, Minimum, str]:
    """The curve, intervals of its minimum, and why that is none; empty where it is one."""
    n_sizes = len(np.unique(ok.n_params))
    sizes_needed, runs_needed = fewest(CURVE, exact=False)
    if n_sizes < sizes_needed or len(ok) < runs_needed:
        return None, NOT_SEEN, (
            f"{len(ok)} run{'s' * (len(ok) > 1)} at {n_sizes} size{'s' * (n_sizes > 1)}, a "
            f"{CURVE} needs {runs_needed} runs at {sizes_needed} sizes"
        )  # fmt: skip
    curve = fit_curve(CURVE, ok.n_params, ok.loss_nats)
    (scatter,) = scatters([curve], [ok.loss_nats])
    found = polynomial_minimum(curve, scatter, level)
    return curve, found, why_not(curve, found, level, accept="resolved", what="parameters")
