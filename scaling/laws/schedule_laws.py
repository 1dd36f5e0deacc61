# SPDX-License-Identifier: Apache-2.0
"""The loss along a run whose learning rate follows a schedule."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from scaling.laws.law import Law, amplitude, exponent, positive


def _multi_power(xp: Any, p: Any, x: Any) -> Any:
    L0, A, alpha, B, C, beta, gamma = p
    inner = (xp.log(C), beta, gamma)
    drop = _drop(inner, x) if xp is np else _drop_of_jax()(xp.stack(inner), x)
    return L0 + A * xp.exp(-alpha * x["log_lr_sum"]) - B * drop


def _drop(inner: Any, x: Any) -> Any:
    """Sum of w (1 - (1 + C lr^-gamma S)^-beta) over the nodes, numpy's."""
    # One more axis for the nodes of the sum: parameters may be [R, 1] against columns [n].
    log_c, beta, gamma = (np.asarray(v)[..., None] for v in inner)
    log_x = log_c - gamma * x["drop_log_lr"] + x["drop_log_reach"]
    saturated = -np.expm1(-beta * np.logaddexp(0.0, log_x))
    return np.sum(x["drop_weight"] * saturated, axis=-1)


def _expanded(xp: Any, inner: Any, x: Any) -> tuple[Any, Any, Any]:
    """The drop [n], and its first [3, n] and second derivatives [3, 3, n] by log C, beta, gamma.

    With u = log(C lr^-gamma S), s = log(1 + e^u) and f = e^(-beta s), the derivatives of 1 - f by u
    and beta are beta s' f, s f, beta (s'' - beta s'^2) f, (s' - beta s s') f and -s^2 f.
    """
    log_c, beta, gamma = inner
    log_lr, w = x["drop_log_lr"], x["drop_weight"]
    u = log_c - gamma * log_lr + x["drop_log_reach"]
    # Beyond e^700 the drop is complete, and its derivatives are zero.
    grown = xp.exp(xp.minimum(u, 700.0))
    s, slope = xp.log1p(grown), grown / (1.0 + grown)
    wf = w * xp.exp(-beta * s)
    by_u, by_beta = beta * slope * wf, s * wf
    by_u_u = by_u * (1.0 - slope - beta * slope)
    by_u_beta, by_beta_beta = slope * (1.0 - beta * s) * wf, -s * by_beta

    def over(terms: Any) -> Any:
        return xp.sum(terms, axis=-1)

    value = over(w * -xp.expm1(-beta * s))
    first = xp.stack([over(by_u), over(by_beta), -over(by_u * log_lr)])
    cc, cb, bb = over(by_u_u), over(by_u_beta), over(by_beta_beta)
    cg, gg, gb = -over(by_u_u * log_lr), over(by_u_u * log_lr**2), -over(by_u_beta * log_lr)
    second = xp.stack([xp.stack(row) for row in ((cc, cb, cg), (cb, bb, gb), (cg, gb, gg))])
    return value, first, second


@lru_cache(maxsize=1)
def _drop_of_jax() -> Callable[[Any, Any], Any]:
    """(inner [3], columns) -> the drop [n], with derivatives by formula.

    JAX's own go over all nodes again for each parameter of the law, and twice for their slopes,
    which takes five times as long.
    """
    import jax
    import jax.numpy as jnp

    @jax.custom_jvp
    def drop(inner: Any, x: Any) -> Any:
        return _expanded(jnp, inner, x)[0]

    @jax.custom_jvp
    def slopes(inner: Any, x: Any) -> Any:
        return _expanded(jnp, inner, x)[1]

    @drop.defjvp
    def _of_drop(primals: Any, tangents: Any) -> Any:
        return drop(*primals), jnp.tensordot(tangents[0], slopes(*primals), 1)

    @slopes.defjvp
    def _of_slopes(primals: Any, tangents: Any) -> Any:
        _, first, second = _expanded(jnp, *primals)
        return first, jnp.tensordot(tangents[0], second, 1)

    return drop


MULTI_POWER = Law(
    name="multi_power",
    formula="L(t) = L0 + A S(t)^-alpha - B sum_k (lr_{k-1} - lr_k) (1 - (1 + C lr_k^-gamma "
    "S_k(t))^-beta), S_k(t) = lr_k + ... + lr_t, S = S_1",
    source="Luo et al. 2025, eq. 2 to 4; the sum runs over the warm-up too, as in their code; "
    "columns made of the learning rates by step (`isoflop fit CURVES --law multi_power`)",
    columns=("log_lr_sum", "drop_weight", "drop_log_lr", "drop_log_reach"),
    parameters=(
        amplitude("L0", lower=1e-6),
        amplitude("A"),
        exponent("alpha"),
        amplitude("B"),
        positive("C", (0.1, 30.0), 1e-8, 1e8),
        positive("beta", (0.15, 1.5), 1e-4, 1e3),
        exponent("gamma", lower=-2.0, upper=5.0),
    ),
    value=_multi_power,
)
