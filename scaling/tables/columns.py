# SPDX-License-Identifier: Apache-2.0
"""Which column of a table is which field of a run, and its cells as numbers."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from scaling.tables.arrays import Array
from scaling.tables.cells import Problems, as_column, is_missing, numbers, text
from scaling.tables.file import Table
from scaling.tables.rounded_budgets import merge_rounded
from scaling.tables.units import check_fields, column_and_factor

PARAMS_CONVENTIONS = ("total", "non_embedding")
# "table": as the table counts them, which it does not say.
FLOPS_CONVENTIONS = ("6n_total", "6n_non_embedding", "matmul_full", "matmul_causal", "table")
OK = "ok"
# What other people's tables say of a run that ended well, in small letters.
USUAL_OK = frozenset(
    (OK, "finished", "done", "completed", "complete", "success", "succeeded", "successful")
)

NUMBERS = ("budget", "n_params", "n_tokens", "flops", "loss_nats")
COLUMNS = ("run_id", "budget", "n_params", "n_tokens", "flops", "loss_nats", "cluster_id", "status")


def with_sums(table: Table, given: Mapping[str, str]) -> Table:
    """The table with a column "a+b" for a mapping that adds columns a and b of it."""
    sums = {}
    for text_given in given.values():
        for name in (text_given, text_given.rpartition(":")[0]):
            terms = [term.strip() for term in name.split("+")]
            if name in table.columns:
                break
            if len(terms) > 1 and all(term in table.columns for term in terms):
                rows = zip(*(table.columns[term] for term in terms), strict=True)
                sums[name] = [_sum(cells) for cells in rows]
    return replace(table, columns={**table.columns, **sums}) if sums else table


def _sum(cells: Sequence[Any]) -> Any:
    """Their sum; nothing where one is missing, and all as they are where one is no number."""
    try:
        return "" if any(map(is_missing, cells)) else sum(float(cell) for cell in cells)
    except ValueError:
        return " + ".join(str(cell) for cell in cells)


def mapped(
    table: Table, flops: str | None, params: str, given: Mapping[str, str]
) -> dict[str, tuple[str, float]]:
    """Field -> (column of this file, factor), for the fields it has.

    Where parameters or tokens are missing they follow from compute: `fields_of` derives them.
    """
    check_fields(given, table.columns)
    is_ours = not given and any(f"flops_{name}" in table.columns for name in FLOPS_CONVENTIONS)
    own = {}
    if is_ours:
        own["flops"] = f"flops_{flops or 'matmul_full'}"
        own["n_params"] = "n_params_non_embedding" if params == "non_embedding" else "n_params"
    mapping = {}
    for name in (*COLUMNS, *(name for name in given if name not in COLUMNS)):
        candidate = given.get(name) or own.get(name, name)
        if name == "status":
            candidate, _ = status_column(candidate, table.columns)
        column, factor = column_and_factor(name, candidate, table.columns)
        if name in given or column in table.columns:
            mapping[name] = column, factor
    is_6nd = not is_ours and (flops is None or flops.startswith("6n"))
    follows = is_6nd and len({"n_params", "n_tokens"} & {*mapping}) == 1
    if follows and "budget" in mapping:
        mapping.setdefault("flops", mapping["budget"])
    required = {name: own.get(name, name) for name in ("n_params", "n_tokens", "loss_nats")}
    if not is_6nd:
        required["flops"] = own.get("flops", "flops")
    derived = ("n_params", "n_tokens") if follows and "flops" in mapping else ()
    wanted = [column for name, column in required.items() if name not in (*mapping, *derived)]
    table.require([*wanted, *(column for column, _ in mapping.values())])
    return mapping


def status_column(given: str, header: Container[str]) -> tuple[str, frozenset[str]]:
    """Column and words that count, of a mapping like state or state:done|cached."""
    column, sign, words = given.rpartition(":")
    if given in header or not sign:
        return given, USUAL_OK
    return column, frozenset(word.strip().lower() for word in words.split("|"))


def status_notes(
    table: Table, mapping: Mapping[str, tuple[str, float]], ok_words: frozenset[str]
) -> tuple[str, ...]:
    """Which words of a status count as ok, in words."""
    if "status" not in mapping:
        return ()
    column = mapping["status"][0]
    counted = sorted({word for word in text(table, column) if word.lower() in ok_words} - {OK})
    return (f"runs whose {column} is {', '.join(counted)} count as ok.",) if counted else ()


def fields_of(
    table: Table,
    mapping: Mapping[str, tuple[str, float]],
    problems: Problems,
    ok_words: Container[str] = USUAL_OK,
) -> dict[str, Any]:
    """Columns of `Runs`; problems are noted, not raised.

    Args:
      ok_words: of the column of the status, in small letters: those that make a run count.
    """
    label = [f"{table.row_kind}{number}" for number in table.row_numbers]
    ids = text(table, mapping["run_id"][0]) if "run_id" in mapping else label
    _note_ids(ids, problems)
    status = [OK] * len(table)
    if "status" in mapping:
        said = text(table, mapping["status"][0])
        status = [OK if word.lower() in ok_words else word or "no status" for word in said]
    cluster = text(table, mapping["cluster_id"][0]) if "cluster_id" in mapping else ids
    # A run that failed may lack what it did not reach; one that is ok must have it all.
    is_ok = np.array(status, str) == OK

    def read(name: str, checked: Array | None) -> Array:
        column, factor = mapping[name]
        return numbers(table, column, problems, factor=factor, checked=checked)

    # Two of the three are there; C = 6ND gives the third.
    known = {"n_params": None, "n_tokens": is_ok, "flops": is_ok}
    found = {name: read(name, rows) for name, rows in known.items() if name in mapping}
    with np.errstate(over="ignore"):
        if "n_params" not in found:
            found["n_params"] = found["flops"] / (6.0 * found["n_tokens"])
        if "n_tokens" not in found:
            found["n_tokens"] = found["flops"] / (6.0 * found["n_params"])
        flops = found.get("flops", 6.0 * found["n_params"] * found["n_tokens"])
    for row in np.flatnonzero(np.isinf(flops)).tolist():
        problems.add(row, "6 n_params n_tokens is beyond all numbers")
    return {
        "run_id": np.array(ids, str),
        "n_params": found["n_params"],
        "n_tokens": found["n_tokens"],
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
    sentences = [
        f"the table has no {name}: C = 6 n_params n_tokens is solved for it, with C from "
        f"{mapping['flops'][0]}."
        for name in ("n_params", "n_tokens")
        if name not in mapping
    ]
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
