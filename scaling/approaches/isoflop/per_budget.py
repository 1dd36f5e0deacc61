# SPDX-License-Identifier: Apache-2.0
"""Approach 2 as published: a curve per budget, then power laws (Hoffmann et al. 2022, sec. 3.2)."""

from collections.abc import Callable, Sequence

import numpy as np

from scaling.approaches import diagnostics
from scaling.approaches.isoflop.budgets import Budget, isoflop_budgets, with_drawn_intervals
from scaling.approaches.isoflop.curves import TOKENS, Curve, minima, require_curve
from scaling.approaches.isoflop.draws import Draws, draw
from scaling.approaches.power_laws import (
    power_law_fields,
    power_law_status,
    power_laws,
    replicates_of,
)
from scaling.fit import Bootstrap, Fit, Optimum
from scaling.laws.size_ladder import Ladder
from scaling.tables.arrays import Array
from scaling.tables.runs import Runs
from scaling.tables.units import power

ACCEPT = ("resolved", "any")
WEIGHTS = ("equal", "variance")
_NO_REPLICATES = "no repeats and no degrees of freedom: the data give no intervals."
_NOT_USED = (np.nan, np.nan, np.nan)


def fit_per_budget(
    runs: Runs,
    *,
    curve: str = "parabola",
    tokens: str = "ladder",
    accept: str = "resolved",
    seed_noise: float | Callable[[Array], Array] | None = None,
    weights: str = "equal",
    n_bootstrap: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    bootstrap: str = "auto",
) -> Fit:
    """Power laws N*(C), D*(C) through the minima of isoFLOP curves, with intervals.

    The lowest point of each budget's curve is ln N*. Budgets whose minimum the data do not
    enclose are reported with the reason and left out. N* = N_ref (C/C_ref)^a and
    D* = D_ref (C/C_ref)^b by least squares on logs, L* = E + K (C/C_ref)^-c. C is the geometric
    mean of the FLOPs done at a budget. The interval of each optimum is Student's t (Fieller's for
    a parabola), see `isoflop_intervals`; those of the power laws are percentiles of replicates.

    A parabola is symmetric and the true curve is not: the exponents carry a bias that no interval
    shows (arXiv:2603.22339), see `isoflop_bias`.

    Args:
      runs: rows whose status is not ok are left out and listed.
      curve: "parabola", "cubic", "quartic" or "akima", see `isoflop_curves`.
      tokens: "ladder": D* = C / flops_per_token(N*), along the runs' size ladder; "curve": the
        lowest point of a curve over ln D, for tables whose budgets no ladder explains.
      accept: "resolved": budgets whose curvature is above zero with its whole interval and whose
        minimum lies at least one size inside the grid; "any": all that have a minimum.
      seed_noise: sd in nats of one run, or a function of its loss; replicates are then drawn with
        it. An Akima curve has intervals only with it, or from repeats.
      weights: of the optima: "equal", or "variance", 1 over that of ln N* (Porian et al. 2024).
      n_bootstrap, seed: of the replicates; 0 for none. level: of all intervals.
      bootstrap: "auto", "pairs", "residual", "components" or "wild", see `uncertainty.choice`.

    Raises:
      FitError: when fewer than two budgets have an interior minimum; every reason is given.
      ValueError: for an unknown choice.
    """
    asked = {"curve": curve, "tokens": tokens, "accept": accept, "weights": weights}
    _require_choices(**asked)
    usable, left_out = diagnostics.usable(runs)
    budgets = isoflop_budgets(usable, curve=curve, tokens=tokens, accept=accept, level=level)
    used = [b for b in budgets if not b.reason]
    fitted = usable.select(np.concatenate([b.rows for b in used]))
    ladder, curves = Ladder.from_runs(fitted), [b.curves[0] for b in used]
    drawn = draw(fitted, curves, n_bootstrap, seed=seed, bootstrap=bootstrap, seed_noise=seed_noise)
    if curve == "akima":
        budgets = with_drawn_intervals(budgets, drawn, level)
    optima = _optimal(used, drawn, ladder)
    log_c = np.log([b.flops for b in used])
    of_budgets = None if weights == "equal" else _inverse_variances(optima[0][1:])
    values = power_laws(log_c, *optima, weights=of_budgets)
    replicates = replicates_of(values, len(used))
    n_drawn, n_failed = len(optima[0]) - 1, int(np.sum(~np.isfinite(replicates["exponent_a"])))
    findings = [
        *runs.findings,
        *_findings(budgets, ladder, accept),
        *drawn.findings,
        *diagnostics.replicate_findings(n_failed, n_drawn, "fewer than two interior minima"),
    ]
    status = power_law_status(len(used), findings)
    if n_bootstrap and not n_drawn:
        findings.append(_NO_REPLICATES)
    return Fit(
        approach="isoflop",
        **power_law_fields(values, replicates, log_c.mean(), level),
        status=status,
        findings=tuple(findings),
        runs=runs,
        left_out=left_out | diagnostics.of_budgets(usable, _reasons(budgets)),
        optima=_reported(budgets, ladder, optima),
        noise=drawn.noise,
        bootstrap=Bootstrap(
            method=drawn.method, level=level, n_replicates=n_drawn, n_failed=n_failed, seed=seed
        ),
        settings=asked | {"seed_noise": drawn.given},
    )


