# SPDX-License-Identifier: Apache-2.0
"""Approach 2: a parabola per budget, then power laws (Hoffmann et al. 2022, sec. 3.2)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import t as student

from scaling import diagnostics, uncertainty
from scaling.compute import Ladder
from scaling.fit import Bootstrap, Fit, FitError, Interval, Optimum
from scaling.power_laws import power_law_status, power_laws
from scaling.runs import Runs

Array = np.ndarray

MIN_SIZES = 4
MIN_RUNS = 5
OWN_SCATTER_DOF = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parabola:
    """L = c0 + c1 x + c2 x^2 with x = ln N - centre, at one budget; rows are its runs."""

    budget: float
    flops: float
    rows: Array
    x: Array
    centre: float
    coefficients: Array
    curvature: Interval

    @property
    def design(self) -> Array:
        return np.vander(self.x, 3, increasing=True)

    @property
    def vertex(self) -> float:
        return float(-self.coefficients[1] / (2.0 * self.coefficients[2]))


def fit_isoflop(
    runs: Runs,
    *,
    n_bootstrap: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    bootstrap: str = "auto",
) -> Fit:
    """Power laws N*(C), D*(C) through the minima of isoFLOP parabolas, with intervals.

    At each budget L = c0 + c1 ln N + c2 (ln N)^2 by least squares on the loss in nats; the vertex
    is ln N*, and D* = C / flops_per_token(N*). A budget is used when c2 is above zero with its
    whole interval and the vertex lies at least one size inside the grid; the others are reported
    with the reason. N* = N_ref (C/C_ref)^a and D* = D_ref (C/C_ref)^b by least squares on logs,
    L* = E + K (C/C_ref)^-c. C is the geometric mean of the FLOPs done at a budget.

    A parabola is symmetric and the true curve is not: with alpha != beta, or grids that are not
    centred, the exponents carry a bias that no interval shows (arXiv:2603.22339).

    Args:
      runs: rows whose status is not ok are left out and listed.
      n_bootstrap: replicates; 0 for none.
      level: of all intervals.
      seed: of the bootstrap.
      bootstrap: "auto", "pairs", "residual" or "wild", see `uncertainty`.

    Raises:
      FitError: when fewer than two budgets have an interior minimum; every reason is given.
    """
    usable, left_out = diagnostics.usable(runs)
    parabolas, reasons = _parabolas(usable, level)
    reasons |= {p.budget: why for p in parabolas if (why := _why_not(p, level))}
    parabolas = [p for p in parabolas if p.budget not in reasons]
    _require_budgets(usable, parabolas, reasons)
    left_out |= {
        str(i): f"budget {b:.3g} FLOPs: {reasons[b]}"
        for i, b in zip(usable.run_id, usable.budget, strict=True)
        if b in reasons
    }
    fitted = usable.select(np.concatenate([p.rows for p in parabolas]))
    parabolas = _renumbered(parabolas)
    ladder = Ladder.from_runs(fitted)
    vertices, losses, drawn = _with_replicates(
        fitted, parabolas, n_bootstrap, seed=seed, bootstrap=bootstrap
    )
    flops = np.array([p.flops for p in parabolas])
    draws = power_laws(np.log(flops), vertices, np.log(flops) - ladder.log_cost(vertices), losses)
    replicates = {name: values[1:] for name, values in draws.items()}
    n_failed = int(np.sum(~np.isfinite(draws["a"][1:])))
    noise, method = drawn
    n_drawn = len(vertices) - 1
    findings = [
        *runs.findings,
        *(f"budget {b:.3g} FLOPs is left out: {why}." for b, why in sorted(reasons.items())),
        *ladder.findings,
        *diagnostics.replicate_findings(n_failed, n_drawn, "fewer than two interior minima"),
    ]
    status = power_law_status(len(parabolas), findings)
    if n_bootstrap and not n_drawn:
        findings.append("no repeats and no degrees of freedom: the data give no intervals.")
    parameters = {k: float(v[0]) for k, v in draws.items() if k not in ("a", "b")}
    return Fit(
        approach="isoflop",
        law="power_laws",
        parameters=parameters | {"flops_ref": float(np.exp(np.log(flops).mean()))},
        intervals={k: Interval.of(v, level) for k, v in replicates.items()},
        exponent_a=float(draws["a"][0]),
        exponent_b=float(draws["b"][0]),
        status=status,
        certificate=None,
        findings=tuple(findings),
        runs=runs,
        left_out=left_out,
        optima=_optima(usable, parabolas, reasons, ladder, vertices, level),
        noise=noise,
        bootstrap=Bootstrap(
            method=method, level=level, n_replicates=n_drawn, n_failed=n_failed, seed=seed
        ),
        replicates=replicates,
        settings={"curve": "parabola in ln N, least squares on the loss"},
    )


def _parabolas(runs: Runs, level: float) -> tuple[list[_Parabola], dict[float, str]]:
    """A parabola for each budget that has enough runs, and the reasons for the others."""
    parabolas: list[_Parabola] = []
    reasons: dict[float, str] = {}
    for budget in runs.budgets:
        rows = np.flatnonzero(runs.budget == budget)
        n_sizes = len(np.unique(runs.n_params[rows]))
        if n_sizes < MIN_SIZES or len(rows) < MIN_RUNS:
            reasons[float(budget)] = (
                f"{len(rows)} runs at {n_sizes} sizes, a parabola needs {MIN_RUNS} runs at "
                f"{MIN_SIZES} sizes"
            )
            continue
        parabolas.append(_parabola(runs, float(budget), rows))
    return [_with_curvature(p, *_scatter(runs, p, parabolas), level) for p in parabolas], reasons


def _parabola(runs: Runs, budget: float, rows: Array) -> _Parabola:
    log_n = np.log(runs.n_params[rows])
    centre = float(log_n.mean())
    x = log_n - centre
    coefficients = np.linalg.lstsq(
        np.vander(x, 3, increasing=True), runs.loss_nats[rows], rcond=None
    )[0]
    return _Parabola(
        budget=budget,
        flops=float(np.exp(np.log(runs.flops[rows]).mean())),
        rows=rows,
        x=x,
        centre=centre,
        coefficients=coefficients,
        curvature=Interval(lower=-np.inf, upper=np.inf),
    )


def _scatter(runs: Runs, parabola: _Parabola, all_budgets: list[_Parabola]) -> tuple[float, int]:
    """Residual standard deviation in nats and its degrees of freedom.

    A budget with enough runs speaks for itself, so that an outlier elsewhere does not widen its
    interval; with few, the scatter of all budgets is pooled.
    """
    own = len(parabola.rows) - 3
    pool = [parabola] if own >= OWN_SCATTER_DOF else all_budgets
    squares = [np.sum((runs.loss_nats[p.rows] - p.design @ p.coefficients) ** 2) for p in pool]
    dof = sum(len(p.rows) - 3 for p in pool)
    return float(np.sqrt(sum(squares) / dof)), dof


def _with_curvature(parabola: _Parabola, sd: float, dof: int, level: float) -> _Parabola:
    """The parabola with Student's interval of c2."""
    covariance = np.linalg.inv(parabola.design.T @ parabola.design)
    half = float(student.ppf((1 + level) / 2, dof)) * sd * float(np.sqrt(covariance[2, 2]))
    c2 = float(parabola.coefficients[2])
    return replace(parabola, curvature=Interval(lower=c2 - half, upper=c2 + half))


