# SPDX-License-Identifier: Apache-2.0
"""Approach 1: the lower envelope of training curves (Hoffmann et al. 2022, sec. 3.1)."""

from collections.abc import Iterable, Iterator

import numpy as np

from scaling.approaches import diagnostics
from scaling.approaches.envelope.grid import SELECT, Grid, curve_grid, final_grid, winners
from scaling.approaches.power_laws import POWER_LAW_PARAMETERS, power_law_fields, power_laws
from scaling.fit import Bootstrap, Fit, FitError, FitStatus, Noise, Optimum
from scaling.intervals import UNKNOWN
from scaling.laws.fewest import ENVELOPE_SIZES
from scaling.laws.size_ladder import Ladder
from scaling.tables.arrays import Array
from scaling.tables.runs import Curves, Runs
from scaling.uncertainty import bootstrap_draws
from scaling.uncertainty.bootstrap_choice import component_findings
from scaling.uncertainty.noise import repeat_noise
from scaling.uncertainty.variance_components import VariancePosterior

# Points of the envelope kept in the fit for tables and figures.
_SHOWN = 40
BOOTSTRAPS = ("auto", "runs", "shifts")
_BY_RUN, _BY_SHIFT = "curves resampled", "run-to-run shifts"


def fit_envelope(
    runs: Runs,
    curves: Curves | None = None,
    *,
    select: str = "lowest",
    n_points: int = 200,
    smoothing: float = 1.0,
    n_bootstrap: int = 300,
    level: float = 0.95,
    seed: int = 0,
    bootstrap: str = "auto",
) -> Fit:
    """Power laws N*(C), D*(C) through the lower envelope of training curves.

    Each curve is smoothed and interpolated in log C; at each of n_points FLOP values the curve
    with the lowest loss gives N* = its size and D* = its tokens there. Values at which the
    smallest or the largest size present wins are dropped: nothing encloses the minimum there.
    Repeats of one configuration are averaged first, or the luckiest seed would win. Power laws as
    in `isoflop`. Hoffmann et al. take 1,500 FLOP values; neighbouring values share a curve and
    carry no information of their own.

    FLOPs along a curve are n_tokens times the run's flops_per_token, so that they always follow
    the convention of the runs, whatever the table of curves holds. A curve before the end of its
    run is not annealed: its loss is higher than that of a run planned to end there, and its
    optima carry is_annealed = False.

    Args:
      runs: gives size, FLOPs per token and status of each curve.
      curves: validation loss along training; runs without a curve are left out and listed. Not
        needed for "final_hull".
      select: "lowest": the lowest curve at each FLOP value; "hull": of those, the corners of the
        lower convex hull of ln loss over ln C (McLeish et al. 2025, sec. 3); "final_hull": the
        same of the runs' final points alone, all of them annealed.
      n_points: FLOP values, equally spaced in log C.
      smoothing: sd of the Gaussian window in evaluations (local line in log C); 0 for none.
      n_bootstrap, level, seed: as in the other approaches.
      bootstrap: "runs" resamples runs with replacement, those of one cluster_id together;
        "shifts" moves every curve by a draw of the run-to-run noise among repeats (errors along
        one curve are common to it, and those of a trunk to its branches); "auto" takes shifts
        where there are repeats.

    Raises:
      FitError: when the envelope has no interior part.
      ValueError: for an unknown choice, or shifts without repeats.
    """
    diagnostics.require_choice("select", select, SELECT)
    diagnostics.require_choice("bootstrap", bootstrap, BOOTSTRAPS)
    usable, left_out, grid = _usable_grid(runs, curves, select, n_points, smoothing)
    is_hull = select != "lowest"
    chosen, interior = _interior(grid, is_hull=is_hull)
    noise, shared, method = _noise(usable, bootstrap)
    lines = _replicated(grid, usable, noise, shared, n_bootstrap, np.random.default_rng(seed))
    values = _draws(grid, lines, is_hull=is_hull)
    replicates = {name: column[1:] for name, column in values.items()}
    n_failed = int(np.sum(~np.isfinite(replicates["exponent_a"])))
    n_sizes = len(np.unique(grid.n_params[chosen[interior]]))
    is_enough = n_sizes >= ENVELOPE_SIZES
    return Fit(
        approach="envelope",
        **power_law_fields(values, replicates, grid.log_flops[interior].mean(), level),
        status=FitStatus.CONVERGED if is_enough else FitStatus.TOO_FEW_POINTS,
        findings=(
            *runs.findings,
            *(curves.notes if curves else ()),
            *_envelope_findings(grid, chosen, interior, select),
            *(component_findings(usable, shared) if shared else ()),
            *diagnostics.replicate_findings(n_failed, n_bootstrap, "no interior envelope"),
            *([] if is_enough else [f"only {n_sizes} sizes make up the interior envelope."]),
            *Ladder.from_runs(usable).findings,
        ),
        runs=runs,
        left_out=left_out,
        optima=_optima(grid, chosen, interior),
        noise=noise,
        bootstrap=Bootstrap(
            method=method, level=level, n_replicates=n_bootstrap, n_failed=n_failed, seed=seed
        ),
        settings={"select": select, "n_points": n_points, "smoothing": smoothing},
    )


