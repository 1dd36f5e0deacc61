# SPDX-License-Identifier: Apache-2.0
"""The loss along a run whose learning rate follows a schedule."""

from typing import Any

from scaling.laws.law import Law, amplitude, exponent, positive


def _multi_power(xp: Any, p: Any, x: Any) -> Any:
    L0, A, alpha, B, C, beta, gamma = p
    # One more axis for the nodes of the sum: parameters may be [R, 1] against columns [n].
    log_c, beta, gamma = (xp.asarray(v)[..., None] for v in (xp.log(C), beta, gamma))
    log_x = log_c - gamma * x["drop_log_lr"] + x["drop_log_reach"]
    saturated = -xp.expm1(-beta * xp.logaddexp(0.0, log_x))
    drop = xp.sum(x["drop_weight"] * saturated, axis=-1)
    return L0 + A * xp.exp(-alpha * x["log_lr_sum"]) - B * drop


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
