# SPDX-License-Identifier: Apache-2.0
"""Laws of the error on a task, as a function of the loss."""

from typing import Any

from scaling.laws.law import Columns, Law, Parameter, amplitude, exponent, positive
from scaling.laws.starts import projected
from scaling.tables.arrays import Array


def _exponential(xp: Any, p: Any, x: Any) -> Any:
    eps, k, gamma = p
    return eps - k * xp.exp(-gamma * x["loss_nats"])


ERROR_EXPONENTIAL = Law(
    name="error_exponential",
    formula="error = eps - k exp(-gamma L)",
    source="Gadre et al. 2024, eq. 5",
    columns=("loss_nats",),
    parameters=(amplitude("eps", lower=1e-6), amplitude("k"), exponent("gamma")),
    value=_exponential,
    target="task_error",
)


def _sigmoid(xp: Any, p: Any, x: Any) -> Any:
    floor, height, k, L0 = p
    return floor + height / (1.0 + xp.exp(-k * (x["loss_nats"] - L0)))


def _sigmoid_starts(x: Columns, y: Array) -> Array:
    """Midpoints spread over the losses seen; floor and height by variable projection."""
    low, high = float(x["loss_nats"].min()), float(x["loss_nats"].max())
    width = max(high - low, 1e-3)
    ranges = {"L0": (low - 0.5 * width, high + 0.5 * width)}
    return projected(ERROR_SIGMOID, x, y, ranges=ranges)


ERROR_SIGMOID = Law(
    name="error_sigmoid",
    formula="error = floor + height / (1 + exp(-k (L - L0)))",
    source="Bhagia et al. 2024, eq. 3, for the error in place of the accuracy",
    columns=("loss_nats",),
    parameters=(
        amplitude("floor", lower=1e-6),
        amplitude("height"),
        positive("k", (0.3, 20.0), 1e-3, 1e3),
        Parameter(name="L0", is_positive=False, lower=-50.0, upper=50.0, start=(0.1, 10.0)),
    ),
    value=_sigmoid,
    target="task_error",
    starts=_sigmoid_starts,
)

ERROR_LAWS = (ERROR_EXPONENTIAL, ERROR_SIGMOID)
