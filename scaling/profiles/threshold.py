# SPDX-License-Identifier: Apache-2.0
"""How far the objective may rise above its minimum within an interval of a profile.

* "chi-square(1)" for a likelihood with a fitted scale (Student's t) and at least MANY_DOF degrees
  of freedom: half its quantile. With few its intervals are too narrow
  (results/benchmarks/notes/intervals.md);
* "F(1, dof)" for least squares, whose scale is profiled out: n log RSS is compared with
  n log(1 + t^2/dof), chi-square(1) for many points and exact for a linear law with few (Bates and
  Watts 1988, ch. 6);
* "bootstrap" for all others, and wherever runs share noise (clusters) or are weighted: the quantile
  over replicates of the excess that fixing the quantity at the estimate costs them. The objective
  itself takes runs for independent; replicates that share noise as the runs do pay more.
"""

import numpy as np
from scipy.stats import chi2
from scipy.stats import t as student

from scaling.fit import Fit, FitError
from scaling.profiles.constrained_fit import excess_of_replicates
from scaling.profiles.fixed_quantity import FixedQuantity
from scaling.solve.regression import slopes
from scaling.uncertainty import bootstrap_draws
from scaling.uncertainty.bootstrap_choice import (
    OF_UNLIKE_RUNS,
    can_resample,
    component_findings,
    passes_through_points,
)
from scaling.uncertainty.groups import clusters
from scaling.uncertainty.noise import estimate_noise, shared_variances

MANY_DOF = 100


def profile_threshold(
    fit: Fit, fixed: FixedQuantity, lowest: float, *, level: float, n_bootstrap: int, seed: int
) -> tuple[float, str]:
    """Excess of the objective at the ends of the interval, and how it was found.

    Raises:
      FitError: for noise-free data, or too few certified replicates.
    """
    runs, found = fit.fitted_runs, fixed.original
    kind, dof = found.problem.objective.kind, found.problem.n_points - len(found.z)
    is_alike = int(clusters(runs).max()) + 1 == len(runs) and not found.problem.is_weighted
    if is_alike and kind == "student_t" and dof >= MANY_DOF:
        return 0.5 * float(chi2.ppf(level, 1)), "chi-square(1)"
    if is_alike and kind == "least_squares":
        threshold, how = (
            lowest * float(student.ppf((1 + level) / 2, dof)) ** 2 / dof,
            f"F(1, {dof})",
        )
    else:
        threshold, how = _calibrated(fit, fixed, level, n_bootstrap, seed)
    if not threshold > 1e-20 * found.problem.n_points:
        raise FitError(
            f"the objective is {lowest:.3g} at its minimum, rounding error: the runs follow the "
            "law without noise, and a profile has no threshold."
        )
    return threshold, how


def _calibrated(
    fit: Fit, fixed: FixedQuantity, level: float, n_bootstrap: int, seed: int
) -> tuple[float, str]:
    """Quantile of the excess over replicates drawn as the fit draws its own."""
    runs, found, method = fit.fitted_runs, fixed.original, fit.bootstrap.method
    if found.problem.is_weighted and method not in OF_UNLIKE_RUNS:
        method = OF_UNLIKE_RUNS[0]
    of_points = slopes(found)
    shared = shared_variances(runs, found.residuals, of_points)
    if shared is not None and not shared.trunk_dof:
        raise FitError(" ".join(component_findings(runs, shared)))
    noise = estimate_noise(runs, found.residuals, len(found.z), shared)
    fitted, rng = found.problem.y - found.residuals, np.random.default_rng(seed)
    drawn = n_bootstrap if can_resample(method, noise) else 0
    y, weights = bootstrap_draws.draw_data(
        method, runs, fitted, found.residuals, len(found.z), drawn, rng,
        absorbs=passes_through_points(found.problem.objective, noise),
        slopes=of_points,
        weights=found.problem.weights if found.problem.is_weighted else None,
    )  # fmt: skip
    excess = excess_of_replicates(fixed, y, weights * found.problem.weights)
    good = excess[np.isfinite(excess)]
    if len(good) < 2.0 / (1.0 - level):
        way_out = ", or fit by least_squares, which needs none" if shared is None else ""
        raise FitError(
            f"{len(good)} certified replicates of {n_bootstrap}, at least {2 / (1 - level):.0f} "
            f"are needed for a threshold at {100 * level:g} %: raise n_bootstrap{way_out}."
        )
    return float(np.quantile(good, level)), f"bootstrap, {len(good)} {method} replicates"