def _usable_grid(
    runs: Runs, curves: Curves | None, select: str, n_points: int, smoothing: float
) -> tuple[Runs, dict[str, str], Grid]:
    """Runs that may be used, run_id -> reason of the others, and the losses to compare."""
    if curves is None and select != "final_hull":
        raise ValueError(f"select={select!r} needs curves; without them take 'final_hull'")
    usable, left_out = diagnostics.usable(runs, _without_curve(runs, curves, select))
    if curves is not None and not len(usable) and len(runs):
        ours, theirs = (", ".join(np.unique(names)[:3]) for names in (runs.run_id, curves.run_id))
        raise FitError(
            f"no run has a curve: runs are called {ours}, curves {theirs}. Name the column of "
            "either table that holds the other's names (run_id=COLUMN)."
        )
    n_sizes = len(np.unique(usable.n_params))
    if n_sizes < ENVELOPE_SIZES:
        raise FitError(
            f"the {len(usable)} runs with curves have {n_sizes} sizes, an envelope needs at least "
            f"{ENVELOPE_SIZES}; add sizes."
        )
    if select == "final_hull" or curves is None:
        return usable, left_out, final_grid(usable)
    return usable, left_out, curve_grid(usable, curves, n_points, smoothing)


def _interior(grid: Grid, *, is_hull: bool) -> tuple[Array, Array]:
    """The configuration chosen at each FLOP value, and which values are enclosed by others."""
    chosen, interior = winners(grid, grid.mean(), is_hull=is_hull)
    if np.count_nonzero(interior) < 2 or len(set(chosen[interior].tolist())) < 2:
        raise FitError(
            "the envelope has no interior part: at every FLOP value the smallest or the largest "
            "size present has the lowest loss. Add smaller and larger sizes, or longer curves."
        )
    return chosen, interior


def _without_curve(runs: Runs, curves: Curves | None, select: str) -> dict[str, str]:
    if curves is None or select == "final_hull":
        return {}
    has_curve = set(np.unique(curves.run_id).tolist())
    return {str(i): "no curve" for i in runs.run_id if i not in has_curve}


def _noise(runs: Runs, bootstrap: str) -> tuple[Noise | None, VariancePosterior | None, str]:
    """Run-to-run noise where replicates are shifted by it, None where runs are resampled."""
    noise, shared = repeat_noise(runs)
    if bootstrap == "shifts" and noise is None:
        raise ValueError(
            "bootstrap='shifts' needs repeats of a configuration (of another cluster_id where runs "
            "share noise); take 'runs'"
        )
    if noise is None or bootstrap == "runs":
        return None, None, _BY_RUN
    return noise, shared, _BY_SHIFT


