# SPDX-License-Identifier: Apache-2.0
"""Where a fitted surface has its optimum, from its parameters and the ladder of the runs."""

import numpy as np
from jaxtyping import Float

from scaling.laws.closed_form_optimum import optimal_exponents
from scaling.laws.law import Law
from scaling.laws.size_ladder import Ladder, minimise
from scaling.tables.arrays import Array
from scaling.tables.runs import Runs


def chord_exponents(
    law: Law, parameters: Float[Array, "R P"], runs: Runs
) -> tuple[Float[Array, " R"], Float[Array, " R"]]:
    """Exponents a, b [R] of N*(C), D*(C) between the lowest and the highest budget of the runs.

    The closed form for the additive and curved laws where C = 6ND; otherwise slopes of the
    numerical optima, whose local values are in the `Frontier`. NaN for laws that are no surface.
    """
    if not law.is_surface:
        return np.full(len(parameters), np.nan), np.full(len(parameters), np.nan)
    ladder = Ladder.from_runs(runs)
    if ladder.is_6nd and law.name in ("additive", "curved"):
        alpha, beta = (parameters[:, law.names.index(n)] for n in ("alpha", "beta"))
        return optimal_exponents(alpha, beta)
    budgets = np.log([runs.flops.min(), runs.flops.max()])
    if budgets[1] - budgets[0] < np.log(1.1):
        budgets = budgets.mean() + np.log([0.95, 1.05])
    log_n = optimal_log_params(law, parameters, ladder, budgets)
    log_d = budgets - ladder.log_cost(log_n)
    width = budgets[1] - budgets[0]
    return np.diff(log_n, axis=1)[:, 0] / width, np.diff(log_d, axis=1)[:, 0] / width


def optimal_log_params(
    law: Law, parameters: Float[Array, "R P"], ladder: Ladder, log_flops: Float[Array, " B"]
) -> Float[Array, "R B"]:
    """log N* [R, B] of each parameter row [R, P] at each budget [B]; NaN for failed rows."""
    good = np.all(np.isfinite(parameters), axis=1)
    found = np.full((len(parameters), len(log_flops)), np.nan)
    if good.any():
        log_loss = law.log_loss_of(parameters[good])
        shape = (int(good.sum()), len(log_flops))
        found[good] = minimise(log_loss, ladder, np.broadcast_to(log_flops, shape))
    return found
