# SPDX-License-Identifier: Apache-2.0
"""The steps from Kaplan's exponent to Chinchilla's on RefinedWeb (Porian et al. 2024)."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from scaling.approaches.isoflop.curves import fit_curve, minima
from scaling.plots.style import approach_styles, caption, log_counts, new_figure, styled
from scaling.published.case import Case, Comparison, Reproduction
from scaling.published.tables import Table, read_table, select
from scaling.tables.arrays import Array

KEY = ("hparams", "warmup", "decay", "param_count", "loss_split")
# The sd in nats that the source gives RefinedWeb runs (0.002 for losses below e^3, as all are).
SEED_NOISE = 0.002
SWEPT = "porian_refinedweb_isoflop.csv"
N_DRAWS = 1000
# The source's standard deviation of ln N* is at least this share of the step of the size ladder.
STEP_SHARE = 0.33
# Points per step of the grid on which the source looks for the minimum.
_PER_STEP = 25
_SEED = 0


class Step(NamedTuple):
    """One row of the published table: exponent, its 95 % interval, R^2 and unweighted exponent;
    NaN where none is given.
    """

    name: str
    key: tuple[str, ...]
    a: float
    interval: tuple[float, float] = (np.nan, np.nan)
    r_squared: float = np.nan
    unweighted: float = np.nan


_ALL_TUNED = ("tuned", "long", "const", "kaplan", "train")
_LONG, _SHORT, _COSINE, _TUNED = (
    ("base", "long", "kaplan"),
    ("base", "short", "kaplan"),
    ("base", "short", "chinchilla"),
    ("tuned", "short", "const"),
)
STEPS = (
    Step("reproducing Kaplan", (*_LONG, "kaplan", "train"), 0.835, (0.824, 0.846), 0.999, 0.8338),
    Step("last layer FLOPs", (*_LONG, "standard", "val"), 0.706, (0.691, 0.717), 0.998, 0.7009),
    Step("correct warmup", (*_SHORT, "standard", "val"), 0.602, (0.591, 0.617), 0.993, 0.6035),
    Step("cosine decay", (*_COSINE, "standard", "val"), 0.571, (0.560, 0.589), 0.998, 0.5714),
    Step("tuned, no decay", (*_TUNED, "standard", "val"), 0.497, (0.491, 0.505), 0.997, 0.4970),
    Step("last layer, attention FLOPs", (*_LONG, "attention", "train"), 0.717, (0.703, 0.727)),
    Step("warmup, attention FLOPs", (*_SHORT, "attention", "train"), 0.622, (0.607, 0.632)),
    Step("cosine, attention FLOPs", (*_COSINE, "attention", "train"), 0.577, (0.562, 0.592)),
    Step("tuned, attention FLOPs", (*_TUNED, "attention", "train"), 0.505, (0.496, 0.512)),
    Step("Kaplan counting, tuned", _ALL_TUNED, 0.711, r_squared=0.996, unweighted=0.7081),
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Optima:
    """ln C, ln N* and its standard deviation per budget; draws [R, budgets], NaN without one."""

    log_c: Array
    log_n: Array
    sd: Array
    draws: Array
    n_floored: int = 0

    def line(self, *, weighted: bool = True) -> tuple[float, float, float]:
        """Slope, intercept and R^2 (unweighted, as the source scores) of ln N* on ln C."""
        w = 1.0 / self.sd if weighted else np.ones(len(self.sd))
        slope, intercept = np.polyfit(self.log_c, self.log_n, 1, w=w)
        rest = self.log_n - intercept - slope * self.log_c
        r_squared = 1.0 - np.sum(rest**2) / np.sum((self.log_n - self.log_n.mean()) ** 2)
        return float(slope), float(intercept), float(r_squared)

    def interval(self) -> tuple[float, float]:
        """95 % of the weighted slopes of the draws."""
        whole = self.draws[np.all(np.isfinite(self.draws), axis=1)]
        slopes = np.polyfit(self.log_c, whole.T, 1, w=1.0 / self.sd)[0]
        lower, upper = np.quantile(slopes, [0.025, 0.975])
        return float(lower), float(upper)


def rows_of(table: Table, key: tuple[str, ...]) -> Table:
    is_meant = [table[name] == value for name, value in zip(KEY, key, strict=True)]
    return select(table, np.all(is_meant, axis=0))


def published_optima(table: Table, key: tuple[str, ...]) -> Optima:
    """The source's own optima; budgets without an interior minimum are blank there."""
    rows = rows_of(table, key)
    rows = select(rows, np.isfinite(rows["n_star"]))
    log_c, log_n, sd = np.log(rows["flops"]), np.log(rows["n_star"]), rows["log_n_star_std"]
    return Optima(log_c=log_c, log_n=log_n, sd=sd, draws=np.empty((0, len(sd))))


