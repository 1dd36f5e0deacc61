# SPDX-License-Identifier: Apache-2.0
"""What planned runs would tell of a target: both jointly normal, for each draw of the law."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.special import stdtrit

from scaling.design.posterior import LawPosterior
from scaling.design.prior import N_ADDITIVE
from scaling.design.scatter import effects
from scaling.design.target import Target
from scaling.laws.size_ladder import Ladder
from scaling.tables.arrays import Array
from scaling.tables.runs import COLUMNS, Runs
from scaling.tables.units import power
from scaling.uncertainty.groups import configurations

# Of the largest variance of the target in any draw: below it a draw says that nothing moves it.
_STILL = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """Draws of target and losses to come, jointly normal: what runs would tell.

    Fields:
      target: covariance of the target, [R, T, T]. cross: with the planned losses, [R, T, n].
      shared: covariance of the planned losses but for each run's own noise, before any of them is
        known, [R, n, n]; told: what those that are known by now take from it, as factors [R, k, n]
        (a pivoted Cholesky decomposition: n numbers a step instead of n^2).
      variance: of the planned losses now, [R, n]. own: each run's own noise, [R, n]; noise: with
        what it shares with its trunk.
      config: label of each planned (N, D), [n]; seen: labels of the finished ones.
    """

    target: Float[Array, "R T T"]
    cross: Float[Array, "R T n"]
    shared: Float[Array, "R n n"]
    told: Float[Array, "R k n"]
    variance: Float[Array, "R n"]
    own: Float[Array, "R n"]
    noise: Float[Array, "R n"]
    config: Int[Array, " n"]
    seen: frozenset[int]

    @classmethod
    def of(
        cls,
        *,
        target: Float[Array, "R T T"],
        cross: Float[Array, "R T n"],
        shared: Float[Array, "R n n"],
        own: Float[Array, "R n"],
        noise: Float[Array, "R n"],
        config: Int[Array, " n"],
        seen: Iterable[int],
    ) -> Outlook:
        """Before any planned run is known."""
        return cls(
            target=target,
            cross=cross,
            shared=shared,
            told=np.zeros((len(own), 0, own.shape[1])),
            variance=np.einsum("rnn->rn", shared) + own,
            own=own,
            noise=noise,
            config=config,
            seen=frozenset(seen),
        )

    def gains(self) -> Float[Array, " n"]:
        """Expected fall of the log squared width of the target's interval by each run, [n]."""
        solved = np.linalg.solve(self.target, self.cross)
        told = np.sum(solved * self.cross, axis=1) / self.variance
        fall = -np.mean(np.log1p(-np.minimum(told, 1 - 1e-12)), axis=0)
        is_new = np.array([c not in self.seen for c in self.config])
        before, after = (log_spread(len(self.seen) + k) for k in (0, 1))
        return fall + 2 * self.target.shape[1] * (before - after) * is_new

    def surprises(self) -> Float[Array, " n"]:
        """Mean over draws of the information of each run about the law as a whole, [n]."""
        return np.mean(np.log(self.variance / self.noise), axis=0)

    def given(self, chosen: Sequence[int] | Array) -> Outlook:
        """The outlook when those runs are finished, a row as often as it is named."""
        if not len(chosen):
            return self
        rows = np.asarray(chosen)
        left = self.shared[:, rows] - np.swapaxes(self.told[:, :, rows], 1, 2) @ self.told
        noise = self.own[:, rows, None] * np.eye(len(rows))
        root = np.linalg.cholesky(left[:, :, rows] + noise)
        of_losses = np.linalg.solve(root, left)
        of_target = np.linalg.solve(root, np.swapaxes(self.cross[:, :, rows], 1, 2))
        to_target = np.swapaxes(of_target, 1, 2)
        return replace(
            self,
            target=self.target - to_target @ of_target,
            cross=self.cross - to_target @ of_losses,
            told=np.concatenate([self.told, of_losses], axis=1),
            variance=self.variance - np.sum(of_losses**2, axis=1),
            seen=self.seen | set(self.config[rows].tolist()),
        )

    @property
    def log_width(self) -> float:
        """Mean over draws of the log determinant of the target's covariance, t included, halved."""
        size = self.target.shape[1]
        return 0.5 * float(np.mean(np.linalg.slogdet(self.target)[1])) + size * log_spread(
            len(self.seen)
        )


def log_spread(n_configurations: int) -> float:
    """Log of Student's t at 95 % with the degrees of freedom that an additive fit leaves.

    Below one degree of freedom each configuration counts as the step from one to two does.
    """
    dof = n_configurations - N_ADDITIVE
    steps = max(1 - dof, 0)
    first, second = np.log(stdtrit([1, 2], 0.975))
    return float(np.log(stdtrit(max(dof, 1), 0.975)) + steps * (first - second))


def outlook(posterior: LawPosterior, target: Target, planned: Runs) -> Outlook:
    """What is expected of planned runs, given the finished ones.

    Args:
      planned: losses are not read (they may be NaN).
    """
    done, prior = posterior.runs, posterior.prior
    both = joined(done, planned)
    slopes = target.slopes(prior, posterior.phi, Ladder.from_runs(both))
    # Where the optimum sits on a corner of the ladder no parameter moves it: nothing is learned.
    size = np.sum((slopes * prior.sd) ** 2, axis=2)
    is_finite = np.all(np.isfinite(slopes), axis=(1, 2))
    largest = np.max(size[is_finite], axis=0, initial=0.0)
    good = is_finite & np.all(size > _STILL * largest, axis=1)
    if not np.any(good):
        raise ValueError(
            f"the {target.name} at {power(target.flops)} FLOPs does not depend on the law in any "
            "draw: choose another target, or a budget whose optimum lies among the study's sizes"
        )
    phi, n = posterior.phi[good], len(done)
    log_loss = prior.log_loss(phi, both)
    scale = posterior.scatter.scale(log_loss)
    scale[:, :n] /= np.sqrt(posterior.weights)
    together, own = effects(both, posterior.scatter)
    jacobian = np.concatenate([slopes[good], prior.slopes(phi, both)], axis=1) * prior.sd
    covariance = jacobian @ np.swapaxes(jacobian, 1, 2)
    n_target = slopes.shape[1]
    losses = slice(n_target, None)
    covariance[:, losses, losses] += together * scale[:, :, None] * scale[:, None]
    own, noise = own * scale**2, posterior.scatter.own * scale**2
    first, rest = n_target + np.arange(n), np.r_[:n_target, n_target + n : n_target + len(both)]
    known = covariance[:, first][:, :, first] + own[:, :n, None] * np.eye(n)
    with_known = covariance[:, first][:, :, rest]
    told = np.swapaxes(with_known, 1, 2) @ np.linalg.solve(known, with_known)
    left = covariance[:, rest][:, :, rest] - told
    config = configurations(both)
    return Outlook.of(
        target=left[:, :n_target, :n_target],
        cross=left[:, :n_target, n_target:],
        shared=left[:, n_target:, n_target:],
        own=own[:, n:],
        noise=noise[:, n:],
        config=config[n:],
        seen=config[:n].tolist(),
    )


def joined(done: Runs, planned: Runs) -> Runs:
    """The rows of both, in the planned runs' conventions."""
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(done, name), getattr(planned, name)]) for name in COLUMNS
    }
    return Runs(
        **columns,
        params_convention=planned.params_convention,
        flops_convention=planned.flops_convention,
    )
