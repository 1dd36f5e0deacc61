# SPDX-License-Identifier: Apache-2.0
"""Forecasts beyond the grid, each written down before the run that it speaks of is trained."""

from typing import Literal

import msgspec

from experiments.files import checked_json
from experiments.ledger.ledger import Ledger
from experiments.ledger.result import Record, read_record
from experiments.plan.point import Point

_WAY_OUT = "Delete it and run the study again."
# Ends of the central intervals of 5, 10, ... 95 %, and the middle.
PROBABILITIES = tuple(n / 40 for n in range(1, 40))


class Predicted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A forecast loss in nats.

    Attributes:
      value: the forecast.
      lower, upper: its interval; None where an end is unknown.
      quantiles: at PROBABILITIES; () where they are unknown, and in files that are older than they.
      widened: what the distances of the draws from the forecast were multiplied by
        (`Conformal.birge_ratio` of scaling/answers/conformal.py).
    """

    value: float
    lower: float | None
    upper: float | None
    quantiles: tuple[float, ...] = ()
    widened: float = 1.0

    def by(self, law: str) -> str:
        """Who forecasts, in words, and how much wider than by its own replicates."""
        return law if self.widened < 1.05 else f"{law}, widened {self.widened:.1f} times"

    def verdict(self, loss: float) -> Literal["inside", "outside", "no interval"]:
        """Of the loss that came out."""
        if self.lower is None or self.upper is None:
            return "no interval"
        return "inside" if self.lower <= loss <= self.upper else "outside"


class Conformal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The interval that the budgets support without the bootstrap's word for its own width.

    Attributes:
      level: the highest that so many budgets support (scaling/answers/conformal.py).
      lower, upper: of the loss to judge, nats.
      n_budgets: that were left out, one after another.
    """

    level: float
    lower: float
    upper: float
    n_budgets: int


class Trajectory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole curve of the run, as it was forecast (scaling/answers/collapse.py).

    Attributes:
      level: of the band.
      share: of the run's tokens, ascending to 1.
      value, lower, upper: validation losses of the curve there, nats.
    """

    level: float
    share: tuple[float, ...]
    value: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]


class Forecast(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was forecast.

    Attributes:
      budget: training FLOPs.
      level: of the intervals.
      n_params_opt, n_tokens_opt: the fitted optimum at the budget.
      n_runs_fitted: by the surface that the optimum is of.
      forecasts: by surface, and of their average; the first is the one to judge.
      point: the run that it speaks of.
      conformal: beside the interval of the bootstrap; None where a fit without a budget has no
        answer.
      trajectory: of the loss to judge; None where too few runs have curves.
      made_at: Unix seconds; like what follows, missing in files that are older than the field.
      git_commit, git_dirty_sha256, version_isoflop: the code (experiments/machine/provenance.py).
      grid_budget: the largest of the grid that was fitted, FLOPs.
    """

    budget: float
    level: float
    n_params_opt: float
    n_tokens_opt: float
    n_runs_fitted: int
    forecasts: dict[str, Predicted]
    point: Point
    conformal: Conformal | None = None
    trajectory: Trajectory | None = None
    made_at: float | None = None
    git_commit: str = ""
    git_dirty_sha256: str = ""
    version_isoflop: str = ""
    grid_budget: float | None = None

    @property
    def judged(self) -> Predicted:
        """The one to judge."""
        return next(iter(self.forecasts.values()))


def write_forecast(ledger: Ledger, key: str, forecast: Forecast) -> None:
    """Creates the file; one that is there stays as it is."""
    ledger.storage.create(name_of(forecast.budget, key), checked_json.encode(forecast))


def read_forecast(ledger: Ledger, budget: float, key: str) -> Forecast | None:
    """The forecast made at a budget, or None; raises Damaged."""
    return read_forecast_at(ledger, name_of(budget, key))


def read_forecast_at(ledger: Ledger, name: str) -> Forecast | None:
    """The forecast in a file, or None; raises Damaged."""
    return read_record(ledger.storage, name, Forecast, way_out=_WAY_OUT)


def read_forecasts(ledger: Ledger) -> list[Forecast]:
    """Every forecast made, by budget; raises Damaged."""
    keys = [f"forecasts/{name}" for name in ledger.storage.names("forecasts")]
    records = [read_forecast_at(ledger, key) for key in keys]
    return sorted((r for r in records if r is not None), key=lambda r: r.budget)


def name_of(budget: float, key: str) -> str:
    """The file of a forecast; ``key`` is what it is about besides its budget."""
    return f"forecasts/{budget:.6e}-{key}.json"
