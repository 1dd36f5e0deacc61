# SPDX-License-Identifier: Apache-2.0
"""How scatter is measured and how replicates are drawn.

Which bootstrap, and why. Pairs (resampling runs with replacement) needs many points: of five
sizes at a budget about one resample in ten holds fewer than three, and no parabola fits. So:

* "pairs" of clusters where there are at least PAIRS_PER_PARAMETER clusters per parameter;
* "residual" otherwise: the design is kept, and residuals, inflated by the degrees of freedom the
  fit has used, are drawn anew. A residual has two parts. Repeats of one (N, D) share their lack of
  fit, so the mean residual of a configuration is drawn as one, with the spread that the means
  have; deviations of the repeats from it are drawn run by run. Each replicate also draws its
  scale, sqrt(dof/chi2_dof): with few degrees of freedom the intervals then have the width of
  Student's t, not of a normal whose variance is believed to be known (Davison and Hinkley 1997,
  sec. 6.3; the scale as in a fiducial argument);
* "components" where a cluster spans several configurations (branches of one trunk): what is common
  to its runs, lack of fit and the runs' own noise are drawn separately, and so are the sizes of the
  three, see `variance_components`;
* "wild" keeps the pattern of a cluster's residuals and draws only their common sign and size (Webb
  2023, six-point weights). It asks for many clusters, and is never the default: of 200 branched
  studies (five sizes, five budgets, three seeds, 90 % of the noise in trunks) its 80 % intervals
  of surfaces held the truth in 98 %; those of "residual", which takes branches for independent,
  in 48 to 71 %.

Noise often grows with the loss. Residuals are divided by a scale that is log-linear in the fitted
value, drawn, and multiplied by it where they land. Its slope comes from absolute residuals
(Glejser 1969) and is drawn towards zero as far as its standard error says. Where the standard
deviation grows fourfold over a grid with two seeds, 80 % intervals with one scale for all held N*
at ten times the largest budget in 94 % (surface) and 96 % (Approach 2) of 4,000 studies; now in
83 % of 3,000 and of 1,600. The scale alone gave 88 % of 600: means of repeats that scattered less
than their repeats allow were drawn with the spread of the repeats.

Fits of least absolute deviations, and Huber's with a delta below the scatter, pass through about
as many points as they have parameters. Those residuals of zero say nothing of the noise, and drawn
anew they make a median look better known than it is: 80 % intervals of 30-point surfaces held the
truth in 72 to 77 %. What such a fit leaves over has the right size as it is, so that the absorbed
residuals are replaced by draws from the others, and nothing is inflated; then the intervals hold
it in 78 to 83 %: less with normal noise, more with Student's t of 3 degrees of freedom. Wild draws
keep each residual in its place; there a normal draw of the others' scale is added instead.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scaling.fit import Noise
from scaling.laws.objectives import Objective
from scaling.tables.runs import Runs
from scaling.uncertainty.variance_components import Posterior, posterior

Array = np.ndarray

METHODS = ("auto", "pairs", "residual", "components", "wild")
PAIRS_PER_PARAMETER = 10
# With fewer clusters than this at a budget, resampling them leaves too few sizes too often.
PAIRS_PER_BUDGET = 8
_WEBB = np.sqrt([0.5, 1.0, 1.5])
# Size of the residuals that replace absorbed ones, relative to the others. The errors at absorbed
# points are about half as large, but filled in like that the density at the median, which few
# points tell, passes for known: 80 % intervals hold 76 to 80 % at 0.7, 82 to 85 % (heavy tails)
# at 1.
_REFILLED = 0.75
# Median of the absolute value of a standard normal variable.
_NORMAL_MEDIAN = 0.6745
# Prior standard deviation, about zero, of the slope of log scale per standard deviation of the
# fitted value; steepest slope considered.
_SLOPE_PRIOR, _STEEPEST = 0.35, 1.5
_SLOPE_STEPS = 30
# Student's t with fewer degrees of freedom than this is half as wide again as the normal, or more.
_FEW_TRUNKS = 4


def configurations(runs: Runs) -> Array:
    """Label of each run's (N, D): repeats of one configuration share a label."""
    pairs = np.stack([runs.n_params, runs.n_tokens], axis=1)
    return np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)


def clusters(runs: Runs) -> Array:
    """Label of each run's cluster: runs linked by cluster_id or by their configuration."""
    labels = configurations(runs)
    named = np.unique(runs.cluster_id, return_inverse=True)[1].reshape(-1)
    while True:
        joined = _lowest_per_group(_lowest_per_group(labels, named), labels)
        if np.array_equal(joined, labels):
            return np.unique(labels, return_inverse=True)[1].reshape(-1)
        labels = joined


