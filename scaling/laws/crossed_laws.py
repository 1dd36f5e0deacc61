# SPDX-License-Identifier: Apache-2.0
"""Laws of the loss over parameters and tokens in which the two act on each other."""

from typing import Any

import numpy as np

from scaling.laws.law import FLOOR, Columns, Law, Parameter, amplitude, exponent
from scaling.laws.loss_laws import ADDITIVE
from scaling.laws.starts import starts
from scaling.tables.arrays import Array

_COLUMNS = ("log_n_params", "log_n_tokens")


def _real(name: str, low: float, high: float, bound: float) -> Parameter:
    return Parameter(name=name, is_positive=False, lower=-bound, upper=bound, start=(low, high))


def _farseer(xp: Any, p: Any, x: Any) -> Any:
    a1, b1, alpha, a2, b2, beta, a3, b3, gamma = p
    log_n, log_d = (x[name] for name in _COLUMNS)

    def bent(a: Any, b: Any, power: Any) -> Any:
        return a * xp.exp(power * log_n) + b

    falls = xp.exp(bent(a1, b1, alpha))
    return xp.exp(bent(a3, b3, gamma)) + xp.exp(bent(a2, b2, beta) - falls * log_d)


def _farseer_starts(x: Columns, y: Array) -> Array:
    """Additive fits, for which Farseer's powers of N are nearly logarithms: a N^p + b with a small
    p is b + a + a p ln N."""
    E, A, B, a_exponent, b_exponent = starts(ADDITIVE, x, y, fixed={}, tied={})[:16].T
    middle = float(np.mean(x["log_n_params"]))
    rows = []
    for bend in (0.05, 0.15):
        size = np.exp(bend * middle)
        for fall in (0.0, -0.02, 0.02):
            # ln of the part without tokens, as the additive fit has it, and its slope in ln N.
            alone = E + A * np.exp(-a_exponent * middle)
            slope = -a_exponent * (alone - E) / alone
            a3 = slope / (bend * size)
            a1 = np.full(len(E), fall / (bend * size))
            rows.append(
                np.column_stack(
                    [
                        *(a1, np.log(b_exponent) - a1 * size, np.full(len(E), bend)),
                        *(np.zeros(len(E)), np.log(B), np.full(len(E), bend)),
                        *(a3, np.log(alone) - a3 * size, np.full(len(E), bend)),
                    ]
                )
            )
    return np.concatenate(rows)


FARSEER = Law(
    name="farseer",
    formula="L = exp(a3 N^gamma + b3) + exp(a2 N^beta + b2) D^-exp(a1 N^alpha + b1)",
    source="Li et al. 2025 (Farseer)",
    columns=_COLUMNS,
    parameters=tuple(
        one
        for k, power in ((1, "alpha"), (2, "beta"), (3, "gamma"))
        for one in (
            _real(f"a{k}", -1.0, 1.0, 1e3),
            _real(f"b{k}", -3.0, 3.0, 1e3),
            _real(power, -0.3, 0.3, 2.0),
        )
    ),
    value=_farseer,
    starts=_farseer_starts,
    score="ScaleBench farseer: R2 0.99 of rows held out",
)


def _interaction(xp: Any, p: Any, x: Any) -> Any:
    E, A, B, K, alpha, beta, gamma, delta = p
    log_n, log_d = (x[name] for name in _COLUMNS)
    return (
        E
        + A * xp.exp(-alpha * log_n)
        + B * xp.exp(-beta * log_d)
        + K * xp.exp(-gamma * log_n - delta * log_d)
    )


INTERACTION = Law(
    name="interaction",
    formula="L = E + A/N^alpha + B/D^beta + K/(N^gamma D^delta)",
    source="ours: the additive law and a term of both, as Bryant and Liu 2026 (arXiv:2605.09189), "
    "whom we know by quotations, have it in h of a loss E + (L0 - E) h / (1 + h)",
    columns=_COLUMNS,
    parameters=(
        FLOOR,
        *(amplitude(name) for name in ("A", "B", "K")),
        *(exponent(name) for name in ("alpha", "beta")),
        *(_real(name, 0.02, 0.8, 3.0) for name in ("gamma", "delta")),
    ),
    value=_interaction,
    score="ScaleBench farseer: R2 0.99 of rows held out",
)

CROSSED_LAWS = (FARSEER, INTERACTION)
