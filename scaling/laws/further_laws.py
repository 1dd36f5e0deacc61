# SPDX-License-Identifier: Apache-2.0
"""Laws of precision, of distillation, of one loss from another, and of accuracy from compute.

No public table scores them here; they are tested on planted losses.
"""

from typing import Any

from scaling.laws.law import FLOOR, Law, amplitude, exponent, positive

_NOT_SCORED = "not scored: no public table"


def _precision(xp: Any, p: Any, x: Any) -> Any:
    E, A, B, alpha, beta, gamma = p
    log_kept = 3.0 * xp.log(-xp.expm1(-x["bits"] / gamma))
    of_n = A * xp.exp(-alpha * (x["log_n_params"] + log_kept))
    return E + of_n + B * xp.exp(-beta * x["log_n_tokens"])


PRECISION = Law(
    name="precision",
    formula="L = E + A/(N (1 - exp(-bits/gamma))^3)^alpha + B/D^beta",
    source="Kumar et al. 2024, weights, activations and attention cache in one precision",
    columns=("log_n_params", "log_n_tokens", "bits"),
    parameters=(
        FLOOR,
        amplitude("A"),
        amplitude("B"),
        exponent("alpha"),
        exponent("beta"),
        positive("gamma", (0.5, 8.0), 1e-2, 1e2),
    ),
    value=_precision,
    score=_NOT_SCORED,
)


def _distilled(xp: Any, p: Any, x: Any) -> Any:
    A, B, alpha, beta, gamma, c0, c1, d1, f1 = p
    teacher, alone = x["teacher_loss"], x["supervised_loss"]
    gap = xp.logaddexp(xp.log(A) - alpha * x["log_n_params"], xp.log(B) - beta * x["log_n_tokens"])
    log_ratio = xp.log(teacher / (alone * d1)) / f1
    weak = xp.exp(-c0 * xp.log(teacher) - c1 * f1 * xp.logaddexp(0.0 * log_ratio, log_ratio))
    return teacher + weak * xp.exp(gamma * gap)


DISTILLATION = Law(
    name="distillation",
    formula="L = T + T^-c0 (1 + (T/(S d1))^(1/f1))^(-c1 f1) (A/N^alpha + B/D^beta)^gamma, "
    "T = teacher_loss, S = supervised_loss of the student",
    source="Busbridge et al. 2025, eq. of the student's loss",
    columns=("log_n_params", "log_n_tokens", "teacher_loss", "supervised_loss"),
    parameters=(
        positive("A", (1.0, 1e5), 1e-30, 1e60),
        positive("B", (1.0, 1e5), 1e-30, 1e60),
        exponent("alpha"),
        exponent("beta"),
        positive("gamma", (0.3, 2.0), 0.05, 20.0),
        positive("c0", (0.5, 4.0), 1e-3, 50.0),
        positive("c1", (0.5, 200.0), 1e-3, 1e4),
        positive("d1", (0.5, 3.0), 1e-2, 1e2),
        positive("f1", (0.05, 1.0), 1e-3, 50.0),
    ),
    value=_distilled,
    score=_NOT_SCORED,
)


def _other_loss(xp: Any, p: Any, x: Any) -> Any:
    E, K, E0, kappa = p
    above = xp.maximum(x["loss_nats"] - E0, 1e-12)
    return E + K * xp.exp(kappa * xp.log(above))


LOSS_TO_LOSS = Law(
    name="loss_to_loss",
    formula="other_loss = E + K (L - E0)^kappa",
    source="Brandfonbrener et al. 2024, eq. of the shifted power law",
    columns=("loss_nats",),
    parameters=(
        FLOOR,
        amplitude("K"),
        positive("E0", (0.1, 2.5), 1e-3, 50.0),
        positive("kappa", (0.5, 2.0), 1e-2, 20.0),
    ),
    value=_other_loss,
    target="other_loss",
    score=_NOT_SCORED,
)


def _accuracy(xp: Any, p: Any, x: Any) -> Any:
    log_A, alpha = p
    return xp.exp(-xp.exp(log_A - alpha * x["log_flops"]))


ACCURACY = Law(
    name="accuracy",
    formula="-ln accuracy = exp(log_A) C^-alpha",
    source="Krajewski et al. 2025 (direct downstream law), at one number of tokens a parameter",
    columns=("log_flops",),
    parameters=(positive("log_A", (1.0, 40.0), 1e-3, 400.0), exponent("alpha")),
    value=_accuracy,
    target="accuracy",
    score=_NOT_SCORED,
)

FURTHER_LAWS = (PRECISION, DISTILLATION, LOSS_TO_LOSS, ACCURACY)
