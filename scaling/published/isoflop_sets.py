# SPDX-License-Identifier: Apache-2.0
"""Approach 2 and the least-squares surface on eight isoFLOP tables (arXiv:2603.22339)."""

from pathlib import Path

from matplotlib.figure import Figure

from scaling.approaches.isoflop.per_budget import fit_per_budget
from scaling.approaches.surface.fit import fit_surface
from scaling.plots.isoflop import plot_isoflop
from scaling.plots.style import caption, new_figure, styled
from scaling.published.case import Case, Comparison, Reproduction, compare
from scaling.tables.read_tables import read_runs
from scaling.tables.runs import Runs

# (table, rows) -> a, b of Approach 2 (empty where the source's own fit fails), then E, A, B,
# alpha, beta, a of its variable-projection least squares; digits as they were given.
REFERENCE = {
    ("chinchilla_epoch", "all"): (
        ("0.4951", "0.5049"),
        ("2.0618", "2220", "8.432e5", "0.4336", "0.6507", "0.6001"),
    ),
    ("chinchilla_epoch", "qc"): (
        ("0.5414", "0.4586"),
        ("1.9001", "792.1", "8085", "0.3752", "0.4310", "0.5346"),
    ),
    ("marin_nemotron", "all"): (
        (),
        ("2.6191", "2.654e5", "1.185e4", "0.6738", "0.4598", "0.4056"),
    ),
    ("marin_nemotron", "qc"): (
        ("0.4443", "0.5319"),
        ("2.5598", "3.129e5", "8309", "0.6786", "0.4389", "0.3927"),
    ),
    ("marin_comma", "all"): (
        ("0.4049", "0.5724"),
        ("2.8092", "6.448e5", "4519", "0.7245", "0.4111", "0.3620"),
    ),
    ("marin_comma", "qc"): (
        ("0.4264", "0.5517"),
        ("2.7634", "6.217e5", "3515", "0.7197", "0.3963", "0.3551"),
    ),
    ("misfitting", "all"): (
        (),
        ("2.6716", "2.794e4", "7.157e5", "0.5992", "0.6635", "0.5255"),
    ),
    ("misfitting", "qc"): (
        ("0.5234", "0.4766"),
        ("2.7007", "6.645e4", "1.68e6", "0.6427", "0.7083", "0.5243"),
    ),
}
NAMES = ("E", "A", "B", "alpha", "beta")
# Where the source's least squares on log loss stops on the misfitting table, all rows.
TRAP_ALPHA, TRAP_A = 0.064, 0.913


def isoflop_table(tables: Path, name: str, rows: str) -> Runs:
    """Runs of one table; C is the source's own FLOP count, which for Marin's runs is not 6ND."""
    columns = {
        "n_params": "params",
        "n_tokens": "tokens",
        "loss_nats": "loss",
        "budget": "budget",
        "flops": "budget",
    }
    flops = "matmul_full" if name.startswith("marin") else "6n_total"
    runs = read_runs(tables / f"{name}_isoflop.csv", flops=flops, columns=columns)
    return runs if rows == "all" else runs.select(runs.extra["qc_outlier"] == 0)


def _approach2(label: str, runs: Runs, digits: tuple[str, ...]) -> tuple[list[Comparison], str]:
    """The source's way (every budget, D* from its own parabola), and what we would leave out."""
    found = []
    if digits:
        theirs = fit_per_budget(runs, accept="any", tokens="curve", n_bootstrap=0)
        pairs = zip("ab", digits, (theirs.exponent_a, theirs.exponent_b), strict=True)
        found = [compare(f"{label}: Approach 2 {name}", text, x) for name, text, x in pairs]
    ours = fit_per_budget(runs, tokens="curve", n_bootstrap=0)
    out = [f"{o.budget:.3g} FLOPs ({o.reason})" for o in ours.optima if o.reason]
    failed = "" if digits else " (the source's fit fails here)"
    left = f"leaves out {'; '.join(out)}" if out else "uses every budget"
    return found, (
        f"{label}{failed}: with resolved interior minima only, Approach 2 {left}; "
        f"a = {ours.exponent_a:.4f}, b = {ours.exponent_b:.4f}."
    )


def _least_squares(label: str, runs: Runs, digits: tuple[str, ...]) -> tuple[list[Comparison], str]:
    fit = fit_surface(runs, "additive", objective="raw-least_squares", n_bootstrap=0)
    alpha, beta = fit.parameters["alpha"], fit.parameters["beta"]
    values = [*(fit.parameters[name] for name in NAMES), beta / (alpha + beta)]
    found = [
        compare(f"{label}: least squares {name}", text, value)
        for name, text, value in zip((*NAMES, "a"), digits, values, strict=True)
    ]
    doubt = "" if fit.is_certified else f"{label}: least squares is {fit.status.name}."
    return found, doubt


def _trap(runs: Runs) -> list[Comparison]:
    """Least squares on log loss, where the source's optimiser stops far above the minimum."""
    beta = TRAP_ALPHA * TRAP_A / (1 - TRAP_A)
    best = fit_surface(runs, objective="least_squares", n_bootstrap=0)
    there = fit_surface(
        runs, objective="least_squares", fixed={"alpha": TRAP_ALPHA, "beta": beta}, n_bootstrap=0
    )
    objectives = [fit.certificate.objective for fit in (there, best) if fit.certificate]
    return [
        Comparison(
            what="misfitting all: log least squares, objective at the source's stop and ours",
            reference=objectives[0], ours=objectives[1], kind="not higher",
            note="the best E, A, B for the exponents at which the source stops",
        ),
        Comparison(
            what="misfitting all: log least squares a",
            reference=TRAP_A, ours=best.exponent_a, kind="published",
            note="the source's is no minimum of its objective",
        ),
    ]  # fmt: skip


@styled()
def figure_isoflop_sets(tables: Path) -> Figure:
    """The isoFLOP curves of the four tables, all rows, with minima; left out: dotted, hollow."""
    figure, axes = new_figure(4, width=19.0, height=4.4)
    names = dict.fromkeys(name for name, _ in REFERENCE)
    for ax, name in zip(axes, names, strict=True):
        fit = fit_per_budget(isoflop_table(tables, name, "all"), tokens="curve", n_bootstrap=0)
        plot_isoflop(ax, fit).set_title(f"{name}: a = {fit.exponent_a:.3f}")
    caption(figure, ["bars: 95 % intervals of each minimum; hollow: left out of the power law."])
    return figure


def run(tables: Path) -> Reproduction:
    """Every row of the reference table, the solver trap, and the figure."""
    comparisons: list[Comparison] = []
    findings: list[str] = []
    for (name, rows), (exponents, surface) in REFERENCE.items():
        runs, label = isoflop_table(tables, name, rows), f"{name} {rows}"
        for beside, digits in ((_approach2, exponents), (_least_squares, surface)):
            found, sentence = beside(label, runs, digits)
            comparisons += found
            findings += [sentence] if sentence else []
    comparisons += _trap(isoflop_table(tables, "misfitting", "all"))
    return Reproduction(
        comparisons=tuple(comparisons),
        figure=figure_isoflop_sets(tables),
        findings=tuple(findings),
    )


CASE = Case(
    name="isoflop_sets",
    title="Approach 2 and least-squares surfaces on eight isoFLOP tables",
    paper="arXiv:2603.22339; runs of Hoffmann et al. 2022, Marin, Li et al. 2025",
    run=run,
)
