# SPDX-License-Identifier: Apache-2.0
"""The question a lab asks: budgets, sizes, seeds, data. No JAX."""

import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from experiments.executors.worker_settings import Keep
from experiments.study.recipe import Recipe
from model.data.source import Source
from model.field_checks import (
    HUGE,
    MAX_SEED,
    MAX_SIZE,
    TINY,
    check_choice,
    check_flags,
    check_kinds,
    check_real,
    check_text,
    check_whole,
    is_real,
    is_whole,
    shown,
)
from model.network.counts.total import FLOP_CONVENTIONS, FlopConvention
from model.network.execution import AUTO, Execution
from model.training.config import EvalConfig
from scaling.tables.units import power

MAX_NAME = 100  # Characters; a path has room for more below it.
MAX_BUDGET = 1e30  # FLOPs: a thousand times the largest run that is known.
MAX_SIZES = 1000
MOST_KEPT_PARAMS = 10_000_000  # Of a network whose weights "auto" keeps: 40 MB.


@dataclass(frozen=True, kw_only=True, slots=True)
class Ladder:
    """At each budget, the sizes of an explicit ladder within a range of tokens per parameter.

    Attributes:
      d_models: widths, ascending.
      tokens_per_param: (lowest, highest) ratio of tokens to total parameters, inclusive.
    """

    d_models: tuple[int, ...]
    tokens_per_param: tuple[float, float]

    def __post_init__(self) -> None:
        check_kinds(self)
        if not all(is_whole(d) and 1 <= d <= MAX_SIZE for d in self.d_models):
            raise ValueError(f"d_models={shown(self.d_models)}: widths are 1 to {MAX_SIZE}.")
        if not self.d_models or list(self.d_models) != sorted(set(self.d_models)):
            raise ValueError(f"d_models={shown(self.d_models)}: must be ascending, each once.")
        _check_range(self.tokens_per_param)


@dataclass(frozen=True, kw_only=True, slots=True)
class LogSpaced:
    """At each budget, ``n_sizes`` widths log-spaced over a range of tokens per parameter."""

    n_sizes: int
    tokens_per_param: tuple[float, float]

    def __post_init__(self) -> None:
        check_kinds(self)
        check_whole(self, "n_sizes", low=2, high=MAX_SIZES)
        _check_range(self.tokens_per_param)


def _check_range(tokens_per_param: tuple[float, float]) -> None:
    is_pair = len(tokens_per_param) == 2 and all(is_real(ratio) for ratio in tokens_per_param)
    if not is_pair or not TINY <= tokens_per_param[0] < tokens_per_param[1] <= HUGE:
        raise ValueError(
            f"tokens_per_param={shown(tokens_per_param)}: must be 0 < lowest < highest, finite."
        )


# What a table shows of a value of an axis.
Label = float | str | bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """A field of the study that takes several values; axes multiply.

    Attributes:
      field: path into the study: "recipe.optimizer.beta1", "recipe.shape.blocks", "seq_len".
      values: at least one, of whatever the field may be.
      labels: a name for each value in tables. () where they name themselves: numbers, texts, flags,
        and what has a name, such as a recipe.
    """

    field: str
    values: tuple[Any, ...]
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_kinds(self)
        check_text(self, "field")
        if not self.values:
            raise ValueError(f"values=() of {self.field!r}: needs one at least.")
        if self.labels and len(self.labels) != len(self.values):
            raise ValueError(
                f"labels={shown(self.labels)} of {self.field!r}: one for each of the "
                f"{len(self.values)} values."
            )
        if len({*self.named}) < len(self.values):
            raise ValueError(f"values of {self.field!r} are {shown([*self.named])}: each once.")

    @property
    def named(self) -> dict[Label, Any]:
        """The values by what tables show of them."""
        labels = self.labels or [self._label(value) for value in self.values]
        return dict(zip(labels, self.values, strict=True))

    @property
    def is_numbers(self) -> bool:
        """Whether its values are numbers, of which the best may be chosen point by point."""
        return all(map(is_real, self.named))

    def _label(self, value: Any) -> Label:
        if is_real(value) and abs(value) <= HUGE:
            return float(value)
        label = value if isinstance(value, str | bool) else getattr(value, "name", None)
        if not isinstance(label, str | bool) or label == "":
            raise ValueError(
                f"values={shown(value)} of {self.field!r}: no number, text or flag. Give labels."
            )
        return label


def shown_axes(axes: Mapping[str, Label], between: str = " ") -> str:
    """A setting in words, by the last parts of the fields."""
    return between.join(
        f"{field.rsplit('.', 1)[-1]}={value if isinstance(value, str | bool) else f'{value:g}'}"
        for field, value in axes.items()
    )


