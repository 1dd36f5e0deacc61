# SPDX-License-Identifier: Apache-2.0
"""What residuals are made of where runs share noise: trunks, lack of fit, and the runs' own noise.

Branches of one trunk share its initialisation, its data order and its stable phase. The residual
of configuration k, trunk t and run i is taken as

    r_i = misfit_k + trunk_t + own_i

with three variances. A trunk moves its size at all budgets together: the vertices of Approach 2
move together too, and in a surface the effect looks like one of N. How much of the noise that is
no single number tells, so the variances are drawn. The fit has absorbed the directions of its
slopes J; what it cannot see are contrasts K'r with K'J = 0, whose density under ratios g of the
variances to that of own noise is

    p(r | g) ~ |K'V K|^(-1/2) (r'K (K'V K)^(-1) K'r)^(-dof/2),    V = 1 + g_t ZZ' + g_m MM'

once the common scale is integrated out: restricted likelihood (Patterson and Thompson 1971), also
the posterior under flat priors (Harville 1974). The prior of g_t is flat in log(1 + c g_t), c runs
per trunk, that is in the log of the variance that means of trunks have (Box and Tiao 1973, sec.
5.2.3), and that of g_m alike: directions that trunks decide then have intervals of Student's t with
the degrees of freedom of trunks, and others with those of runs. Nothing is believed to be known:
the ratios are drawn from a grid.

With repeats g_t and g_m may be negative: means that scatter less than their runs allow are drawn as
they scatter, or intervals would be too wide wherever nothing is shared. With one seed per size few
degrees of freedom tell what trunks do (two, of five sizes); there g_t >= 0 is the cautious choice.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from scaling.tables.arrays import Array
from scaling.uncertainty.groups import members

# Variance of means of trunks and of configurations, relative to what own noise gives them: the
# smallest considered where it may be below 1, the largest, and points of the grid in its log for
# either. The grid is laid twice, the second time where the posterior is.
_LEAST, _MOST = 0.02, 1e8
_GRID = (24, 12)
_NEGLIGIBLE = 1e-5
# Own noise is at least this share of the mean square of the residuals. Branches that do not
# differ at all then have a posterior, in which only trunks count.
_LEAST_OWN = 1e-6
_ROUNDING = 1e-9
# Of a combination of trunks the fit must leave this share, or it is taken as followed.
_FAINT = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class VariancePosterior:
    """Variances of trunks, of misfit and of own noise on a grid, with their weights.

    Fields:
      trunk, misfit: ratios g to the variance of own noise, [k]. weights: of these, sum 1, [k].
      squares: sum of squares that, over chi2_dof, is the variance of own noise, [k].
      dof: of all contrasts. trunk_dof: how many of the trunks the fit leaves over; where it is 0
        the fit has absorbed what they do, and there is no more to know ([k] is empty).
      trunks, configurations: label of each run, [n].
    """

    trunk: Float[Array, " k"]
    misfit: Float[Array, " k"]
    weights: Float[Array, " k"]
    squares: Float[Array, " k"]
    dof: int
    trunk_dof: int
    trunks: Int[Array, " n"]
    configurations: Int[Array, " n"]

    @property
    def one_run(self) -> tuple[float, float, int]:
        """Sd of one run about its configuration's mean, sd of misfit, degrees of freedom of both.

        Those for which sd^2 dof/chi2_dof has the posterior's mean and variance of 1/sd^2.
        """
        precision = self.dof / (self.squares * (1.0 + self.trunk + self.misfit))
        mean = float(self.weights @ precision)
        spread = float(self.weights @ precision**2) * (1.0 + 2.0 / self.dof) / mean**2 - 1.0
        share = self.misfit / (1.0 + self.trunk + self.misfit)
        misfit = float(np.clip(self.weights @ share, 0.0, 1.0))
        dof = max(1, round(2.0 / spread))
        return float(np.sqrt((1.0 - misfit) / mean)), float(np.sqrt(misfit / mean)), dof

    @property
    def correlation(self) -> Float[Array, " k"]:
        """Of two runs of one trunk at different configurations, [k]."""
        return self.trunk / (1.0 + self.trunk + self.misfit)

    @property
    def shares(self) -> tuple[float, float, float]:
        """Share of trunks in the variance among runs: median and ends of its 80 % interval."""
        order = np.argsort(self.trunk)
        share = np.maximum(self.trunk / (1.0 + self.trunk), 0.0)[order]
        below = np.cumsum(self.weights[order])
        found = [float(share[np.searchsorted(below, p)]) for p in (0.5, 0.1, 0.9)]
        return found[0], found[1], found[2]

    def draws(self, n_replicates: int, rng: np.random.Generator) -> Float[Array, "R n"]:
        """Residuals [R, n] of new trunks, configurations and runs of the same design."""
        at = rng.choice(len(self.weights), size=n_replicates, p=self.weights)
        own = np.sqrt(self.squares[at] / rng.chisquare(self.dof, size=n_replicates))
        drawn = rng.standard_normal((n_replicates, len(self.trunks)))
        of_trunk, of_misfit = (
            np.equal.outer(labels, labels) for labels in (self.trunks, self.configurations)
        )
        for k in np.unique(at):
            V = self.trunk[k] * of_trunk + self.misfit[k] * of_misfit + np.eye(len(self.trunks))
            drawn[at == k] @= np.linalg.cholesky(V).T
        return own[:, None] * drawn


def variance_posterior(
    residuals: Float[Array, " n"],
    slopes: Float[Array, "n P"],
    trunks: Int[Array, " n"],
    configurations: Int[Array, " n"],
) -> VariancePosterior:
    """The variances that the residuals [n] speak for.

    Args:
      slopes: of the fitted values by what was fitted, [n, P]; of any rank.
      trunks, configurations: label of each run, [n], from 0 without gaps. Misfit is told apart
        from own noise only where configurations are repeated and the fit does not follow each.
    """
    basis = _and_faint(_basis(slopes), trunks)
    left = residuals - basis @ (basis.T @ residuals)
    of_trunks, of_misfit = _seen(trunks, basis), _seen(configurations, basis)
    is_repeated = configurations.max() + 1 < len(configurations)
    if not is_repeated or np.max(np.abs(of_misfit)) < _ROUNDING:
        of_misfit = of_misfit[:, :0]
    dof = len(residuals) - basis.shape[1]
    # Each unit of a group that the fit does not follow adds the runs of that group.
    trunk_dof = round(float(np.sum(of_trunks**2)) * (int(trunks.max()) + 1) / len(trunks))
    low = np.log(_LEAST) if is_repeated else 0.0
    axes = [np.linspace(low, np.log(_MOST), n) for n in _GRID]
    if not of_misfit.size:
        axes[1] = np.zeros(1)
    of_trunk, of_configuration = (np.bincount(group).max() for group in (trunks, configurations))
    trunk = misfit = weights = squares = np.zeros((0, 0))
    for _ in range(2 if trunk_dof else 0):
        if weights.size:
            axes = [_narrowed(axis, weights.sum(axis=1 - i)) for i, axis in enumerate(axes)]
        ratios = np.expm1(axes[0]) / of_trunk, np.expm1(axes[1]) / of_configuration
        trunk, misfit = np.meshgrid(*ratios, indexing="ij")
        log_density, squares = _density(left, of_trunks, of_misfit, ratios[0], ratios[1], dof)
        # Where both are negative V must keep a root.
        least = 1.0 + np.minimum(trunk, 0) * of_trunk + np.minimum(misfit, 0) * of_configuration
        log_density = np.where(least >= 0.5 * _LEAST, log_density, -np.inf)
        weights = np.exp(log_density - log_density.max())
        weights /= weights.sum()
    return VariancePosterior(
        trunk=trunk.reshape(-1),
        misfit=misfit.reshape(-1),
        weights=weights.reshape(-1),
        squares=squares.reshape(-1),
        dof=dof,
        trunk_dof=trunk_dof,
        trunks=trunks,
        configurations=configurations,
    )


def _basis(slopes: Array) -> Array:
    """Orthonormal columns that span the slopes, [n, rank]."""
    scaled = slopes / np.maximum(np.linalg.norm(slopes, axis=0), 1e-300)
    vectors, sizes, _ = np.linalg.svd(scaled, full_matrices=False)
    return vectors[:, sizes > _ROUNDING * sizes.max(initial=1e-300)]


def _and_faint(basis: Array, trunks: Array) -> Array:
    """The basis, and those combinations of trunks of which the fit leaves next to nothing.

    What a law misses, however small, would speak there of trunks that differ enormously.
    """
    seen = _seen(trunks, basis)
    left, vectors = np.linalg.eigh(seen.T @ seen)
    share = left * (int(trunks.max()) + 1) / len(trunks)
    is_faint = (share > _ROUNDING) & (share < _FAINT)
    directions = (seen @ vectors[:, is_faint]) / np.sqrt(left[is_faint])
    return np.concatenate([basis, directions], axis=1)


def _seen(labels: Array, basis: Array) -> Array:
    """What the fit leaves of one unit of each group, [n, groups]."""
    units = members(labels)
    return units - basis @ (basis.T @ units)


def _density(
    left: Array, of_trunks: Array, of_misfit: Array, trunk: Array, misfit: Array, dof: int
) -> tuple[Array, Array]:
    """Log restricted likelihood and the squares of own noise, both [trunk ratios, misfit ratios].

    By Woodbury's identity: misfit is taken out first, then trunks by the eigenvectors of what
    they still do, so that all their ratios cost one decomposition.
    """
    total = float(left @ left) * (1.0 + _LEAST_OWN) + 1e-60
    log_det, explained = np.empty((2, len(trunk), len(misfit)))
    inner, across = of_misfit.T @ of_misfit, of_misfit.T @ np.column_stack([of_trunks, left])
    both = np.column_stack([of_trunks, left])
    for i, ratio in enumerate(misfit):
        factor = np.linalg.cholesky(ratio * inner + np.eye(len(inner)))
        taken = np.linalg.solve(factor, across)
        table = both.T @ both - ratio * taken.T @ taken
        values, vectors = np.linalg.eigh(table[:-1, :-1])
        spread = 1.0 + trunk[:, None] * np.maximum(values, 0.0)
        seen = trunk[:, None] * (vectors.T @ table[:-1, -1]) ** 2
        with np.errstate(invalid="ignore", divide="ignore"):
            log_det[:, i] = 2.0 * np.sum(np.log(np.diag(factor))) + np.sum(np.log(spread), axis=1)
            explained[:, i] = left @ left - table[-1, -1] + np.sum(seen / spread, axis=1)
    squares = np.maximum(total - explained, _LEAST_OWN * total)
    return -0.5 * log_det - 0.5 * dof * np.log(squares), squares


def _narrowed(axis: Array, weights: Array) -> Array:
    """The range of one axis outside which there is hardly any weight, laid anew."""
    kept = np.flatnonzero(weights > _NEGLIGIBLE * weights.max())
    low, high = max(kept[0] - 1, 0), min(kept[-1] + 1, len(axis) - 1)
    if low == high:
        return axis
    return np.linspace(axis[low], axis[high], len(axis))
