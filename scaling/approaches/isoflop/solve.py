# SPDX-License-Identifier: Apache-2.0
"""Weighted least squares of the joint isoFLOP law, for many replicates at once.

Minima of budgets and kappa are linear and projected out (Golub and Pereyra 1973); the three other
coordinates move by damped Gauss-Newton steps (Levenberg 1944, Marquardt 1963).
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int, Real

from scaling.approaches.isoflop.law import A_RANGE, G_RANGE, NAMES, Grid
from scaling.fit import Certificate, FitStatus
from scaling.tables.arrays import Array

_MOST_STEPS = 60
# Newton decrement over the objective: at the first a row ends, the second counts as a minimum.
_STOP, CERTIFIED = 1e-12, 1e-9
# No step is longer, in any coordinate.
_LONGEST = 0.5
# The optimum at the reference may lie a decade beyond the sizes; further, nothing tells it.
_BEYOND = np.log(10.0)
# Rows whose objectives differ by less have met.
_SAME = 1e-6
_SMALL_STEP = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Solutions:
    """Where each row ended.

    Fields:
      theta: coordinates, see `isoflop_law.NAMES`. kappa: nats. minima: nats. objective: half the
        weighted squares. decrement: what one more step is predicted to gain.
    """

    theta: Float[Array, "R 3"]
    kappa: Float[Array, " R"]
    minima: Float[Array, "R B"]
    objective: Float[Array, " R"]
    decrement: Float[Array, " R"]

    @property
    def is_minimum(self) -> Array:
        """Rows that converged with curves that open upward."""
        small = self.decrement <= CERTIFIED * self.objective + 1e-26
        return small & (self.kappa > 0) & np.all(np.isfinite(self.minima), axis=1)

    def rows(self, which: Int[Array, " k"]) -> "Solutions":
        """Some rows."""
        return Solutions(**{name: getattr(self, name)[which] for name in self.__slots__})

    def and_minima_of(self, other: "Solutions") -> "Solutions":
        """These rows, then the others: NaN where those are no minimum."""
        lost = ~other.is_minimum
        both = {}
        for name in self.__slots__:
            values = getattr(other, name).copy()
            values[lost] = np.nan
            both[name] = np.concatenate([getattr(self, name), values])
        return Solutions(**both)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Problem:
    """Losses [R, n] in nats with their weights [R, n], over one grid."""

    grid: Grid
    losses: Float[Array, "R n"]
    weights: Real[Array, "R n"]

    @property
    def box(self) -> tuple[Float[Array, " 3"], Float[Array, " 3"]]:
        """Lowest and highest coordinates."""
        x = self.grid.x
        ends = ((x.min() - _BEYOND, x.max() + _BEYOND), A_RANGE, G_RANGE)
        lower, upper = np.array(ends).T
        return lower, upper

    def project(self, theta: Array) -> tuple[Array, Array, Array, Array]:
        """kappa [R], objective [R], residuals and centred rises [R, n] at the coordinates."""
        rises = self.centred(self.grid.rises(theta))
        losses = self.centred(self.losses)
        squares = np.sum(self.weights * rises**2, axis=1)
        kappa = np.sum(self.weights * rises * losses, axis=1) / np.maximum(squares, 1e-300)
        rest = losses - kappa[:, None] * rises
        return kappa, 0.5 * np.sum(self.weights * rest**2, axis=1), rest, rises

    def centred(self, values: Array) -> Array:
        """Values [R, n] over their weighted means at each budget."""
        return values - self.means(values)[:, self.grid.label]

    def means(self, values: Array) -> Array:
        """Weighted means of values [R, n] at each budget, [R, B]; 0 where no run weighs."""
        is_at = self.grid.is_at
        return (self.weights * values) @ is_at / np.maximum(self.weights @ is_at, 1e-300)

    def rows(self, which: Int[Array, " k"]) -> "Problem":
        """The problem of some rows."""
        return replace(self, losses=self.losses[which], weights=self.weights[which])

    def normal(self, theta: Array) -> tuple[Array, Array]:
        """Gauss-Newton matrix [R, 3, 3] and descent direction's right side [R, 3]."""
        kappa, _, rest, rises = self.project(theta)
        slopes = np.moveaxis(self.grid.slopes(theta), -1, 0) * kappa[:, None]
        squares = np.maximum(np.sum(self.weights * rises**2, axis=1), 1e-300)
        columns = []
        for column in map(self.centred, slopes):
            # What a change of kappa does is projected out, as changes of the minima are.
            along = np.sum(self.weights * rises * column, axis=1) / squares
            columns.append(column - along[:, None] * rises)
        J = np.stack(columns, axis=-1)
        weighted = self.weights[:, :, None] * J
        return np.swapaxes(weighted, 1, 2) @ J, np.sum(weighted * rest[:, :, None], axis=1)


