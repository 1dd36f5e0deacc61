# SPDX-License-Identifier: Apache-2.0
"""Laws of the loss on text that is read several times, beside `loss_laws.DATA_CONSTRAINED`."""

from typing import Any

import numpy as np

from scaling.laws.law import Columns, Law, amplitude, exponent, positive
from scaling.laws.loss_laws import ADDITIVE, CURVED
from scaling.tables.arrays import Array

_COLUMNS = ("log_n_params", "log_n_tokens", "log_unique_tokens")
_R_STAR = positive("R_star", (0.5, 300.0), 1e-3, 1e6)
_PENALTY = (amplitude("K"), exponent("rho", lower=0.05), exponent("sigma"))


def _penalty(xp: Any, p: Any, x: Any) -> Any:
    """K (D/U - 1)^rho (N/U)^sigma, and nothing where no token is read twice."""
    K, rho, sigma = p
    log_n, log_d, log_u = (x[name] for name in _COLUMNS)
    repeats = xp.exp(log_d - log_u) - 1.0
    is_repeated = repeats > 1e-9
    log_r = xp.log(xp.where(is_repeated, repeats, 1.0))
    return xp.where(is_repeated, K * xp.exp(rho * log_r + sigma * (log_n - log_u)), 0.0)


def _overfitting(xp: Any, p: Any, x: Any) -> Any:
    *additive, K, rho, sigma = p
    return ADDITIVE.value(xp, additive, x) + _penalty(xp, (K, rho, sigma), x)


OVERFITTING = Law(
    name="overfitting",
    formula="L = E + A/N^alpha + B/D^beta + K (D/U - 1)^rho (N/U)^sigma, U = unique_tokens",
    source="Lovelace et al. 2026 (arXiv:2605.01640), as Weng 2026 (Scaling Laws, Carefully) quotes "
    "it: K, rho and sigma are P, delta and kappa there",
    columns=_COLUMNS,
    parameters=(*ADDITIVE.parameters, *_PENALTY),
    value=_overfitting,
    score="ScaleBench data_constrained: R2 0.71 of rows held out",
)


def _log_worn(xp: Any, R_star: Any, log_d: Any, log_u: Any) -> Any:
    """ln D': of repeated tokens, all that they will ever be worth is R_star U."""
    repeats = xp.maximum(xp.exp(log_d - log_u) - 1.0, 0.0)
    return log_u + xp.log1p(R_star * -xp.expm1(-repeats / R_star))


def _worn(xp: Any, p: Any, x: Any) -> Any:
    *additive, R_star = p
    log_n, log_d, log_u = (x[name] for name in _COLUMNS)
    columns = {"log_n_params": log_n, "log_n_tokens": _log_worn(xp, R_star, log_d, log_u)}
    return ADDITIVE.value(xp, additive, columns)


WORN_DATA = Law(
    name="worn_data",
    formula="L = E + A/N^alpha + B/D'^beta, D' = U (1 + R* (1 - exp(-(D/U - 1)/R*)))",
    source="Muennighoff et al. 2023, eq. 5, of data alone",
    columns=_COLUMNS,
    parameters=(*ADDITIVE.parameters, _R_STAR),
    value=_worn,
    score="ScaleBench data_constrained: R2 0.54 of rows held out",
)


def _repeated(xp: Any, p: Any, x: Any) -> Any:
    *curved, R_star, K, rho, sigma = p
    log_n, log_d, log_u = (x[name] for name in _COLUMNS)
    columns = {"log_n_params": log_n, "log_n_tokens": _log_worn(xp, R_star, log_d, log_u)}
    return CURVED.value(xp, curved, columns) + _penalty(xp, (K, rho, sigma), x)


def _repeated_starts(x: Columns, y: Array) -> Array:
    """Curved fits of the tokens as they are, with several wears and penalties."""
    assert CURVED.starts is not None
    curved = CURVED.starts(x, y)[::4]
    rows = []
    for R_star in (3.0, 30.0):
        for K in (1e-4, 1e-2):
            tail = np.tile([R_star, K, 0.5, 0.6], (len(curved), 1))
            rows.append(np.column_stack([curved, tail]))
    return np.concatenate(rows)


REPEATED = Law(
    name="repeated",
    formula="L = E + (A/N^alpha + B/D'^beta)^gamma + K (D/U - 1)^rho (N/U)^sigma, D' as in "
    "`worn_data`",
    source="ours: `curved` of worn data and the penalty of `overfitting`",
    columns=_COLUMNS,
    parameters=(*CURVED.parameters, _R_STAR, *_PENALTY),
    value=_repeated,
    starts=_repeated_starts,
    may_vanish=("E", "K"),
    score="ScaleBench data_constrained: R2 0.78 of rows held out",
)

REPEAT_LAWS = (OVERFITTING, WORN_DATA, REPEATED)
