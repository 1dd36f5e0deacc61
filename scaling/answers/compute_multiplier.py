# SPDX-License-Identifier: Apache-2.0
"""The compute multiplier: how much more compute A needs than B for the same loss."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from scaling.answers.frontier import budgets_of, frontier
from scaling.answers.frontier_loss import compute_at, frontier_loss
from scaling.fit import SCHEMA_VERSION, Fit, FitError
from scaling.json_values import encode
from scaling.tables.arrays import Array
from scaling.tables.short_repr import ShortRepr, aligned
from scaling.tables.units import NATS, NATS_HIDDEN, NATS_TARGET, power

# Levels of the curve, and rows of a table of it.
N_LEVELS, N_SHOWN = 25, 5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Multiplier(ShortRepr):
    """C_A / C_B at equal loss along two frontiers, per level of loss, [B].

    Fields:
      loss: the levels, in `loss_unit`. flops_a, flops_b: compute that reaches them.
      ratio: C_A / C_B; above 1, B needs less compute. lower, upper: its interval; infinite or 0
        where a share of the replicates never reaches the level; NaN without replicates.
      is_extrapolated: the level lies outside what the runs of A or of B support.
    """

    loss: Float[Array, " B"]
    flops_a: Float[Array, " B"]
    flops_b: Float[Array, " B"]
    ratio: Float[Array, " B"]
    lower: Float[Array, " B"]
    upper: Float[Array, " B"]
    is_extrapolated: Bool[Array, " B"]
    level: float
    is_certified: bool
    findings: tuple[str, ...]
    loss_unit: str = NATS

    @property
    def shown(self) -> Int[Array, " few"]:
        """Levels for a table: at most N_SHOWN of the curve, its ends among them."""
        n = len(self.loss)
        return np.unique(np.linspace(0, n - 1, min(n, N_SHOWN)).round().astype(int))

    def _told(self) -> list[str]:
        """A line per level of loss, of some."""
        rows = [("loss", "FLOPs of A", "FLOPs of B", "C_A/C_B", "")]
        for i in self.shown:
            rows.append(
                (
                    f"{self.loss[i]:.4f}",
                    power(self.flops_a[i]),
                    power(self.flops_b[i]),
                    f"{self.ratio[i]:.3g} ({self.lower[i]:.3g} to {self.upper[i]:.3g})",
                    "extrapolated" * bool(self.is_extrapolated[i]),
                )
            )
        status = "certified" if self.is_certified else "not certified"
        head = "compute of A over that of B at equal loss (above 1: B needs less)"
        n_found = len(self.findings)
        found = f"{n_found} finding{'s' * (n_found != 1)}"
        tail = f"{100 * self.level:g} % intervals; {status}; {found}"
        return [head, *aligned(rows), tail]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; an open end of an interval becomes null."""
        return {"schema_version": SCHEMA_VERSION, **encode(self)}


def compute_multiplier(
    a: Fit,
    b: Fit,
    *,
    flops: ArrayLike | None = None,
    level: float | None = None,
    paired: bool = False,
    names: tuple[str, str] = ("A", "B"),
) -> Multiplier:
    """C_A / C_B at equal loss, above 1 where B needs less.

    Solves L*_B(C_B) = L*_A(C_A) for each level of loss. The multiplier is a curve over the loss
    and no constant where exponents differ (2511.21622).
    Both sides of a level are solved in every replicate of either fit; the two sets of replicates
    are independent, as the two sets of runs are, and are paired one to one. Noise that runs of one
    fit share is in its replicates; noise that runs of A and of B share (branches of one trunk
    under two recipes) is not respected, and is named in the findings. The losses must be
    of the same tokens under the same tokenizer: nothing in the tables shows whether they are.

    Args:
      a, b: fits with a frontier (a surface or power laws), in the same conventions.
      flops: of A, at which the levels are taken; by default N_LEVELS, evenly spaced in log C_A
        over the losses that both sets of runs have reached, or over A's runs where there are none.
      level: of the interval; A's own when not given.
      paired: replicate r of B belongs to that of A, as in `fit_shared_exponents`.
      names: of the two, for the findings.

    Raises:
      ValueError: if conventions differ, or a budget is not positive and finite.
      FitError: if a frontier cannot be computed, or B reaches none of the levels.
    """
    _require_one_convention(a, b)
    front_a, front_b = frontier_loss(a), frontier_loss(b)
    at = _levels(a, b, front_a, front_b) if flops is None else budgets_of(flops)
    log_loss = front_a(np.log(at)[None, :], slice(0, 1))[0]
    if not np.isfinite(log_loss).any():
        raise FitError(f"{names[0]} has no optimum at these budgets; its fit is {a.status.name}")
    log_a, log_b = compute_at(a, front_a, log_loss), compute_at(b, front_b, log_loss)
    if not np.isfinite(log_a[0]).any() or not np.isfinite(log_b[0]).any():
        low, high = np.exp([np.nanmin(log_loss), np.nanmax(log_loss)])
        raise FitError(
            f"{names[1]} reaches none of the losses of {names[0]}, {low:.4f} to {high:.4f}; "
            "compare at other FLOPs."
        )
    level = a.level if level is None else level
    draws = _ratio_draws(log_a[1:], log_b[1:], paired)
    lower, upper = _interval(draws, level)
    beyond = _is_beyond(a, np.exp(log_a[0])) | _is_beyond(b, np.exp(log_b[0]))
    fits = dict(zip(names, (a, b), strict=True))
    return Multiplier(
        loss=np.exp(log_loss),
        flops_a=np.exp(log_a[0]),
        flops_b=np.exp(log_b[0]),
        ratio=np.exp(log_a[0] - log_b[0]),
        lower=lower,
        upper=upper,
        is_extrapolated=beyond,
        level=level,
        is_certified=a.is_certified and b.is_certified,
        findings=tuple(_findings(fits, beyond, draws, lower, upper)),
        loss_unit=a.runs.loss_name if a.runs.loss_name == b.runs.loss_name else a.runs.loss_unit,
    )


