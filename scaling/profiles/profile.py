# SPDX-License-Identifier: Apache-2.0
"""Profiles: the lowest objective with one quantity fixed, and the interval that they give.

The interval is the set of values at which the objective, minimised over all else, stays within a
threshold of its minimum (Venzon and Moolgavkar 1988), see `threshold`. It follows the objective
where that is not quadratic, and shows what no standard error does: flat stretches, other minima,
and an end that the data do not give.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from scaling.fit import Fit
from scaling.intervals import Interval
from scaling.profiles.constrained_fit import ConstrainedMinima, constrained_minima
from scaling.profiles.fixed_quantity import FixedQuantity, fix_quantity
from scaling.profiles.threshold import profile_threshold
from scaling.tables.arrays import Array
from scaling.tables.short_repr import ShortRepr

N_POINTS = 41
# Doublings of the searched range; 2^14 rough standard errors reach every bound of the box.
_WIDEN = 14
# Grids end where the excess has passed this many thresholds.
_BEYOND = 1.3
# Below this share of the threshold, values cannot be told apart. A parabola spends a third of its
# interval there; a profile that spends most of it is called flat.
_INVISIBLE, _FLAT_SHARE = 0.1, 0.6
# Share of the threshold by which the objective must rise between two minima.
_BARRIER = 0.005
# An end of the interval lies where the excess is the threshold to this share.
_CROSSED = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Profile(ShortRepr):
    """The objective along one quantity, minimised over everything else.

    Fields:
      quantity, flops: what is profiled, and at which budget if it depends on one (else None).
      estimate: its value in the fit.
      grid, objective: its values, ascending, and the lowest objective met there, [G].
      is_certified: whether that is a certified minimum; otherwise an upper bound of it, [G].
      minimum: lowest objective of all. threshold: excess over it at which the interval ends.
      interval: hull of the values within the threshold; infinite (or zero, for a positive
        quantity) where open: the objective does not rise enough before the bound of the box.
      calibration: where the threshold comes from, see `threshold`.
      flat: open, or bottomed far wider than a parabola of the same width.
    """

    quantity: str
    flops: float | None
    estimate: float
    grid: Float[Array, " G"]
    objective: Float[Array, " G"]
    is_certified: Bool[Array, " G"]
    minimum: float
    threshold: float
    level: float
    interval: Interval
    calibration: str
    flat: bool
    findings: tuple[str, ...]

    @property
    def excess(self) -> Float[Array, " G"]:
        """Objective above its minimum in units of the threshold, [G]: the interval ends at 1."""
        return (self.objective - self.minimum) / self.threshold


def profile(
    fit: Fit,
    quantity: str,
    *,
    flops: float | None = None,
    level: float | None = None,
    n_points: int = N_POINTS,
    n_bootstrap: int = 400,
    seed: int = 0,
) -> Profile:
    """The profile of one quantity of a fitted law, and its interval.

    Args:
      fit: of `fit_surface`; its objective, constraints and runs are used again.
      quantity: a parameter of the law; "a" or "b", exponents of N* and D* between the lowest and
        the highest budget; "n_params_opt", "n_tokens_opt" or "loss_opt" at `flops`.
      level: of the interval; the fit's own when not given.
      n_points: of the grid.
      n_bootstrap: replicates where the threshold needs them. seed: of those.

    Raises:
      ValueError: for a quantity that the law does not have, that a constraint fixes, or that
        cannot be fixed.
      FitError: if the objective leaves no room for a threshold: noise-free data, no replicates.
    """
    level = fit.level if level is None else level
    if not 0 < level < 1:
        raise ValueError(f"level is {level:g}, must lie between 0 and 1, e.g. 0.95")
    fixed = fix_quantity(fit, quantity, flops)
    lowest = float(constrained_minima(fixed, np.array([fixed.at])).objective[0])
    threshold, calibration = profile_threshold(
        fit, fixed, lowest, level=level, n_bootstrap=n_bootstrap, seed=seed
    )
    low, high = _bracket(fixed, lowest, threshold)
    at = np.union1d(np.linspace(low, high, n_points), _minima_between(fixed, low, high))
    found = constrained_minima(fixed, at)
    minimum = min(lowest, float(np.min(found.objective)))
    ends = _ends(fixed, at, found, minimum, threshold)
    flat, bottom = _flatness(at, (found.objective - minimum) / threshold, ends)
    order = np.argsort(fixed.value(at))
    result = Profile(
        quantity=quantity,
        flops=flops,
        estimate=float(fixed.value(np.array(fixed.at))),
        grid=fixed.value(at)[order],
        objective=found.objective[order],
        is_certified=found.is_certified[order],
        minimum=minimum,
        threshold=threshold,
        level=level,
        interval=_in_order(fixed, ends),
        calibration=calibration,
        flat=flat,
        findings=(),
    )
    return replace(result, findings=tuple(_findings(fit, result, _in_order(fixed, bottom), lowest)))


def _bracket(fixed: FixedQuantity, lowest: float, threshold: float) -> tuple[float, float]:
    """Ends of a range of the coordinate beyond the threshold on both sides, or up to the box."""
    steps, reach, far = np.array([0.25, 0.5, 0.75, 1.0]), np.full(2, 4.0 * fixed.spread), [0.0, 0.0]
    for _ in range(_WIDEN):
        offsets = np.array([[-1.0], [1.0]]) * steps * reach[:, None]
        at = np.clip(fixed.at + offsets, *fixed.box)
        found = constrained_minima(fixed, at.reshape(-1)).objective.reshape(2, -1)
        limit = min(lowest, float(found.min())) + _BEYOND * threshold
        # The last value within the limit: beyond it, other minima may lie.
        last = [int(np.max(np.flatnonzero(~(side > limit)), initial=-1)) for side in found]
        far = [float(at[s, min(last[s] + 1, len(steps) - 1)]) for s in (0, 1)]
        is_short = np.array([last[s] == len(steps) - 1 and far[s] != fixed.box[s] for s in (0, 1)])
        if not is_short.any():
            break
        reach = np.where(is_short, 2.0 * reach, reach)
    return far[0], far[1]


def _minima_between(fixed: FixedQuantity, low: float, high: float) -> Array:
    """Coordinates of the minima that the fit has met: an even grid would step over narrow ones."""
    met = np.append(fixed.found.minima[:, fixed.index], fixed.at)
    return met[(met >= low) & (met <= high)]


def _ends(
    fixed: FixedQuantity, at: Array, found: ConstrainedMinima, minimum: float, threshold: float
) -> tuple[float, float]:
    """Outermost crossings of the threshold; infinite where the grid ends below it."""
    inside = np.flatnonzero(found.objective <= minimum + threshold)
    first, last = int(inside[0]), int(inside[-1])
    lower = _cross(fixed, at, found, minimum, threshold, first, first - 1) if first else -np.inf
    is_open = last == len(at) - 1
    upper = np.inf if is_open else _cross(fixed, at, found, minimum, threshold, last, last + 1)
    return lower, upper


def _cross(
    fixed: FixedQuantity,
    at: Array,
    found: ConstrainedMinima,
    minimum: float,
    threshold: float,
    inside: int,
    outside: int,
) -> float:
    """Where the excess reaches the threshold between two neighbours of the grid."""
    near, far = float(at[inside]), float(at[outside])
    starts = [found.z[[inside]], found.z[[outside]]]
    below, above = (float(found.objective[i] - minimum) / threshold - 1 for i in (inside, outside))
    middle = near
    for _ in range(20):
        share = below / (below - above) if np.isfinite(above) else 0.5
        middle = near + float(np.clip(share, 0.05, 0.95)) * (far - near)
        objective = float(constrained_minima(fixed, np.array([middle]), starts).objective[0])
        excess = (objective - minimum) / threshold - 1
        if abs(excess) < _CROSSED:
            break
        near, below, far, above = (
            (middle, excess, far, above) if excess <= 0 else (near, below, middle, excess)
        )
    return middle


def _in_order(fixed: FixedQuantity, ends: tuple[float, float]) -> Interval:
    values = np.sort(fixed.value(np.array(ends)))
    return Interval(lower=float(values[0]), upper=float(values[1]))


def _flatness(
    at: Array, excess: Array, ends: tuple[float, float]
) -> tuple[bool, tuple[float, float]]:
    """Whether the profile is flat, and the range over which its rise is invisible."""
    bottom = at[excess <= _INVISIBLE]
    low, high = np.clip(ends, at[0], at[-1])
    share = (bottom[-1] - bottom[0]) / max(high - low, 1e-300)
    is_open = not np.all(np.isfinite(ends))
    return bool(is_open or share > _FLAT_SHARE), (float(bottom[0]), float(bottom[-1]))


def _findings(fit: Fit, found: Profile, bottom: Interval, lowest: float) -> list[str]:
    """What a reader must know before the interval."""
    name, interval, objective = found.quantity, found.interval, found.objective
    sentences = [] if fit.is_certified else [f"the fit is {fit.status.name}: {fit.status.value}."]
    if found.flat:
        sentences.append(
            f"{name} is nearly flat from {bottom.lower:.3g} to {bottom.upper:.3g}: the objective "
            f"rises by less than {_INVISIBLE:g} of what ends the {100 * found.level:g} % interval."
        )
    grid = found.grid
    ends = (
        ("below", interval.lower < grid[0], grid[0]),
        ("above", interval.upper > grid[-1], grid[-1]),
    )
    sentences += [
        f"{name} is open {side}: up to the bound of its box, {bound:.3g}, the objective does not "
        "rise to the threshold."
        for side, is_open, bound in ends
        if is_open
    ]
    sentences += _minima_findings(found, lowest)
    n_doubtful = int(np.sum(~found.is_certified))
    if n_doubtful:
        sentences.append(
            f"{n_doubtful} of {len(objective)} fixed values have no certified minimum: the profile "
            "there is an upper bound, and the interval may be too narrow."
        )
    return sentences


def _minima_findings(found: Profile, lowest: float) -> list[str]:
    # Longer to import than most fits take.
    from scipy.signal import find_peaks

    sentences, objective = [], found.objective
    minima = find_peaks(-objective, prominence=_BARRIER * found.threshold)[0]
    if len(minima) > 1:
        listed = ", ".join(f"{found.grid[i]:.4g} ({found.excess[i]:.2g})" for i in minima)
        sentences.append(
            f"{found.quantity} has {len(minima)} minima along its profile, at {listed}; in "
            "brackets their excess in units of the threshold."
        )
    inside = np.flatnonzero(objective <= found.minimum + found.threshold)
    if len(inside) != inside[-1] - inside[0] + 1:
        sentences.append(
            "the interval is the hull of several pieces: values between them fit worse."
        )
    if lowest - found.minimum > 1e-3 * found.threshold:
        at = found.grid[int(np.argmin(objective))]
        sentences.append(
            f"the profile meets a lower objective ({found.minimum:.8g} at {at:.4g}) than the fit "
            f"({lowest:.8g}): the fit is not the global minimum."
        )
    return sentences
