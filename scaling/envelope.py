# SPDX-License-Identifier: Apache-2.0
"""Approach 1: the lower envelope of training curves (Hoffmann et al. 2022, sec. 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling import diagnostics, uncertainty
from scaling.compute import Ladder
from scaling.fit import Bootstrap, Fit, FitError, FitStatus, Interval, Noise, Optimum
from scaling.power_laws import POWER_LAW_PARAMETERS, power_laws
from scaling.runs import Curves, Runs

Array = np.ndarray

MIN_SIZES = 4
# Points of the envelope kept in the fit for tables and figures.
_SHOWN = 40
# The share of a run's own tokens after which its learning rate counts as decayed.
_ANNEALED = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    """Smoothed log loss of each configuration on common FLOP values, NaN where it has none.

    log_loss [K, G]; n_params, n_tokens, cost (log flops_per_token), n_repeats: [K].
    """

    log_flops: Array
    log_loss: Array
    n_params: Array
    n_tokens: Array
    cost: Array
    n_repeats: Array


def fit_envelope(
    runs: Runs,
    curves: Curves,
    *,
    n_points: int = 200,
    smoothing: float = 1.0,
    n_bootstrap: int = 300,
    level: float = 0.95,
    seed: int = 0,
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
    run is not annealed: its loss is higher than that of a run planned to end there.

    Intervals: where configurations are repeated, every curve is shifted by a draw of the
    run-to-run noise (errors along one curve are common to it); otherwise curves are resampled.

    Args:
      runs: gives size, FLOPs per token and status of each curve.
      curves: validation loss along training; runs without a curve are left out and listed.
      n_points: FLOP values, equally spaced in log C.
      smoothing: sd of the Gaussian window in evaluations (local line in log C); 0 for none.
      n_bootstrap, level, seed: as in the other approaches.

    Raises:
      FitError: when the envelope has no interior part.
    """
    has_curve = set(np.unique(curves.run_id).tolist())
    absent = {str(i): "no curve" for i in runs.run_id if i not in has_curve}
    usable, left_out = diagnostics.usable(runs, absent)
    n_sizes = len(np.unique(usable.n_params))
    if n_sizes < MIN_SIZES:
        raise FitError(
            f"the {len(usable)} runs with curves have {n_sizes} sizes, an envelope needs at least "
            f"{MIN_SIZES}; add sizes."
        )
    grid = _grid(usable, curves, n_points, smoothing)
    chosen, interior = _winners(grid.log_loss, grid.n_params)
    if np.count_nonzero(interior) < 2 or len(set(chosen[interior].tolist())) < 2:
        raise FitError(
            "the envelope has no interior part: at every FLOP value the smallest or the largest "
            "size present has the lowest loss. Add smaller and larger sizes, or longer curves."
        )
    noise, method = _noise(usable)
    shifts = _shifts(grid, noise, method, n_bootstrap, np.random.default_rng(seed))
    draws = _draws(grid, shifts)
    replicates = {name: values[1:] for name, values in draws.items()}
    n_failed = int(np.sum(~np.isfinite(replicates["a"])))
    findings = [
        *runs.findings,
        *_envelope_findings(grid, chosen, interior),
        *diagnostics.replicate_findings(n_failed, n_bootstrap, "no interior envelope"),
    ]
    sizes = np.unique(grid.n_params[chosen[interior]])
    if len(sizes) < MIN_SIZES:
        findings.append(f"only {len(sizes)} sizes make up the interior envelope.")
    parameters = {k: float(v[0]) for k, v in draws.items() if k not in ("a", "b")}
    log_ref = grid.log_flops[interior].mean()
    return Fit(
        approach="envelope",
        law="power_laws",
        parameters=parameters | {"flops_ref": float(np.exp(log_ref))},
        intervals={k: Interval.of(v, level) for k, v in replicates.items()},
        exponent_a=float(draws["a"][0]),
        exponent_b=float(draws["b"][0]),
        status=FitStatus.CONVERGED if len(sizes) >= MIN_SIZES else FitStatus.TOO_FEW_POINTS,
        certificate=None,
        findings=(*findings, *Ladder.from_runs(usable).findings),
        runs=runs,
        left_out=left_out,
        optima=_optima(grid, chosen, interior),
        noise=noise,
        bootstrap=Bootstrap(
            method=method, level=level, n_replicates=n_bootstrap, n_failed=n_failed, seed=seed
        ),
        replicates=replicates,
        settings={"n_points": n_points, "smoothing": smoothing},
    )


def _grid(runs: Runs, curves: Curves, n_points: int, smoothing: float) -> _Grid:
    """Curves of all runs on common FLOP values, repeats averaged."""
    lines = [_smoothed(curves.of(run_id), cost, smoothing) for run_id, cost in _costs(runs)]
    low, high = min(x[0] for x, _ in lines), max(x[-1] for x, _ in lines)
    log_flops = np.linspace(low, high, n_points)
    values = np.stack([np.interp(log_flops, x, y, left=np.nan, right=np.nan) for x, y in lines])
    labels = uncertainty.configurations(runs)
    first = np.unique(labels, return_index=True)[1]
    members = (labels == np.arange(len(first))[:, None]).astype(float)
    return _Grid(
        log_flops=log_flops,
        # A value needs all repeats: a mean over fewer would jump where one of them ends.
        log_loss=np.stack([values[row > 0].mean(axis=0) for row in members]),
        n_params=runs.n_params[first],
        n_tokens=runs.n_tokens[first],
        cost=np.log(runs.flops_per_token[first]),
        n_repeats=members.sum(axis=1),
    )


