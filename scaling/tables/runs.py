# SPDX-License-Identifier: Apache-2.0
"""Finished runs and training curves as columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
from jaxtyping import Bool, Float, Shaped
from numpy.typing import ArrayLike

from scaling.tables.arrays import Array
from scaling.tables.columns import COLUMNS, FLOPS_CONVENTIONS, NUMBERS, OK, PARAMS_CONVENTIONS
from scaling.tables.plausibility import unit_findings
from scaling.tables.short_repr import ShortRepr
from scaling.tables.units import BOUND, NATS, NATS_PIXEL, loss_words


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Runs(ShortRepr):
    """Finished runs as columns of one length, with the conventions that produced the counts.

    Fields:
      budget: FLOPs asked for; runs are grouped by it. flops: FLOPs done; fits use those.
      n_params, n_tokens: parameters and training tokens. loss_nats: final loss, in `loss_unit`.
      cluster_id: runs of one cluster share noise and are resampled together.
      status: "ok", or why the run cannot be fitted ("diverged", ...).
      extra: any further columns of the table (learning_rate, seed, d_model, ...).
      notes: what was assumed or left out when the table was read, in words.
      loss_unit: nats per token, masked token or target token; or bits per byte, of any tokens.
    """

    run_id: Shaped[Array, " n"]
    budget: Float[Array, " n"]
    n_params: Float[Array, " n"]
    n_tokens: Float[Array, " n"]
    flops: Float[Array, " n"]
    loss_nats: Float[Array, " n"]
    cluster_id: Shaped[Array, " n"]
    status: Shaped[Array, " n"]
    params_convention: str
    flops_convention: str
    extra: Mapping[str, Shaped[Array, "n ..."]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    loss_unit: str = NATS

    def __post_init__(self) -> None:
        check_conventions(self.params_convention, self.flops_convention)
        lengths = {name: len(getattr(self, name)) for name in COLUMNS}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns of runs differ in length: {lengths}; give one value per run")

    def __len__(self) -> int:
        return len(self.run_id)

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
    def flops_per_token(self) -> Float[Array, " n"]:
        """FLOPs done per training token, in the convention of these runs."""
        return self.flops / self.n_tokens

    @property
    def bits_per_nat(self) -> float | None:
        """What nats per token times are bits per byte, of images bits per dimension, by a column of
        that name: one number where runs have the same tokens and validation set, else None."""
        column = {NATS: "bits_per_byte", NATS_PIXEL: "bits_per_dim"}.get(self.loss_unit, "")
        if column not in self.numeric or not self.is_ok.any():
            return None
        ratios = (np.asarray(self.extra[column]) / self.loss_nats)[self.is_ok]
        return float(ratios[0]) if np.allclose(ratios, ratios[0], rtol=1e-6, atol=0.0) else None

    @property
    def are_bytes(self) -> bool:
        """Whether each token is a byte: a nat per token is 1 / ln 2 bits per byte."""
        bits = self.bits_per_nat if self.loss_unit == NATS else None
        return bits is not None and math.isclose(bits * math.log(2.0), 1.0, rel_tol=1e-6)

    @property
    def is_bound(self) -> Bool[Array, " n"]:
        """Rows whose true loss is at most what the table has."""
        return np.asarray(self.extra.get("loss_kind", np.full(len(self), ""))) == BOUND

    @property
    def loss_name(self) -> str:
        """The unit of the losses, and that they are bounds where all are."""
        bounds = self.is_bound[self.is_ok]
        unit = loss_words(self.loss_unit, "byte") if self.are_bytes else self.loss_unit
        return f"{unit}, {BOUND}" if len(bounds) and bounds.all() else unit

    @property
    def numeric(self) -> dict[str, Array]:
        """Columns that hold numbers, by name: what a law may read or predict."""
        extra = {
            k: v for k, v in self.extra.items() if np.issubdtype(np.asarray(v).dtype, np.number)
        }
        return extra | {name: getattr(self, name) for name in NUMBERS}

    @property
    def is_ok(self) -> Bool[Array, " n"]:
        """Rows that a fit may use."""
        return (self.status == OK) & np.isfinite(self.loss_nats)

    @property
    def not_ok(self) -> dict[str, str]:
        """run_id -> why a fit may not use it: its status, or that it has no loss."""
        why = np.where(self.status == OK, "no finite loss", self.status)
        return {str(self.run_id[i]): str(why[i]) for i in np.flatnonzero(~self.is_ok)}

    @property
    def budgets(self) -> Float[Array, " B"]:
        """Distinct budgets asked, ascending."""
        return np.unique(self.budget)

    @property
    def findings(self) -> tuple[str, ...]:
        """What a reader must know before any fit: assumptions, doubtful units, rows not fitted."""
        said = (*self.notes, *unit_findings(self))
        bad = self.not_ok
        if not bad:
            return said
        names = ", ".join(f"{run_id} ({why})" for run_id, why in list(bad.items())[:20])
        more = f" and {len(bad) - 20} more" if len(bad) > 20 else ""
        left = f"{len(bad)} of {len(self)} runs are not ok and are not fitted: {names}{more}."
        return (*said, left)

    def best_per(self, names: Sequence[str]) -> Runs:
        """The run of the lowest loss of each group of equal values in these columns.

        Raises:
          ValueError: for a column that there is none of.
        """
        columns = {name: getattr(self, name) for name in COLUMNS} | dict(self.extra)
        if unknown := [name for name in names if name not in columns]:
            raise ValueError(
                f"no column {unknown[0]!r} to take the best run of; columns: {', '.join(columns)}"
            )
        labels = [np.unique(columns[name], return_inverse=True)[1] for name in names]
        group = np.unique(np.stack(labels, axis=1), axis=0, return_inverse=True)[1]
        losses = np.where(self.is_ok, self.loss_nats, np.inf)
        order = np.lexsort((losses, group.reshape(-1)))
        first = np.flatnonzero(np.diff(group.reshape(-1)[order], prepend=-1))
        said = (
            f"of {len(self)} runs the best of each {', '.join(names)}: {len(first)}. The lowest of "
            "several losses lies below their mean by a part of the noise."
        )
        kept = self.select(np.sort(order[first]))
        return replace(kept, notes=(*kept.notes, said))

    def select(self, rows: ArrayLike) -> Runs:
        """The runs of a mask or of indices, in that order."""
        rows = np.asarray(rows)
        columns = {name: getattr(self, name)[rows] for name in COLUMNS}
        return Runs(
            **columns,
            params_convention=self.params_convention,
            flops_convention=self.flops_convention,
            extra={name: values[rows] for name, values in self.extra.items()},
            notes=self.notes,
            loss_unit=self.loss_unit,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Curves(ShortRepr):
    """Training curves in long form: one row per run and evaluation, validation loss in the unit of
    the runs.

    Rows before the end of a run are not annealed: their learning rate had not yet decayed.
    notes: what was left out or assumed when the table was read, in words.
    """

    run_id: Shaped[Array, " n"]
    step: Shaped[Array, " n"]
    n_tokens: Shaped[Array, " n"]
    flops: Shaped[Array, " n"]
    loss_nats: Float[Array, " n"]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.run_id)

    def of(self, run_id: str) -> Curves:
        """The curve of one run, in the order of training."""
        rows = np.flatnonzero(self.run_id == run_id)
        rows = rows[np.argsort(self.n_tokens[rows], kind="stable")]
        return Curves(**{name: getattr(self, name)[rows] for name in CURVE_COLUMNS})


CURVE_COLUMNS = tuple(one.name for one in fields(Curves) if one.name != "notes")


def check_conventions(params: str, flops: str) -> None:
    """Raises ValueError for a convention that there is not."""
    for what, value, legal in (
        ("params", params, PARAMS_CONVENTIONS),
        ("flops", flops, FLOPS_CONVENTIONS),
    ):
        if value not in legal:
            raise ValueError(
                f"unknown {what} convention {value!r}; choose one of {', '.join(legal)}"
            )
