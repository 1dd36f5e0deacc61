# SPDX-License-Identifier: Apache-2.0
"""Laws of the loss over parameters and parallel streams of one network."""

from typing import Any

from scaling.laws.law import FLOOR, Law, amplitude, exponent, positive


def _log_streams(xp: Any, p: Any, x: Any) -> Any:
    E, K, alpha, k = p
    return E + K * xp.exp(-alpha * (x["log_n_params"] + xp.log1p(k * x["log_n_streams"])))


PARALLEL = Law(
    name="parallel",
    formula="L = E + K (N (1 + k ln P))^-alpha, P = n_streams",
    source="Chen et al. 2025 (ParScale), with K = A^alpha",
    columns=("log_n_params", "log_n_streams"),
    parameters=(FLOOR, amplitude("K"), exponent("alpha"), positive("k", (0.05, 2.0), 1e-6, 1e3)),
    value=_log_streams,
    score="ScaleBench parallel: R2 1.00 of rows held out",
)


def _power_of_streams(xp: Any, p: Any, x: Any) -> Any:
    E, K, alpha, beta = p
    return E + K * xp.exp(-alpha * x["log_n_params"] - beta * x["log_n_streams"])


PARALLEL_POWER = Law(
    name="parallel_power",
    formula="L = E + K N^-alpha P^-beta, P = n_streams",
    source="ours: a power of P in place of the logarithm of `parallel`",
    columns=("log_n_params", "log_n_streams"),
    parameters=(FLOOR, amplitude("K"), exponent("alpha"), exponent("beta", lower=1e-4)),
    value=_power_of_streams,
    score="ScaleBench parallel: R2 1.00 of rows held out",
)

PARALLEL_LAWS = (PARALLEL, PARALLEL_POWER)
