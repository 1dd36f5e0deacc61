# SPDX-License-Identifier: Apache-2.0
"""The loss over learning rate, batch, parameters and tokens, as one law.

`hyperparameters/surface_law.py` gives every (N, D) a floor of its own, for laws of the best rate;
here the floor is a law, too, so that the loss of any setting follows.
"""

from typing import Any

import numpy as np

from scaling.laws.law import Columns, Law, Parameter, positive
from scaling.laws.loss_laws import CURVED
from scaling.laws.starts import starts
from scaling.tables.arrays import Array

# Sizes about which the optimum is written: intercepts far from the runs would be ill determined.
_LOG_N, _LOG_D = float(np.log(1e9)), float(np.log(1e10))
# Excess over the lowest loss of its (N, D) within which a cell tells where the optimum is.
_NEAR = 0.005


def bent(xp: Any, distance: Any, bend: Any) -> Any:
    """(exp(bend distance) - 1) / bend, which is the distance itself where there is no bend."""
    t = bend * distance
    is_small = xp.abs(t) < 1e-3
    safe = xp.where(is_small, 1.0, t)
    series = 1.0 + t / 2.0 * (1.0 + t / 3.0 * (1.0 + t / 4.0 * (1.0 + t / 5.0)))
    return distance * xp.where(is_small, series, xp.expm1(safe) / safe)


def _rates(xp: Any, p: Any, x: Any) -> Any:
    (i, slope_n, slope_d, j, s, r), (c11, c12, c22) = p[6:12], p[12:15]
    of_n, of_d, bend_u, bend_v = p[15:]
    log_n, log_d = x["log_n_params"] - _LOG_N, x["log_n_tokens"] - _LOG_D
    u = bent(xp, x["log_learning_rate"] - (i + slope_n * log_n + slope_d * log_d), bend_u)
    v = bent(xp, x["log_batch_size"] - (j + s * log_n + r * log_d), bend_v)
    stiffness = xp.exp(of_n * log_n + of_d * log_d)
    return CURVED.value(xp, p[:6], x) + stiffness * ((c11 * u + c12 * v) ** 2 + (c22 * v) ** 2)


def _rate_starts(x: Columns, y: Array) -> Array:
    """Curved floors through the lowest losses, lines through cells near them, curvatures."""
    pairs = np.stack([x["log_n_params"], x["log_n_tokens"]], axis=1)
    cells, group = np.unique(pairs, axis=0, return_inverse=True)
    group = group.reshape(-1)
    floors = np.full(len(cells), np.inf)
    np.minimum.at(floors, group, y)
    columns = {"log_n_params": cells[:, 0], "log_n_tokens": cells[:, 1]}
    floor_laws = starts(CURVED, columns, floors, fixed={}, tied={})[:2]
    excess = y / floors[group] - 1.0
    basis = np.column_stack([np.ones(len(y)), pairs - [_LOG_N, _LOG_D]])
    rows = []
    near = excess <= _NEAR
    of_lr = np.linalg.lstsq(basis[near], x["log_learning_rate"][near])[0]
    of_batch = np.linalg.lstsq(basis[near], x["log_batch_size"][near])[0]
    u, v = x["log_learning_rate"] - basis @ of_lr, x["log_batch_size"] - basis @ of_batch
    size = np.sqrt(np.median(y - floors[group]) / np.median(u**2 + v**2)) + 1e-6
    for cross in (0.0, -0.7):
        shape = [size, cross * size, size, 0.0, 0.0, 0.0, 0.0]
        rows += [[*floor, *of_lr, *of_batch, *shape] for floor in floor_laws]
    return np.array(rows)


def _real(name: str, low: float, high: float) -> Parameter:
    return Parameter(name=name, is_positive=False, lower=-60.0, upper=60.0, start=(low, high))


RATES = Law(
    name="rates",
    formula="L = E + (A/N^alpha + B/D^beta)^gamma + k |C (u, v)|^2, "
    "u = bent(ln lr - i - p n - q d), v = bent(ln batch - j - s n - r d), "
    "k = exp(k_n n + k_d d), n = ln(N/1e9), d = ln(D/1e10), "
    "bent(x) = (exp(bend x) - 1)/bend",
    source="Li et al. 2025 (Step Law), eq. 1, for the optimum, s = 0 there; the rest is ours",
    columns=("log_learning_rate", "log_batch_size", "log_n_params", "log_n_tokens"),
    parameters=(
        *CURVED.parameters,
        _real("i", -9.0, -4.0),
        _real("p", -1.5, 0.5),
        _real("q", -0.5, 1.0),
        _real("j", 0.0, 16.0),
        _real("s", -0.5, 0.5),
        _real("r", 0.0, 1.0),
        positive("c11", (0.02, 1.0), 1e-6, 1e3),
        Parameter(name="c12", is_positive=False, lower=-1e3, upper=1e3, start=(-0.1, 0.1)),
        positive("c22", (0.02, 1.0), 1e-6, 1e3),
        *(_real(name, -0.5, 0.5) for name in ("k_n", "k_d", "bend_lr", "bend_batch")),
    ),
    value=_rates,
    starts=_rate_starts,
    score="ScaleBench lr_bsz: R2 0.91 of rows held out",
    may_vanish=("E",),
)
