# SPDX-License-Identifier: Apache-2.0
"""Laws of the loss: each written once, in the units of its paper.

The loss over parameters and tokens first (Approach 3), then laws of further columns. `law.py` says
what a law is, `registry.py` finds one by its name. A new one takes ten lines:

    POWER = Law(
        name="power", formula="L = E + K C^-c", source="my notebook",
        columns=("log_flops",),
        parameters=(amplitude("E", lower=1e-6), amplitude("K"), exponent("c")),
        value=lambda xp, p, x: p[0] + p[1] * xp.exp(-p[2] * x["log_flops"]),
    )

and `fit_surface(runs, POWER)` fits it.
"""

from typing import Any

import numpy as np

from scaling.laws.law import (
    CONSTANT_FLOOR,
    FLOOR,
    Columns,
    Law,
    Parameter,
    amplitude,
    exponent,
    positive,
)
from scaling.laws.starts import projected, starts
from scaling.tables.arrays import Array


def _additive(xp: Any, p: Any, x: Any) -> Any:
    E, A, B, alpha, beta = p
    return E + A * xp.exp(-alpha * x["log_n_params"]) + B * xp.exp(-beta * x["log_n_tokens"])


ADDITIVE = Law(
    name="additive",
    formula="L = E + A/N^alpha + B/D^beta",
    source="Hoffmann et al. 2022, eq. 2",
    columns=("log_n_params", "log_n_tokens"),
    parameters=(
        CONSTANT_FLOOR,
        amplitude("A"),
        amplitude("B"),
        exponent("alpha"),
        exponent("beta"),
    ),
    value=_additive,
)


def _curved(xp: Any, p: Any, x: Any) -> Any:
    E, A, B, alpha, beta, gamma = p
    terms = A * xp.exp(-alpha * x["log_n_params"]) + B * xp.exp(-beta * x["log_n_tokens"])
    return E + xp.exp(gamma * xp.log(terms))


def _curved_starts(x: Columns, y: Array) -> Array:
    """Additive starts bent by gamma, each keeping its slopes in N and D.

    (A N^-alpha)^gamma = A^gamma N^-(alpha gamma), so amplitude logs and exponents are divided.
    """
    straight = starts(ADDITIVE, x, y, fixed={}, tied={})[:20]
    bent = []
    for gamma in (0.37, 0.67, 1.0, 1.5, 2.7):
        E, A, B, alpha, beta = straight.T
        columns = (E, A ** (1 / gamma), B ** (1 / gamma), alpha / gamma, beta / gamma)
        bent.append(np.column_stack([*columns, np.full(len(E), gamma)]))
    return np.concatenate(bent)


CURVED = Law(
    name="curved",
    formula="L = E + (A N^-alpha + B D^-beta)^gamma",
    source="Kaplan et al. 2020, eq. 1.5, with an irreducible loss E",
    columns=("log_n_params", "log_n_tokens"),
    parameters=(
        CONSTANT_FLOOR,
        positive("A", (1.0, 1e6), 1e-60, 1e120),
        positive("B", (1.0, 1e6), 1e-60, 1e120),
        exponent("alpha", upper=10.0),
        exponent("beta", upper=10.0),
        positive("gamma", (0.3, 3.0), 0.05, 20.0),
    ),
    value=_curved,
    starts=_curved_starts,
    may_vanish=("E",),
)


def _kaplan(xp: Any, p: Any, x: Any) -> Any:
    N_c, D_c, alpha_N, alpha_D = p
    of_n = (alpha_N / alpha_D) * (xp.log(N_c) - x["log_n_params"])
    return xp.exp(alpha_D * xp.logaddexp(of_n, xp.log(D_c) - x["log_n_tokens"]))


def _kaplan_starts(x: Columns, y: Array) -> Array:
    """With r = alpha_N/alpha_D, L^(1/alpha_D) = N_c^r N^-r + D_c/D is linear in its amplitudes."""
    starts = []
    for alpha_D in np.geomspace(0.02, 0.8, 12):
        for ratio in np.geomspace(0.3, 3.0, 7):
            target = np.log(y) / alpha_D
            basis = np.stack([-ratio * x["log_n_params"], -x["log_n_tokens"]], axis=1)
            scaled = np.exp(basis - target[:, None])
            size = scaled.max(axis=0)
            found = np.linalg.lstsq(scaled / size, np.ones(len(y)), rcond=None)[0] / size
            if np.all(found > 0):
                starts.append((found[0] ** (1 / ratio), found[1], ratio * alpha_D, alpha_D))
    middle = (np.exp(x["log_n_params"].mean()), np.exp(x["log_n_tokens"].mean()), 0.08, 0.1)
    return np.array([*starts, middle])


KAPLAN = Law(
    name="kaplan",
    formula="L = ((N_c/N)^(alpha_N/alpha_D) + D_c/D)^alpha_D",
    source="Kaplan et al. 2020, eq. 1.5",
    columns=("log_n_params", "log_n_tokens"),
    parameters=(
        positive("N_c", (1e6, 1e16), 1e-30, 1e60),
        positive("D_c", (1e6, 1e16), 1e-30, 1e60),
        exponent("alpha_N"),
        exponent("alpha_D"),
    ),
    value=_kaplan,
    starts=_kaplan_starts,
)


def power_law(column: str) -> Law:
    """E + K x^-c in one column, e.g. flops."""
    name = f"log_{column}"
    return Law(
        name=f"power_{column}",
        formula=f"L = E + K {column}^-c",
        source="Hestness et al. 2017, sec. 3, with an irreducible loss E",
        columns=(name,),
        parameters=(FLOOR, amplitude("K"), exponent("c")),
        value=lambda xp, p, x: p[0] + p[1] * xp.exp(-p[2] * x[name]),
    )


