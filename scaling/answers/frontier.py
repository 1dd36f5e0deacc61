# SPDX-License-Identifier: Apache-2.0
"""N*(C), D*(C), L*(C) of any fit, with bands."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from scaling.approaches.power_laws import power_law_draws
from scaling.fit import SCHEMA_VERSION, Fit, FitStatus
from scaling.intervals import Band
from scaling.json_values import encode
from scaling.laws.registry import law_named
from scaling.laws.size_ladder import Ladder, local_exponents, minimise
from scaling.shown import counted, loss_text, with_interval
from scaling.tables.arrays import Array
from scaling.tables.dataframe import dataframe
from scaling.tables.short_repr import ShortRepr, aligned
from scaling.tables.units import power


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Frontier(ShortRepr):
    """The compute-optimal choice at each budget.

    Fields:
      flops: budgets C in the runs' FLOP convention, [B].
      n_params_opt, n_tokens_opt, tokens_per_param, loss_opt: bands over the budgets. The loss is
        that of the law, without run-to-run noise.
      exponent_a, exponent_b: local slopes of ln N* and ln D* against ln C, [B].
      is_extrapolated: the budget, or the size it asks for, lies outside the fitted runs, [B].
      level: of the bands. status: of the fit behind them.
    """

    approach: str
    flops: Float[Array, " B"]
    n_params_opt: Band
    n_tokens_opt: Band
    tokens_per_param: Band
    loss_opt: Band
    exponent_a: Float[Array, " B"]
    exponent_b: Float[Array, " B"]
    is_extrapolated: Bool[Array, " B"]
    level: float
    status: FitStatus
    findings: tuple[str, ...]

    def _told(self) -> list[str]:
        """A line per budget, by falling importance."""
        names = ("FLOPs", "parameters N*", "loss L*", "tokens D*", "tokens per parameter")
        rows = [names]
        for i, flops in enumerate(self.flops):
            ratio = self.tokens_per_param.at(i)
            rows.append(
                (
                    power(flops) + "*" * bool(self.is_extrapolated[i]),
                    counted(self.n_params_opt.at(i)),
                    loss_text(self.loss_opt.at(i)),
                    counted(self.n_tokens_opt.at(i)),
                    with_interval(ratio.value, ratio.interval, "{:.3g}"),
                )
            )
        beyond = "* beyond the budgets or the sizes of the runs"
        head = f"{self.approach}: {100 * self.level:g} % intervals; {self.status.value}"
        return [head, *aligned(rows), *[beyond] * bool(self.is_extrapolated.any())]

    def to_dataframe(self) -> Any:
        """One row per budget: each band's value and ends, as a pandas DataFrame.

        Raises:
          ImportError: where pandas is not installed.
        """
        columns = {"flops": self.flops}
        for name in ("n_params_opt", "n_tokens_opt", "tokens_per_param", "loss_opt"):
            band: Band = getattr(self, name)
            columns |= {name: band.value, f"{name}_lower": band.lower, f"{name}_upper": band.upper}
        return dataframe({**columns, "is_extrapolated": self.is_extrapolated})

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; NaN becomes null."""
        return {"schema_version": SCHEMA_VERSION, **encode(self)}


def frontier(fit: Fit, flops: ArrayLike, *, level: float | None = None) -> Frontier:
    """The frontier of a fit at the given budgets.

    Surfaces are minimised along each isoFLOP line with the runs' own flops_per_token; power laws
    are evaluated. Bands are percentiles over the fit's bootstrap replicates.

    Args:
      flops: training budgets C, > 0, in the fit's FLOP convention; shape [B] or scalar.
      level: of the bands; the fit's own when not given.

    Raises:
      ValueError: if a budget is not positive and finite.
    """
    budgets = budgets_of(flops)
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


def budgets_of(flops: ArrayLike) -> Float[Array, " B"]:
    """Raises ValueError for a budget that is not positive and finite."""
    budgets = np.atleast_1d(np.asarray(flops, float))
    if not np.all(np.isfinite(budgets) & (budgets > 0)):
        raise ValueError(f"budgets must be positive and finite FLOPs, not {budgets.tolist()}")
    return budgets


def law_band(fit: Fit, columns: Mapping[str, Array]) -> Band:
    """The law of a fit at columns that it reads, [G], with its percentile band."""
    return Band.of(law_named(fit.law).predict(parameter_draws(fit), columns), fit.level)


def parameter_draws(fit: Fit) -> Float[Array, "draws P"]:
    """Parameters of a surface [1 + R, P]: the estimate first, then its replicates."""
    names = law_named(fit.law).names
    estimate = np.array([[fit.parameters[name] for name in names]])
    replicates = np.stack([fit.replicates[name] for name in names], axis=1)
    return np.concatenate([estimate, replicates])


def finite_draws(fit: Fit) -> Float[Array, "draws P"]:
    """Of the estimate and of the replicates that did not fail."""
    draws = parameter_draws(fit)
    return draws[np.all(np.isfinite(draws), axis=1)]


def _power_law_optima(fit: Fit, ladder: Ladder, log_c: Array) -> tuple[Array, Array, Array]:
    draws = {name: values[:, None] for name, values in power_law_draws(fit).items()}
    x = log_c - np.log(fit.parameters["flops_ref"])
    log_n = np.log(draws["n_params_ref"]) + draws["exponent_a"] * x
    log_d = np.log(draws["n_tokens_ref"]) + draws["exponent_b"] * x
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