def _ratio_draws(log_a: Array, log_b: Array, paired: bool) -> Array:
    """C_A/C_B [R, B] of pairs of replicates.

    Those of independent fits are shuffled: two bootstraps of one seed draw the same numbers, and
    replicates of equal rank would move together.
    """
    n = min(len(log_a), len(log_b))
    partners = (log_a if paired else np.random.default_rng(0).permutation(log_a))[:n]
    with np.errstate(invalid="ignore", over="ignore"):
        return np.exp(partners - log_b[:n])


def _require_one_convention(a: Fit, b: Fit) -> None:
    kinds = [(f.runs.params_convention, f.runs.flops_convention) for f in (a, b)]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"A counts {kinds[0][0]} parameters and {kinds[0][1]} FLOPs, B {kinds[1][0]} and "
            f"{kinds[1][1]}: read both under one convention"
        )
    units = [f.runs.loss_unit for f in (a, b)]
    if units[0] != units[1]:
        way_out = "read both in one unit"
        asked = {NATS_HIDDEN: "a token that is hidden", NATS_TARGET: "a target given its source"}
        for unit in asked.keys() & units:
            way_out = f"{asked[unit]} is another question, and none is the other's equal"
        raise ValueError(f"losses of A are {units[0]}, of B {units[1]}: {way_out}")


def _levels(
    a: Fit,
    b: Fit,
    front_a: Callable[[Array, " slice"], Array],
    front_b: Callable[[Array, " slice"], Array],
) -> Array:
    """FLOPs of A, evenly spaced in logarithm over the losses that both frontiers span."""
    ends_a = np.log([a.fitted_runs.flops.min(), a.fitted_runs.flops.max()])
    ends_b = np.log([b.fitted_runs.flops.min(), b.fitted_runs.flops.max()])
    of_b = front_b(ends_b[None, :], slice(0, 1))[0]
    same = compute_at(a, lambda log_c, _: front_a(log_c, slice(0, 1)), of_b)[0]
    low = max(ends_a[0], same[0]) if np.isfinite(same[0]) else ends_a[0]
    high = min(ends_a[1], same[1]) if np.isfinite(same[1]) else ends_a[1]
    if not low < high:
        low, high = ends_a
    return np.exp(np.linspace(low, high, N_LEVELS))


def _interval(draws: Array, level: float) -> tuple[Array, Array]:
    """Ends of the percentile interval [B]; infinite draws count, NaN ones do not."""
    lower, upper = np.full((2, draws.shape[1]), np.nan)
    for i, column in enumerate(draws.T):
        known = column[~np.isnan(column)]
        if len(known) >= 2:
            # No interpolation between a number and infinity.
            tail = (1 - level) / 2
            lower[i] = np.quantile(known, tail, method="lower")
            upper[i] = np.quantile(known, 1 - tail, method="higher")
    return lower, upper


def _is_beyond(fit: Fit, flops: Array) -> Array:
    """Whether compute, or the size it asks for, lies outside the runs of a fit."""
    beyond = np.ones(len(flops), bool)
    known = np.isfinite(flops) & (flops > 0)
    if known.any():
        beyond[known] = frontier(fit, flops[known]).is_extrapolated
    return beyond


def _findings(
    fits: Mapping[str, Fit], beyond: Array, draws: Array, lower: Array, upper: Array
) -> Sequence[str]:
    sentences = [
        f"not certified: {name} is {fit.status.name}, {fit.status.value}."
        for name, fit in fits.items()
        if not fit.is_certified
    ]
    bounds = [name for name, fit in fits.items() if fit.fitted_runs.is_bound.any()]
    if bounds:
        names = " and ".join(bounds)
        sentences.append(
            f"losses of {names} are upper bounds: this is compute at equal bound, and the true "
            f"loss of {names} is reached with at most as much."
        )
    if beyond.any():
        sentences.append(
            f"{int(beyond.sum())} of {len(beyond)} levels lie outside the budgets or the sizes of "
            f"the runs of {' or '.join(fits)}: extrapolation."
        )
    known = ~np.isnan(lower)
    if known.any() and lower[known].max() > upper[known].min():
        sentences.append(
            "no one number lies in the interval at every loss: the multiplier changes."
        )
    n_common = len(set.intersection(*map(_trunks, fits.values())))
    if n_common:
        sentences.append(
            f"{n_common} trunks (cluster_id) have runs of {' and of '.join(fits)}, whose noise is "
            "then in part the same; the interval takes it for independent."
        )
    lost = int(np.max(np.sum(np.isnan(draws), axis=0), initial=0))
    if lost:
        sentences.append(
            f"up to {lost} of {len(draws)} pairs of replicates have no frontier at a level and are "
            "left out: its interval is likely too narrow."
        )
    never = int(np.max(np.sum(np.isinf(draws) | (draws == 0), axis=0), initial=0))
    if never:
        sentences.append(
            f"up to {never} of {len(draws)} pairs of replicates never reach a level: its interval "
            "is open."
        )
    if not len(draws):
        sentences.append("without replicates of both fits there is no interval.")
    return sentences


def _trunks(fit: Fit) -> set[str]:
    """cluster_id of several runs: other ones may be line numbers, alike in any two tables."""
    names, counts = np.unique(fit.fitted_runs.cluster_id, return_counts=True)
    return set(names[counts > 1].tolist())
