# SPDX-License-Identifier: Apache-2.0
"""Loss surfaces as data: a formula, its coordinates, its bounds and where to start.

A `Law` is written once, in logarithms, and evaluated by JAX (fitting) and by numpy (prediction).
The solver, the bootstraps and the frontier never learn which law they work on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

Array = np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Centre:
    """Geometric means of N, D and L over the fitted runs, as logarithms.

    Relative to them every coordinate of a law is of order one, whatever the units of the data.
    """

    log_n_params: float
    log_n_tokens: float
    log_loss: float


ORIGIN = Centre(log_n_params=0.0, log_n_tokens=0.0, log_loss=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """A loss surface L(N, D), declared by its parameters and one formula.

    Fields:
      parameters: names in the units of the paper, in order (E, A, B, alpha, beta, ...).
      coordinates: names of what the solver moves, same order; unconstrained but for the box.
      log_loss: (xp, coordinates, log N, log D) -> log L; xp is numpy or jax.numpy, the
        coordinates are indexed along their first axis and broadcast against log N and log D.
      to_parameters, to_coordinates: between the two, shape [..., P], given the centre.
      lower, upper: the box of the coordinates, relative to the centre.
      starts: (log N, log D, log L), all centred -> starting coordinates [S, P].
    """

    name: str
    formula: str
    source: str
    parameters: tuple[str, ...]
    coordinates: tuple[str, ...]
    log_loss: Callable[[Any, Any, Any, Any], Any]
    to_parameters: Callable[[Array, Centre], Array]
    to_coordinates: Callable[[Array, Centre], Array]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    starts: Callable[[Array, Array, Array], Array]

    def loss(self, parameters: ArrayLike, n_params: ArrayLike, n_tokens: ArrayLike) -> Array:
        """Loss in nats per token, for parameters [..., P] against broadcast N and D [...]."""
        theta = np.moveaxis(self.to_coordinates(np.asarray(parameters, float), ORIGIN), -1, 0)
        with np.errstate(invalid="ignore"):  # NaN marks a failed replicate, and stays NaN
            return np.exp(self.log_loss(np, theta, np.log(n_params), np.log(n_tokens)))

    def log_loss_of(self, parameters: Array) -> Callable[[Array, Array], Array]:
        """(log N, log D) -> log L, for parameters [R, P] against arrays [..., R, budgets]."""
        theta = np.moveaxis(self.to_coordinates(parameters, ORIGIN), -1, 0)[..., None]

        def log_loss(log_n: Array, log_d: Array) -> Array:
            with np.errstate(invalid="ignore"):  # as in loss
                return self.log_loss(np, theta, log_n, log_d)

        return log_loss


def _additive_log_loss(xp: Any, theta: Any, log_n: Any, log_d: Any) -> Any:
    reducible = xp.logaddexp(theta[1] - theta[3] * log_n, theta[2] - theta[4] * log_d)
    return xp.logaddexp(theta[0], reducible)


def _curved_log_loss(xp: Any, theta: Any, log_n: Any, log_d: Any) -> Any:
    reducible = xp.logaddexp(theta[1] - theta[3] * log_n, theta[2] - theta[4] * log_d)
    return xp.logaddexp(theta[0], xp.exp(theta[5]) * reducible)


def _additive_parameters(theta: Array, centre: Centre) -> Array:
    alpha, beta = theta[..., 3], theta[..., 4]
    log_e = theta[..., 0] + centre.log_loss
    log_a = theta[..., 1] + centre.log_loss + alpha * centre.log_n_params
    log_b = theta[..., 2] + centre.log_loss + beta * centre.log_n_tokens
    return np.stack([np.exp(log_e), np.exp(log_a), np.exp(log_b), alpha, beta], axis=-1)


def _additive_coordinates(parameters: Array, centre: Centre) -> Array:
    alpha, beta = parameters[..., 3], parameters[..., 4]
    e = np.log(parameters[..., 0]) - centre.log_loss
    a = np.log(parameters[..., 1]) - centre.log_loss - alpha * centre.log_n_params
    b = np.log(parameters[..., 2]) - centre.log_loss - beta * centre.log_n_tokens
    return np.stack([e, a, b, alpha, beta], axis=-1)


def _curved_parameters(theta: Array, centre: Centre) -> Array:
    alpha, beta, gamma = theta[..., 3], theta[..., 4], np.exp(theta[..., 5])
    log_e = theta[..., 0] + centre.log_loss
    log_a = theta[..., 1] + centre.log_loss / gamma + alpha * centre.log_n_params
    log_b = theta[..., 2] + centre.log_loss / gamma + beta * centre.log_n_tokens
    return np.stack([np.exp(log_e), np.exp(log_a), np.exp(log_b), alpha, beta, gamma], axis=-1)


def _curved_coordinates(parameters: Array, centre: Centre) -> Array:
    alpha, beta, gamma = parameters[..., 3], parameters[..., 4], parameters[..., 5]
    e = np.log(parameters[..., 0]) - centre.log_loss
    a = np.log(parameters[..., 1]) - centre.log_loss / gamma - alpha * centre.log_n_params
    b = np.log(parameters[..., 2]) - centre.log_loss / gamma - beta * centre.log_n_tokens
    return np.stack([e, a, b, alpha, beta, np.log(gamma)], axis=-1)


EXPONENT_GRID = np.geomspace(0.04, 1.6, 14)


def _amplitudes(log_n: Array, log_d: Array, log_l: Array, exponents: Array) -> tuple[Array, Array]:
    """Best E, A, B for each (alpha, beta), clipped to be positive, and the misfit of each.

    Variable projection (Golub and Pereyra 1973): with the exponents held, L is linear in the
    amplitudes; rows divided by L turn the misfit into one of log loss to first order.
    """
    powers_n = np.exp(-exponents[:, :1] * log_n)
    powers_d = np.exp(-exponents[:, 1:] * log_d)
    basis = np.stack([np.ones_like(powers_n), powers_n, powers_d], axis=-1)
    basis = basis * np.exp(-log_l)[:, None]
    normal = np.swapaxes(basis, 1, 2) @ basis + 1e-10 * np.eye(3)
    amplitudes = np.linalg.solve(normal, basis.sum(axis=1)[..., None])[..., 0]
    amplitudes = np.maximum(amplitudes, 1e-3)
    misfit = ((basis @ amplitudes[..., None])[..., 0] - 1.0) ** 2
    return amplitudes, misfit.sum(axis=1)


def additive_starts(log_n: Array, log_d: Array, log_l: Array, n_best: int = 12) -> Array:
    """Starts [S, 5]: the best cells of a grid of exponents, and as many spread over all of it."""
    exponents = np.array(list(product(EXPONENT_GRID, EXPONENT_GRID)))
    amplitudes, misfit = _amplitudes(log_n, log_d, log_l, exponents)
    order = np.argsort(misfit, kind="stable")
    chosen = np.concatenate([order[:n_best], order[n_best :: len(order) // n_best]])
    return np.concatenate([np.log(amplitudes[chosen]), exponents[chosen]], axis=1)


def curved_starts(log_n: Array, log_d: Array, log_l: Array) -> Array:
    """Starts [S, 6]: additive starts bent by gamma, each keeping its slope in N and D.

    (A N^-alpha)^gamma = A^gamma N^-(alpha gamma), so amplitude logs and exponents are divided.
    """
    additive = additive_starts(log_n, log_d, log_l, n_best=6)
    starts = []
    for log_gamma in (-1.0, -0.4, 0.0, 0.4, 1.0):
        bent = additive.copy()
        bent[:, 1:] /= np.exp(log_gamma)
        starts.append(np.column_stack([bent, np.full(len(bent), log_gamma)]))
    return np.concatenate(starts)


ADDITIVE = Law(
    name="additive",
    formula="L = E + A/N^alpha + B/D^beta",
    source="Hoffmann et al. 2022, eq. 2",
    parameters=("E", "A", "B", "alpha", "beta"),
    coordinates=("log E", "log A", "log B", "alpha", "beta"),
    log_loss=_additive_log_loss,
    to_parameters=_additive_parameters,
    to_coordinates=_additive_coordinates,
    lower=(-12.0, -25.0, -25.0, 1e-3, 1e-3),
    upper=(2.0, 10.0, 10.0, 5.0, 5.0),
    starts=additive_starts,
)

CURVED = Law(
    name="curved",
    formula="L = E + (A N^-alpha + B D^-beta)^gamma",
    source="Kaplan et al. 2020, eq. 1.5, with an irreducible loss E",
    parameters=("E", "A", "B", "alpha", "beta", "gamma"),
    coordinates=("log E", "log A", "log B", "alpha", "beta", "log gamma"),
    log_loss=_curved_log_loss,
    to_parameters=_curved_parameters,
    to_coordinates=_curved_coordinates,
    lower=(-12.0, -60.0, -60.0, 1e-3, 1e-3, -3.0),
    upper=(2.0, 30.0, 30.0, 10.0, 10.0, 3.0),
    starts=curved_starts,
)

LAWS: dict[str, Law] = {law.name: law for law in (ADDITIVE, CURVED)}


def law_named(name: str) -> Law:
    """The law of that name.

    Raises:
      ValueError: if there is none, naming those there are.
    """
    if name not in LAWS:
        raise ValueError(f"unknown loss surface {name!r}; choose one of {', '.join(LAWS)}")
    return LAWS[name]


def optimal_exponents(alpha: ArrayLike, beta: ArrayLike) -> tuple[Array, Array]:
    """Exponents (a, b) of N* ~ C^a and D* ~ C^b.

    a = beta/(alpha+beta), b = alpha/(alpha+beta): Hoffmann et al. 2022, eq. 4. Holds for
    C = 6ND only; gamma of the curved form does not move the optimum, being a monotone map.
    """
    alpha, beta = np.asarray(alpha, float), np.asarray(beta, float)
    return beta / (alpha + beta), alpha / (alpha + beta)


def optimal_params(parameters: Sequence[float] | Array, flops: ArrayLike) -> Array:
    """Compute-optimal parameter count N*(C) of the additive or curved surface.

    N* = G (C/6)^a with a = beta/(alpha+beta) and G = (alpha A / beta B)^(1/(alpha+beta)):
    Hoffmann et al. 2022, eq. 4. Holds for C = 6ND only (convention "6n_total"); under other
    conventions `compute.minimise` finds the optimum along the runs' own size ladder.

    Args:
      parameters: E, A, B, alpha, beta (and gamma, which has no influence), shape [..., P].
      flops: training budgets C, in FLOPs, > 0; broadcast against the parameters' leading axes.
    """
    values = np.asarray(parameters, float)
    A, B, alpha, beta = (values[..., i] for i in (1, 2, 3, 4))
    G = (alpha * A / (beta * B)) ** (1.0 / (alpha + beta))
    return G * (np.asarray(flops, float) / 6.0) ** (beta / (alpha + beta))
