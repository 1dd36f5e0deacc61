# SPDX-License-Identifier: Apache-2.0
"""N*(C), D*(C), L*(C) with bands from any fit; forecasts; agreement between approaches."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from scaling.approaches.power_laws import power_law_draws
from scaling.approaches.surface import resolves_gamma
from scaling.fit import SCHEMA_VERSION, Fit, FitError, FitStatus, encode
from scaling.intervals import Band, Estimated, Interval
from scaling.laws.registry import law_named
from scaling.laws.size_ladder import Ladder, local_exponents, minimise
from scaling.uncertainty.resampling import scale_draws

Array = np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frontier:
    """The compute-optimal choice at each budget.

    Fields:
      flops: budgets C in the runs' FLOP convention, [P].
      n_params_opt, n_tokens_opt, tokens_per_param, loss_opt: bands over the budgets. The loss is
        that of the law, without run-to-run noise.
      exponent_a, exponent_b: local slopes of ln N* and ln D* against ln C, [P].
      is_extrapolated: the budget, or the size it asks for, lies outside the fitted runs, [P].
      level: of the bands. status: of the fit behind them.
    """

    approach: str
    flops: Array
    n_params_opt: Band
    n_tokens_opt: Band
    tokens_per_param: Band
    loss_opt: Band
    exponent_a: Array
    exponent_b: Array
    is_extrapolated: Array
    level: float
    status: FitStatus
    findings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; NaN becomes null."""
        return {"schema_version": SCHEMA_VERSION, **encode(self)}


def frontier(fit: Fit, flops: ArrayLike, *, level: float | None = None) -> Frontier:
    """The frontier of a fit at the given budgets.

    Surfaces are minimised along each isoFLOP line with the runs' own flops_per_token; power laws
    are evaluated. Bands are percentiles over the fit's bootstrap replicates.

    Args:
      flops: training budgets C, > 0, in the fit's FLOP convention; shape [P] or scalar.
      level: of the bands; the fit's own when not given.

    Raises:
      ValueError: if a budget is not positive and finite.
    """
    budgets = np.atleast_1d(np.asarray(flops, float))
    if not np.all(np.isfinite(budgets) & (budgets > 0)):
        raise ValueError(f"budgets must be positive and finite FLOPs, not {budgets.tolist()}")
    runs = fit.fitted_runs
    ladder = Ladder.from_runs(runs)
    log_c = np.log(budgets)
    log_n, log_d, loss = (_power_law_optima if fit.law == "power_laws" else _surface_optima)(
        fit, ladder, log_c
    )
    a, b = _local_exponents(fit, ladder, log_c)
    n_params = np.exp(log_n)
    low, high = ladder.n_params_range
    beyond_n = ~((n_params[0] >= low * 0.999) & (n_params[0] <= high * 1.001))
    # A budget reached to within 1 % counts as reached.
    beyond_c = (budgets < runs.flops.min() * 0.99) | (budgets > runs.flops.max() * 1.01)
    level = fit.level if level is None else level
    return Frontier(
        approach=fit.name,
        flops=budgets,
        n_params_opt=Band.of(n_params, level),
        n_tokens_opt=Band.of(np.exp(log_d), level),
        tokens_per_param=Band.of(np.exp(log_d - log_n), level),
        loss_opt=Band.of(loss, level),
        exponent_a=a,
        exponent_b=b,
        is_extrapolated=beyond_c | beyond_n,
        level=level,
        status=fit.status,
        findings=tuple(_frontier_findings(fit, budgets, beyond_c, beyond_n, log_n)),
    )