def _why_not(parabola: _Parabola, level: float) -> str:
    """Why a budget cannot be used; empty when it can."""
    c2, interval = float(parabola.coefficients[2]), parabola.curvature
    if c2 <= 0:
        return f"the parabola opens downward (curvature {c2:.3g})"
    if interval.lower <= 0:
        return (
            f"the curvature is not resolved from 0 ({interval.lower:.3g} to "
            f"{interval.upper:.3g} at {100 * level:.0f} %)"
        )
    sizes = np.unique(parabola.x)
    if sizes[1] <= parabola.vertex <= sizes[-2]:
        return ""
    side = "largest" if parabola.vertex > sizes[-2] else "smallest"
    found = np.exp(parabola.centre + parabola.vertex)
    low, high = np.exp(parabola.centre + sizes[[0, -1]])
    return (
        f"no interior minimum: the vertex, {found:.3g} parameters, is not one size inside the "
        f"grid {low:.3g} to {high:.3g}; add sizes beyond the {side}"
    )


def _require_budgets(runs: Runs, used: list[_Parabola], reasons: dict[float, str]) -> None:
    if len(used) >= 2:
        return
    if len(runs.budgets) < 2:
        raise FitError(
            f"a frontier needs at least two budgets, these {len(runs)} usable runs have "
            f"{len(runs.budgets)}; name the column of budgets, or train at another one."
        )
    listed = "; ".join(f"{budget:.3g} FLOPs: {why}" for budget, why in sorted(reasons.items()))
    raise FitError(
        f"interior minima at {len(used)} of {len(runs.budgets)} budgets, at least two are needed "
        f"({listed})."
    )


