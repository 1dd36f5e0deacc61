# SPDX-License-Identifier: Apache-2.0
"""Planted laws and public tables whose points are chosen from, and the grids to compare with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from scaling.laws import Law, law_named, optimal_params
from scaling.published.isoflop_sets import isoflop_table
from scaling.runs import Runs

Array = np.ndarray

# The target lies at so many times the largest budget.
BEYOND = 10.0
UNIFORM_SIZES = 7
_BUDGETS = 10.0 ** np.arange(17.0, 21.01, 0.5)
_WIDTH, _SIZES, _SEEDS = 8.0, 9, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Where runs can be had.

    Fields:
      pool: the runs that can be chosen, losses without noise where a law is planted. sd: of the
        noise in log loss that training adds to them, 0 for a table.
      uniform: the grid to compare with, a run per row.
      truth: target -> its value; None for a table.
    """

    name: str
    pool: Runs
    sd: float
    uniform: tuple[Runs, ...]
    truth: dict[str, float] | None
    note: str

    @property
    def flops(self) -> float:
        return BEYOND * float(self.pool.flops.max())

    @property
    def full(self) -> float:
        """FLOPs of the uniform grid."""
        return float(np.median([grid.flops.sum() for grid in self.uniform]))

    def trained(self, runs: Runs, rng: np.random.Generator) -> Runs:
        """The runs with noise."""
        noise = self.sd * rng.standard_normal(len(runs))
        return replace(runs, loss_nats=runs.loss_nats * np.exp(noise))


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A law with its parameters, where they come from, and the noise."""

    name: str
    law: str
    parameters: tuple[float, ...]
    sd: float
    source: str


PLANTED = (
    Planted(
        name="Hoffmann", law="additive", parameters=(1.69, 406.4, 410.7, 0.34, 0.28), sd=0.01,
        source="Hoffmann et al. 2022, eq. 10",
    ),
    Planted(
        name="Hoffmann, quiet", law="additive", parameters=(1.69, 406.4, 410.7, 0.34, 0.28),
        sd=0.003, source="Hoffmann et al. 2022, eq. 10",
    ),
    Planted(
        name="Besiroglu", law="additive", parameters=(1.8172, 482.01, 2085.43, 0.3478, 0.3658),
        sd=0.01, source="Besiroglu et al. 2024, table 1",
    ),
    Planted(
        name="Marin", law="additive", parameters=(2.5598, 3.129e5, 8309.0, 0.6786, 0.4389),
        sd=0.005, source="arXiv:2603.22339, Nemotron",
    ),
    Planted(
        name="Misfitting", law="additive", parameters=(2.7007, 6.645e4, 1.68e6, 0.6427, 0.7083),
        sd=0.02, source="arXiv:2603.22339, Li et al. 2025",
    ),
    Planted(
        name="curved", law="curved", parameters=(1.7, 2300.0, 10000.0, 0.42, 0.43, 0.77), sd=0.01,
        source="the curved truth of bench-coverage, gamma = 0.77",
    ),
)  # fmt: skip
TABLES = ("chinchilla_epoch", "marin_nemotron", "marin_comma", "misfitting")
TABLE_SIZES = 5


def planted(one: Planted) -> Problem:
    """Half-decade budgets, nine sizes and three seeds to choose from; a run per decade and size."""
    law = law_named(one.law)
    return Problem(
        name=one.name,
        pool=_grid(law, one.parameters, _BUDGETS, _SIZES, _SEEDS),
        sd=one.sd,
        uniform=(_grid(law, one.parameters, _BUDGETS[::2], UNIFORM_SIZES, 1),),
        truth=_truth(law, one.parameters, BEYOND * float(_BUDGETS[-1])),
        note=f"{one.source}; sd {one.sd:g}",
    )


def _grid(law: Law, parameters: tuple[float, ...], budgets: Array, n: int, n_seeds: int) -> Runs:
    budget = np.repeat(budgets, n * n_seeds)
    steps = np.tile(np.repeat(np.geomspace(1 / _WIDTH, _WIDTH, n), n_seeds), len(budgets))
    N = optimal_params(np.array(parameters), budget) * steps
    loss = law.loss(parameters, N, budget / (6 * N))
    return Runs.from_columns(
        n_params=N, n_tokens=budget / (6 * N), loss_nats=loss, budget=budget, flops=budget
    )


def _truth(law: Law, parameters: tuple[float, ...], flops: float) -> dict[str, float]:
    n_params = float(optimal_params(np.array(parameters), flops))
    alpha, beta = parameters[3:5]
    return {
        "loss": float(law.loss(parameters, n_params, flops / (6 * n_params))),
        "n_params_opt": n_params,
        "exponent": beta / (alpha + beta),
    }


def table(folder: Path, name: str) -> Problem:
    """The runs of a table, and the grids of five sizes per budget that it holds."""
    runs = isoflop_table(folder, name, "qc")
    return Problem(
        name=name,
        pool=runs,
        sd=0.0,
        uniform=tuple(runs.select(rows) for rows in _phases(runs)),
        truth=None,
        note=f"{len(runs)} runs",
    )


def _phases(runs: Runs) -> Iterator[Array]:
    """Sizes evenly by rank, from every phase: one thinned grid alone is a matter of luck."""
    for phase in (0.0, 0.25, 0.5, 0.75):
        rows: list[int] = []
        for budget in runs.budgets:
            at = np.flatnonzero(runs.budget == budget)
            at = at[np.argsort(runs.n_params[at], kind="stable")]
            n = min(TABLE_SIZES, len(at))
            rows += at[((np.arange(n) + phase) * len(at) / n).astype(int)].tolist()
        yield np.array(sorted(rows))
