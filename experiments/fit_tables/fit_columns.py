# SPDX-License-Identifier: Apache-2.0
"""A law fitted to a table of anything: features by column, several targets, groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.fit_tables.output import Output, write_columns
from experiments.fit_tables.settings import Columns, Fitting, Reading
from experiments.terminal.table import wrapped

if TYPE_CHECKING:
    from scaling.approaches.columns import ColumnFit
    from scaling.solve.regression import Estimate
    from scaling.tables.arrays import Array


def answer_columns(
    path: str, reading: Reading, *, asked: Columns, fitting: Fitting, output: Output
) -> None:
    """Fits the law to each group and target, says how it extrapolates inside the table, predicts.

    Raises:
      ValueError: for columns that are missing, or an option that is for runs only.
    """
    from scaling.answers.extrapolation import cuts, score
    from scaling.approaches.columns import Way, draw_parameters, fit_columns
    from scaling.json_values import encode
    from scaling.laws.objectives import HUBER, objective_named
    from scaling.laws.registry import law_named
    from scaling.solve.problem import Constraints

    law = law_named(fitting.law)
    targets = asked.targets or (law.target,)
    constraints = Constraints(fixed=fitting.fixed, tied=fitting.tied, bounds=fitting.bounds)
    objective = objective_named(fitting.objective) if fitting.objective else HUBER
    way = Way(law=law, objective=objective, constraints=constraints)
    table, groups = _read(path, reading, [*law.columns, *targets], asked.by, reading.where)
    fit = fit_columns(table, way, targets=targets, groups=groups)
    n_draws = 200 if fitting.intervals.n_bootstrap is None else fitting.intervals.n_bootstrap
    level, seed = fitting.intervals.level or 0.95, fitting.intervals.seed or 0
    drawn = draw_parameters(fit, n_draws, seed) if n_draws else {}
    ones = np.ones(len(next(iter(table.values()))))
    far = score(
        table, way, cuts(table, far=ones, groups=groups),
        targets=targets, groups=groups, cost=ones,
    )  # fmt: skip
    say = output.console.print
    say(wrapped(f"{law.name}: {law.formula}"))
    say(f"{len(ones)} rows; {objective.sentence}", markup=False)
    fits = [_told(key, found, drawn.get(key), level) for key, found in fit.estimates.items()]
    for one in fits:
        say(wrapped(_sentence(one), indent="  "), markup=False, highlight=False)
    if np.isfinite(far.error):
        say(f"rows held out, the farthest from the others: R2 {far.r2:.3f}, error {far.error:.4g}")
    else:
        say("rows held out, the farthest from the others: too few are left to fit.")
    answer: dict[str, Any] = {
        "law": law.name, "formula": law.formula, "objective": objective.name, "fits": fits,
        "held_out": {"r2": far.r2, "error": far.error}, "level": level,
    }  # fmt: skip
    if asked.predict is not None:
        source, to = asked.predict
        rows, labels = _read(str(source), reading, law.columns, asked.by)
        answer["predicted"] = _predicted(fit, rows, labels, drawn, level)
        leading = {} if labels is None else {str(asked.by): labels.tolist()}
        write_columns(to, leading | answer["predicted"])
        say(f"{len(next(iter(rows.values())))} rows predicted: {to}")
    output.write(encode(answer))


def _read(
    path: str, reading: Reading, names: Sequence[str], by: str | None, where: Sequence[str] = ()
) -> tuple[dict[str, Array], Array | None]:
    """Numbers by name, and the group of each row where there are groups."""
    from scaling.tables.read_columns import read_columns

    labels = (by,) if by else ()
    table = read_columns(path, names, columns=reading.columns, labels=labels, where=where)
    return table, table.pop(by) if by else None


def _told(
    key: tuple[str, str], found: Estimate, drawn: Array | None, level: float
) -> dict[str, Any]:
    """One fit as JSON has it."""
    from scaling.intervals import Interval

    group, target = key
    names = found.law.names
    intervals = {} if drawn is None else {
        name: Interval.of(drawn[:, i], level) for i, name in enumerate(names)
    }  # fmt: skip
    return {
        "group": group,
        "target": target,
        "parameters": dict(zip(names, map(float, found.parameters), strict=True)),
        "intervals": {n: (one.lower, one.upper) for n, one in intervals.items()},
        "status": found.status.name,
        "rms": float(np.sqrt(np.mean(found.residuals**2))),
        "objective": found.certificate.objective,
        "starts_agree": found.certificate.n_starts_agree,
    }


def _sentence(one: Mapping[str, Any]) -> str:
    parts = []
    for name, value in one["parameters"].items():
        low, high = one["intervals"].get(name, (np.nan, np.nan))
        ends = f" ({low:.4g} to {high:.4g})" if np.isfinite(low) else ""
        parts.append(f"{name} {value:.5g}{ends}")
    of = f"{one['group']} {one['target']}".strip()
    status = "certified" if one["status"] == "CONVERGED" else f"not certified, {one['status']}"
    return f"{of}: {', '.join(parts)}; rms {one['rms']:.3g}; {status}."


def _predicted(
    fit: ColumnFit,
    rows: Mapping[str, Array],
    groups: Array | None,
    drawn: Mapping[tuple[str, str], Array],
    level: float,
) -> dict[str, list[float]]:
    """Columns of predictions, each target with the ends of its interval where there are draws."""
    values = fit.predict(rows, groups)
    labels = np.full(len(values), "") if groups is None else groups
    found: dict[str, list[float]] = {}
    for i, target in enumerate(fit.targets):
        found[target] = values[:, i].tolist()
        if not drawn:
            continue
        ends = np.full((2, len(values)), np.nan)
        for label in np.unique(labels).tolist():
            here = labels == label
            x = {name: column[here] for name, column in rows.items()}
            many = fit.way.law.predict(drawn[label, target], x)
            tails = ((1 - level) / 2, (1 + level) / 2)
            ends[:, here] = np.nanquantile(many, tails, axis=0)
        found[f"{target}_lower"], found[f"{target}_upper"] = ends.tolist()
    return found