def _costs(runs: Runs) -> list[tuple[str, float]]:
    return list(zip(runs.run_id.tolist(), runs.flops_per_token.tolist(), strict=True))


def _smoothed(curve: Curves, cost: float, smoothing: float) -> tuple[Array, Array]:
    """log C and smoothed log loss of one curve: a local line through a Gaussian window."""
    keep = (curve.n_tokens > 0) & np.isfinite(curve.loss_nats)
    x, y = np.log(curve.n_tokens[keep] * cost), np.log(curve.loss_nats[keep])
    x, index = np.unique(x, return_index=True)
    y = y[index]
    if smoothing <= 0 or len(x) < 3:
        return x, y
    distance = np.subtract.outer(np.arange(len(x)), np.arange(len(x)))
    w = np.exp(-0.5 * (distance / smoothing) ** 2)
    w /= w.sum(axis=1, keepdims=True)
    dx = x - (w @ x)[:, None]
    slope = np.sum(w * dx * y, axis=1) / np.maximum(np.sum(w * dx**2, axis=1), 1e-300)
    return x, w @ y + slope * (x - w @ x)


def _winners(log_loss: Array, n_params: Array) -> tuple[Array, Array]:
    """Index of the lowest curve at each FLOP value, and where its size is enclosed by others."""
    present = np.isfinite(log_loss)
    chosen = np.argmin(np.where(present, log_loss, np.inf), axis=0)
    smallest = np.min(np.where(present, n_params[:, None], np.inf), axis=0)
    largest = np.max(np.where(present, n_params[:, None], -np.inf), axis=0)
    size = n_params[chosen]
    return chosen, present.any(axis=0) & (size > smallest) & (size < largest)


def _noise(runs: Runs) -> tuple[Noise | None, str]:
    labels = uncertainty.configurations(runs)
    run_sd, dof = uncertainty.repeat_sd(np.log(runs.loss_nats), labels)
    if run_sd is None:
        return None, "curves resampled"
    nats, _ = uncertainty.repeat_sd(runs.loss_nats, labels)
    return Noise(run_sd_nats=nats, run_sd=run_sd, misfit_sd=0.0, dof=dof), "run-to-run shifts"


def _shifts(
    grid: _Grid, noise: Noise | None, method: str, n_replicates: int, rng: np.random.Generator
) -> Array:
    """What each replicate adds to the log loss of each configuration, [R, K]; inf drops it."""
    n_curves = len(grid.n_params)
    if noise is None:
        drawn = rng.multinomial(n_curves, np.full(n_curves, 1.0 / n_curves), size=n_replicates)
        return np.where(drawn > 0, 0.0, np.nan)
    scale = noise.run_sd * uncertainty.scale_draws(noise.dof, n_replicates, rng)
    normal = rng.standard_normal((n_replicates, n_curves))
    return scale[:, None] * normal / np.sqrt(grid.n_repeats)


def _draws(grid: _Grid, shifts: Array) -> dict[str, Array]:
    """Power laws of the estimate and of every replicate, name -> [1 + R]."""
    interior = _winners(grid.log_loss, grid.n_params)[1]
    reference = grid.log_flops[interior].mean()
    rows = []
    for shift in np.concatenate([np.zeros((1, len(grid.n_params))), shifts]):
        shifted = grid.log_loss + shift[:, None]
        chosen, interior = _winners(shifted, grid.n_params)
        if len(set(chosen[interior].tolist())) < 2:
            rows.append([np.nan] * len(POWER_LAW_PARAMETERS))
            continue
        log_c = grid.log_flops[interior]
        log_n = np.log(grid.n_params[chosen[interior]])
        log_d = log_c - grid.cost[chosen[interior]]
        loss = np.exp(shifted[chosen, np.arange(len(chosen))][interior])
        laws = power_laws(log_c, log_n[None], log_d[None], loss[None], reference=reference)
        rows.append([float(laws[name][0]) for name in POWER_LAW_PARAMETERS])
    return dict(zip(POWER_LAW_PARAMETERS, np.array(rows).T, strict=True))


def _envelope_findings(grid: _Grid, chosen: Array, interior: Array) -> list[str]:
    n_tokens = np.exp(grid.log_flops - grid.cost[chosen])
    early = n_tokens[interior] < _ANNEALED * grid.n_tokens[chosen][interior]
    sentences = []
    if not interior.all():
        sentences.append(
            f"{int(np.sum(~interior))} of {len(interior)} FLOP values are left out: the smallest "
            "or the largest size present has the lowest loss there."
        )
    if early.any():
        sentences.append(
            f"{100 * early.mean():.0f} % of the envelope comes from runs before their end, whose "
            "learning rate had not decayed: their loss is higher than that of a run planned to "
            "end there."
        )
    return sentences


def _optima(grid: _Grid, chosen: Array, interior: Array) -> tuple[Optimum, ...]:
    """A thinned copy of the envelope, for tables and figures."""
    where = np.flatnonzero(interior)
    where = where[np.unique(np.linspace(0, len(where) - 1, _SHOWN).round().astype(int))]
    unknown = Interval(lower=np.nan, upper=np.nan)
    return tuple(
        Optimum(
            budget=float(np.exp(grid.log_flops[i])),
            flops=float(np.exp(grid.log_flops[i])),
            n_params_opt=float(grid.n_params[chosen[i]]),
            n_tokens_opt=float(np.exp(grid.log_flops[i] - grid.cost[chosen[i]])),
            loss_opt=float(np.exp(grid.log_loss[chosen[i], i])),
            interval_n_params=unknown,
            interval_n_tokens=unknown,
        )
        for i in where
    )
