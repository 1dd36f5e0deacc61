# SPDX-License-Identifier: Apache-2.0
"""Published tables as columns, and the certified minimum of a law over their rows."""

from collections.abc import Mapping
from pathlib import Path

from scaling.fit import FitStatus
from scaling.laws.closed_form_optimum import optimal_exponents
from scaling.laws.law import Law
from scaling.laws.loss_laws import ADDITIVE
from scaling.laws.objectives import objective_named
from scaling.solve.problem import NO_CONSTRAINTS, Constraints, set_up
from scaling.solve.regression import Estimate, estimate
from scaling.tables.arrays import Array
from scaling.tables.cells import as_column
from scaling.tables.file import read_table as read_cells

Table = Mapping[str, Array]

# Column of the published tables -> column that laws read.
_OURS = {"params": "n_params", "tokens": "n_tokens", "loss": "loss_nats"}


def read_table(path: Path) -> dict[str, Array]:
    """Columns of a published table, params, tokens and loss under the names that laws read.

    Raises:
      ValueError: for a table without rows.
    """
    cells = read_cells(path).columns
    return {_OURS.get(name, name): as_column(column) for name, column in cells.items()}


def select(table: Table, rows: Array) -> dict[str, Array]:
    """The rows of a mask or of indices."""
    return {name: values[rows] for name, values in table.items()}


def minimum(
    table: Table,
    law: Law = ADDITIVE,
    *,
    objective: str = "huber",
    constraints: Constraints = NO_CONSTRAINTS,
    target: str | None = None,
) -> Estimate:
    """The certified minimum over all rows of a table; no check that they suffice.

    Published fits may have fewer rows than a fit of ours would accept, e.g. five for four
    parameters.
    """
    y, loss = table[target or law.target], objective_named(objective)
    return estimate(set_up(law, table, y, objective=loss, constraints=constraints), constraints)


def named(found: Estimate) -> dict[str, float]:
    """Parameters by name, the exponent a of N*(C) where they tell it, and the objective."""
    values = dict(zip(found.law.names, map(float, found.parameters), strict=True))
    if {"alpha", "beta"} <= set(values):
        values["a"] = float(optimal_exponents(values["alpha"], values["beta"])[0])
    return values | {"objective": found.certificate.objective}


def doubts(label: str, found: Estimate) -> list[str]:
    """A sentence when the minimum is not certified, or another one is nearly as low."""
    sentences = []
    if found.status is not FitStatus.CONVERGED:
        sentences.append(f"{label}: not certified, {found.status.value}.")
    gap = found.certificate.next_best_excess
    if gap is not None and gap < 0.01:
        sentences.append(f"{label}: another local minimum lies {100 * gap:.2g} % higher.")
    return sentences
