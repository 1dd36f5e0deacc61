# SPDX-License-Identifier: Apache-2.0
"""The loss over learning rate and batch size near its minimum, as a law with a floor per group.

    L = F_g + k(N, D) |C (u, v)|^2,   u, v = (exp(bend x) - 1) / bend

with x the logarithmic distances of lr and batch from their optima, C upper triangular, and k a
power law in N and D: surfaces of longer runs are flatter, and steeper towards high rates than
towards low ones. With one symmetric shape for all, the exponents of lr* come out wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from scaling.laws.law import Columns, Law, Parameter, amplitude, positive
from scaling.laws.rate_laws import bent
from scaling.tables.arrays import Array

NAMES = ("i", "p", "q", "j", "r")
CURVATURE = ("c11", "c12", "c22")
SHAPE = ("k_n", "k_d", "bend_lr", "bend_batch")
N_BEFORE_FLOORS = len(NAMES) + len(CURVATURE) + len(SHAPE)
_SHARES_NEAR = (0.001, 0.0025, 0.006)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grid:
    """Runs over learning rates and batch sizes: one row per run, [n].

    group: label of the run's (N, D) pair; n_params, n_tokens, lr, batch_tokens, loss_nats.
    """

    n_params: Float[Array, " n"]
    n_tokens: Float[Array, " n"]
    lr: Float[Array, " n"]
    batch_tokens: Float[Array, " n"]
    loss_nats: Float[Array, " n"]
    group: Int[Array, " n"]

    @classmethod
    def of(
        cls,
        *,
        n_params: ArrayLike,
        n_tokens: ArrayLike,
        lr: ArrayLike,
        batch_tokens: ArrayLike,
        loss_nats: ArrayLike,
    ) -> Grid:
        """The grid of these columns.

        Raises:
          ValueError: for lengths that differ, or values that are not positive and finite.
        """
        given = {"n_params": n_params, "n_tokens": n_tokens, "lr": lr,
                 "batch_tokens": batch_tokens, "loss_nats": loss_nats}  # fmt: skip
        columns = {name: np.atleast_1d(np.asarray(v, float)) for name, v in given.items()}
        if len({len(v) for v in columns.values()}) != 1:
            raise ValueError(
                f"columns differ in length: { {k: len(v) for k, v in columns.items()} }"
            )
        for name, values in columns.items():
            bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
            if len(bad):
                raise ValueError(
                    f"{name} must be positive and finite: {len(bad)} rows are not, the first is "
                    f"row {bad[0]} with {values[bad[0]]:g}; leave out runs that diverged"
                )
        pairs = np.stack([columns["n_params"], columns["n_tokens"]], axis=1)
        group = np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)
        return cls(**columns, group=group)

    @property
    def n_groups(self) -> int:
        return int(self.group.max()) + 1

    @property
    def excess(self) -> Float[Array, " n"]:
        """Loss over the lowest of its group, minus 1."""
        lowest = np.full(self.n_groups, np.inf)
        np.minimum.at(lowest, self.group, self.loss_nats)
        return self.loss_nats / lowest[self.group] - 1.0

    def select(self, rows: Array) -> Grid:
        """The runs of a mask; groups are numbered anew."""
        group = np.unique(self.group[rows], return_inverse=True)[1].reshape(-1)
        names = ("n_params", "n_tokens", "lr", "batch_tokens", "loss_nats")
        return Grid(**{name: getattr(self, name)[rows] for name in names}, group=group)


@lru_cache(maxsize=8)
def surface_law(n_groups: int) -> Law:
    """The surface with so many floors; one object per count, so that it compiles once."""

    def real(name: str, start: tuple[float, float]) -> Parameter:
        return Parameter(name=name, is_positive=False, lower=-60.0, upper=60.0, start=start)

    def value(xp: Any, p: Any, x: Any) -> Any:
        (i, slope_n, slope_d, j, r), (c11, c12, c22) = p[:5], p[5:8]
        (of_n, of_d, bend_u, bend_v), floors = p[8:12], p[N_BEFORE_FLOORS:]
        log_n, log_d = x["log_n_params"], x["log_n_tokens"]
        u = bent(xp, x["log_lr"] - (i + slope_n * log_n + slope_d * log_d), bend_u)
        v = bent(xp, x["log_batch"] - (j + r * log_d), bend_v)
        floor = sum(floors[g] * x["group"][..., g] for g in range(n_groups))
        stiffness = xp.exp(of_n * log_n + of_d * log_d)
        return floor + stiffness * ((c11 * u + c12 * v) ** 2 + (c22 * v) ** 2)

    return Law(
        name=f"hyperparameters_{n_groups}",
        formula="L = F_g + k |C (u, v)|^2, u = bent(ln lr - i - p ln N - q ln D), "
        "v = bent(ln batch - j - r ln D), k = exp(k_n ln N + k_d ln D)",
        source="Li et al. 2025, eq. 1, for the optimum; the quadratic surface is ours",
        columns=("log_lr", "log_batch", "log_n_params", "log_n_tokens", "group"),
        parameters=(
            real("i", (-9.0, -4.0)),
            real("p", (-1.5, 0.5)),
            real("q", (-0.5, 1.0)),
            real("j", (10.0, 16.0)),
            real("r", (0.0, 1.0)),
            positive("c11", (0.02, 1.0), 1e-6, 1e3),
            Parameter(name="c12", is_positive=False, lower=-1e3, upper=1e3, start=(-0.1, 0.1)),
            positive("c22", (0.02, 1.0), 1e-6, 1e3),
            *(real(name, (-0.5, 0.5)) for name in SHAPE),
            *(amplitude(f"F{g}", lower=1e-6) for g in range(n_groups)),
        ),
        value=value,
        starts=_starts,
    )


def _starts(x: Columns, y: Array) -> Array:
    """Lines through cells near each floor, with several curvatures about them."""
    group = np.argmax(x["group"], axis=1)
    floors = np.full(x["group"].shape[1], np.inf)
    np.minimum.at(floors, group, y)
    excess = y / floors[group] - 1.0
    ones = np.ones(len(y))
    of_lr = np.stack([ones, x["log_n_params"], x["log_n_tokens"]], axis=1)
    of_batch = np.stack([ones, x["log_n_tokens"]], axis=1)
    rows = []
    for share in _SHARES_NEAR:
        near = excess <= share
        line = np.linalg.lstsq(of_lr[near], x["log_lr"][near])[0]
        other = np.linalg.lstsq(of_batch[near], x["log_batch"][near])[0]
        u, v = x["log_lr"] - of_lr @ line, x["log_batch"] - of_batch @ other
        size = np.sqrt(np.mean(y - floors[group]) / np.mean(u**2 + v**2)) + 1e-6
        for factor, cross in ((1.0, 0.0), (1.0, -0.7), (2.0, 0.0), (0.5, 0.5)):
            scale = factor * size
            rows.append([*line, *other, scale, cross * scale, scale, 0.0, 0.0, 0.0, 0.0, *floors])
    return np.array(rows)


def surface_columns(grid: Grid, centre: Float[Array, " 2"]) -> dict[str, Array]:
    return {
        "log_lr": np.log(grid.lr),
        "log_batch": np.log(grid.batch_tokens),
        "log_n_params": np.log(grid.n_params) - centre[0],
        "log_n_tokens": np.log(grid.n_tokens) - centre[1],
        "group": (grid.group[:, None] == np.arange(grid.n_groups)).astype(float),
    }