def predict_loss(
    fit: Fit,
    n_params: float,
    n_tokens: float,
    *,
    level: float | None = None,
    seed: int = 0,
) -> Estimated:
    """Forecast of the loss of one run of n_params parameters on n_tokens tokens, in nats per token.

    L = L_hat(N, D) + noise: each replicate of the surface is paired with one draw of the scatter
    of a new run about the law (run-to-run noise and lack of fit), with the uncertainty of that
    scatter itself. The scatter is taken as constant in nats, at the mean loss of the fitted runs:
    so it was measured over a decade of compute, and for a run beyond the grid, whose loss is
    lower, it is the wider of the two choices. The form of the law is taken as given: compare the
    additive and the curved form, see `choose_forecaster`.

    Args:
      fit: a fitted surface.
      n_params, n_tokens: of the run, in the fit's parameter convention.
      level: of the interval; the fit's own when not given.
      seed: of the noise draws.

    Raises:
      ValueError: if the fit is not a surface, or a count is not positive and finite.
    """
    if fit.law == "power_laws":
        raise ValueError(f"{fit.approach} gives the loss along the optimum only; fit a surface")
    for name, value in (("n_params", n_params), ("n_tokens", n_tokens)):
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name} is {value}, must be positive and finite")
    losses = law_named(fit.law).loss(parameter_draws(fit), n_params, n_tokens)
    draws = losses[1:][np.isfinite(losses[1:])]
    if fit.noise is not None and fit.noise.dof > 0:
        rng = np.random.default_rng(seed)
        sd_nats = fit.noise.one_run_sd * float(np.mean(fit.fitted_runs.loss_nats))
        scatter = sd_nats * rng.standard_normal(len(draws))
        draws = draws + scatter * scale_draws(fit.noise.dof, len(draws), rng)
    interval = Interval.of(draws, fit.level if level is None else level)
    return Estimated(value=float(losses[0]), interval=interval)


