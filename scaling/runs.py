# SPDX-License-Identifier: Apache-2.0
"""Finished runs and training curves as columns; reading and validating their tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from scaling.csv_table import (
    as_column,
    number,
    raise_all,
    read_csv,
    repeated,
    require_columns,
)

Array = np.ndarray

PARAMS_CONVENTIONS = ("total", "non_embedding")
FLOPS_CONVENTIONS = ("6n_total", "6n_non_embedding", "matmul_full", "matmul_causal")
OK = "ok"

_TEXT = ("run_id", "cluster_id", "status")
_NUMBERS = ("budget", "n_params", "n_tokens", "flops", "loss_nats")
COLUMNS = ("run_id", "budget", "n_params", "n_tokens", "flops", "loss_nats", "cluster_id", "status")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One finished point: what was asked (budget), what was done, and the loss that came out."""

    run_id: str
    budget: float
    n_params: float
    n_tokens: float
    flops: float
    loss_nats: float
    cluster_id: str
    status: str = OK


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Runs:
    """Finished runs as columns of one length, with the conventions that produced the counts.

    Fields:
      budget: FLOPs asked for; runs are grouped by it. flops: FLOPs done; fits use those.
      n_params, n_tokens: parameters and training tokens. loss_nats: final loss, nats per token.
      cluster_id: runs of one cluster share noise and are resampled together.
      status: "ok", or why the run cannot be fitted ("diverged", ...).
      extra: any further columns of the table (learning_rate, seed, d_model, ...).
    """

    run_id: Array
    budget: Array
    n_params: Array
    n_tokens: Array
    flops: Array
    loss_nats: Array
    cluster_id: Array
    status: Array
    params_convention: str
    flops_convention: str
    extra: Mapping[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_name("params", self.params_convention, PARAMS_CONVENTIONS)
        _check_name("flops", self.flops_convention, FLOPS_CONVENTIONS)
        lengths = {name: len(getattr(self, name)) for name in COLUMNS}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns of runs differ in length: {lengths}; give one value per run")

    def __len__(self) -> int:
        return len(self.run_id)

    def __iter__(self) -> Iterator[Run]:
        for i in range(len(self)):
            text = {name: str(getattr(self, name)[i]) for name in _TEXT}
            numbers = {name: float(getattr(self, name)[i]) for name in _NUMBERS}
            yield Run(**text, **numbers)  # type: ignore[arg-type]

    @classmethod
    def from_rows(
        cls, rows: Iterable[Run], *, params_convention: str, flops_convention: str
    ) -> Runs:
        """Columns from single runs."""
        rows = list(rows)
        columns: dict[str, Any] = {
            name: np.array([getattr(row, name) for row in rows]) for name in COLUMNS
        }
        return cls(
            **columns, params_convention=params_convention, flops_convention=flops_convention
        )

    @classmethod
    def from_columns(
        cls,
        *,
        n_params: ArrayLike,
        n_tokens: ArrayLike,
        loss_nats: ArrayLike,
        flops: ArrayLike | None = None,
        budget: ArrayLike | None = None,
        run_id: Sequence[str] | None = None,
        cluster_id: Sequence[str] | None = None,
        status: Sequence[str] | None = None,
        params_convention: str = "total",
        flops_convention: str = "6n_total",
    ) -> Runs:
        """Columns from arrays. Without flops C = 6ND; without a budget each run is its own."""
        n_params, n_tokens = np.asarray(n_params, float), np.asarray(n_tokens, float)
        done = 6.0 * n_params * n_tokens if flops is None else np.asarray(flops, float)
        ids = np.array([f"run{i}" for i in range(len(done))] if run_id is None else run_id, str)
        return cls(
            run_id=ids,
            budget=done if budget is None else np.asarray(budget, float),
            n_params=n_params,
            n_tokens=n_tokens,
            flops=done,
            loss_nats=np.asarray(loss_nats, float),
            cluster_id=ids if cluster_id is None else np.array(cluster_id, str),
            status=np.full(len(ids), OK) if status is None else np.array(status, str),
            params_convention=params_convention,
            flops_convention=flops_convention,
        )

    @property
    def flops_per_token(self) -> Array:
        """FLOPs done per training token, in the convention of these runs."""
        return self.flops / self.n_tokens

    @property
    def is_ok(self) -> Array:
        """Rows that a fit may use."""
        return (self.status == OK) & np.isfinite(self.loss_nats)

    @property
    def budgets(self) -> Array:
        """Distinct budgets asked, ascending."""
        return np.unique(self.budget)

    @property
    def findings(self) -> tuple[str, ...]:
        """What a reader must know before any fit: the rows that are kept but never fitted."""
        bad = np.flatnonzero(~self.is_ok)
        if not len(bad):
            return ()
        names = ", ".join(f"{self.run_id[i]} ({self.status[i]})" for i in bad)
        return (f"{len(bad)} of {len(self)} runs are not ok and are not fitted: {names}.",)

    def select(self, rows: ArrayLike) -> Runs:
        """The runs of a mask or of indices, in that order."""
        rows = np.asarray(rows)
        columns = {name: getattr(self, name)[rows] for name in COLUMNS}
        return Runs(
            **columns,
            params_convention=self.params_convention,
            flops_convention=self.flops_convention,
            extra={name: values[rows] for name, values in self.extra.items()},
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curves:
    """Training curves in long form: one row per run and evaluation, validation loss in nats.

    Rows before the end of a run are not annealed: their learning rate had not yet decayed.
    """

    run_id: Array
    step: Array
    n_tokens: Array
    flops: Array
    loss_nats: Array

    def __len__(self) -> int:
        return len(self.run_id)

    def of(self, run_id: str) -> Curves:
        """The curve of one run, in the order of training."""
        rows = np.flatnonzero(self.run_id == run_id)
        rows = rows[np.argsort(self.n_tokens[rows], kind="stable")]
        return Curves(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


def read_runs(
    path: str | Path,
    *,
    flops: str = "matmul_full",
    params: str = "total",
    columns: Mapping[str, str] | None = None,
) -> Runs:
    """Runs from a CSV file (also .gz), every row validated.

    Our own table.csv needs no mapping: the conventions choose among its columns. Any other table
    names its columns; a table without flops gets C = 6ND, without budget one budget per run,
    without run_id the line number, without cluster_id one cluster per run, without status "ok".

    Args:
      path: the file; first line is the header.
      flops: FLOP convention of the counts, one of FLOPS_CONVENTIONS.
      params: parameter convention, one of PARAMS_CONVENTIONS.
      columns: field of `Run` -> column name in the file, e.g. {"loss_nats": "loss"}.

    Raises:
      ValueError: for a missing column, or for bad rows: all of them in one message.
    """
    _check_name("flops", flops, FLOPS_CONVENTIONS)
    _check_name("params", params, PARAMS_CONVENTIONS)
    header, rows = read_csv(Path(path))
    mapping = _column_of(Path(path), header, flops, params, columns or {})
    problems: list[str] = []
    records = [_parse(line, row, mapping, problems) for line, row in rows]
    problems += repeated(rows, [record["run_id"] for record in records])
    raise_all(Path(path), problems)
    table = {name: np.array([record[name] for record in records]) for name in COLUMNS}
    extra = {
        name: as_column([row[name] for _, row in rows])
        for name in header
        if name not in set(mapping.values())
    }
    return Runs(**table, params_convention=params, flops_convention=flops, extra=extra)


def read_curves(
    path: str | Path, *, flops: str = "matmul_full", columns: Mapping[str, str] | None = None
) -> Curves:
    """Training curves from a CSV file (also .gz).

    Args:
      path: columns run_id, step, n_tokens, loss_nats, and flops or flops_<convention>.
      flops: FLOP convention, used to choose the column when there are several.
      columns: field of `Curves` -> column name in the file.

    Raises:
      ValueError: for a missing column, or for bad rows: all of them in one message.
    """
    header, rows = read_csv(Path(path))
    named = {
        "flops": f"flops_{flops}" if f"flops_{flops}" in header else "flops",
        **(columns or {}),
    }
    mapping = {f.name: named.get(f.name, f.name) for f in fields(Curves)}
    require_columns(Path(path), header, mapping.values())
    problems: list[str] = []
    numbers = ("step", "n_tokens", "flops", "loss_nats")
    values: dict[str, list[Any]] = {name: [] for name in mapping}
    for line, row in rows:
        values["run_id"].append(row[mapping["run_id"]])
        for name in numbers:
            allow_zero = name != "loss_nats"
            values[name].append(number(line, mapping[name], row, problems, allow_zero=allow_zero))
    raise_all(Path(path), problems)
    return Curves(**{name: np.array(column) for name, column in values.items()})


def best_settings(runs: Runs, axes: Sequence[str]) -> tuple[Runs, tuple[str, ...]]:
    """Runs at the best setting of each (budget, n_params), and what was left out, in words.

    A study that also varies a learning rate or a batch has several settings per point of the
    grid. Per (budget, n_params) the setting with the lowest mean loss over its repeats is kept,
    with all of them. The lowest of several noisy means is too low by about one standard error:
    a law fitted over all settings does better where there are enough of them.

    Args:
      runs: rows that are not ok count against no setting and are dropped.
      axes: names of extra columns that together are a setting.

    Raises:
      ValueError: if an axis is not a column of the table.
    """
    missing = [axis for axis in axes if axis not in runs.extra]
    if missing:
        raise ValueError(
            f"runs have no column {', '.join(missing)}; "
            f"there are: {', '.join(sorted(runs.extra)) or 'none'}"
        )
    usable = np.flatnonzero(runs.is_ok)
    groups: dict[Any, dict[Any, list[int]]] = {}
    for i in usable:
        setting = tuple(runs.extra[axis][i] for axis in axes)
        cell = groups.setdefault((runs.budget[i], runs.n_params[i]), {})
        cell.setdefault(setting, []).append(int(i))
    kept: list[int] = []
    for cell in groups.values():
        means = {setting: float(np.mean(runs.loss_nats[rows])) for setting, rows in cell.items()}
        kept += cell[min(means, key=lambda setting: means[setting])]
    left = len(runs) - len(kept)
    finding = (
        f"{left} of {len(runs)} runs are left out: only the best setting of "
        f"({', '.join(axes)}) by mean loss is kept per budget and size."
    )
    return runs.select(sorted(kept)), (finding,) if left else ()


def _check_name(what: str, value: str, legal: Sequence[str]) -> None:
    if value not in legal:
        raise ValueError(f"unknown {what} convention {value!r}; choose one of {', '.join(legal)}")


def _column_of(
    path: Path, header: Sequence[str], flops: str, params: str, given: Mapping[str, str]
) -> dict[str, str]:
    """Field -> column of this file, for the fields it has."""
    unknown = [name for name in given if name not in COLUMNS]
    if unknown:
        raise ValueError(f"columns names {', '.join(unknown)}; fields are {', '.join(COLUMNS)}")
    own = {
        "flops": f"flops_{flops}",
        "n_params": "n_params_non_embedding" if params == "non_embedding" else "n_params",
    }
    mapping = {}
    for name in COLUMNS:
        # A mapping speaks for the whole table: our own column names no longer stand in for it.
        candidate = given.get(name) or (name if given else own.get(name, name))
        if name in given or candidate in header:
            mapping[name] = candidate
    required = ["n_params", "n_tokens", "loss_nats"]
    if not given or not flops.startswith("6n"):
        required.append("flops")
    wanted = [mapping.get(name) or (name if given else own.get(name, name)) for name in required]
    require_columns(path, header, [*wanted, *mapping.values()])
    return mapping


def _parse(
    line: int, row: Mapping[str, str], mapping: Mapping[str, str], problems: list[str]
) -> dict[str, Any]:
    """One row as fields of `Run`; its problems are appended, not raised."""
    record: dict[str, Any] = {}
    record["run_id"] = row[mapping["run_id"]] if "run_id" in mapping else f"line{line}"
    record["status"] = row[mapping["status"]] if "status" in mapping else OK
    record["cluster_id"] = row[mapping["cluster_id"]] if "cluster_id" in mapping else ""
    record["cluster_id"] = record["cluster_id"] or record["run_id"]
    # A run that failed may lack what it did not reach; one that is ok must have it all.
    ignored: list[str] = []
    noted = problems if record["status"] == OK else ignored
    record["n_params"] = number(line, mapping["n_params"], row, problems)
    record["n_tokens"] = number(line, mapping["n_tokens"], row, noted)
    record["flops"] = 6.0 * record["n_params"] * record["n_tokens"]
    if "flops" in mapping:
        record["flops"] = number(line, mapping["flops"], row, noted)
    record["budget"] = record["flops"]
    if "budget" in mapping:
        record["budget"] = number(line, mapping["budget"], row, problems)
    record["loss_nats"] = number(line, mapping["loss_nats"], row, noted)
    if not record["run_id"]:
        problems.append(f"line {line}: run_id is empty")
    return record
