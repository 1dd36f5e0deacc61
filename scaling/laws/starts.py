# SPDX-License-Identifier: Apache-2.0
"""Where the solver starts: variable projection for amplitudes, spread points for the rest."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from scaling.laws.law import Columns, Law
from scaling.tables.arrays import Array

# Points of the grid of candidates per non-linear parameter.
GRID_PER_BENT = 32
# Starts that are solved at first, and how many are kept per non-linear parameter; half of each
# are the best of all candidates, half are spread over the others.
N_FIRST, N_PER_BENT = 12, 12
# Smallest share of the target that a projected amplitude may explain: its logarithm must exist.
_SMALLEST_SHARE = 1e-4


def starts(
    law: Law,
    x: Columns,
    y: Float[Array, " n"],
    *,
    fixed: Mapping[str, float],
    tied: Mapping[str, str],
) -> Float[Array, "S P"]:
    """Starting parameters [S, P] in the paper's units; fixed ones and ties are respected.

    The first N_FIRST are the best of all candidates and others spread over them; so are the rest.
    """
    if law.starts is None:
        candidates = projected(law, x, y, fixed=fixed, tied=tied)
    else:
        candidates = np.array(law.starts(x, y), float)
        for name, value in fixed.items():
            candidates[:, law.names.index(name)] = value
        candidates = _follow(law, candidates, tied)
    unit = _unit(y)
    with np.errstate(invalid="ignore"):
        misfit = np.sum((law.predict(candidates, x) / unit - y / unit) ** 2, axis=1)
    order = np.argsort(np.where(np.isfinite(misfit), misfit, np.inf), kind="stable")
    order = order[: max(1, int(np.isfinite(misfit).sum()))]
    chosen: list[int] = []
    for n in (N_FIRST, N_PER_BENT * sum(not p.is_amplitude for p in law.parameters)):
        left = [i for i in order.tolist() if i not in set(chosen)]
        chosen += [*left[: n // 2], *left[n // 2 :: max(1, (len(left) - n // 2) // (n // 2))]][:n]
    return candidates[chosen]


def projected(
    law: Law,
    x: Columns,
    y: Float[Array, " n"],
    *,
    fixed: Mapping[str, float] | None = None,
    tied: Mapping[str, str] | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> Float[Array, "G P"]:
    """Candidates [G, P]: a grid over the non-linear parameters, each with its best amplitudes.

    Variable projection (Golub and Pereyra 1973): with the others fixed, the law is linear in its
    amplitudes. Rows are divided by the target, so that the misfit is one of logarithms to first
    order; where it is not positive, by its mean size.

    Args:
      fixed: parameters kept at a value. tied: parameters that follow another.
      ranges: of starts, in place of those that the law's parameters declare.
    """
    fixed, tied, ranges = fixed or {}, tied or {}, ranges or {}
    settled = {*fixed, *tied}
    grid = _follow(law, _grid(law, settled, fixed, ranges), tied)
    free = [p.name for p in law.parameters if p.is_amplitude and p.name not in settled]
    if free:
        for name, values in zip(free, _project(law, x, y, grid, free, tied).T, strict=True):
            grid[:, law.names.index(name)] = values
    return _follow(law, grid, tied)


def _follow(law: Law, values: Array, tied: Mapping[str, str]) -> Array:
    for follower, leader in tied.items():
        values[:, law.names.index(follower)] = values[:, law.names.index(leader)]
    return values


def _grid(
    law: Law,
    settled: set[str],
    fixed: Mapping[str, float],
    ranges: Mapping[str, tuple[float, float]],
) -> Array:
    """Points [G, P] that fill the starting ranges evenly; amplitudes are 1."""
    parameters = list(enumerate(law.parameters))
    moved = [i for i, p in parameters if not p.is_amplitude and p.name not in settled]
    n_grid = GRID_PER_BENT * max(1, 2 ** int(np.ceil(np.log2(max(len(moved), 1)))))
    grid = np.ones((n_grid, len(law.parameters)))
    for name, value in fixed.items():
        grid[:, law.names.index(name)] = value
    if moved:
        points = _evenly(len(moved), n_grid)
        for column, i in zip(points.T, moved, strict=True):
            parameter = law.parameters[i]
            low, high = ranges.get(parameter.name, parameter.start)
            share = column
            # Small exponents differ more from one another than large ones do.
            grid[:, i] = low * (high / low) ** share if low > 0 else low + (high - low) * share
    return grid


def _evenly(n_axes: int, n_points: int) -> Array:
    """Points [G, axes] of Roberts (2018), even in every number of axes: multiples of powers of
    the root of x^(axes + 1) = x + 1, modulo 1."""
    root = 2.0
    for _ in range(64):
        root = (1.0 + root) ** (1.0 / (n_axes + 1))
    steps = root ** -np.arange(1.0, n_axes + 1.0)
    return (0.5 + np.arange(n_points)[:, None] * steps) % 1.0


def _project(
    law: Law, x: Columns, y: Array, grid: Array, free: list[str], tied: Mapping[str, str]
) -> Array:
    """Best amplitudes [G, K] at each point of the grid, none below a small share of the target."""
    bare = grid.copy()
    bare[:, [law.names.index(name) for name in free]] = 0.0
    offset = law.predict(_follow(law, bare, tied), x)
    basis = []
    for name in free:
        unit = bare.copy()
        unit[:, law.names.index(name)] = 1.0
        basis.append(law.predict(_follow(law, unit, tied), x) - offset)
    unit = _unit(y)
    stacked = np.stack(basis, axis=-1) / unit[:, None]
    # Columns of size one: N^-alpha spans hundreds of orders of magnitude over the grid.
    size = np.max(np.abs(np.where(np.isfinite(stacked), stacked, 0.0)), axis=1) + 1e-300
    scaled = np.nan_to_num(stacked / size[:, None, :])
    target = np.nan_to_num(y / unit - offset / unit)
    amplitudes = _non_negative(scaled, np.broadcast_to(target, scaled.shape[:2]))
    return np.maximum(amplitudes, _SMALLEST_SHARE) / size


def _unit(y: Array) -> Array:
    """What a misfit of each row is measured in: the target, or its mean size if it has no sign."""
    return y if np.all(y > 0) else np.full(len(y), float(np.mean(np.abs(y))) + 1e-300)


def _non_negative(basis: Array, target: Array) -> Array:
    """Least squares [G, K] with negative amplitudes set to zero, one after another."""
    n = basis.shape[2]
    normal = np.swapaxes(basis, 1, 2) @ basis + 1e-10 * np.eye(n)
    right = np.einsum("gnk,gn->gk", basis, target)
    is_out = np.zeros(right.shape, bool)
    for _ in range(n):
        penalised = normal + 1e12 * is_out[:, :, None] * np.eye(n)
        found = np.linalg.solve(penalised, np.where(is_out, 0.0, right)[..., None])[..., 0]
        worst = np.argmin(found, axis=1)
        rows = np.flatnonzero(found[np.arange(len(found)), worst] < 0)
        if not len(rows):
            break
        is_out[rows, worst[rows]] = True
    return found