def solve(problem: Problem, start: Float[Array, "R 3"]) -> Solutions:
    """The minimum that each row reaches from its start."""
    lower, upper = problem.box
    theta = np.clip(start, lower, upper)
    objective = problem.project(theta)[1]
    damping, decrement = np.full(len(theta), 1e-2), np.full(len(theta), np.inf)
    going = np.arange(len(theta))
    for _ in range(_MOST_STEPS):
        here = problem.rows(going)
        A, b = _free(*here.normal(theta[going]), theta[going], lower, upper)
        decrement[going] = 0.5 * np.sum(b * _solved(A, b), axis=1)
        is_left = (decrement[going] > _STOP * objective[going] + 1e-28) & (damping[going] < 1e12)
        left = np.flatnonzero(is_left)
        going, here, A, b = going[left], here.rows(left), A[left], b[left]
        if not len(going):
            break
        damped = A * (1.0 + damping[going, None, None] * np.eye(A.shape[-1]))
        step = np.clip(_solved(damped, b), -_LONGEST, _LONGEST)
        trial = np.clip(theta[going] + step, lower, upper)
        value = here.project(trial)[1]
        better = value < objective[going]
        damping[going] *= np.where(better, 0.2, 8.0)
        moved = going[better]
        theta[moved], objective[moved] = trial[better], value[better]
    kappa, objective, *_ = problem.project(theta)
    left = problem.losses - kappa[:, None] * problem.grid.rises(theta)
    has_runs = problem.weights @ problem.grid.is_at > 0
    return Solutions(
        theta=theta,
        kappa=kappa,
        minima=np.where(has_runs, problem.means(left), np.nan),
        objective=objective,
        decrement=decrement,
    )


def _free(A: Array, b: Array, theta: Array, lower: Array, upper: Array) -> tuple[Array, Array]:
    """Normal equations of the coordinates that no bound holds; the others stay."""
    is_held = ((theta <= lower) & (b < 0)) | ((theta >= upper) & (b > 0))
    is_free = ~is_held[:, :, None] & ~is_held[:, None, :]
    return np.where(is_free, A, np.eye(A.shape[-1])), np.where(is_held, 0.0, b)


def _solved(A: Array, b: Array) -> Array:
    size = np.trace(A, axis1=1, axis2=2)[:, None, None]
    return np.linalg.solve(A + (1e-13 * size + 1e-200) * np.eye(A.shape[-1]), b[..., None])[..., 0]


def starts(grid: Grid) -> Float[Array, "S 3"]:
    """Coordinates to begin from: places over the sizes, usual exponents."""
    places = np.quantile(grid.x, [0.02, 0.25, 0.5, 0.75, 0.98])
    return np.array([(place, a, 0.1) for place in places for a in (0.35, 0.65)])


def certify(problem: Problem, found: Solutions, row: int) -> tuple[FitStatus, Certificate]:
    """Status and certificate of the best of several starts on one set of data."""
    theta = found.theta[[row]]
    one = problem.rows(np.array([row]))
    steps = _SMALL_STEP * np.eye(theta.shape[1])
    pairs = [(one.normal(theta + s)[1][0], one.normal(theta - s)[1][0]) for s in steps]
    hessian = np.stack([(down - up) / (2.0 * _SMALL_STEP) for up, down in pairs])
    hessian = 0.5 * (hessian + hessian.T)
    scale = 1.0 / np.sqrt(np.abs(np.diag(hessian)) + 1e-300)
    scaled = np.linalg.eigvalsh(hessian * scale[:, None] * scale)
    lower, upper = problem.box
    touched = [
        (name, f"{name} at its {'lower' if value <= low else 'upper'} bound")
        for name, value, low, high in zip(NAMES, theta[0], lower, upper, strict=True)
        if not low < value < high
    ]
    best = float(found.objective[row])
    with np.errstate(invalid="ignore", divide="ignore"):
        excess = found.objective / max(best, 1e-300) - 1.0
    agree = (excess < _SAME) | (np.max(np.abs(found.theta - theta), axis=1) < 1e-5)
    others = found.is_minimum & ~agree
    certificate = Certificate(
        objective=best,
        gradient_norm=float(np.linalg.norm(one.normal(theta)[1])),
        newton_decrement=float(found.decrement[row]),
        hessian_eigenvalues=tuple(float(v) for v in np.linalg.eigvalsh(hessian)),
        condition=float(scaled[-1] / scaled[0]) if scaled[0] > 0 else None,
        n_starts=len(found.objective),
        n_starts_agree=int(agree.sum()),
        next_best_excess=float(excess[others].min()) if others.any() else None,
        bounds_touched=tuple(sentence for _, sentence in touched),
        at_bound=tuple(name for name, _ in touched),
    )
    if touched:
        return FitStatus.AT_BOUND, certificate
    if not scaled[0] > 0:
        return FitStatus.NOT_CONVEX, certificate
    return FitStatus.CONVERGED if found.is_minimum[row] else FitStatus.MAX_ITER, certificate
