# SPDX-License-Identifier: Apache-2.0
"""Two recipes under one law, amplitudes of their own."""

from typing import Any

from scaling.laws.law import FLOOR, Law, amplitude, exponent


def _pair(xp: Any, p: Any, x: Any) -> Any:
    E, A, A_b, alpha, B, B_b, beta = p
    is_b = x["is_b"]
    of_n = (A + is_b * (A_b - A)) * xp.exp(-alpha * x["log_n_params"])
    return E + of_n + (B + is_b * (B_b - B)) * xp.exp(-beta * x["log_n_tokens"])


PAIR = Law(
    name="additive_pair",
    formula="L = E + A_r/N^alpha + B_r/D^beta, r = a where is_b is 0, b where it is 1",
    source="Volkova et al. 2026 (arXiv:2602.07712): shared exponents, amplitudes of each recipe "
    "(`isoflop compare A B --exponents shared`)",
    columns=("log_n_params", "log_n_tokens", "is_b"),
    parameters=(
        FLOOR,
        amplitude("A"),
        amplitude("A_b"),
        exponent("alpha"),
        amplitude("B"),
        amplitude("B_b"),
        exponent("beta"),
    ),
    value=_pair,
)