def broken_power_law(column: str) -> Law:
    """A smoothly broken power law with one break in one column."""
    name = f"log_{column}"

    def value(xp: Any, p: Any, x: Any) -> Any:
        E, K, c0, c1, log_d, f = p
        bend = xp.logaddexp(0.0 * x[name], (x[name] - log_d) / f)
        return E + K * xp.exp(-c0 * x[name] - c1 * f * bend)

    def spread(x: Columns, y: Array) -> Array:
        low, high = float(x[name].min()), float(x[name].max())
        return projected(law, x, y, ranges={"log_d": (low, high)})

    law = Law(
        name=f"broken_{column}",
        formula=f"L = E + K x^-c0 (1 + (x/d)^(1/f))^(-c1 f), x = {column}, log_d = ln d",
        source="Caballero et al. 2022, eq. 1, one break",
        columns=(name,),
        parameters=(
            FLOOR,
            amplitude("K"),
            Parameter(name="c0", is_positive=False, lower=-3.0, upper=5.0, start=(0.0, 1.2)),
            Parameter(name="c1", is_positive=False, lower=-5.0, upper=5.0, start=(-0.6, 0.9)),
            Parameter(name="log_d", is_positive=False, lower=-50.0, upper=150.0, start=(0, 60)),
            positive("f", (0.05, 2.0), 1e-2, 10.0),
        ),
        value=value,
        starts=spread,
    )
    return law


def _width_depth(xp: Any, p: Any, x: Any) -> Any:
    E, A, B, K, G, alpha, beta, gamma, delta = p
    return (
        E
        + A * xp.exp(-alpha * x["log_d_model"])
        + B * xp.exp(-beta * x["log_n_layers"])
        + K * xp.exp(-gamma * x["log_n_params"])
        + G * xp.exp(-delta * x["log_n_tokens"])
    )


WIDTH_DEPTH = Law(
    name="width_depth",
    formula="L = E + A/width^alpha + B/depth^beta + K/N^gamma + G/D^delta",
    source="McLeish et al. 2025 (Gemstones), sec. 4",
    columns=("log_d_model", "log_n_layers", "log_n_params", "log_n_tokens"),
    parameters=(
        FLOOR,
        *(amplitude(name) for name in ("A", "B", "K", "G")),
        *(exponent(name) for name in ("alpha", "beta", "gamma", "delta")),
    ),
    value=_width_depth,
)


def _over_training(xp: Any, p: Any, x: Any) -> Any:
    E, lambda1, lambda2, eta = p
    of_d = xp.exp(-eta * (x["log_n_tokens"] + 0.5 * np.log(6.0)))
    return E + lambda1 * xp.exp(-eta * x["log_n_params"]) + lambda2 * of_d


OVER_TRAINING = Law(
    name="over_training",
    formula="L = E + lambda1 N^-eta + lambda2 6^(-eta/2) (M N)^-eta, M = D/N",
    source="Gadre et al. 2024, eq. 4, with C = 6ND",
    columns=("log_n_params", "log_n_tokens"),
    parameters=(FLOOR, amplitude("lambda1"), amplitude("lambda2"), exponent("eta")),
    value=_over_training,
)


def _data_constrained(xp: Any, p: Any, x: Any) -> Any:
    E, A, B, alpha, beta, R_D_star, R_N_star = p
    log_u, log_d, log_n = x["log_unique_tokens"], x["log_n_tokens"], x["log_n_params"]
    log_g = xp.log(alpha * A / (beta * B)) / (alpha + beta)
    # N_opt(U_D): the size for which U_D tokens are compute-optimal, from C = 6 (G U_D)^(1 + a/b).
    log_u_n = xp.minimum(log_n, log_g + (beta / alpha) * (log_g + log_u))
    repeats = xp.maximum(xp.exp(log_d - log_u) - 1.0, 0.0)
    excess = xp.maximum(xp.exp(log_n - log_u_n) - 1.0, 0.0)
    log_n_eff = log_u_n + xp.log1p(R_N_star * -xp.expm1(-excess / R_N_star))
    log_d_eff = log_u + xp.log1p(R_D_star * -xp.expm1(-repeats / R_D_star))
    return E + A * xp.exp(-alpha * log_n_eff) + B * xp.exp(-beta * log_d_eff)


DATA_CONSTRAINED = Law(
    name="data_constrained",
    formula="L = E + A/N'^alpha + B/D'^beta, D' = U_D (1 + R_D* (1 - exp(-R_D/R_D*))), same for N'",
    source="Muennighoff et al. 2023, eq. 5 and 6",
    columns=("log_n_params", "log_n_tokens", "log_unique_tokens"),
    parameters=(
        FLOOR,
        positive("A", (1.0, 1e5), 1e-30, 1e60),
        positive("B", (1.0, 1e5), 1e-30, 1e60),
        exponent("alpha"),
        exponent("beta"),
        positive("R_D_star", (0.5, 300.0), 1e-3, 1e6),
        positive("R_N_star", (0.5, 300.0), 1e-3, 1e6),
    ),
    value=_data_constrained,
)

_ONE_COLUMN = ("flops", "n_params", "n_tokens")
LOSS_LAWS = (
    ADDITIVE,
    CURVED,
    KAPLAN,
    OVER_TRAINING,
    WIDTH_DEPTH,
    DATA_CONSTRAINED,
    *(power_law(column) for column in _ONE_COLUMN),
    *(broken_power_law(column) for column in _ONE_COLUMN),
)
