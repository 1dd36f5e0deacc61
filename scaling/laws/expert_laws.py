# SPDX-License-Identifier: Apache-2.0
"""Laws of the loss of mixtures of experts, at one number of tokens."""

from typing import Any

from scaling.laws.law import FLOOR, Law, Parameter, amplitude, exponent, positive

_COLUMNS = ("log_n_params", "log_n_experts")


def _real(name: str, low: float, high: float) -> Parameter:
    return Parameter(name=name, is_positive=False, lower=-30.0, upper=30.0, start=(low, high))


def _log_saturating(xp: Any, log_experts: Any, start: Any, most: Any) -> Any:
    """ln of the experts that count: `start` for one, at most `most` for many."""
    first = 1.0 / (1.0 / start - 1.0 / most)
    return -xp.log(1.0 / (xp.exp(log_experts) - 1.0 + first) + 1.0 / most)


def _routed(xp: Any, p: Any, x: Any) -> Any:
    a, b, c, d, E_start, E_more = p
    log_e = _log_saturating(xp, x["log_n_experts"], E_start, E_start + E_more)
    log_n = x["log_n_params"]
    return xp.exp(a * log_n + b * log_e + c * log_n * log_e + d)


ROUTED = Law(
    name="routed",
    formula="ln L = a ln N + b ln X + c ln N ln X + d, 1/X = 1/(n_experts - 1 + 1/(1/E_start - "
    "1/E_max)) + 1/E_max, E_max = E_start + E_more",
    source="Clark et al. 2022, eq. 1 and 2; N of the dense network",
    columns=_COLUMNS,
    parameters=(
        _real("a", -0.2, -0.02),
        _real("b", -0.3, 0.0),
        _real("c", 0.0, 0.02),
        _real("d", 1.0, 4.0),
        positive("E_start", (1.0, 4.0), 0.1, 1e3),
        positive("E_more", (30.0, 1000.0), 1.0, 1e9),
    ),
    value=_routed,
    score="ScaleBench moe: R2 0.30 of rows held out",
)


def _joint(xp: Any, p: Any, x: Any) -> Any:
    E, A, B, alpha, delta, omega, gamma = p
    log_n, log_e = x["log_n_params"], x["log_n_experts"]
    return (
        E
        + A * xp.exp(-delta * log_e - (alpha - gamma * log_e) * log_n)
        + B * xp.exp(-omega * log_e)
    )


JOINT_EXPERTS = Law(
    name="joint_experts",
    formula="L = E + A X^-delta N^(-alpha + gamma ln X) + B X^-omega, X = n_experts",
    source="Ludziejewski et al. 2025 (joint MoE laws), at one number of tokens, X not saturating",
    columns=_COLUMNS,
    parameters=(
        FLOOR,
        amplitude("A"),
        amplitude("B"),
        exponent("alpha"),
        _real("delta", -0.3, 0.5),
        exponent("omega"),
        _real("gamma", -0.02, 0.02),
    ),
    value=_joint,
    score="ScaleBench moe: R2 0.52 of rows held out",
)


def _floored(xp: Any, p: Any, x: Any) -> Any:
    E, A, alpha, delta, gamma, E_start, E_more = p
    log_n = x["log_n_params"]
    log_e = _log_saturating(xp, x["log_n_experts"], E_start, E_start + E_more)
    return E + A * xp.exp(-delta * log_e - (alpha - gamma * log_e) * log_n)


ROUTED_FLOOR = Law(
    name="routed_floor",
    formula="L = E + A X^-delta N^(-alpha + gamma ln X), X as in `routed`",
    source="Clark et al. 2022, eq. 1 and 2, with an irreducible loss E of ours",
    columns=_COLUMNS,
    parameters=(
        FLOOR,
        amplitude("A"),
        exponent("alpha"),
        _real("delta", -0.3, 0.5),
        _real("gamma", -0.02, 0.02),
        positive("E_start", (1.0, 4.0), 0.1, 1e3),
        positive("E_more", (30.0, 1000.0), 1.0, 1e9),
    ),
    value=_floored,
    score="ScaleBench moe: R2 0.50 of rows held out",
)


def _upcycled(xp: Any, p: Any, x: Any) -> Any:
    E, A, alpha, beta, gamma = p
    log_n, log_s = x["log_n_params_active"], x["log_sparsity"]
    return E + A * xp.exp(-beta * log_s - (alpha - gamma * log_s) * log_n)


UPCYCLED = Law(
    name="upcycled",
    formula="L = E + A S^-beta N^(-alpha + gamma ln S), S = sparsity, N = n_params_active",
    source="Liew et al. 2025 (arXiv:2502.03009) say that S and N help together; this form is "
    "ours, for theirs was not at hand",
    columns=("log_n_params_active", "log_sparsity"),
    parameters=(
        FLOOR,
        amplitude("A"),
        exponent("alpha"),
        _real("beta", -0.1, 0.4),
        _real("gamma", -0.05, 0.05),
    ),
    value=_upcycled,
    score="ScaleBench sparsity: R2 0.66 of rows held out",
)


def _upcycled_additive(xp: Any, p: Any, x: Any) -> Any:
    E, A, alpha, b = p
    return E + A * xp.exp(-alpha * x["log_n_params_active"]) - b * x["log_sparsity"]


UPCYCLED_ADDITIVE = Law(
    name="upcycled_additive",
    formula="L = E + A N^-alpha - b ln S, S = sparsity, N = n_params_active",
    source="ours: sparsity helps alike at all sizes",
    columns=("log_n_params_active", "log_sparsity"),
    parameters=(FLOOR, amplitude("A"), exponent("alpha"), _real("b", 0, 0.3)),
    value=_upcycled_additive,
    score="ScaleBench sparsity: R2 0.69 of rows held out",
)

EXPERT_LAWS = (ROUTED, ROUTED_FLOOR, JOINT_EXPERTS, UPCYCLED, UPCYCLED_ADDITIVE)