def _replicated(
    grid: Grid,
    runs: Runs,
    noise: Noise | None,
    shared: VariancePosterior | None,
    n_replicates: int,
    rng: np.random.Generator,
) -> Iterator[Array]:
    """Log loss of each configuration [K, G] in each replicate; NaN where it was not drawn."""
    if noise is None:
        labels = np.unique(runs.cluster_id, return_inverse=True)[1].reshape(-1)
        for weights in bootstrap_draws.pairs_weights(labels, n_replicates, rng):
            yield grid.mean(weights)
        return
    mean, n_repeats = grid.mean(), grid.members.sum(axis=1)
    if shared is not None:
        shifts = shared.draws(n_replicates, rng) @ (grid.members / n_repeats[:, None]).T
    else:
        scale = noise.run_sd * bootstrap_draws.scale_draws(noise.dof, n_replicates, rng)
        normal = rng.standard_normal((n_replicates, len(mean)))
        shifts = scale[:, None] * normal / np.sqrt(n_repeats)
    for shift in shifts:
        yield mean + shift[:, None]


def _draws(grid: Grid, lines: Iterable[Array], *, is_hull: bool) -> dict[str, Array]:
    """Power laws of the estimate and of every replicate, name -> [1 + R]."""
    _, interior = winners(grid, grid.mean(), is_hull=is_hull)
    reference = grid.log_flops[interior].mean()
    rows = []
    for log_loss in (grid.mean(), *lines):
        chosen, interior = winners(grid, log_loss, is_hull=is_hull)
        if len(set(chosen[interior].tolist())) < 2:
            rows.append([np.nan] * len(POWER_LAW_PARAMETERS))
            continue
        log_c = grid.log_flops[interior]
        log_n = np.log(grid.n_params[chosen[interior]])
        log_d = log_c - grid.cost[chosen[interior]]
        loss = np.exp(log_loss[chosen, np.arange(len(chosen))][interior])
        laws = power_laws(log_c, log_n[None], log_d[None], loss[None], reference=reference)
        rows.append([float(laws[name][0]) for name in POWER_LAW_PARAMETERS])
    return dict(zip(POWER_LAW_PARAMETERS, np.array(rows).T, strict=True))


def _envelope_findings(grid: Grid, chosen: Array, interior: Array, select: str) -> list[str]:
    early = ~grid.is_annealed(chosen)[interior]
    sentences = []
    if not interior.all() and select == "lowest":
        sentences.append(
            f"{int(np.sum(~interior))} of {len(interior)} FLOP values are left out: the smallest "
            "or the largest size present has the lowest loss there."
        )
    if select != "lowest":
        sentences.append(f"{int(interior.sum())} corners of the convex hull are used.")
    if early.any():
        sentences.append(
            f"{100 * early.mean():.0f} % of the envelope comes from runs before their end, whose "
            "learning rate had not decayed: their loss is higher than that of a run planned to "
            "end there."
        )
    return sentences


def _optima(grid: Grid, chosen: Array, interior: Array) -> tuple[Optimum, ...]:
    """A thinned copy of the envelope, for tables and figures."""
    where = np.flatnonzero(interior)
    where = where[np.unique(np.linspace(0, len(where) - 1, _SHOWN).round().astype(int))]
    log_loss, annealed = grid.mean(), grid.is_annealed(chosen)
    return tuple(
        Optimum(
            budget=float(np.exp(grid.log_flops[i])),
            flops=float(np.exp(grid.log_flops[i])),
            n_params_opt=float(grid.n_params[chosen[i]]),
            n_tokens_opt=float(np.exp(grid.log_flops[i] - grid.cost[chosen[i]])),
            loss_opt=float(np.exp(log_loss[chosen[i], i])),
            interval_n_params=UNKNOWN,
            interval_n_tokens=UNKNOWN,
            is_annealed=bool(annealed[i]),
        )
        for i in where
    )
