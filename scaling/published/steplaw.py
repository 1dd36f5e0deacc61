# SPDX-License-Identifier: Apache-2.0
"""Step Law of Li et al. 2025: best learning rate and batch, from the whole grid."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from scaling.hyperparameters.fit import (
    HyperparameterFit,
    best_cells,
    fit_hyperparameters,
    recommend,
)
from scaling.hyperparameters.surface_law import NAMES, Grid
from scaling.plots.style import APPROACHES, new_figure
from scaling.published.case import Case, Comparison, Reproduction, compare
from scaling.published.tables import read_table

TABLE = "steplaw_dense_lr_bs.csv"
TOKENS_PER_SEQUENCE = 2048
# Mean and standard deviation of the source's 1000 bootstrap fits.
PUBLISHED = {
    "i": (0.586, 0.624),
    "p": (-0.7129, 0.0299),
    "q": (0.3075, 0.0191),
    "j": (-0.544, 0.437),
    "r": (0.5709, 0.0187),
}
# An independent implementation on the best cell of each group.
BEST_CELLS = {"p": "-0.82", "q": "0.29", "r": "0.50"}
WINDOWS = (0.005, 0.02, 0.04)
WHERE = (1e9, 1e11)


def read_grid(path: Path) -> Grid:
    """The grid, with the smoothed loss and batches in tokens."""
    table = read_table(path)
    return Grid.of(
        n_params=table["params_no_embed"],
        n_tokens=table["n_tokens"],
        lr=table["lr"],
        batch_tokens=TOKENS_PER_SEQUENCE * table["batch_size_seqs"],
        loss_nats=table["smooth_loss"],
    )


def _compare(fit: HyperparameterFit, cells: dict[str, float]) -> list[Comparison]:
    comparisons = [
        compare(f"best cells: {name}", text, cells[name]) for name, text in BEST_CELLS.items()
    ]
    for name, (value, sd) in PUBLISHED.items():
        interval = fit.intervals[name]
        inside = interval.lower <= value <= interval.upper
        comparisons.append(
            Comparison(
                what=f"surface: {name}",
                reference=value,
                ours=fit.parameters[name],
                kind="published",
                note=f"ours {interval.lower:.3g} to {interval.upper:.3g}, "
                f"theirs {'inside' if inside else 'outside'}; theirs +- {sd:g}",
            )
        )
    return comparisons + _advice(fit)


def _advice(fit: HyperparameterFit) -> list[Comparison]:
    """What both laws recommend for one run: the exponents trade, the advice hardly moves."""
    N, D = WHERE
    advice = recommend(fit, N, D)
    i, p, q, j, r = (PUBLISHED[name][0] for name in NAMES)
    theirs = (np.exp(i) * N**p * D**q, np.exp(j) * D**r)
    rows = (
        ("lr", advice.lr, advice.lr_interval, advice.lr_slack),
        ("batch in tokens", advice.batch_tokens, advice.batch_interval, advice.batch_slack),
    )
    return [
        Comparison(
            what=f"{what} at N = {N:g}, D = {D:g}",
            reference=float(value),
            ours=ours,
            kind="published",
            note=f"{interval.lower:.3g} to {interval.upper:.3g}; a factor {slack:.2f} off costs "
            f"{advice.slack_nats:g} nats",
        )
        for (what, ours, interval, slack), value in zip(rows, theirs, strict=True)
    ]


def _sensitivity(grid: Grid, fit: HyperparameterFit) -> list[str]:
    others = [fit_hyperparameters(grid, window=window, n_bootstrap=0) for window in WINDOWS]
    lines = []
    for window, found in sorted({one.window: one for one in (*others, fit)}.items()):
        values = ", ".join(f"{name} = {found.parameters[name]:.3f}" for name in "pqr")
        lines.append(
            f"window {100 * window:g} % ({found.n_cells} cells): {values}; {found.status.name}"
        )
    return lines


def _draw(axes: list[Axes], grid: Grid, fit: HyperparameterFit) -> None:
    """Best cells of each group, and both laws, against tokens."""
    best = grid.select(grid.excess <= 0)
    theirs = {name: value for name, (value, _) in PUBLISHED.items()}
    laws = ((fit.parameters, "-", "surface, ours"), (theirs, "--", "published"))
    D = np.geomspace(best.n_tokens.min(), best.n_tokens.max(), 50)
    for k, N in enumerate(np.unique(best.n_params)):
        rows, colour = best.n_params == N, APPROACHES[k % len(APPROACHES)]
        axes[0].plot(best.n_tokens[rows], best.lr[rows], "o", color=colour, label=f"N = {N:.2g}")
        axes[1].plot(best.n_tokens[rows], best.batch_tokens[rows], "o", color=colour)
        for law, line, _ in laws:
            lr = np.exp(law["i"]) * N ** law["p"] * D ** law["q"]
            axes[0].plot(D, lr, line, color=colour, linewidth=1.0)
    for law, line, name in laws:
        axes[1].plot(D, np.exp(law["j"]) * D ** law["r"], line, color="k", label=name)
    for ax, label in zip(axes, ("learning rate", "batch (tokens)"), strict=True):
        ax.set(xscale="log", yscale="log", xlabel="training tokens", ylabel=label)
        ax.legend(fontsize=6.5)


def run(tables: Path) -> Reproduction:
    """Ours against theirs; dots in the figure are the best cells, which neither law rests on."""
    grid = read_grid(tables / TABLE)
    fit = fit_hyperparameters(grid, n_bootstrap=100)
    figure, axes = new_figure(2, width=10.0, height=4.2)
    _draw(axes, grid, fit)
    return Reproduction(
        comparisons=tuple(_compare(fit, best_cells(grid))),
        figure=figure,
        findings=(
            f"{fit.status.name}: {fit.status.value}.",
            *fit.findings,
            *_sensitivity(grid, fit),
        ),
    )


CASE = Case(
    name="steplaw",
    title="Step Law: best learning rate and batch from whole loss surfaces",
    paper="Li et al. 2025, arXiv:2503.04715",
    run=run,
)
