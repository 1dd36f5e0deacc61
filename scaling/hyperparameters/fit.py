# SPDX-License-Identifier: Apache-2.0
"""Laws of the best learning rate and batch size, fitted on whole loss surfaces.

lr*(N, D) = exp(i) N^p D^q and batch*(D) = exp(j) D^r, in tokens (Li et al. 2025, eq. 1). The best
cell of a grid is a noisy, coarse estimate of where its minimum lies. Here all cells near the
minimum of each (N, D) group speak, through the surface of `surface_law`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from scaling.approaches import diagnostics
from scaling.fit import Bootstrap, Certificate, FitError, FitStatus
from scaling.hyperparameters.surface_law import (
    CURVATURE,
    N_BEFORE_FLOORS,
    NAMES,
    SHAPE,
    Grid,
    surface_columns,
    surface_law,
)
from scaling.intervals import Interval
from scaling.laws.objectives import HUBER, Objective, objective_named
from scaling.solve.problem import Constraints, set_up
from scaling.solve.regression import Estimate, estimate
from scaling.solve.replicates import replicate
from scaling.tables.arrays import Array
from scaling.tables.short_repr import ShortRepr
from scaling.uncertainty.bootstrap_draws import pairs_weights

WINDOW = 0.01
# Cells of a group below this count say nothing of a curved surface with its own floor.
_FEWEST_CELLS = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class HyperparameterFit(ShortRepr):
    """Laws of lr* and batch*, with the surface behind them.

    Fields:
      parameters, intervals: i, p, q, j, r. replicates: [R, 5] in that order.
      shape: k_n, k_d, bend_lr, bend_batch of the surface.
      curvature: [2, 2], nats per squared natural logarithm of (lr, batch) about the optimum, at
        `centre` = mean (ln N, ln D) of the cells.
      floors: of each group, in nats. groups: their (N, D), [G, 2].
      window: largest excess of a cell over the lowest loss of its group, relative.
      n_cells: that lie within it.
    """

    parameters: Mapping[str, float]
    intervals: Mapping[str, Interval]
    shape: Mapping[str, float]
    curvature: Float[Array, "2 2"]
    centre: Float[Array, " 2"]
    floors: Float[Array, " K"]
    groups: Float[Array, "K 2"]
    window: float
    n_cells: int
    status: FitStatus
    certificate: Certificate
    findings: tuple[str, ...]
    bootstrap: Bootstrap
    replicates: Float[Array, "R 5"]

    @property
    def is_certified(self) -> bool:
        return self.status is FitStatus.CONVERGED


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Recommendation(ShortRepr):
    """The best learning rate and batch at one (N, D).

    lr_slack, batch_slack: factors by which each alone may be off, either way, before the loss
    rises by `slack_nats`: where they are wide, the exact value does not matter.
    """

    lr: float
    lr_interval: Interval
    batch_tokens: float
    batch_interval: Interval
    slack_nats: float
    lr_slack: float
    batch_slack: float
    is_extrapolated: bool


def fit_hyperparameters(
    grid: Grid,
    *,
    window: float = WINDOW,
    objective: str | Objective = HUBER,
    fixed: Mapping[str, float] | None = None,
    n_bootstrap: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> HyperparameterFit:
    """Laws of lr* and batch* from all cells near the minimum of each group.

    One floor per (N, D) and one shape for all. The shape holds near the minimum only, so cells
    above `window` are left out. Intervals resample whole groups; noise that groups share is not
    respected (runs of different rates are no branches of one trunk).

    Args:
      window: kept are cells with loss <= (1 + window) times the lowest of the group.
      objective: a name as in `objectives.objective_named`, or an `Objective`.
      fixed: shape parameters kept, e.g. {"bend_lr": 0.0, "bend_batch": 0.0} for a symmetric
        surface, {"k_n": 0.0, "k_d": 0.0} for one curvature.
      n_bootstrap: replicates; 0 for none.

    Raises:
      FitError: for fewer than four groups, or N and D that do not vary apart from one another.
      ValueError: for a window that is not positive.
    """
    if set(fixed or {}) - set(SHAPE):
        raise ValueError(f"only {', '.join(SHAPE)} can be fixed, not {', '.join(fixed or {})}")
    if not window > 0:
        raise ValueError(f"window is {window:g}, must be positive, e.g. {WINDOW:g}")
    kind = objective_named(objective) if isinstance(objective, str) else objective
    near, sparse = _near(grid, window)
    _require_spread(near)
    centre = np.array([np.mean(np.log(near.n_params)), np.mean(np.log(near.n_tokens))])
    found = _minimum(near, centre, kind, Constraints(fixed=fixed or {}))
    replicates, n_failed = _replicates(found, near, centre, n_bootstrap, seed)
    named = dict(zip(NAMES, replicates.T, strict=True))
    own = dict(zip(found.law.names, map(float, found.parameters), strict=True))
    first = np.unique(near.group, return_index=True)[1]
    return HyperparameterFit(
        parameters=dict(zip(NAMES, map(float, _in_units(found.parameters, centre)), strict=True)),
        intervals={name: Interval.of(values, level) for name, values in named.items()},
        shape={name: own[name] for name in SHAPE},
        curvature=_curvature(own),
        centre=centre,
        floors=found.parameters[N_BEFORE_FLOORS:],
        groups=np.stack([near.n_params[first], near.n_tokens[first]], axis=1),
        window=window,
        n_cells=len(near.lr),
        status=found.status,
        certificate=found.certificate,
        findings=(
            f"{len(near.lr)} of {len(grid.lr)} cells lie within {100 * window:g} % of the lowest "
            f"loss of their (N, D) and are fitted.",
            *sparse,
            *diagnostics.certificate_findings(found.certificate),
            *_edge_findings(grid, near, found, centre),
            *diagnostics.replicate_findings(n_failed, n_bootstrap, "no certified minimum"),
        ),
        bootstrap=Bootstrap(
            method="pairs by (N, D) group",
            level=level,
            n_replicates=n_bootstrap,
            n_failed=n_failed,
            seed=seed,
        ),
        replicates=replicates,
    )


def _minimum(grid: Grid, centre: Array, objective: Objective, constraints: Constraints) -> Estimate:
    """The surface fitted to the cells, with N and D about a centre."""
    law, columns = surface_law(grid.n_groups), surface_columns(grid, centre)
    problem = set_up(law, columns, grid.loss_nats, objective=objective, constraints=constraints)
    diagnostics.require_points(problem)
    return estimate(problem, constraints)


def _curvature(parameters: Mapping[str, float]) -> Array:
    c11, c12, c22 = (parameters[name] for name in CURVATURE)
    root = np.array([[c11, c12], [0.0, c22]])
    return root.T @ root


def recommend(
    fit: HyperparameterFit, n_params: float, n_tokens: float, *, slack_nats: float = 1e-3
) -> Recommendation:
    """The best learning rate and batch for N parameters on D tokens, with intervals.

    Raises:
      ValueError: if a count is not positive and finite.
    """
    if not (np.isfinite(n_params) and np.isfinite(n_tokens) and min(n_params, n_tokens) > 0):
        raise ValueError(f"N = {n_params} and D = {n_tokens} must be positive and finite")
    estimate_row = np.array([[fit.parameters[name] for name in NAMES]])
    i, p, q, j, r = np.concatenate([estimate_row, fit.replicates]).T
    lr = np.exp(i + p * np.log(n_params) + q * np.log(n_tokens))
    batch = np.exp(j + r * np.log(n_tokens))
    low, high = fit.groups.min(axis=0), fit.groups.max(axis=0)
    new = np.array([n_params, n_tokens])
    away = np.log(new) - fit.centre
    stiffness = np.exp(fit.shape["k_n"] * away[0] + fit.shape["k_d"] * away[1])
    slack = np.exp(np.sqrt(slack_nats / (stiffness * np.diag(fit.curvature))))
    return Recommendation(
        lr=float(lr[0]),
        lr_interval=Interval.of(lr[1:], fit.bootstrap.level),
        batch_tokens=float(batch[0]),
        batch_interval=Interval.of(batch[1:], fit.bootstrap.level),
        slack_nats=slack_nats,
        lr_slack=float(slack[0]),
        batch_slack=float(slack[1]),
        is_extrapolated=bool(np.any((new < 0.999 * low) | (new > 1.001 * high))),
    )


def best_cells(grid: Grid) -> dict[str, float]:
    """i, p, q, j, r by least squares through the best cell of each group, for comparison."""
    best = grid.select(grid.excess <= 0)
    ones, log_n, log_d = np.ones(len(best.lr)), np.log(best.n_params), np.log(best.n_tokens)
    of_lr = np.linalg.lstsq(np.stack([ones, log_n, log_d], axis=1), np.log(best.lr))[0]
    of_batch = np.linalg.lstsq(np.stack([ones, log_d], axis=1), np.log(best.batch_tokens))[0]
    return dict(zip(NAMES, map(float, [*of_lr, *of_batch]), strict=True))


def _near(grid: Grid, window: float) -> tuple[Grid, list[str]]:
    """Cells within the window, of groups that keep enough of them; what was left out, in words."""
    is_near = grid.excess <= window
    counts = np.bincount(grid.group[is_near], minlength=grid.n_groups)
    few = counts < _FEWEST_CELLS
    sentences = []
    if few.any():
        sentences.append(
            f"{int(few.sum())} of {grid.n_groups} groups have fewer than {_FEWEST_CELLS} cells "
            "within the window and are left out; widen it or refine their grids."
        )
    return grid.select(is_near & ~few[grid.group]), sentences


def _require_spread(grid: Grid) -> None:
    """Raises FitError where the exponents in N and D cannot be told apart."""
    first = np.unique(grid.group, return_index=True)[1]
    places = np.stack([np.log(grid.n_params[first]), np.log(grid.n_tokens[first])], axis=1)
    n = len(first)
    across = np.linalg.svd(places - places.mean(axis=0), compute_uv=False)[-1] / np.sqrt(n)
    if n < 4 or across < 0.1:
        raise FitError(
            f"{n} groups of (N, D) with scatter {across:.3f} across their best line: lr*(N, D) "
            "needs at least 4 that vary N and D apart from one another (scatter 0.1 or more in "
            "natural logarithm)."
        )


def _in_units(parameters: Array, centre: Array) -> Array:
    """i, p, q, j, r [..., 5] for N and D themselves, from those for centred logarithms."""
    i, p, q, j, r = np.moveaxis(parameters[..., :5], -1, 0)
    return np.stack([i - p * centre[0] - q * centre[1], p, q, j - r * centre[1], r], axis=-1)


def _replicates(
    found: Estimate, grid: Grid, centre: Array, n: int, seed: int
) -> tuple[Array, " int"]:
    """i, p, q, j, r [R, 5] of resampled groups, NaN where none is certified, and how many."""
    if n == 0:
        return np.zeros((0, 5)), 0
    weights = pairs_weights(grid.group, n, np.random.default_rng(seed))
    y = np.broadcast_to(found.problem.y, weights.shape)
    solved = replicate(found, y, weights, n_starts=1)
    values = _in_units(found.parameters_of(solved.z), centre)
    # Resamples of few groups may hold too few (N, D) to tell p from q.
    return values, int(np.sum(~np.all(np.isfinite(values), axis=1)))


def _edge_findings(given: Grid, near: Grid, found: Estimate, centre: Array) -> list[str]:
    """Groups whose fitted optimum lies beyond the rates or batches that were tried."""
    i, p, q, j, r = _in_units(found.parameters, centre)
    outside = 0
    for N, D in np.unique(np.stack([near.n_params, near.n_tokens], axis=1), axis=0):
        rows = (given.n_params == N) & (given.n_tokens == D)
        for best, tried in (
            (i + p * np.log(N) + q * np.log(D), np.log(given.lr[rows])),
            (j + r * np.log(D), np.log(given.batch_tokens[rows])),
        ):
            outside += not tried.min() <= best <= tried.max()
    if not outside:
        return []
    return [f"{outside} fitted optima (lr or batch) lie outside the values tried at their (N, D)."]
