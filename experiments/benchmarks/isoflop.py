# SPDX-License-Identifier: Apache-2.0
"""make bench-isoflop: Approach 2 on public isoFLOP tables, budgets together and each by itself.

What both say of each table; and, on losses of the table's own least-squares surface with its
residuals drawn anew, how far either is from that surface, how often its intervals hold it, and how
wide they would be if they held it as often as they say: also for a fit that knows the form of the
surface, which no approach that does not know it can beat by much. Writes isoflop.{json,md} below
results/benchmarks/; 8 minutes on one core.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from experiments.benchmarks.record import facts, made_by, write
from experiments.files import markdown
from experiments.machine.jax_setup import prepare_to_fit
from scaling.approaches.isoflop.fit import fit_isoflop
from scaling.approaches.isoflop.per_budget import fit_per_budget
from scaling.approaches.surface.fit import fit_surface
from scaling.approaches.surface.optimum import chord_exponents
from scaling.fit import Fit, FitError
from scaling.laws.registry import law_named
from scaling.published.case import TABLES
from scaling.published.isoflop_sets import REFERENCE, isoflop_table
from scaling.tables.runs import Runs

N_SIMULATIONS, N_JUDGED, N_REPLICATES, LEVEL = 300, 150, 79, 0.95
WAYS: dict[str, Callable[..., Fit]] = {"per budget": fit_per_budget, "joint": fit_isoflop}
NARROWER = 0.7  # The goal, in widths of per budget.


def main() -> None:
    prepare_to_fit()
    record = facts("make bench-isoflop", cores=1) | {"tables": {}}
    for name, rows in REFERENCE:
        runs, table = isoflop_table(TABLES, name, rows), f"{name}, {rows}"
        record["tables"][table] = {"said": said(runs), "simulated": simulated(runs)}
        print(table, record["tables"][table], flush=True)
    write("isoflop", record, page(record))
    print(page(record))


def said(runs: Runs) -> dict[str, Any]:
    """Of the table itself; inside: budgets whose lowest mean loss is at neither end."""
    inside = [b for b in runs.budgets if _is_inside(runs, b)]
    found: dict[str, Any] = {"runs": len(runs), "budgets": len(runs.budgets), "inside": len(inside)}
    for way, fit_by in WAYS.items():
        fit = fit_by(runs, tokens=_tokens(runs))
        ends = fit.intervals["exponent_a"]
        answered = [o.budget for o in fit.optima if np.isfinite(o.n_params_opt)]
        found[way] = {
            "a": fit.exponent_a,
            "interval": (ends.lower, ends.upper),
            "answered": len(set(inside) & set(answered)),
            "departs": any("depart from power laws" in f for f in fit.findings),
            "certified": fit.is_certified,
        }
    return found


def _tokens(runs: Runs) -> str:
    return "ladder" if runs.flops_convention == "6n_total" else "curve"


def _is_inside(runs: Runs, budget: float) -> bool:
    here = runs.budget == budget
    sizes = np.unique(runs.n_params[here])
    means = [runs.loss_nats[here & (runs.n_params == n)].mean() for n in sizes]
    return 0 < int(np.argmin(means)) < len(sizes) - 1


def simulated(runs: Runs) -> dict[str, Any]:
    """Against the additive surface that fits the table best, its residuals drawn anew."""
    law, rng = law_named("additive"), np.random.default_rng(0)
    fit = fit_surface(runs, law, objective="least_squares", n_bootstrap=0)
    values = np.array([fit.parameters[name] for name in law.names])
    clean = law.loss(values, runs.n_params, runs.n_tokens)
    truth = float(chord_exponents(law, values[None], runs)[0][0])
    rest = np.log(runs.loss_nats / clean)
    draws = [clean * np.exp(rng.choice(rest, len(rest))) for _ in range(N_SIMULATIONS)]
    return {
        "a": truth,
        **{way: _against(truth, fit_by, runs, draws) for way, fit_by in WAYS.items()},
        "known form": _of_known_form(truth, runs, draws),
    }


def _of_known_form(truth: float, runs: Runs, draws: list[np.ndarray]) -> dict[str, float]:
    """Of the surface that the losses are of; Huber's loss, 1 % wide, for outliers."""
    fits = (
        fit_surface(replace(runs, loss_nats=losses), objective="huber:0.01", n_bootstrap=0)
        for losses in draws
    )
    return {"needed": _needed([fit.exponent_a - truth for fit in fits])}


def _needed(errors: list[float]) -> float:
    return 2.0 * float(np.quantile(np.abs(errors), LEVEL))