def found_optima(table: Table, key: tuple[str, ...]) -> Optima:
    """Optima from the losses: Akima curves of ln loss on ln N, medians over draws of seed noise.

    A budget needs a minimum between its end sizes, and in half of the draws at least. As in the
    source the standard deviation is that of the draws, but no less than 0.33 steps of the ladder,
    over the share of draws that have a minimum.
    """
    rows, rng = rows_of(table, key), np.random.default_rng(_SEED)
    found, draws, n_floored = [], [], 0
    for flops in np.unique(rows["flops"]):
        here = select(rows, rows["flops"] == flops)
        size, loss = here["n_params"], here["loss_nats"]
        if len(size) < 3:
            continue
        curve = fit_curve("akima", size, loss)
        noisy = loss + SEED_NOISE * rng.standard_normal((N_DRAWS, len(loss)))
        x, _ = minima(curve, noisy, np.ones(noisy.shape), edges="lost")
        share = float(np.mean(np.isfinite(x)))
        if not np.isfinite(curve.minimum) or share < 0.5:
            continue
        n_grid = _PER_STEP * (len(size) - 1)
        floor = STEP_SHARE * _PER_STEP * float(np.ptp(curve.x)) / (n_grid - 1)
        spread = float(np.nanstd(x))
        n_floored += spread < floor
        middle = curve.centre + float(np.nanmedian(x))
        found.append((np.log(flops), middle, max(spread, floor) / share))
        draws.append(curve.centre + x)
    log_c, log_n, sd = np.array(found).T
    return Optima(log_c=log_c, log_n=log_n, sd=sd, draws=np.stack(draws, 1), n_floored=n_floored)


def _compare(step: Step, theirs: Optima, ours: Optima) -> list[Comparison]:
    slope, _, r_squared = theirs.line()
    unweighted = theirs.line(weighted=False)[0]
    again, (lower, upper) = ours.line()[0], ours.interval()
    note = "optima found again from the losses"
    rows = [
        ("a", step.a, slope, "checked", 5e-4, ""),
        ("a unweighted", step.unweighted, unweighted, "checked", 5e-5, ""),
        ("R^2", step.r_squared, r_squared, "published", 0.0, ""),
        ("a again", step.a, again, "published", 0.0, note),
        ("95 % from", step.interval[0], lower, "published", 0.0, note),
        ("95 % to", step.interval[1], upper, "published", 0.0, note),
    ]
    return [
        Comparison(
            what=f"{step.name}: {what}", reference=reference, ours=ours, kind=kind, tolerance=room,
            note=note,
        )
        for what, reference, ours, kind, room, note in rows
        if np.isfinite(reference)
    ]  # fmt: skip


@styled()
def figure_steps(found: dict[str, Optima]) -> Figure:
    """N*(C) of the five steps from Kaplan to Chinchilla, ours over the published optima."""
    figure, (left, right) = new_figure(2, width=10.0, height=4.2)
    shown = STEPS[:5]
    styles = approach_styles([step.name for step in shown])
    for step in shown:
        optima, style = found[step.name], styles[step.name]
        slope, intercept, _ = optima.line()
        colour = str(style["color"])
        label = f"{step.name}: {slope:.3f}"
        left.errorbar(
            np.exp(optima.log_c), np.exp(optima.log_n), color=colour, fmt=str(style["marker"]),
            yerr=np.exp(optima.log_n) * optima.sd, ms=4, lw=0.8, label=label,
        )  # fmt: skip
        left.plot(np.exp(optima.log_c), np.exp(intercept + slope * optima.log_c), color=colour)
    left.set(xscale="log", yscale="log", xlabel="training FLOPs (as each step counts)")
    left.set(ylabel="compute-optimal parameters", title="From Kaplan to Chinchilla")
    log_counts(left.yaxis)
    left.legend()
    for y, step in enumerate(reversed(STEPS)):
        right.plot(step.interval, [y, y], color="#999999", linewidth=4, solid_capstyle="butt")
        right.plot(found[step.name].interval(), [y, y], color="#0072b2", linewidth=1.2)
        right.plot(step.a, y, "o", color="#d55e00", ms=5)
        right.plot(found[step.name].line()[0], y, "|", color="#0072b2", ms=11)
    right.set_yticks(range(len(STEPS)), [step.name for step in reversed(STEPS)])
    for kaplan_or_chinchilla in (0.88, 0.5):
        right.axvline(kaplan_or_chinchilla, color="#444444", linewidth=0.8, linestyle=":")
    right.set(xlabel="exponent a of N*(C)", title="orange, grey: published; blue: ours")
    caption(figure, ["dotted: 0.88 (Kaplan et al. 2020) and 0.50 (Hoffmann et al. 2022)."])
    return figure


def run(tables: Path) -> Reproduction:
    """The ten exponents from the published optima, and again from the losses."""
    losses = read_table(tables / SWEPT)
    optima = read_table(tables / "porian_refinedweb_optima.csv")
    comparisons: list[Comparison] = []
    found: dict[str, Optima] = {}
    apart = []
    for step in STEPS:
        theirs, ours = published_optima(optima, step.key), found_optima(losses, step.key)
        found[step.name] = ours
        comparisons += _compare(step, theirs, ours)
        assert np.allclose(theirs.log_c, ours.log_c), "the budgets with a minimum are the same"
        apart.append(np.abs(theirs.log_n - ours.log_n).max())
    n_optima = sum(len(o.log_n) for o in found.values())
    n_floored = sum(o.n_floored for o in found.values())
    return Reproduction(
        comparisons=tuple(comparisons),
        figure=figure_steps(found),
        findings=(
            f"optima found again differ from the published ones by up to {100 * max(apart):.1f} % "
            "in N* (other draws; the source takes the best of 25 points per step of the ladder).",
            f"at {n_floored} of {n_optima} optima the published standard deviation is its floor, "
            "0.33 steps of the size ladder: the weights 1/sd^2 then tell the grid, not the noise.",
        ),
    )


CASE = Case(
    name="porian",
    title="Ten exponents from Kaplan's to Chinchilla's on RefinedWeb",
    paper="Porian et al. 2024, arXiv:2406.19146",
    run=run,
)
