# SPDX-License-Identifier: Apache-2.0
"""The tasks of ScaleBench: columns, costs, groups, and the laws that are tried on each.

Published figures and rules: arXiv:2604.22753, table of R2 in the target region; see
results/published/README.md.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from scaling.approaches.columns import Way
from scaling.laws.crossed_laws import FARSEER, INTERACTION
from scaling.laws.expert_laws import (
    JOINT_EXPERTS,
    ROUTED,
    ROUTED_FLOOR,
    UPCYCLED,
    UPCYCLED_ADDITIVE,
)
from scaling.laws.law import Law
from scaling.laws.loss_laws import ADDITIVE, CURVED, DATA_CONSTRAINED
from scaling.laws.mixture_laws import data_mixing, effective_mixing
from scaling.laws.objectives import Objective, objective_named
from scaling.laws.parallel_laws import PARALLEL, PARALLEL_POWER
from scaling.laws.rate_laws import RATES
from scaling.laws.repeat_laws import OVERFITTING, REPEATED, WORN_DATA
from scaling.laws.vocabulary_laws import VOCABULARY, VOCABULARY_CROSSED
from scaling.solve.problem import Constraints
from scaling.tables.arrays import Array
from scaling.tables.read_columns import read_columns

FOLDER = Path("results") / "published" / "scalebench"
GROUP = "group"

# A law and the parameters that it leaves free: (law, constraints, constraints of single targets).
Form = tuple[Law, Constraints, Mapping[str, Constraints]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """R2 at the three budgets of their method and of the best row, and of all training rows."""

    method: tuple[float, float, float]
    best: tuple[float, float, float]
    all_rows: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One table.

    Fields:
      columns: what laws read -> column of the file. targets: columns to predict.
      along: the column along which the target region lies beyond the training rows, where it is
        not the cost: a grid of which the last value of this column is left out.
      priced: further columns that the cost reads.
      cost: of each row. budgets: shares of the cost of all training rows.
      deltas, tilts: of the fits that are tried; fewer of large tables, for the time it takes.
      is_raw: whether targets are fitted as they are, and not their logarithms.
      has_target: whether the target rows are in the folder.
    """

    name: str
    columns: Mapping[str, str]
    targets: tuple[str, ...]
    forms: tuple[Form, ...]
    cost: Callable[[Mapping[str, Array]], Array]
    published: Published
    along: str = ""
    priced: tuple[str, ...] = ()
    budgets: tuple[float, ...] = (0.01, 0.05, 0.10)
    deltas: tuple[float, ...] = (1e-3, 0.1)
    tilts: tuple[float, ...] = (0.0, 0.5)
    is_raw: bool = False
    has_target: bool = True

    def read(self, part: str, folder: Path = FOLDER) -> tuple[dict[str, Array], Array]:
        """Numbers by the names that laws read, and the group of each row.

        Args:
          part: "train" or "test".
        """
        names = [*self.columns, *self.priced, *self.targets]
        path = folder / f"{self.name}_{part}.parquet"
        found = read_columns(path, names, columns=self.columns, labels=(GROUP,))
        labels = found.pop(GROUP)
        return found, labels

    def far(self, columns: Mapping[str, Array]) -> Array:
        """How far out each row lies, in the direction of the target region."""
        return columns[self.along] if self.along else self.cost(columns)

    @property
    def ways(self) -> list[Way]:
        """Every form with every half-width of Huber's loss and every tilt, for all rows."""
        return [
            replace(way, objective=self._objective(delta), tilt=tilt)
            for way in self.plain
            for delta in self.deltas
            for tilt in self.tilts
        ]

    @property
    def plain(self) -> list[Way]:
        """The forms alone, for few rows, of which a choice among many would be one of noise."""
        return [
            Way(law=law, constraints=constraints, own=own, objective=self._objective(0.1))
            for law, constraints, own in self.forms
        ]

    def _objective(self, delta: float) -> Objective:
        return objective_named(f"{'raw-' if self.is_raw else ''}huber:{delta:g}")


def _form(law: Law, **fixed: float) -> Form:
    return law, Constraints(fixed=fixed), {}


def _sixfold(columns: Mapping[str, Array], n: str, d: str) -> Array:
    return 6.0 * columns[n] * columns[d]


def _mixing(law: Law, is_own: bool, **fixed: float) -> Form:
    """A mixture law; own: domains other than the one that is predicted are alike."""
    own = {}
    slopes = [name for name in law.names if name[0] in "tk" and name[1:].isdecimal()]
    for i, target in enumerate(_LOSSES):
        first, *others = slopes[:i] + slopes[i + 1 :]
        tied = dict.fromkeys(others, first) if is_own else {}
        own[target] = Constraints(fixed=fixed, tied=tied)
    return law, Constraints(fixed=fixed), own


_LOSSES = tuple(f"loss_domain_{i}" for i in range(1, 6))
# A form without E: it is fixed where it no longer counts.
_NONE = 1e-6
# The slope of the loss in ln N without E (Kaplan et al. 2020), for fewer rows than parameters.
_KAPLAN = 0.076