def _reasons(budgets: Sequence[Budget]) -> dict[float, str]:
    return {b.budget: b.reason for b in budgets if b.reason}


def _inverse_variances(log_n: Array) -> Array:
    """Weight of each budget [B] from replicates of ln N* [R, B]."""
    if len(log_n) < 2:
        raise ValueError("weights='variance' needs replicates: n_bootstrap of some hundred")
    return 1.0 / np.nanvar(log_n, axis=0, ddof=1)


def _require_choices(curve: str, accept: str, tokens: str, weights: str) -> None:
    require_curve(curve)
    diagnostics.require_choice("accept", accept, ACCEPT)
    diagnostics.require_choice("tokens", tokens, TOKENS)
    diagnostics.require_choice("weights", weights, WEIGHTS)


def _optimal(used: list[Budget], drawn: Draws, ladder: Ladder) -> tuple[Array, Array, Array]:
    """log N*, log D*, L* [1 + R, budgets]: the estimate first, then the replicates."""
    columns = []
    data = zip(*drawn.per_curve([b.curves[0] for b in used]), strict=True)
    for entry, (targets, weights) in zip(used, data, strict=True):
        log_n, loss = _lowest(entry.curves[0], targets, weights)
        log_d = np.log(entry.flops) - ladder.log_cost(log_n)
        for curve in entry.curves[1:]:
            log_d, _ = _lowest(curve, targets, weights)
        both = np.isfinite(log_n) & np.isfinite(log_d)
        columns.append([np.where(both, v, np.nan) for v in (log_n, log_d, loss)])
    log_n, log_d, loss = (np.stack(c, axis=1) for c in zip(*columns, strict=True))
    return log_n, log_d, loss


def _lowest(curve: Curve, targets: Array, weights: Array) -> tuple[Array, Array]:
    x, loss = minima(curve, targets, weights, edges="lost")
    own = np.array([curve.minimum])
    return curve.centre + np.concatenate([own, x]), np.concatenate([curve.loss(own), loss])


def _findings(budgets: list[Budget], ladder: Ladder, accept: str) -> list[str]:
    left = [f"budget {power(b)} FLOPs is left out: {why}." for b, why in _reasons(budgets).items()]
    used = [b for b in budgets if not b.reason]
    opened = [power(b.budget) for b in used if b.minimum.sentence]
    if opened:
        left.append(
            f"the interval of N* is open beyond the sizes of the grid at {', '.join(opened)} FLOPs."
        )
    if accept == "any":
        left.append("every budget with a minimum is used, resolved or not.")
    return [*left, *ladder.findings]


def _reported(
    budgets: Sequence[Budget], ladder: Ladder, optima: tuple[Array, Array, Array]
) -> tuple[Optimum, ...]:
    """Every budget with its N*, D*, L*: NaN where it is not used."""
    log_n, log_d, loss = (rows[0] for rows in optima)
    best = iter(zip(np.exp(log_n), np.exp(log_d), loss, strict=True))
    return tuple(_optimum(b, ladder, _NOT_USED if b.reason else next(best)) for b in budgets)


def _optimum(entry: Budget, ladder: Ladder, optimum: Sequence[float]) -> Optimum:
    """A budget as it is reported; optimum: N*, D*, L*, NaN where it is not used."""
    n_params, n_tokens, loss = (float(v) for v in optimum)
    return Optimum(
        budget=entry.budget,
        flops=entry.flops,
        n_params_opt=n_params,
        n_tokens_opt=n_tokens,
        loss_opt=loss,
        interval_n_params=entry.minimum.size,
        interval_n_tokens=entry.token_interval(ladder),
        interval_loss=entry.minimum.loss,
        curve=entry.curves[0].stored if entry.curves else (),
        reason=entry.reason,
        note=entry.minimum.sentence,
    )