def _against(
    truth: float, fit_by: Callable[..., Fit], runs: Runs, draws: list[np.ndarray]
) -> dict[str, float]:
    """Errors of a, coverage of its intervals, and the half width that would hold the truth."""
    errors, hits, widths = [], [], []
    for i, losses in enumerate(draws):
        n = N_REPLICATES if i < N_JUDGED else 0
        try:
            fit = fit_by(replace(runs, loss_nats=losses), n_bootstrap=n, level=LEVEL, seed=i)
        except FitError:
            continue
        errors.append(fit.exponent_a - truth)
        if n:
            # Quantiles at k/(R + 1): few replicates do not make the intervals narrower.
            tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
            drawn = fit.replicates["exponent_a"]
            lower, upper = np.nanquantile(drawn, tails, method="weibull")
            hits.append(lower <= truth <= upper)
            widths.append(upper - lower)
    return {
        "bias": float(np.median(errors)),
        "coverage": float(np.mean(hits)),
        "width": float(np.median(widths)),
        "needed": _needed(errors),
        "answered": len(errors) / len(draws),
    }


def page(record: dict[str, Any]) -> str:
    """isoflop.md."""
    tables = record["tables"]
    heads = ("table", "runs", "budgets", "a, per budget", "a, joint",
             "width, joint over per budget", "inside", "answered, per budget",
             "answered, joint", "departs")  # fmt: skip
    first = [
        (
            name, one["runs"], one["budgets"], *(_said(one[way]) for way in WAYS),
            f"{_width(one['joint']) / _width(one['per budget']):.2f}", one["inside"],
            *(one[way]["answered"] for way in WAYS), "yes" if one["joint"]["departs"] else "",
        )
        for name, one in ((name, table["said"]) for name, table in tables.items())
    ]  # fmt: skip
    second_heads = ("table", "a of the surface", "bias, per budget", "bias, joint",
                    "coverage, per budget", "coverage, joint", "needed, per budget",
                    "needed, joint", "joint over per budget",
                    "known form over per budget")  # fmt: skip
    second = [
        (
            name, f"{one['a']:.3f}", *(f"{one[way]['bias']:+.3f}" for way in WAYS),
            *(f"{100 * one[way]['coverage']:.0f} %" for way in WAYS),
            *(f"{one[way]['needed']:.3f}" for way in WAYS),
            *(f"{one[way]['needed'] / one['per budget']['needed']:.2f}"
              for way in ("joint", "known form")),
        )
        for name, one in ((name, table["simulated"]) for name, table in tables.items())
    ]  # fmt: skip
    met, can_be_met = (
        sum(
            one[way]["needed"] <= NARROWER * one["per budget"]["needed"]
            for one in (table["simulated"] for table in tables.values())
        )
        for way in ("joint", "known form")
    )
    lost = sum(t["said"]["inside"] - t["said"]["joint"]["answered"] for t in tables.values())
    return "\n".join(
        [
            "# Approach 2 on public isoFLOP tables",
            "",
            made_by(record),
            "",
            "Per budget: a parabola for each budget, those that are resolved, and a line through "
            "their optima, as published. Joint: what `isoflop fit --approach isoflop` does. "
            "95 % intervals. Inside: budgets whose lowest mean loss is at neither end of their "
            "sizes. Departs: optima or curvatures of single budgets follow no power law (5 %). "
            f"Of budgets inside, {lost} have no answer of the joint fit.",
            "",
            *markdown.table(heads, first),
            "",
            "## Against a known surface",
            "",
            f"{N_SIMULATIONS} simulations of each grid: losses of the additive surface that fits "
            "the table best by least squares, its residuals drawn anew. Bias: median error of a. "
            f"Coverage: of 95 % intervals ({N_JUDGED} of the simulations; standard error 1.8 "
            "points). Needed: the width that an interval about the estimate must have to hold a "
            "in 95 % of them: width at nominal coverage. The goal, 30 % less than per budget, is "
            f"met on {met} of {len(tables)}; by a fit of the surface's own form, on {can_be_met}.",
            "",
            *markdown.table(second_heads, second),
            "",
        ]
    )


def _said(one: dict[str, Any]) -> str:
    low, high = one["interval"]
    doubt = "" if one["certified"] else ", not certified"
    return f"{one['a']:.3f} ({low:.3f} to {high:.3f}){doubt}"


def _width(one: dict[str, Any]) -> float:
    return one["interval"][1] - one["interval"][0]


if __name__ == "__main__":
    main()
