# SPDX-License-Identifier: Apache-2.0
"""Li et al. 2025, (Mis)Fitting: one table, two laws, by what is done with the learning rate."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from scaling.laws.closed_form_optimum import optimal_params
from scaling.plots.style import caption, log_counts, new_figure, styled
from scaling.published.case import Case, Reproduction, compare_all
from scaling.published.tables import Table, doubts, minimum, named, read_table, select
from scaling.solve.regression import Estimate
from scaling.tables.arrays import Array

TABLE = "misfitting_final.csv"
ALL_ROWS = {
    "A": "51.41",
    "B": "4.675e5",
    "E": "1.80807",
    "alpha": "0.200265",
    "beta": "0.635662",
}


def best_rows(table: Table) -> Array:
    """Indices of the run with the lowest loss at each (N, D), whatever its learning rate."""
    order = np.argsort(table["loss_nats"], kind="stable")
    points = np.stack([table["n_params"], table["n_tokens"]], axis=1)[order]
    return np.sort(order[np.unique(points, axis=0, return_index=True)[1]])


def _run(folder: Path) -> Reproduction:
    table = read_table(folder / TABLE)
    best = select(table, best_rows(table))
    everything, tuned = minimum(table), minimum(best)
    label = f"best learning rate of each (N, D), {len(best['loss_nats'])} rows"
    return Reproduction(
        comparisons=tuple(compare_all("all 261 rows", ALL_ROWS, named(everything))),
        figure=_figure(table, best, everything, tuned),
        findings=(
            *doubts("all 261 rows", everything),
            *doubts(label, tuned),
            f"{label}: {_sentence(tuned)}",
            f"all 261 rows: {_sentence(everything)}",
        ),
    )


def _sentence(found: Estimate) -> str:
    values = named(found)
    listed = ", ".join(f"{name} = {values[name]:.5g}" for name in found.law.names)
    return f"{listed}; a = {values['a']:.4f}."


@styled()
def _figure(table: Table, best: Table, everything: Estimate, tuned: Estimate) -> Figure:
    """Left: loss against learning rate. Right: both frontiers."""
    drawn, (left, right) = new_figure(2, width=9.0, height=3.8)
    sizes = np.log10(table["n_params"])
    left.scatter(table["peak_lr"], table["loss_nats"], c=sizes, s=9, cmap="viridis")
    left.plot(
        best["peak_lr"], best["loss_nats"], "o", zorder=0, mfc="none", mec="#d55e00", markersize=6,
        label="best at its (N, D)",
    )  # fmt: skip
    left.set(xscale="log", xlabel="peak learning rate", ylabel="loss (nats per token)")
    rates = np.unique(table["peak_lr"])
    left.set_xticks(rates, labels=[f"{rate:g}" for rate in rates])
    left.set_xticks([], minor=True)
    left.legend()
    flops = np.geomspace(table["flops"].min(), table["flops"].max(), 50)
    rows = (("all runs", everything, "-", "#0072b2"), ("best runs", tuned, "--", "#d55e00"))
    for name, found, line, colour in rows:
        N = optimal_params(found.parameters, flops)
        right.plot(flops, N, line, color=colour, label=f"{name}, a = {named(found)['a']:.3f}")
    right.plot(table["flops"], table["n_params"], ".", color="#bbbbbb", markersize=3)
    right.set(xscale="log", yscale="log", xlabel="training compute (FLOPs)", ylabel="N*")
    log_counts(right.yaxis)
    right.legend()
    caption(drawn, ["colour: size, dark is small. Grey: the grid of runs."])
    return drawn


CASE = Case(
    name="misfitting",
    title="One table with and without tuned learning rates",
    paper="Li et al. 2025, arXiv:2502.18969",
    run=_run,
)
