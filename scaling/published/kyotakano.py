# SPDX-License-Identifier: Apache-2.0
"""The example of a public toolkit: the lowest loss that can be reached, by an asymmetric error.

Its error costs ten times as much where the law lies above the observed loss as where it lies
below: the law follows the best runs. In nats, not in log loss; up to a factor it is the pinball
loss at the quantile 1/11. Read the other way round, quantile 10/11, the minimum is far from the
printed parameters (E = 1.929, A = 709).
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from scaling.laws.loss_laws import ADDITIVE
from scaling.laws.objectives import objective_named
from scaling.plots.style import caption, new_figure, styled
from scaling.published.case import Case, Comparison, Reproduction, compare_all
from scaling.published.tables import Table, doubts, minimum, named, read_table
from scaling.solve.regression import Estimate
from scaling.tables.arrays import Array

TABLE = "kyotakano_llm.csv"
WEIGHT = 10.0
OBJECTIVE = f"raw-quantile:{1 / (1 + WEIGHT)!r}"

PRINTED = {
    "E": "1.7004438",
    "A": "185.388090",
    "B": "1627.00125",
    "alpha": "0.28923265",
    "beta": "0.35560209",
}
HUBER = {
    "A": "442.2",
    "B": "1272",
    "E": "1.78389",
    "alpha": "0.342626",
    "beta": "0.342002",
    "a": "0.49954",
}


def asymmetric_error(table: Table, parameters: Array) -> float:
    """Mean over runs of |observed - predicted|, times 10 where predicted is above, in nats."""
    residuals = table["loss_nats"] - ADDITIVE.predict(parameters, table)
    pinball = objective_named(OBJECTIVE).rho(residuals)
    return (1 + WEIGHT) * float(np.mean(pinball))


def _run(folder: Path) -> Reproduction:
    table = read_table(folder / TABLE)
    lowest, huber = minimum(table, objective=OBJECTIVE), minimum(table)
    printed = np.array([float(PRINTED[name]) for name in ADDITIVE.names])
    theirs, ours = (asymmetric_error(table, p) for p in (printed, lowest.parameters))
    label = "asymmetric error"
    note = "theirs is not the minimum of its own objective"
    return Reproduction(
        comparisons=(
            Comparison(
                what=f"{label}, mean at their parameters and at ours (nats)",
                reference=theirs, ours=ours, kind="not higher",
            ),
            *compare_all(label, PRINTED, named(lowest), kind="published", note=note),
            *compare_all("Huber(1e-3)", HUBER, named(huber)),
        ),
        figure=_figure(table, lowest, huber),
        findings=(
            *doubts(label, lowest),
            *doubts("Huber(1e-3)", huber),
            f"{label}: their parameters lie {100 * (theirs / ours - 1):.2g} % above the minimum.",
            "The quantile fit leaves 1 in 11 runs below it: it is a floor, not an expected loss.",
        ),
    )  # fmt: skip


@styled()
def _figure(table: Table, lowest: Estimate, huber: Estimate) -> Figure:
    """Residuals of both fits against compute."""
    drawn, axes = new_figure(2, width=9.0, height=3.6)
    rows = (("lowest reachable loss (quantile 1/11)", lowest), ("Huber(1e-3) on log loss", huber))
    for ax, (title, found) in zip(axes, rows, strict=True):
        predicted = ADDITIVE.predict(found.parameters, table)
        ax.plot(table["flops"], table["loss_nats"] - predicted, ".", color="#0072b2", markersize=4)
        ax.axhline(0.0, color="#444444", lw=0.8)
        ax.set(xscale="log", xlabel="training compute (FLOPs)", title=title)
    axes[0].set_ylabel("observed minus predicted loss (nats)")
    caption(drawn, ["same 234 runs, same law; the estimators answer different questions."])
    return drawn


CASE = Case(
    name="kyotakano",
    title="A toolkit's asymmetric error",
    paper="kyo-takano/chinchilla, examples/llm",
    run=_run,
)
