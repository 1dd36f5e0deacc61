# SPDX-License-Identifier: Apache-2.0
"""Forecasts beyond the grid, each written down before the run that it speaks of is trained."""

import msgspec

from experiments.files import checked_json
from experiments.ledger.ledger import Ledger
from experiments.ledger.result import Record, read_record
from experiments.plan.point import Point

_WAY_OUT = "Delete it and run the study again."


class Predicted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A forecast loss in nats with its interval; None where an end is unknown."""

    value: float
    lower: float | None
    upper: float | None


class Forecast(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was forecast.

    Attributes:
      budget: training FLOPs.
      level: of the intervals.
      n_params_opt, n_tokens_opt: the fitted optimum at the budget.
      n_runs_fitted: by the surface that the optimum is of.
      forecasts: by surface, and of their average; the first is the one to judge.
      point: the run that it speaks of.
    """

    budget: float
    level: float
    n_params_opt: float
    n_tokens_opt: float
    n_runs_fitted: int
    forecasts: dict[str, Predicted]
    point: Point


def write_forecast(ledger: Ledger, key: str, forecast: Forecast) -> None:
    """Creates the file; one that is there stays as it is."""
    ledger.storage.create(name_of(forecast.budget, key), checked_json.encode(forecast))


def read_forecast(ledger: Ledger, budget: float, key: str) -> Forecast | None:
    """The forecast made at a budget, or None; raises Damaged."""
    return read_record(ledger.storage, name_of(budget, key), Forecast, way_out=_WAY_OUT)


def read_forecasts(ledger: Ledger) -> list[Forecast]:
    """Every forecast made, by budget; raises Damaged."""
    keys = [f"forecasts/{name}" for name in ledger.storage.names("forecasts")]
    records = [read_record(ledger.storage, key, Forecast, way_out=_WAY_OUT) for key in keys]
    return sorted((r for r in records if r is not None), key=lambda r: r.budget)


def name_of(budget: float, key: str) -> str:
    """The file of a forecast; ``key`` is what it is about besides its budget."""
    return f"forecasts/{budget:.6e}-{key}.json"
