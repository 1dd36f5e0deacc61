# SPDX-License-Identifier: Apache-2.0
"""What every estimator returns: parameters, intervals, a status, and sentences."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

import scaling
from scaling.intervals import UNKNOWN, Band, Interval
from scaling.json_values import encode, floats, interval, number, plain, runs_of
from scaling.tables.arrays import Array
from scaling.tables.dataframe import dataframe
from scaling.tables.runs import Runs
from scaling.tables.short_repr import ShortRepr, aligned

SCHEMA_VERSION = 2
EXPONENTS = ("exponent_a", "exponent_b")
"""What a fit calls the exponents of N* ~ C^a and D* ~ C^b beside the parameters of its law."""


class FitError(Exception):
    """No usable estimate exists for these data; the message says why and what would help."""


class FitStatus(Enum):
    """How a fit ended; anything but CONVERGED is shown in every table and figure."""

    CONVERGED = "converged to a certified minimum"
    MAX_ITER = "the solver stopped above the minimum"
    AT_BOUND = "a parameter lies at a bound of its range"
    NOT_CONVEX = "the objective is not convex at the solution: no isolated minimum"
    TOO_FEW_POINTS = "fewer points than parameters + 2: no room to see a misfit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """Evidence that a solution is the minimum of its objective.

    Coordinates are those the solver moves: logarithms of positive parameters, the others as they
    are. condition: of the Hessian scaled to a unit diagonal, so that units do not enter.
    next_best_excess: relative excess of the next local minimum met, None when there was none.
    at_bound: names of the parameters at a bound; bounds_touched: sentences on those without which
    the law is none.
    newton_decrement: what one more Newton step is predicted to gain.
    """

    objective: float
    gradient_norm: float
    newton_decrement: float
    hessian_eigenvalues: tuple[float, ...]
    condition: float | None
    n_starts: int
    n_starts_agree: int
    next_best_excess: float | None
    bounds_touched: tuple[str, ...] = ()
    at_bound: tuple[str, ...] = ()
    flat_directions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Scatter about the law, in log loss unless the name says nats.

    run_sd_nats: sd between repeats of one (N, D), None without repeats. run_sd: the same in log
    loss. misfit_sd: scatter of configurations beyond it (lack of fit). dof: degrees of freedom.
    """

    run_sd_nats: float | None
    run_sd: float
    misfit_sd: float
    dof: int

    @property
    def one_run_sd(self) -> float:
        """Sd of one new run at a new configuration about the law, in log loss."""
        return math.hypot(self.run_sd, self.misfit_sd)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """How the replicates were drawn; failed ones found no optimum or no certified minimum.

    n_starts: per replicate, at most. n_single: replicates with several starts whose lowest minimum
      one of them met.
    """

    method: str
    level: float
    n_replicates: int
    n_failed: int
    seed: int
    n_starts: int = 1
    n_single: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimum:
    """The optimum found at one budget, before any power law.

    curve: what `isoflop_curves.value_at` draws; empty for envelopes. own_curve: a parabola beside
    it. reason: why the budget is left out of the power laws; empty when it is used.
    note: what to know of its intervals, e.g. that they are open beyond the grid.
    is_annealed: whether it comes from the end of a run, when its learning rate had decayed.
    """

    budget: float
    flops: float
    n_params_opt: float
    n_tokens_opt: float
    loss_opt: float
    interval_n_params: Interval
    interval_n_tokens: Interval
    curve: tuple[float, ...] = ()
    reason: str = ""
    interval_loss: Interval = UNKNOWN
    note: str = ""
    own_curve: tuple[float, ...] = ()
    is_annealed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Fit(ShortRepr):
    """A fitted law with its uncertainty and its history.

    Fields:
      approach: "envelope", "isoflop" or "surface"; law: "power_laws", "additive", "curved".
      parameters, intervals: by name; intervals also holds EXPONENTS.
      exponent_a, exponent_b: N* ~ C^a, D* ~ C^b over the range of the budgets.
      runs: all rows given; left_out: run_id -> why it was not used.
      optima: per budget (envelope: per FLOP value); empty for surfaces.
      replicates: name -> [R], NaN where a replicate failed; joint draws, so that a frontier and
        a forecast get bands of their own.
      settings: choices of the estimator that move the result.
    """

    approach: str
    law: str
    parameters: Mapping[str, float]
    intervals: Mapping[str, Interval]
    exponent_a: float
    exponent_b: float
    status: FitStatus
    certificate: Certificate | None
    findings: tuple[str, ...]
    runs: Runs
    left_out: Mapping[str, str]
    optima: tuple[Optimum, ...]
    noise: Noise | None
    bootstrap: Bootstrap
    replicates: Mapping[str, Float[Array, " R"]]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def exponents(self) -> dict[str, float]:
        """exponent_a and exponent_b, by the names that intervals and replicates have for them."""
        return dict(zip(EXPONENTS, (self.exponent_a, self.exponent_b), strict=True))

    @property
    def name(self) -> str:
        """Short name for legends and tables."""
        return self.approach if self.law == "power_laws" else f"{self.approach} ({self.law})"

    @property
    def used(self) -> Bool[Array, " n"]:
        """Mask of the runs that were fitted."""
        return np.array([run_id not in self.left_out for run_id in self.runs.run_id])

    @property
    def fitted_runs(self) -> Runs:
        return self.runs.select(self.used)

    @property
    def level(self) -> float:
        return self.bootstrap.level

    @property
    def is_certified(self) -> bool:
        return self.status is FitStatus.CONVERGED

    @property
    def tells_loss(self) -> bool:
        """Whether it is certified, with an irreducible loss that is not at its bound, zero."""
        return self.is_certified and not (self.certificate and self.certificate.at_bound)

    def _told(self) -> list[str]:
        """Status, law, parameters and exponents with intervals, and where the rest is."""
        status = "certified" if self.is_certified else f"not certified: {self.status.value}"
        n_used, formula = int(self.used.sum()), self.settings.get("formula", "")
        n_found = len(self.findings)
        exponents = dict(zip(("a, N* ~ C^a", "b, D* ~ C^b"), self.exponents.items(), strict=True))
        of = {name: (name, value) for name, value in self.parameters.items()} | exponents
        rows = [
            (f"  {label}", f"{value:.4g}", f"({self.intervals.get(name, 'given')})")
            for label, (name, value) in of.items()
            if math.isfinite(value)
        ]
        return [
            f"{self.name}: {status}; {n_used} of {len(self.runs)} runs",
            *([formula] if formula else []),
            *aligned(rows),
            f"{100 * self.level:g} % intervals; {n_found} finding{'s' * (n_found != 1)}",
        ]

    def predict(self, n_params: ArrayLike, n_tokens: ArrayLike) -> Band:
        """Losses of new runs, [B], in nats per token, as `loss_forecast.predict_loss` gives them.

        Args:
          n_params, n_tokens: of the runs, [B] or one number for all.

        Raises:
          ValueError: if the fit is not a surface, or a count is not positive and finite.
        """
        pairs = np.stack(np.broadcast_arrays(np.atleast_1d(n_params), n_tokens), axis=1)
        found = [scaling.predict_loss(self, float(n), float(d)) for n, d in pairs]
        return Band.side_by_side(found)

    def optimum(self, flops: ArrayLike) -> Any:
        """The `Frontier` at budgets [B]: N*, D* and L* with intervals."""
        return scaling.frontier(self, flops)

    def plot(self) -> Any:
        """A matplotlib figure of the runs and the law with its band."""
        return scaling.figure_fit(self)

    def to_dataframe(self) -> Any:
        """Parameters and exponents with the ends of their intervals, as a pandas DataFrame.

        Raises:
          ImportError: where pandas is not installed.
        """
        values = {**self.parameters, **{name: getattr(self, name) for name in EXPONENTS}}
        ends = [self.intervals.get(name, UNKNOWN) for name in values]
        return dataframe(
            {
                "name": list(values),
                "value": list(values.values()),
                "lower": [one.lower for one in ends],
                "upper": [one.upper for one in ends],
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; NaN and infinities become null."""
        body = {f.name: encode(getattr(self, f.name)) for f in fields(self)}
        conventions = {
            "params_convention": self.runs.params_convention,
            "flops_convention": self.runs.flops_convention,
        }
        return {"schema_version": SCHEMA_VERSION, **conventions, **body}

    def to_json(self) -> str:
        """One JSON object, complete: `Fit.from_json` gives back an equal fit."""
        return json.dumps(self.to_dict(), allow_nan=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Fit:
        """A fit from what `to_json` wrote.

        Raises:
          ValueError: if the schema is another one.
        """
        body = json.loads(text)
        if (version := body.get("schema_version", SCHEMA_VERSION)) != SCHEMA_VERSION:
            raise ValueError(
                f"fit has schema_version {version!r}, this version reads {SCHEMA_VERSION}; fit the "
                "table again"
            )
        body = {f.name: body[f.name] for f in fields(cls)}
        noise, certificate = body["noise"], body["certificate"]
        decoded = {
            "intervals": {k: interval(v) for k, v in body["intervals"].items()},
            "status": FitStatus[body["status"]],
            "certificate": plain(Certificate, certificate) if certificate else None,
            "findings": tuple(body["findings"]),
            "runs": runs_of(body["runs"]),
            "optima": tuple(_optimum(x) for x in body["optima"]),
            "noise": plain(Noise, noise) if noise else None,
            "bootstrap": plain(Bootstrap, body["bootstrap"]),
            "replicates": {k: floats(v) for k, v in body["replicates"].items()},
        }
        return cls(**{**body, **decoded})


def _optimum(body: Mapping[str, Any]) -> Optimum:
    intervals = {k: interval(v) for k, v in body.items() if k.startswith("interval_")}
    numbers = {k: number(v) for k, v in body.items() if isinstance(v, float | int | None)}
    curves = {k: tuple(number(x) for x in v) for k, v in body.items() if k.endswith("curve")}
    return Optimum(**{**body, **numbers, **intervals, **curves})