def trunks(runs: Runs) -> Array:
    """Label of each run's cluster_id, in the order of their first run: names do not count."""
    _, first, label = np.unique(runs.cluster_id, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[label.reshape(-1)]


def share_noise(runs: Runs) -> bool:
    """Whether runs of different configurations have one cluster_id, as branches of a trunk do."""
    return not np.array_equal(clusters(runs), configurations(runs))


def _lowest_per_group(values: Array, group: Array) -> Array:
    lowest = np.full(group.max() + 1, values.max() + 1)
    np.minimum.at(lowest, group, values)
    return lowest[group]


def repeat_sd(values: Array, labels: Array) -> tuple[float | None, int]:
    """Pooled standard deviation among repeats, and its degrees of freedom; None without any."""
    counts = np.bincount(labels)
    dof = int(np.sum(counts - 1))
    if dof == 0:
        return None, 0
    means = np.bincount(labels, values) / counts
    return float(np.sqrt(np.sum((values - means[labels]) ** 2) / dof)), dof


def estimate_noise(
    runs: Runs, residuals: Array, n_parameters: int, shared: Posterior | None = None
) -> Noise:
    """Run-to-run scatter and lack of fit from the residuals of a fit, in the residuals' unit.

    With K configurations, m_k repeats each and P parameters, configuration means scatter with
    variance misfit^2 + run^2/m_k, of which the fit has absorbed P/K. Without repeats the two
    cannot be told apart and all of the scatter counts as run-to-run.

    shared: as `shared_variances` gives it. Scatter and degrees of freedom of runs that share noise
    come from there: what trunks do, a fit absorbs more of, and there are fewer of them than runs.
    """
    labels = configurations(runs)
    counts = np.bincount(labels)
    means: Array = np.bincount(labels, residuals) / counts
    dof = len(counts) - n_parameters
    run_sd, repeat_dof = repeat_sd(residuals, labels)
    run_sd_nats, _ = repeat_sd(runs.loss_nats, labels)
    between = float(np.sum(means**2)) / dof if dof > 0 else 0.0
    if run_sd is None:
        run_sd, misfit = float(np.sqrt(between)), 0.0
    else:
        excess = between - run_sd**2 * float(np.mean(1.0 / counts))
        misfit = float(np.sqrt(max(0.0, excess)))
    dof = dof if dof > 0 else repeat_dof
    if shared is not None:
        run_sd, misfit, dof = shared.one_run if shared.trunk_dof else (run_sd, misfit, 0)
    return Noise(run_sd_nats=run_sd_nats, run_sd=run_sd, misfit_sd=misfit, dof=dof)


def shared_variances(runs: Runs, residuals: Array, slopes: Array) -> Posterior | None:
    """Variances of trunks, misfit and own noise; None for runs that share no noise.

    Args:
      residuals: [n]. slopes: of the fitted values by the parameters, [n, P].
    """
    if not share_noise(runs):
        return None
    return posterior(residuals, slopes, trunks(runs), configurations(runs))


def repeat_noise(runs: Runs) -> tuple[Noise | None, Posterior | None]:
    """Run-to-run noise of log loss among repeats, and what of it runs share, if any do.

    None where no configuration is repeated, or only within one trunk.
    """
    labels, values = configurations(runs), np.log(runs.loss_nats)
    run_sd, dof = repeat_sd(values, labels)
    if run_sd is None:
        return None, None
    nats, _ = repeat_sd(runs.loss_nats, labels)
    means = (labels[:, None] == np.arange(labels.max() + 1)).astype(float)
    shared = shared_variances(runs, values, means)
    if shared is not None:
        if not shared.trunk_dof:
            return None, None
        run_sd, _, dof = shared.one_run
    return Noise(run_sd_nats=nats, run_sd=run_sd, misfit_sd=0.0, dof=dof), shared


def choose_method(asked: str, runs: Runs, n_parameters: int) -> str:
    """The bootstrap to use, as the module's docstring says, unless one was asked for.

    Raises:
      ValueError: for an unknown name.
    """
    if asked not in METHODS:
        raise ValueError(f"unknown bootstrap {asked!r}; choose one of {', '.join(METHODS)}")
    if asked != "auto":
        return asked
    labels, configs = clusters(runs), configurations(runs)
    is_many = labels.max() + 1 >= PAIRS_PER_PARAMETER * n_parameters
    if is_many and clusters_per_budget(runs, labels) >= PAIRS_PER_BUDGET:
        return "pairs"
    return "residual" if np.array_equal(labels, configs) else "components"


def clusters_per_budget(runs: Runs, labels: Array) -> int:
    """Fewest clusters at any budget; all of them where runs do not share budgets."""
    budget = np.unique(runs.budget, return_inverse=True)[1].reshape(-1)
    n_clusters = int(labels.max()) + 1
    if 2 * (int(budget.max()) + 1) > n_clusters:
        return n_clusters
    pairs = np.unique(np.stack([budget, labels], axis=1), axis=0)
    return int(np.bincount(pairs[:, 0]).min())


def passes_through_points(objective: Objective, noise: Noise) -> bool:
    """Whether a fit absorbs points whole, as one of least absolute deviations does."""
    is_narrow = objective.kind == "huber" and objective.parameter < noise.one_run_sd
    return objective.kind == "lad" or is_narrow


def refilled(residuals: Array, n_absorbed: int, rng: np.random.Generator) -> Array:
    """Residuals [n], the n_absorbed smallest replaced by draws from the others."""
    order = np.argsort(np.abs(residuals))
    absorbed, kept = np.split(order, [min(n_absorbed, len(order) - 1)])
    filled = residuals.copy()
    filled[absorbed] = _REFILLED * rng.choice(residuals[kept], size=len(absorbed))
    return filled


def _middle_scale(residuals: Array, n_absorbed: int) -> float:
    """Robust standard deviation of the residuals other than those the fit has made zero."""
    kept = np.sort(np.abs(residuals))[min(n_absorbed, len(residuals) - 1) :]
    return float(np.median(kept)) / _NORMAL_MEDIAN


def local_scale(fitted: Array, residuals: Array, n_parameters: int) -> Array:
    """Scale of the noise along the fitted values, [n]: exp(slope u), u their standard score.

    The slope minimises log mean(|r| exp(-slope u)), which is convex: Laplace's likelihood with the
    common scale projected out. With standard error s it is multiplied by 1/(1 + (s/prior)^2), the
    posterior mean under a normal prior.
    """
    size, dof = np.abs(residuals), len(fitted) - n_parameters
    if dof < 1 or not np.ptp(fitted) > 0 or not size.any():
        return np.ones(len(fitted))
    u = (fitted - fitted.mean()) / fitted.std()
    slope = 0.0
    for _ in range(_SLOPE_STEPS):
        share = size * np.exp(-slope * u)
        share = share / share.mean()
        step = np.mean(share * u) / np.mean(share * u**2)
        slope = float(np.clip(slope + step, -_STEEPEST, _STEEPEST))
    variance = float(np.mean((share - 1.0) ** 2)) / dof
    return np.exp(slope / (1.0 + variance / _SLOPE_PRIOR**2) * u)


def pairs_weights(labels: Array, n_replicates: int, rng: np.random.Generator) -> Array:
    """How often each run is drawn, [R, n], clusters resampled with replacement."""
    n_clusters = labels.max() + 1
    chance = np.full(n_clusters, 1.0 / n_clusters)
    return rng.multinomial(n_clusters, chance, size=n_replicates).astype(float)[:, labels]


def scale_draws(dof: int, n_replicates: int, rng: np.random.Generator) -> Array:
    """sqrt(dof / chi2_dof): the spread of a scale known from dof degrees of freedom, [R]."""
    return np.sqrt(dof / rng.chisquare(dof, size=n_replicates))


def residual_draws(
    runs: Runs,
    residuals: Array,
    noise: Noise,
    n_replicates: int,
    rng: np.random.Generator,
) -> Array:
    """New residuals [R, n] for a kept design: one draw per configuration, one per repeat."""
    labels = configurations(runs)
    counts = np.bincount(labels)
    means = np.bincount(labels, residuals) / counts
    expected = np.sqrt(noise.misfit_sd**2 + noise.run_sd**2 / counts) + 1e-300
    pool = means / expected
    # Inflated to the spread that the noise estimate has after its degrees of freedom.
    pool = pool * np.sqrt(len(pool) / max(noise.dof, 1))
    total = (rng.choice(pool, size=(n_replicates, len(counts))) * expected)[:, labels]
    deviations = residuals - means[labels]
    repeated = counts[labels] > 1
    if repeated.any():
        grown = deviations / np.sqrt(1.0 - 1.0 / np.maximum(counts[labels], 1.5))
        fresh = rng.choice(grown[repeated], size=(n_replicates, len(labels)))
        fresh = fresh - _group_means(fresh, labels, counts)
        total = total + np.where(repeated, fresh, 0.0)
    return total * scale_draws(max(noise.dof, 1), n_replicates, rng)[:, None]


def _group_means(values: Array, labels: Array, counts: Array) -> Array:
    membership = (labels[:, None] == np.arange(len(counts))) / counts
    return (values @ membership)[:, labels]


def wild_draws(
    residuals: Array,
    labels: Array,
    n_parameters: int,
    n_replicates: int,
    rng: np.random.Generator,
    *,
    absorbs: bool = False,
) -> Array:
    """New residuals [R, n]: each cluster's own, times one draw of mean 0 and variance 1.

    absorbs: for fits that pass through points, whose residuals of zero would stay zero: a common
    draw per cluster is added, and the spread kept.
    """
    n_clusters = int(labels.max()) + 1
    shape = (n_replicates, n_clusters)
    drawn = residuals * rng.choice(np.concatenate([-_WEBB, _WEBB]), size=shape)[:, labels]
    if absorbs:
        kernel = _middle_scale(residuals, n_parameters) * rng.standard_normal(shape)[:, labels]
        drawn = (drawn + kernel) / np.sqrt(2.0)
    return np.sqrt(n_clusters / max(n_clusters - n_parameters, 1)) * drawn


def draw_data(
    method: str,
    runs: Runs,
    fitted: Array,
    residuals: Array,
    n_parameters: int,
    n_replicates: int,
    rng: np.random.Generator,
    *,
    absorbs: bool = False,
    slopes: Array | None = None,
) -> tuple[Array, Array]:
    """Targets and weights of the replicates, both [R, n].

    absorbs: for fits that pass through points, see `passes_through_points`; components are told
    by contrasts, in which absorbed residuals have their size again.
    slopes: of the fitted values by the parameters, [n, P]; "components" needs them.
    """
    shape = (n_replicates, len(fitted))
    if method == "pairs":
        weights = pairs_weights(clusters(runs), n_replicates, rng)
        return np.broadcast_to(fitted + residuals, shape), weights
    scale = local_scale(fitted, residuals, n_parameters)
    residuals = residuals / scale
    if method == "components" and slopes is not None:
        of_labels = (trunks(runs), configurations(runs))
        known = posterior(residuals, slopes / scale[:, None], *of_labels)
        drawn = known.draws(n_replicates, rng) if n_replicates else np.empty(shape)
    elif method == "wild":
        drawn = wild_draws(
            residuals, clusters(runs), n_parameters, n_replicates, rng, absorbs=absorbs
        )
    else:
        if absorbs:
            residuals, n_parameters = refilled(residuals, n_parameters, rng), 0
        noise = estimate_noise(runs, residuals, n_parameters)
        drawn = residual_draws(runs, residuals, noise, n_replicates, rng)
    return fitted + scale * drawn, np.ones(shape)


def can_resample(method: str, noise: Noise) -> bool:
    """Whether replicates would tell anything: residual methods need a degree of freedom."""
    return method == "pairs" or noise.dof > 0


def cluster_findings(
    runs: Runs, method: str, n_parameters: int, shared: Posterior | None = None
) -> Sequence[str]:
    """What shared noise does to the intervals; a warning where clusters are too few for them."""
    n_clusters = int(clusters(runs).max()) + 1
    if method == "wild" and n_clusters < 2 * n_parameters:
        return [
            f"only {n_clusters} independent clusters for {n_parameters} parameters: intervals "
            "are likely too narrow; repeat the grid with other seeds."
        ]
    if shared is None:
        return []
    if method == "residual":
        return [
            "runs share noise (cluster_id), and the bootstrap that was asked for, residual, takes "
            "them for independent: its intervals are likely too narrow; take components."
        ]
    return component_findings(runs, shared) if method == "components" else []


def component_findings(runs: Runs, shared: Posterior) -> list[str]:
    """How much of the noise trunks carry, or that nothing tells."""
    n_trunks = int(shared.trunks.max()) + 1
    if not shared.trunk_dof:
        return [
            f"the fit follows each of the {n_trunks} trunks (cluster_id), so that nothing tells "
            "what their shared noise does: no intervals; add sizes, or a second seed."
        ]
    share, low, high = (100.0 * value for value in shared.shares)
    sentences = [
        f"{len(runs)} runs are branches of {n_trunks} trunks (cluster_id) and share their noise: "
        f"{share:.0f} % of its variance ({low:.0f} to {high:.0f}, 80 % interval), told by "
        f"{shared.trunk_dof} degrees of freedom. Intervals draw both parts."
    ]
    if shared.trunk_dof < _FEW_TRUNKS:
        sentences.append(
            "trunks are few: their noise is hardly known, and the intervals are as wide as that; "
            "a second seed per size narrows them."
        )
    return sentences
