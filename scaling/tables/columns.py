# SPDX-License-Identifier: Apache-2.0
"""Which column of a table is which field of a run, and its cells as numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scaling.tables.arrays import Array
from scaling.tables.cells import Problems, as_column, numbers, text
from scaling.tables.file import Table
from scaling.tables.rounded_budgets import merge_rounded
from scaling.tables.units import check_fields, column_and_factor

PARAMS_CONVENTIONS = ("total", "non_embedding")
# "table": as the table counts them, which it does not say.
FLOPS_CONVENTIONS = ("6n_total", "6n_non_embedding", "matmul_full", "matmul_causal", "table")
OK = "ok"

TEXT = ("run_id", "cluster_id", "status")
NUMBERS = ("budget", "n_params", "n_tokens", "flops", "loss_nats")
COLUMNS = ("run_id", "budget", "n_params", "n_tokens", "flops", "loss_nats", "cluster_id", "status")


def mapped(
    table: Table, flops: str | None, params: str, given: Mapping[str, str]
) -> dict[str, tuple[str, float]]:
    """Field -> (column of this file, factor), for the fields it has."""
    check_fields(list(given))
    is_ours = not given and any(f"flops_{name}" in table.columns for name in FLOPS_CONVENTIONS)
    own = {}
    if is_ours:
        own["flops"] = f"flops_{flops or 'matmul_full'}"
        own["n_params"] = "n_params_non_embedding" if params == "non_embedding" else "n_params"
    mapping = {}
    for name in (*COLUMNS, *(name for name in given if name not in COLUMNS)):
        candidate = given.get(name) or own.get(name, name)
        column, factor = column_and_factor(name, candidate, table.columns)
        if name in given or column in table.columns:
            mapping[name] = column, factor
    required = {name: own.get(name, name) for name in ("n_params", "n_tokens", "loss_nats")}
    if is_ours or (flops is not None and not flops.startswith("6n")):
        required["flops"] = own.get("flops", "flops")
    wanted = [column for name, column in required.items() if name not in mapping]
    table.require([*wanted, *(column for column, _ in mapping.values())])
    return mapping


def fields_of(
    table: Table, mapping: Mapping[str, tuple[str, float]], problems: Problems
) -> dict[str, Any]:
    """Columns of `Runs`; problems are noted, not raised."""
    label = [f"{table.row_kind}{number}" for number in table.row_numbers]
    ids = text(table, mapping["run_id"][0]) if "run_id" in mapping else label
    _note_ids(ids, problems)
    status = [OK] * len(table)
    if "status" in mapping:
        status = text(table, mapping["status"][0])
    cluster = text(table, mapping["cluster_id"][0]) if "cluster_id" in mapping else ids
    # A run that failed may lack what it did not reach; one that is ok must have it all.
    is_ok = np.array(status, str) == OK

    def read(name: str, checked: Array | None) -> Array:
        column, factor = mapping[name]
        return numbers(table, column, problems, factor=factor, checked=checked)

    n_params, n_tokens = read("n_params", None), read("n_tokens", is_ok)
    with np.errstate(over="ignore"):
        flops = read("flops", is_ok) if "flops" in mapping else 6.0 * n_params * n_tokens
    for row in np.flatnonzero(np.isinf(flops)).tolist():
        problems.add(row, "6 n_params n_tokens is beyond all numbers")
    return {
        "run_id": np.array(ids, str),
        "n_params": n_params,
        "n_tokens": n_tokens,
        "flops": flops,
        "budget": read("budget", None) if "budget" in mapping else flops,
        "loss_nats": read("loss_nats", is_ok),
        "cluster_id": np.array([c or i for c, i in zip(cluster, ids, strict=True)], str),
        "status": np.array(status, str),
    }


def _note_ids(ids: Sequence[str], problems: Problems) -> None:
    first: dict[str, int] = {}
    for row, run_id in enumerate(ids):
        if not run_id:
            problems.add(row, "run_id is empty")
        elif run_id in first:
            where = f"{problems.table.row_kind} {problems.table.row_numbers[first[run_id]]}"
            problems.add(row, f"run_id {run_id} repeats {where}")
        first.setdefault(run_id, row)


def further_columns(
    table: Table, mapping: Mapping[str, tuple[str, float]], problems: Problems
) -> dict[str, Array]:
    """Further columns: those of the mapping as positive numbers, the others as they are."""
    taken = {column for column, _ in mapping.values()}
    extra = {name: as_column(c) for name, c in table.columns.items() if name not in taken}
    named = {name: m for name, m in mapping.items() if name not in COLUMNS}
    return extra | {n: numbers(table, c, problems, factor=f) for n, (c, f) in named.items()}


def convention_of(
    mapping: Mapping[str, tuple[str, float]], found: Mapping[str, Array], params: str
) -> str:
    """The FLOP convention of a table that was read without one."""
    if "flops" in mapping and mapping["flops"][0] == "flops_matmul_full":
        return "matmul_full"
    ratio = found["flops"] / (6.0 * found["n_params"] * found["n_tokens"])
    known = ratio[np.isfinite(ratio)]
    is_6nd = bool(np.all(np.abs(known - 1.0) < 1e-3))
    return ("6n_total" if params == "total" else "6n_non_embedding") if is_6nd else "table"


def grouped_budgets(
    found: Mapping[str, Array], mapping: Mapping[str, tuple[str, float]]
) -> tuple[Array, tuple[str, ...]]:
    """Budgets with rounding removed, and what was assumed about compute, in words."""
    budget, flops = found["budget"], found["flops"]
    merged, said = merge_rounded(budget)
    sentences = []
    if "flops" not in mapping:
        sentences.append("the table has no flops: C = 6 n_params n_tokens is assumed.")
    if "budget" not in mapping:
        n_groups = len(np.unique(merged[np.isfinite(merged)]))
        # A few runs that happen to have cost the same are no grid of budgets.
        if n_groups > len(merged) // 3:
            return budget, tuple(sentences)
        said = (f"the table has no budget: its flops are taken as {n_groups} budgets.",)
    off = np.abs(budget / flops - 1.0)
    worst = float(np.max(off[np.isfinite(off)], initial=0.0))
    if "flops" not in mapping and worst > 0.02:
        sentences.append(
            f"the budgets differ from 6 n_params n_tokens by up to {100 * worst:.2g} %: map "
            "flops=budget to count compute as they do."
        )
    return merged, (*sentences, *said)