def _renumbered(parabolas: list[_Parabola]) -> list[_Parabola]:
    """Rows as they are after the used budgets have been put one behind the other."""
    ends = np.cumsum([len(p.rows) for p in parabolas])
    return [
        replace(p, rows=np.arange(end - len(p.rows), end))
        for p, end in zip(parabolas, ends, strict=True)
    ]


def _with_replicates(runs: Runs, parabolas: list[_Parabola], n_bootstrap: int, *, seed, bootstrap):
    """log N* and L* at the vertices, [1 + R, budgets]: the estimate first, then replicates."""
    fitted = np.concatenate([p.design @ p.coefficients for p in parabolas])
    residuals = runs.loss_nats - fitted
    n_parameters = 3 * len(parabolas)
    noise = uncertainty.estimate_noise(runs, residuals, n_parameters)
    method = uncertainty.choose_method(bootstrap, runs, n_parameters)
    drawn = n_bootstrap if uncertainty.can_resample(method, noise) else 0
    rng = np.random.default_rng(seed)
    targets, weights = uncertainty.draw_data(
        method, runs, fitted, residuals, noise, n_parameters, drawn, rng
    )
    columns = [_vertices(p, targets[:, p.rows], weights[:, p.rows]) for p in parabolas]
    vertices, losses = (np.stack(x, axis=1) for x in zip(*columns, strict=True))
    # In the units of log loss, like every other fit's noise.
    log_residuals = np.log1p(residuals / fitted)
    noise = uncertainty.estimate_noise(runs, log_residuals, n_parameters)
    return vertices, losses, (noise, method)


def _vertices(parabola: _Parabola, targets: Array, weights: Array) -> tuple[Array, Array]:
    """log N* and L* [1 + R] at one budget; NaN where a replicate has no minimum on the grid."""
    design = parabola.design
    normal = np.einsum("rn,ni,nj->rij", weights, design, design)
    right = np.einsum("rn,ni,rn->ri", weights, design, targets)
    # A resample with fewer than three sizes has no parabola: its budget is missing.
    is_poor = np.linalg.cond(normal) > 1e10 if len(normal) else np.zeros(0, bool)
    normal[is_poor] = np.eye(3)
    solved = np.linalg.solve(normal, right[..., None])[..., 0]
    solved[is_poor] = np.nan
    c0, c1, c2 = np.concatenate([parabola.coefficients[None], solved]).T
    with np.errstate(invalid="ignore", divide="ignore"):
        vertex = -c1 / (2.0 * c2)
        inside = (c2 > 0) & (vertex >= parabola.x.min()) & (vertex <= parabola.x.max())
        loss = c0 - c1**2 / (4.0 * c2)
    return np.where(inside, parabola.centre + vertex, np.nan), np.where(inside, loss, np.nan)


def _optima(
    usable: Runs,
    parabolas: list[_Parabola],
    reasons: dict[float, str],
    ladder: Ladder,
    vertices: Array,
    level: float,
) -> tuple[Optimum, ...]:
    """One entry per budget, used or not, by ascending budget."""
    unknown = Interval(lower=np.nan, upper=np.nan)
    entries = []
    for i, p in enumerate(parabolas):
        n_params = np.exp(vertices[:, i])
        n_tokens = ladder.n_tokens(p.flops, n_params)
        entries.append(
            Optimum(
                budget=p.budget,
                flops=p.flops,
                n_params_opt=float(n_params[0]),
                n_tokens_opt=float(n_tokens[0]),
                loss_opt=float(np.polyval(p.coefficients[::-1], p.vertex)),
                interval_n_params=Interval.of(n_params[1:], level),
                interval_n_tokens=Interval.of(n_tokens[1:], level),
                curve=(p.centre, *(float(c) for c in p.coefficients)),
            )
        )
    for budget, why in reasons.items():
        rows = np.flatnonzero(usable.budget == budget)
        enough = len(np.unique(usable.n_params[rows])) >= 3
        parabola = _parabola(usable, budget, rows) if enough else None
        entries.append(
            Optimum(
                budget=budget,
                flops=float(np.exp(np.log(usable.flops[rows]).mean())),
                n_params_opt=np.nan,
                n_tokens_opt=np.nan,
                loss_opt=np.nan,
                interval_n_params=unknown,
                interval_n_tokens=unknown,
                curve=(parabola.centre, *map(float, parabola.coefficients)) if parabola else (),
                reason=why,
            )
        )
    return tuple(sorted(entries, key=lambda entry: entry.budget))
