# SPDX-License-Identifier: Apache-2.0
"""Surfaces written in terms of their own optimum, so that N*(C), L*(C) or a can be fixed.

L = E + (A N^-alpha + B D^-beta)^gamma, minimised over N at D = C/f(N), has at its optimum

    alpha A N*^-alpha = kappa beta B D*^-beta,    kappa = d log f / d log N at N*

(kappa = 1 for C = 6ND: Hoffmann et al. 2022, eq. 4). With S = (L* - E)^(1/gamma) the two terms
there are S kappa beta/(alpha + kappa beta) and S alpha/(alpha + kappa beta), so that

    L = E + (L* - E) (w (N/N*)^-alpha + (1 - w) (D/D*)^-beta)^gamma,   w = kappa beta/(alpha + ...)

is the same surface with N* and L* in place of A and B: an exact reparametrisation under every
FLOP convention. A quantity that is a parameter is fixed like any other.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float

from scaling.laws.law import Law, exponent, positive
from scaling.laws.size_ladder import Ladder, minimise
from scaling.tables.arrays import Array

# Laws that can be written so: the additive one has gamma = 1.
HAVE_OPTIMUM_FORM = ("additive", "curved")
_WIDE = (1e-30, 1e60)
# Knots and cubics of `Ladder.pieces`, as tuples: laws of one ladder are one law, compiled once.
Pieces = tuple[tuple[float, ...], tuple[tuple[float, ...], ...]]


def pieces(ladder: Ladder) -> Pieces | None:
    """FLOPs per token by size in a form that laws can be cached by; None for C = 6ND."""
    if ladder.is_6nd:
        return None
    knots, cubics = ladder.pieces
    return tuple(knots.tolist()), tuple(tuple(row) for row in cubics.tolist())


@lru_cache(maxsize=32)
def with_optimum(law: Law, cost: Pieces | None) -> Law:
    """The law with n_params_opt and loss_opt at the budget flops in place of A and B.

    cost: FLOPs per token by size, as `pieces` gives it; None for C = 6ND.

    Raises:
      ValueError: for a law that is no sum of two powers.
    """
    _check(law)

    def value(xp: Any, p: Any, x: Any) -> Any:
        E, n_opt, loss_opt, alpha, beta, gamma, flops = _split(law, p, 1)
        at = (xp.log(n_opt), loss_opt, xp.log(flops))
        return _value(xp, cost, x, at, E, alpha, beta, gamma)

    return _derived(law, "optimum", ("alpha", "beta"), ("flops",), value)


@lru_cache(maxsize=32)
def with_exponent(law: Law, cost: Pieces | None) -> Law:
    """The law with N*, L* at flops, and the slope a of ln N* from there to flops_high.

    a replaces alpha: N* at flops_high is N* (flops_high/flops)^a, and the conditions at both
    budgets give alpha d ln N* = beta d ln D* - d ln kappa. For C = 6ND alpha = beta (1 - a)/a.

    Raises:
      ValueError: for a law that is no sum of two powers.
    """
    _check(law)

    def value(xp: Any, p: Any, x: Any) -> Any:
        E, n_opt, loss_opt, a, beta, gamma, flops, flops_high = _split(law, p, 2)
        log_n, log_c = xp.log(n_opt), xp.log(flops)
        width = xp.log(flops_high) - log_c
        log_f, kappa = _log_cost(xp, cost, log_n)
        log_f_high, kappa_high = _log_cost(xp, cost, log_n + a * width)
        bend = xp.log(kappa_high) - xp.log(kappa)
        alpha = (beta * (width - log_f_high + log_f) - bend) / (a * width)
        return _value(xp, cost, x, (log_n, loss_opt, log_c), E, alpha, beta, gamma)

    return _derived(law, "exponent", ("a", "beta"), ("flops", "flops_high"), value)


def optimum(
    law: Law, parameters: Float[Array, "R P"], ladder: Ladder, flops: float
) -> tuple[Float[Array, " R"], Float[Array, " R"]]:
    """N*(C) and L*(C) of parameter rows [R, P], in the units of the runs; NaN where none is."""
    log_loss = law.log_loss_of(parameters)
    log_c = np.full((len(parameters), 1), np.log(flops))
    log_n = minimise(log_loss, ladder, log_c)
    loss = np.exp(log_loss(log_n, log_c - ladder.log_cost(log_n)))
    return np.exp(log_n[:, 0]), loss[:, 0]


def _check(law: Law) -> None:
    if law.name not in HAVE_OPTIMUM_FORM:
        raise ValueError(
            f"law {law.name} ({law.formula}) cannot be written in terms of its optimum, so a, b, "
            f"N*(C) and L*(C) cannot be profiled; laws that can: {', '.join(HAVE_OPTIMUM_FORM)}. "
            "Profile a parameter, or take the bootstrap's interval"
        )


def _split(law: Law, p: Any, n_budgets: int) -> tuple[Any, ...]:
    """Parameters with gamma put in where the law has none."""
    p = tuple(p[i] for i in range(len(law.parameters) + n_budgets))
    return p if law.name == "curved" else (*p[:5], 1.0, *p[5:])


def _derived(
    law: Law, kind: str, powers: tuple[str, str], budgets: tuple[str, ...], value: Any
) -> Law:
    own = {parameter.name: parameter for parameter in law.parameters}
    own["a"] = exponent("a", lower=1e-3, upper=0.999)
    gamma = (own["gamma"],) if "gamma" in own else ()
    return Law(
        name=f"{law.name}_through_{kind}",
        formula=law.formula,
        source=law.source,
        columns=law.columns,
        parameters=(
            own["E"],
            positive("n_params_opt", (1.0, 1e15), *_WIDE),
            positive("loss_opt", (1e-3, 1e3), *_WIDE),
            *(own[name] for name in powers),
            *gamma,
            *(positive(name, (1.0, 1e30), *_WIDE) for name in budgets),
        ),
        value=value,
    )


def _value(
    xp: Any, cost: Pieces | None, x: Mapping[str, Any], at: tuple[Any, Any, Any],
    E: Any, alpha: Any, beta: Any, gamma: Any,
) -> Any:  # fmt: skip
    log_n, loss_opt, log_c = at
    log_f, kappa = _log_cost(xp, cost, log_n)
    share = kappa * beta / (alpha + kappa * beta)
    of_n = xp.log(share) - alpha * (x["log_n_params"] - log_n)
    of_d = xp.log(1.0 - share) - beta * (x["log_n_tokens"] - (log_c - log_f))
    # Not above E, the optimum is none: NaN, and the solver turns back.
    return E + xp.exp(xp.log(loss_opt - E) + gamma * xp.logaddexp(of_n, of_d))


def _log_cost(xp: Any, cost: Pieces | None, log_n: Any) -> tuple[Any, Any]:
    """log flops_per_token and its slope in log N."""
    if cost is None:
        return np.log(6.0) + log_n, 1.0 + 0.0 * log_n
    knots, cubics = (xp.asarray(array) for array in cost)
    piece = xp.clip(xp.searchsorted(knots, log_n, side="right"), 1, len(knots)) - 1
    c3, c2, c1, c0 = (cubics[i][piece] for i in range(4))
    t = log_n - knots[piece]
    return ((c3 * t + c2) * t + c1) * t + c0, (3 * c3 * t + 2 * c2) * t + c1
