# SPDX-License-Identifier: Apache-2.0
"""Laws as data: a formula over named columns, and what is known of its parameters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from scaling.fit import EXPONENTS
from scaling.tables.arrays import Array

Columns = Mapping[str, Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a law, in the units of its paper.

    Fields:
      is_positive: the solver moves its logarithm; otherwise the parameter itself.
      lower, upper: the box, in the paper's units.
      start: the range that starts are spread over (evenly in what the solver moves).
      is_amplitude: given the other parameters the law's value is linear in it, so that starts
        need no range: variable projection finds it (Golub and Pereyra 1973).
      is_constant: an amplitude that is a term by itself, as E is; see `solve/newton_step.py`.
    """

    name: str
    is_positive: bool
    lower: float
    upper: float
    start: tuple[float, float]
    is_amplitude: bool = False
    is_constant: bool = False

    def coordinate(self, value: ArrayLike) -> Array:
        """What the solver moves."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return (
                np.log(np.asarray(value, float)) if self.is_positive else np.asarray(value, float)
            )

    @property
    def coordinate_name(self) -> str:
        return f"log {self.name}" if self.is_positive else self.name


def amplitude(name: str, lower: float = 1e-30, upper: float = 1e60) -> Parameter:
    """A positive parameter in which the law is linear."""
    return Parameter(
        name=name, is_positive=True, lower=lower, upper=upper, start=(lower, upper),
        is_amplitude=True,
    )  # fmt: skip


# What no run goes below. The second is stepped itself, not its logarithm (solve/newton_step.py): in
# laws for which that was seen to take fewer steps to the same minima.
FLOOR = amplitude("E", lower=1e-6)
CONSTANT_FLOOR = replace(FLOOR, is_constant=True)


def exponent(name: str, lower: float = 1e-3, upper: float = 5.0) -> Parameter:
    """An exponent; starts between 0.04 and 1.6."""
    start = (max(lower, 0.04), min(upper, 1.6))
    return Parameter(name=name, is_positive=False, lower=lower, upper=upper, start=start)


def positive(name: str, start: tuple[float, float], lower: float, upper: float) -> Parameter:
    """A positive parameter in which the law is not linear."""
    return Parameter(name=name, is_positive=True, lower=lower, upper=upper, start=start)


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """A formula over the columns of a table.

    Fields:
      columns: what it reads. A name with the prefix log_ is the natural logarithm of a column.
      parameters: in the order in which `value` takes them.
      value: (xp, p, x) -> predicted target; xp is numpy or jax.numpy, p the parameters in order,
        x the columns. Broadcasts: p[i] may be [R, 1] against columns [n]. Row by row: what it
        predicts of a row takes nothing of the others (the solver gives it one row at a time).
      target: the column that it predicts.
      starts: (x, y) -> starting parameters [S, P] in the paper's units, for laws whose starts
        variable projection and ranges do not find; None for all others.
      score: what admits it: how it predicts rows held out at the far end of a public table.
      may_vanish: amplitudes without which the law is a law of its own: where they are zero at the
        minimum, that law is certified.
    """

    name: str
    formula: str
    source: str
    columns: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    value: Callable[[Any, Any, Mapping[str, Any]], Any]
    target: str = "loss_nats"
    starts: Callable[[Columns, Array], Array] | None = None
    score: str = ""
    may_vanish: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if taken := set(self.names) & set(EXPONENTS):
            raise ValueError(
                f"law {self.name} has a parameter {min(taken)}, which is the name of an exponent "
                "of the optimum; call it otherwise"
            )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        return tuple(parameter.coordinate_name for parameter in self.parameters)

    @property
    def is_surface(self) -> bool:
        """Whether it gives the loss from parameters and tokens alone."""
        return self.target == "loss_nats" and set(self.columns) == {"log_n_params", "log_n_tokens"}

    def to_coordinates(self, parameters: ArrayLike) -> Array:
        """What the solver moves, [..., P], from parameters [..., P]."""
        values = np.asarray(parameters, float)
        columns = [p.coordinate(values[..., i]) for i, p in enumerate(self.parameters)]
        return np.stack(columns, axis=-1)

    def to_parameters(self, coordinates: ArrayLike) -> Array:
        """Parameters [..., P] from what the solver moves, [..., P]."""
        theta = np.asarray(coordinates, float)
        is_positive = np.array([p.is_positive for p in self.parameters])
        with np.errstate(over="ignore"):
            return np.where(is_positive, np.exp(np.where(is_positive, theta, 0.0)), theta)

    def predict(self, parameters: ArrayLike, x: Mapping[str, ArrayLike]) -> Array:
        """Predicted target [..., n] for parameters [..., P] and columns [n].

        Columns may be given themselves (n_params) or as logarithms (log_n_params).
        """
        p = np.moveaxis(np.asarray(parameters, float), -1, 0)[..., None]
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            return np.asarray(self.value(np, p, self.read(x)))

    def read(self, table: Mapping[str, ArrayLike]) -> dict[str, Array]:
        """The columns that the law reads, logarithms taken where it asks for them.

        Raises:
          ValueError: for a column that the table does not have.
        """
        found = {}
        for name in self.columns:
            plain = name.removeprefix("log_")
            if name in table:
                found[name] = np.asarray(table[name], float)
            elif plain in table:
                with np.errstate(divide="ignore", invalid="ignore"):
                    found[name] = np.log(np.asarray(table[plain], float))
            else:
                raise ValueError(
                    f"law {self.name} ({self.formula}) needs the column {plain}; "
                    f"there are {', '.join(sorted(table)) or 'none'}"
                )
        return found

    def loss(self, parameters: ArrayLike, n_params: ArrayLike, n_tokens: ArrayLike) -> Array:
        """Loss in nats per token of a surface, for parameters [..., P] against broadcast N, D."""
        p = np.moveaxis(np.asarray(parameters, float), -1, 0)
        return self._surface(p, np.log(n_params), np.log(n_tokens))

    def log_loss_of(self, parameters: Float[Array, "R P"]) -> Callable[[Array, Array], Array]:
        """(log N, log D) -> log L of a surface, for parameters [R, P], arrays [..., R, budgets]."""
        p = np.moveaxis(np.asarray(parameters, float), -1, 0)[..., None]
        return lambda log_n, log_d: np.log(self._surface(p, log_n, log_d))

    def _surface(self, p: Any, log_n: Array, log_d: Array) -> Array:
        if not self.is_surface:
            raise ValueError(
                f"law {self.name} reads {', '.join(self.columns)} and predicts {self.target}: it "
                "has no loss surface over n_params and n_tokens alone"
            )
        with np.errstate(invalid="ignore", over="ignore"):  # NaN marks a failed replicate
            return self.value(np, p, {"log_n_params": log_n, "log_n_tokens": log_d})