TASKS = (
    Task(
        name="parallel",
        columns={"n_params": "num_params", "n_streams": "parallel_size"},
        targets=("loss",),
        forms=(
            _form(PARALLEL, E=_NONE, alpha=_KAPLAN),
            _form(PARALLEL, E=_NONE),
            _form(PARALLEL_POWER),
            _form(PARALLEL),
        ),
        cost=lambda columns: columns["n_params"],
        along="n_streams",
        published=Published(method=(-1.0, 0.77, 0.99), best=(-1.0, 0.77, 0.99), all_rows=0.99),
    ),
    Task(
        name="vocab",
        columns={
            "n_params": "non_vocab_parameters",
            "vocab_size": "vocab_size",
            "n_characters": "num_characters",
        },
        targets=("unigram_normalized_loss",),
        forms=(
            _form(VOCABULARY),
            _form(VOCABULARY_CROSSED, eta=0.0, H0=1.0),
            _form(VOCABULARY_CROSSED, H0=1.0),
            _form(VOCABULARY_CROSSED),
        ),
        cost=lambda columns: columns["n_params"] * columns["n_characters"],
        along="vocab_size",
        deltas=(0.1,),
        published=Published(method=(0.96, 0.98, 0.98), best=(0.96, 0.98, 0.98), all_rows=0.93),
        is_raw=True,
    ),
    Task(
        name="domain_mixture",
        columns={f"proportion_domain_{i}": f"proportion_domain_{i}" for i in range(1, 6)},
        targets=_LOSSES,
        forms=(
            _mixing(data_mixing(5), True, c=_NONE),
            _mixing(data_mixing(5), True),
            _mixing(effective_mixing(5), True, c=_NONE),
            _mixing(effective_mixing(5), True),
            _mixing(data_mixing(5), False, c=_NONE),
            _mixing(data_mixing(5), False),
            _mixing(effective_mixing(5), False, c=_NONE),
        ),
        cost=lambda columns: np.ones(len(columns["proportion_domain_1"])),
        published=Published(method=(0.64, 0.89, 0.95), best=(0.64, 0.91, 0.95), all_rows=0.81),
        tilts=(0.0,),
        budgets=(0.20, 0.35, 0.50),
    ),
    Task(
        name="data_constrained",
        columns={"n_params": "params", "n_tokens": "tokens", "unique_tokens": "unique_tokens"},
        targets=("loss",),
        forms=(
            _form(ADDITIVE),
            _form(WORN_DATA),
            _form(DATA_CONSTRAINED),
            _form(OVERFITTING),
            _form(REPEATED, R_star=1e6),
            _form(REPEATED),
        ),
        cost=partial(_sixfold, n="n_params", d="n_tokens"),
        published=Published(method=(0.73, 0.85, 0.86), best=(0.73, 0.85, 0.86), all_rows=0.79),
    ),
    Task(
        name="lr_bsz",
        columns={
            "learning_rate": "lr",
            "batch_size": "bsz",
            "n_tokens": "data_size",
            "n_params": "non_embedding_param_size",
        },
        targets=("lm_loss",),
        forms=(_form(RATES, gamma=1.0, s=0.0), _form(RATES)),
        cost=partial(_sixfold, n="n_params", d="n_tokens"),
        published=Published(method=(-0.66, 0.0, 0.22), best=(-0.65, 0.0, 0.22), all_rows=0.04),
        deltas=(1e-2,),
        tilts=(0.5,),
    ),
    Task(
        name="moe",
        columns={"n_experts": "num_experts", "n_params": "dense_parameter_count"},
        targets=("loss_validation",),
        forms=(_form(ROUTED), _form(ROUTED_FLOOR), _form(JOINT_EXPERTS)),
        cost=lambda columns: columns["n_experts"] * columns["n_params"],
        published=Published(method=(0.59, 0.65, 0.83), best=(0.67, 0.80, 0.83), all_rows=0.81),
        has_target=False,
    ),
    Task(
        name="sparsity",
        columns={"log_sparsity": "P", "n_params_active": "N_active"},
        priced=("N_dense", "D1", "D2"),
        targets=("loss",),
        forms=(_form(UPCYCLED_ADDITIVE, E=_NONE), _form(UPCYCLED_ADDITIVE), _form(UPCYCLED)),
        cost=lambda columns: (
            _sixfold(columns, "N_dense", "D1") + _sixfold(columns, "n_params_active", "D2")
        ),
        published=Published(method=(0.31, 0.44, 0.53), best=(0.31, 0.44, 0.53), all_rows=0.37),
        budgets=(0.20, 0.35, 0.50),
        has_target=False,
    ),
    Task(
        name="farseer",
        columns={"n_params": "N", "n_tokens": "D"},
        targets=("loss",),
        forms=(_form(ADDITIVE), _form(CURVED), _form(INTERACTION), _form(FARSEER)),
        cost=partial(_sixfold, n="n_params", d="n_tokens"),
        published=Published(method=(0.60, 0.88, 0.93), best=(0.67, 0.88, 0.93), all_rows=0.91),
        has_target=False,
    ),
)
