# SPDX-License-Identifier: Apache-2.0
"""Runs of isoFLOP curves that are parabolas."""

import numpy as np

from scaling.tables.runs import Runs

BUDGETS = np.array([1e17, 1e18, 1e19, 1e20])
SHAPE = np.geomspace(1 / 6, 6, 7)


def parabolic_runs(a=0.45, curvature=0.05, shift=1.0, moved=0.0, sd=0.0, seed=0) -> Runs:
    """Losses that are parabolas in ln N about N* = 1e8 (C/1e18)^a, times e^moved."""
    n_opt = 1e8 * (BUDGETS / 1e18) ** a
    N = (n_opt[:, None] * SHAPE * np.broadcast_to(shift, 4)[:, None]).ravel()
    budget = np.repeat(BUDGETS, len(SHAPE))
    place = np.log(n_opt) + np.broadcast_to(moved, 4)
    x = np.log(N) - np.repeat(place, len(SHAPE))
    loss = 1.7 + 1.0 * (budget / 1e18) ** -0.1 + curvature * x**2
    loss = loss * np.exp(sd * np.random.default_rng(seed).standard_normal(len(N)))
    return Runs.from_columns(n_params=N, n_tokens=budget / (6 * N), loss_nats=loss, budget=budget)
