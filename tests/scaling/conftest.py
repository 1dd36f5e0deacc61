# SPDX-License-Identifier: Apache-2.0
"""One table of planted problems, which every estimator runs over."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from scaling.laws.registry import law_named
from scaling.tables.runs import Runs

PUBLISHED = Path(__file__).parents[2] / "results" / "published"


@dataclass(frozen=True, kw_only=True)
class Planted:
    """A law and a grid: budgets in FLOPs, sizes per budget about the optimum, repeats each."""

    name: str
    law: str
    parameters: tuple[float, ...]
    budgets: tuple[float, ...]
    width: float = 8.0
    off_centre: float = 1.0
    n_sizes: int = 7
    n_seeds: int = 1
    # flops_per_token = 6 N (1 + overhead N^-1/2), so that C is not 6ND unless it is 0.
    overhead: float = 0.0

    def flops_per_token(self, n_params):
        return 6.0 * n_params * (1.0 + self.overhead / np.sqrt(n_params))

    def runs(self, *, sd: float = 0.0, seed: int = 0) -> Runs:
        """Runs of the grid, log loss plus normal noise of standard deviation sd."""
        rng = np.random.default_rng(seed)
        law = law_named(self.law)
        A, B, alpha, beta = self.parameters[1:5]
        G = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
        columns = {"budget": [], "n_params": [], "n_tokens": [], "loss_nats": [], "run_id": []}
        for budget in self.budgets:
            centre = self.off_centre * G * (budget / 6) ** (beta / (alpha + beta))
            for N in centre * np.geomspace(1 / self.width, self.width, self.n_sizes):
                D = budget / self.flops_per_token(N)
                loss = float(law.loss(self.parameters, N, D))
                for k in range(self.n_seeds):
                    noisy = loss * float(np.exp(sd * rng.standard_normal()))
                    row = (budget, N, D, noisy, f"c{budget:.3g}-n{N:.6g}-s{k}")
                    for values, value in zip(columns.values(), row, strict=True):
                        values.append(value)
        convention = "matmul_full" if self.overhead else "6n_total"
        return Runs.from_columns(**columns, flops=columns["budget"], flops_convention=convention)


FIVE = (1e17, 1e18, 1e19, 1e20, 1e21)
PLANTED = (
    Planted(
        name="symmetric", law="additive", parameters=(1.69, 400.0, 400.0, 0.31, 0.31), budgets=FIVE
    ),
    Planted(
        name="chinchilla", law="additive", parameters=(1.69, 406.4, 410.7, 0.34, 0.28), budgets=FIVE
    ),
    Planted(
        name="asymmetric",
        law="additive",
        parameters=(1.69, 406.4, 410.7, 0.465, 0.155),
        budgets=FIVE,
    ),
    Planted(
        name="off_centre",
        law="additive",
        parameters=(1.69, 400.0, 400.0, 0.31, 0.31),
        budgets=FIVE,
        off_centre=3.0,
    ),
    Planted(
        name="few_budgets",
        law="additive",
        parameters=(0.86, 66.0, 124.0, 0.50, 0.41),
        budgets=(1e11, 1e12),
        n_sizes=6,
        width=5.0,
    ),
    Planted(
        name="curved",
        law="curved",
        parameters=(1.7, 2300.0, 10000.0, 0.42, 0.43, 0.77),
        budgets=FIVE,
    ),
    Planted(
        name="quickstart",
        law="additive",
        parameters=(0.86, 66.0, 124.0, 0.50, 0.41),
        budgets=(1e11, 3e11, 1e12, 3e12),
        n_sizes=6,
        width=4.0,
        n_seeds=2,
        overhead=60.0,
    ),
)


@pytest.fixture(params=PLANTED, ids=lambda problem: problem.name)
def planted(request) -> Planted:
    return request.param


def problem(name: str) -> Planted:
    return next(p for p in PLANTED if p.name == name)


@pytest.fixture(scope="session")
def planted_named():
    return problem


@pytest.fixture(scope="session")
def published():
    return PUBLISHED
