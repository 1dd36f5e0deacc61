# SPDX-License-Identifier: Apache-2.0
"""The joint isoFLOP law fitted to runs, and its replicates."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from scaling.approaches.isoflop.departure import departure
from scaling.approaches.isoflop.law import Grid
from scaling.approaches.isoflop.solve import Problem, Solutions, certify, solve, starts
from scaling.fit import Certificate, FitError, FitStatus, Noise
from scaling.tables.arrays import Array
from scaling.tables.runs import Runs
from scaling.uncertainty import bootstrap_draws
from scaling.uncertainty.bootstrap_choice import can_resample, choose_method, cluster_findings
from scaling.uncertainty.noise import estimate_noise, local_scale, shared_variances

# kappa, x*, a and g; each budget adds its minimum.
_SHARED = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JointFit:
    """The law at its minimum.

    Fields:
      mean: ln size that the grid's x are told from. best: one row. weights: of squares in nats,
        [n]. residuals: of log loss, [n]. slopes: of log loss by kappa, x*, a, g and the minima,
        [n, P].
    """

    grid: Grid
    mean: float
    best: Solutions
    status: FitStatus
    certificate: Certificate
    weights: Float[Array, " n"]
    residuals: Float[Array, " n"]
    log_loss: Float[Array, " n"]
    slopes: Float[Array, "n P"]

    def places(self, found: Solutions) -> Float[Array, "R B"]:
        """ln of the best size at each budget."""
        return self.mean + self.grid.places(found.theta)

    @property
    def root(self) -> Float[Array, " n"]:
        """What residuals of log loss are multiplied by in the squares that are summed."""
        return np.sqrt(self.weights) * np.exp(self.log_loss)

    @property
    def weighted(self) -> tuple[Float[Array, " n"], Float[Array, "n P"]]:
        """Residuals and slopes as the squares that are summed have them."""
        return self.residuals * self.root, self.slopes * self.root[:, None]


def fit_joint(
    size: Float[Array, " n"],
    label: Int[Array, " n"],
    scale: Float[Array, " B"],
    loss: Float[Array, " n"],
) -> JointFit:
    """The law by weighted least squares; a first pass says how noise grows with the loss.

    Args:
      size: parameters or tokens. label: number of each run's budget. scale: ln C of the budgets
        over its mean. loss: nats.

    Raises:
      FitError: when the curves open downward.
    """
    log_size = np.log(size)
    grid = Grid(x=log_size - log_size.mean(), label=label, scale=scale)
    first = _lowest(_repeated(grid, loss, loss**-2))[1]
    fitted = _fitted(grid, first)
    log_loss = np.log(fitted)
    spread = local_scale(log_loss, np.log(loss) - log_loss, _SHARED + len(scale))
    weights = (fitted * spread) ** -2
    problem = _repeated(grid, loss, weights)
    found, best, row = _lowest(problem)
    fitted = _fitted(grid, best)
    status, certificate = certify(problem, found, row)
    rises, steep = grid.rises(best.theta)[0], grid.slopes(best.theta)[0]
    slopes = np.column_stack([rises, best.kappa[0] * steep, grid.is_at]) / fitted[:, None]
    return JointFit(
        grid=grid,
        mean=float(log_size.mean()),
        best=best,
        status=status,
        certificate=certificate,
        weights=weights,
        residuals=np.log(loss / fitted),
        log_loss=np.log(fitted),
        slopes=slopes,
    )


def _repeated(grid: Grid, loss: Array, weights: Array) -> Problem:
    """The same losses for every start."""
    losses, many = (np.tile(v, (len(starts(grid)), 1)) for v in (loss, weights))
    return Problem(grid=grid, losses=losses, weights=many)


def _lowest(problem: Problem) -> tuple[Solutions, Solutions, int]:
    """What every start reached, the lowest of it, and its row."""
    found = solve(problem, starts(problem.grid))
    row = int(np.argmin(np.where(np.isfinite(found.objective), found.objective, np.inf)))
    return found, found.rows(np.array([row])), row


def _fitted(grid: Grid, best: Solutions) -> Array:
    """Losses of the runs under the law, [n].

    Raises:
      FitError: when the curves open downward.
    """
    kappa = float(best.kappa[0])
    fitted = best.minima[0, grid.label] + kappa * grid.rises(best.theta)[0]
    if not kappa > 0 or not np.all(fitted > 0):
        raise FitError(
            f"the curves of all {len(grid.scale)} budgets together open downward (curvature "
            f"{kappa:.3g}): these losses have no minimum over the sizes; add sizes on both sides."
        )
    return fitted


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draws:
    """Replicates of the losses [R, n] in nats and how often each run counts, and their making.

    findings: on noise that runs share, and on budgets that depart from the law.
    """

    losses: Float[Array, "R n"]
    weights: Float[Array, "R n"]
    noise: Noise
    method: str
    findings: tuple[str, ...]


def draw(joint: JointFit, runs: Runs, n_replicates: int, *, seed: int, bootstrap: str) -> Draws:
    """Replicates of the losses of these runs about the law.

    Where budgets depart from it, runs scatter about the curves of their own budgets, and these
    about the law. Where runs share noise, that may be what the departure is: it is told only.
    """
    # The slope of the noise that the weights follow takes one more.
    n_absorbed = joint.slopes.shape[1] + 1
    shared = shared_variances(runs, joint.residuals, joint.slopes)
    noise = estimate_noise(runs, joint.residuals, n_absorbed, shared)
    method = choose_method(bootstrap, runs, n_absorbed)
    rng, label = np.random.default_rng(seed), joint.grid.label
    found = departure(*joint.weighted, label)
    residuals, said = joint.residuals, []
    if found is not None and shared is None:
        residuals, n_absorbed = found.residuals / joint.root, found.n_absorbed + 1
        said = [
            f"{found.sentence}a is a mean slope; intervals hold that N* of a budget wanders by "
            f"{found.place_sd:.2f} in ln N. See the parabola of each budget."
        ]
    elif found is not None:
        said = [f"{found.sentence}a is a mean slope, and its interval is likely too narrow."]
    log_losses, weights = bootstrap_draws.draw_data(
        method,
        runs,
        joint.log_loss,
        residuals,
        n_absorbed,
        n_replicates if can_resample(method, noise) else 0,
        rng,
        slopes=joint.slopes,
    )
    if found is not None and shared is None:
        log_losses = log_losses + found.draws(joint.slopes, label, len(log_losses), rng)
    return Draws(
        losses=np.exp(log_losses),
        weights=weights,
        noise=noise,
        method=method,
        findings=(*said, *cluster_findings(runs, method, n_absorbed, shared)),
    )


def replicate(joint: JointFit, drawn: Draws) -> Solutions:
    """The law fitted to the data and to each replicate, [1 + R]; NaN where there is no minimum."""
    problem = Problem(grid=joint.grid, losses=drawn.losses, weights=drawn.weights * joint.weights)
    found = solve(problem, np.tile(joint.best.theta, (len(drawn.losses), 1)))
    return joint.best.and_minima_of(found)