def choose_forecaster(
    fits: Sequence[Fit], *, is_known: Callable[[Fit], bool] = lambda fit: fit.is_certified
) -> Fit:
    """The surface to forecast with: additive, unless the data resolve gamma from 1.

    The curved form contains the additive one (gamma = 1). When gamma's interval includes 1 the
    extra parameter is not supported by the data: along its flat direction E and gamma trade, the
    point forecast a few times beyond the grid hardly moves (0.004 nats at 3x in the quickstart's
    setting), and the interval is wider for nothing. When gamma's interval excludes 1 the additive
    form is wrong in a way the data show, and its extrapolation is biased by it.

    An interval of gamma that ends at a bound of gamma itself resolves nothing: what lies beyond was
    not asked. Seventeen runs chosen one after another had gamma between 2 and its bound of 20, and
    by the curved form N* did not grow with the budget; the study's whole grid has 0.8 to 2.3
    (results/benchmarks/notes/saving_every_way.md).

    Args:
      is_known: whether a curved fit tells what is asked for.

    Raises:
      FitError: when no surface is among the fits.
    """
    surfaces = {fit.law: fit for fit in fits if fit.law != "power_laws"}
    curved = surfaces.get("curved")
    if curved is not None and is_known(curved) and resolves_gamma(curved.intervals["gamma"]):
        return curved
    if not surfaces:
        raise FitError("a forecast needs a fitted surface, and none of the fits is one.")
    return surfaces.get("additive") or next(iter(surfaces.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Exponents and optima of several approaches side by side, and whether they agree.

    One entry per approach; optima are at `flops`.
    """

    flops: float
    level: float
    approaches: tuple[str, ...]
    exponent_a: tuple[Estimated, ...]
    exponent_b: tuple[Estimated, ...]
    n_params_opt: tuple[Estimated, ...]
    n_tokens_opt: tuple[Estimated, ...]
    is_certified: tuple[bool, ...]
    findings: tuple[str, ...]


def agreement(fits: Sequence[Fit], flops: float) -> Agreement:
    """Whether the approaches agree on the exponents and on the optimum at one budget.

    Two approaches agree on a quantity when their intervals overlap. Their replicates come from
    the same runs and are not independent: overlap is a coarse test, its failure is a sure one.

    Args:
      flops: the budget at which optima are compared, in the fits' FLOP convention.

    Raises:
      ValueError: if fits differ in convention, or there are none.
    """
    conventions = {(f.runs.params_convention, f.runs.flops_convention) for f in fits}
    if len(conventions) != 1:
        raise ValueError(f"fits to compare must share one convention, these have {conventions}")
    fronts = [frontier(fit, flops) for fit in fits]
    rows = {
        "exponent_a": tuple(Estimated(value=f.exponent_a, interval=f.intervals["a"]) for f in fits),
        "exponent_b": tuple(Estimated(value=f.exponent_b, interval=f.intervals["b"]) for f in fits),
        "n_params_opt": tuple(f.n_params_opt.at(0) for f in fronts),
        "n_tokens_opt": tuple(f.n_tokens_opt.at(0) for f in fronts),
    }
    names = tuple(fit.name for fit in fits)
    labels = {
        "exponent_a": "exponent a",
        "exponent_b": "exponent b",
        "n_params_opt": f"N* at {flops:.3g} FLOPs",
        "n_tokens_opt": f"D* at {flops:.3g} FLOPs",
    }
    findings = [_compare(labels[key], names, row) for key, row in rows.items()]
    doubtful = [fit.name for fit in fits if not fit.is_certified]
    if doubtful:
        findings.append(f"not certified: {', '.join(doubtful)}.")
    return Agreement(
        flops=float(flops),
        level=fits[0].level,
        approaches=names,
        **rows,
        is_certified=tuple(fit.is_certified for fit in fits),
        findings=tuple(findings),
    )


def parameter_draws(fit: Fit) -> Array:
    """Parameters of a surface [1 + R, P]: the estimate first, then its replicates."""
    names = law_named(fit.law).names
    estimate = np.array([[fit.parameters[name] for name in names]])
    replicates = np.stack([fit.replicates[name] for name in names], axis=1)
    return np.concatenate([estimate, replicates])


def _power_law_optima(fit: Fit, ladder: Ladder, log_c: Array) -> tuple[Array, Array, Array]:
    draws = {name: values[:, None] for name, values in power_law_draws(fit).items()}
    x = log_c - np.log(fit.parameters["flops_ref"])
    log_n = np.log(draws["n_params_ref"]) + draws["a"] * x
    log_d = np.log(draws["n_tokens_ref"]) + draws["b"] * x
    return log_n, log_d, draws["E"] + draws["K"] * np.exp(-draws["c"] * x)


def _surface_optima(fit: Fit, ladder: Ladder, log_c: Array) -> tuple[Array, Array, Array]:
    parameters = parameter_draws(fit)
    # A failed replicate is NaN throughout and would only slow the search down.
    good = np.all(np.isfinite(parameters), axis=1)
    log_loss = law_named(fit.law).log_loss_of(parameters[good])
    log_n = np.full((len(parameters), len(log_c)), np.nan)
    log_n[good] = minimise(log_loss, ladder, np.broadcast_to(log_c, (int(good.sum()), len(log_c))))
    log_d = log_c - ladder.log_cost(log_n)
    loss = np.full(log_n.shape, np.nan)
    loss[good] = np.exp(log_loss(log_n[good], log_d[good]))
    return log_n, log_d, loss


def _local_exponents(fit: Fit, ladder: Ladder, log_c: Array) -> tuple[Array, Array]:
    if fit.law == "power_laws":
        return np.full(len(log_c), fit.exponent_a), np.full(len(log_c), fit.exponent_b)
    log_loss = law_named(fit.law).log_loss_of(parameter_draws(fit)[:1])
    a, b = local_exponents(log_loss, ladder, log_c[None, :])
    return a[0], b[0]


def _frontier_findings(
    fit: Fit, budgets: Array, beyond_c: Array, beyond_n: Array, log_n: Array
) -> list[str]:
    sentences = [] if fit.is_certified else [f"the fit is {fit.status.name}: {fit.status.value}."]
    if beyond_c.any():
        reach = budgets.max() / fit.fitted_runs.flops.max()
        sentences.append(
            f"{int(beyond_c.sum())} of {len(budgets)} budgets lie outside those of the runs "
            f"(up to {reach:.3g} times the largest): extrapolation."
        )
        if fit.law == "power_laws":
            sentences.append(
                "their loss rests on three parameters through a handful of optima and is biased "
                "when the noise is large: take loss forecasts from a surface."
            )
    if beyond_n.any():
        sentences.append(
            f"{int(beyond_n.sum())} of {len(budgets)} optima lie outside the sizes of the runs."
        )
    lost = np.sum(~np.isfinite(log_n[1:]), axis=0)
    if lost.max(initial=0) > 0:
        sentences.append(f"up to {lost.max()} of {len(log_n) - 1} replicates have no optimum.")
    return sentences


def _compare(label: str, names: Sequence[str], row: Sequence[Estimated]) -> str:
    ends = [one.interval for one in row]
    shown = ", ".join(
        f"{name} {one.value:.3g} ({one.interval.lower:.3g} to {one.interval.upper:.3g})"
        for name, one in zip(names, row, strict=True)
    )
    known = [i for i, end in enumerate(ends) if end.is_known]
    apart = [
        f"{names[i]} and {names[j]}"
        for i, j in itertools.combinations(known, 2)
        if max(ends[i].lower, ends[j].lower) > min(ends[i].upper, ends[j].upper)
    ]
    verdict = f"disagree ({'; '.join(apart)})" if apart else "agree"
    return f"{label}: the approaches {verdict}: {shown}."