def axis_cells(axes: Mapping[str, Label]) -> dict[str, str]:
    """A setting as cells of a table, named by the last parts of the fields where these differ."""
    cells = {field: shown_axes({field: value}).partition("=") for field, value in axes.items()}
    ends = [end for end, _, _ in cells.values()]
    return {
        end if ends.count(end) == 1 else field: value for field, (end, _, value) in cells.items()
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """A question about compute-optimal training: it says what, and holds no derived number.

    Attributes:
      name: folder below results/; at most 100 letters, digits, '-', '_'.
      question: one sentence, printed in the report.
      budgets: training FLOPs in the convention ``flops``, ascending.
      sizes: which widths at each budget.
      seeds: one list for all budgets, or one list per budget; a seed sets initialisation and
        data order.
      data_seeds: of the data order; each is crossed with each of ``seeds``, which then sets the
        initialisation alone, so that a report can tell the two apart.
      data: where tokens come from.
      seq_len: tokens per sequence.
      evaluation: the fixed validation set.
      documents_apart: whether, of several documents in one window, each is as if it were alone:
        no position sees another document, and positions are counted anew.
      max_epochs: most passes over the training tokens that any run may make.
      flops: FLOP convention of the budgets; the table of runs carries all.
      recipe: the opinions.
      axes: fields to vary.
      forecast_budgets: beyond the grid: predicted by the fit, then trained, never fitted.
      mesh: sizes of the four mesh axes of model/network/sharding.py.
      execution: how the networks are computed; by default chosen by the device.
      trunks: whether what runs of one size and seed have in common, warm-up and plateau, is
        trained once (experiments/plan/trunks.py). Moves no loss; refused where none is common.
      keep: the final weights of a run, as a file beside its result: "final" keeps them, "none" does
        not, "auto" keeps those of networks of at most 10,000,000 parameters (MOST_KEPT_PARAMS), 4
        bytes each. Moves no loss; of a run that has its result nothing more is kept.
    """

    name: str
    question: str
    budgets: tuple[float, ...]
    sizes: Ladder | LogSpaced
    seeds: tuple[int | tuple[int, ...], ...]
    data: Source
    seq_len: int
    evaluation: EvalConfig
    max_epochs: float
    flops: FlopConvention
    recipe: Recipe
    data_seeds: tuple[int, ...] = ()
    documents_apart: bool = False
    axes: tuple[Axis, ...] = ()
    forecast_budgets: tuple[float, ...] = ()
    mesh: tuple[int, int, int, int] = (1, 1, 1, 1)
    execution: Execution = AUTO
    trunks: bool = False
    keep: Keep = "auto"

    def __post_init__(self) -> None:
        check_kinds(self)
        _check_study_name(self.name)
        check_text(self, "question")
        check_whole(self, "seq_len")
        check_real(self, "max_epochs")
        check_choice(self, "flops", FLOP_CONVENTIONS)
        check_flags(self, "trunks documents_apart")
        check_choice(self, "keep", get_args(Keep))
        for name in ("budgets", "forecast_budgets"):
            budgets = getattr(self, name)
            if not all(is_real(c) and 0 < c <= MAX_BUDGET for c in budgets):
                raise ValueError(
                    f"{name}={shown(budgets)}: must be positive and finite, at most {MAX_BUDGET:g}."
                )
        budgets = self.budgets
        if not budgets or list(budgets) != sorted(set(budgets)):
            raise ValueError(f"budgets={shown(budgets)}: must be ascending, each once.")
        if len(self.mesh) != 4 or not all(is_whole(n) and 1 <= n <= MAX_SIZE for n in self.mesh):
            raise ValueError(f"mesh={shown(self.mesh)}: four sizes of at least 1.")
        if len({axis.field for axis in self.axes}) < len(self.axes):
            raise ValueError(f"axes={shown(self.axes)}: each field once.")
        if self.forecast_budgets and not all(axis.is_numbers for axis in self.axes):
            raise ValueError(
                f"forecast_budgets={shown(self.forecast_budgets)}: of which setting of the axes? "
                "Give the study that one, and axes=()."
            )
        for n, seeds in enumerate(self.seeds_per_budget):
            if not seeds or not _are_seeds(seeds):
                raise ValueError(f"seeds at budget {n} are {shown(seeds)}: need {_SEEDS}.")
        if not _are_seeds(self.data_seeds):
            raise ValueError(f"data_seeds={shown(self.data_seeds)}: need {_SEEDS}.")
        if not all(budgets[-1] < budget for budget in self.forecast_budgets):
            raise ValueError(
                f"forecast_budgets={shown(self.forecast_budgets)}: must be above the largest "
                f"budget {power(budgets[-1])}; a forecast inside the grid proves nothing."
            )

    @property
    def seeds_per_budget(self) -> tuple[tuple[int, ...], ...]:
        """The seeds of each budget, in order."""
        are_numbers = {isinstance(entry, int) for entry in self.seeds}
        if are_numbers == {True}:
            return (self.seeds,) * len(self.budgets)  # type: ignore[return-value]
        if True in are_numbers or len(self.seeds) != len(self.budgets):
            n = len(self.budgets)
            each = f"each of the {n} budgets" if n > 1 else "the one budget"
            raise ValueError(
                f"seeds={shown(self.seeds)}: give numbers for all budgets, or one list for {each}."
            )
        return self.seeds  # type: ignore[return-value]


def keeps_weights(keep: Keep, n_params: int) -> bool:
    """Whether the final weights of a network of so many parameters are kept; see Study."""
    return keep == "final" or (keep == "auto" and n_params <= MOST_KEPT_PARAMS)


_SEEDS = f"distinct whole numbers >= 0 and <= {MAX_SEED}"


def _are_seeds(seeds: tuple[int, ...]) -> bool:
    is_legal = all(is_whole(seed) and 0 <= seed <= MAX_SEED for seed in seeds)
    return is_legal and len(set(seeds)) == len(seeds)


def _check_study_name(name: str) -> None:
    """Raises ValueError for what is no name of a folder on every system."""
    allowed = set(string.ascii_letters + string.digits + "-_")
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME or not set(name) <= allowed:
        raise ValueError(
            f"name={shown(name)}: use 1 to {MAX_NAME} letters, digits, '-' and '_' only."
        )
