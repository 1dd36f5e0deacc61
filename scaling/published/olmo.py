# SPDX-License-Identifier: Apache-2.0
"""Bhagia et al. 2024, OLMo ladder: a small ladder whose irreducible loss is poorly determined."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from scaling.approaches.surface.fit import fit_surface
from scaling.fit import Fit
from scaling.plots.style import caption, new_figure, styled
from scaling.published.case import Case, Reproduction, compare_all
from scaling.published.tables import Table, doubts, minimum, named, read_table, select
from scaling.solve.problem import Constraints
from scaling.solve.regression import Estimate
from scaling.tables.arrays import Array
from scaling.tables.runs import Runs

TABLE = "olmo_ladder_final.csv"
PAPER_MULTIPLIERS = (1.0, 2.0, 5.0, 10.0)
PROFILE = np.linspace(0.05, 2.3, 31)
PAPER_RUNS = {"A": "13.71", "B": "30.743", "E": "1.04014", "alpha": "0.11223", "beta": "0.15770"}
ALL_RUNS = {"A": "8.3528", "B": "62.516", "E": "0.63517", "alpha": "0.07369", "beta": "0.19081"}


def read_ladder(folder: Path) -> tuple[Table, Table]:
    """The 16 runs of the paper's fit, and all 24; the loss is the cross-entropy on C4."""
    table = read_table(folder / TABLE)
    table["loss_nats"] = table["c4_ce"]
    is_repeat = np.char.endswith(table["run"], "-rerun")
    is_paper = np.isin(table["chinchilla_multiplier"], PAPER_MULTIPLIERS) & ~is_repeat
    return select(table, is_paper), table


def profile_of_E(table: Table, values: Array = PROFILE) -> Array:
    """Lowest objective with E held at each value."""
    held = (Constraints(fixed={"E": float(value)}) for value in values)
    return np.array([named(minimum(table, constraints=c))["objective"] for c in held])


def with_intervals(table: Table) -> Fit:
    """The additive surface with bootstrap intervals; repeats are recognised by their (N, D)."""
    runs = Runs.from_columns(
        n_params=table["n_params"],
        n_tokens=table["n_tokens"],
        loss_nats=table["loss_nats"],
        run_id=list(table["run"]),
        params_convention="non_embedding",
        flops_convention="6n_non_embedding",
    )
    return fit_surface(runs)


def _run(folder: Path) -> Reproduction:
    paper, everything = read_ladder(folder)
    tables = {"16 runs of the paper": paper, "all 24 runs": everything}
    printed = dict(zip(tables, (PAPER_RUNS, ALL_RUNS), strict=True))
    found = {label: minimum(table) for label, table in tables.items()}
    fits = {label: with_intervals(table) for label, table in tables.items()}
    rows = [compare_all(label, printed[label], named(found[label])) for label in tables]
    sentences = [s for label in tables for s in _sentences(label, found[label], fits[label])]
    return Reproduction(
        comparisons=tuple(row for group in rows for row in group),
        figure=_figure(tables, found, fits),
        findings=(*sentences, _noise(fits["all 24 runs"])),
    )


def _sentences(label: str, found: Estimate, fit: Fit) -> list[str]:
    E, a = fit.intervals["E"], fit.intervals["exponent_a"]
    return [
        *doubts(label, found),
        f"{label}: E = {fit.parameters['E']:.2f}, 95 % interval {E.lower:.2f} to {E.upper:.2f} "
        f"({fit.bootstrap.method} bootstrap); a = {fit.exponent_a:.3f}, {a.lower:.3f} to "
        f"{a.upper:.3f}.",
        *(f"{label}: {sentence}" for sentence in fit.findings if "replicates" in sentence),
    ]


def _noise(fit: Fit) -> str:
    sd = fit.noise.run_sd_nats if fit.noise is not None else None
    return "no repeats." if sd is None else f"repeats of one run scatter by {sd:.5f} nats (sd)."


@styled()
def _figure(
    tables: dict[str, Table], found: dict[str, Estimate], fits: dict[str, Fit]
) -> Figure:  # fmt: skip
    """Profile of the objective in E, with the bootstrap interval of each fit."""
    drawn, (ax,) = new_figure()
    styles = zip(tables, ("#0072b2", "#d55e00"), ("-", "--"), (-4.0, -8.0), strict=True)
    for label, colour, line, height in styles:
        lowest, E = found[label].certificate.objective, fits[label].intervals["E"]
        rise = 100 * (profile_of_E(tables[label]) / lowest - 1)
        ax.plot(PROFILE, rise, line, color=colour, label=label)
        ax.plot([E.lower, E.upper], [height, height], color=colour, lw=3)
        ax.plot(fits[label].parameters["E"], height, "o", color=colour)
    ax.set(xlabel="E, held (nats per token)", ylabel="objective above its minimum (%)")
    ax.set_ylim(-12, 60)
    ax.legend()
    caption(drawn, ["bars: 95 % bootstrap intervals of E."])
    return drawn


CASE = Case(
    name="olmo",
    title="OLMo ladder: an irreducible loss that the runs do not determine",
    paper="Bhagia et al. 2024, arXiv:2412.04403",
    run=_run,
)
