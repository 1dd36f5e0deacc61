# SPDX-License-Identifier: Apache-2.0
"""The question a lab asks (Study) and the opinions it answers it with (Recipe). No JAX."""

import string
from dataclasses import dataclass
from typing import Literal

from model.data.source import Source
from model.field_checks import (
    HUGE,
    MAX_SEED,
    MAX_SIZE,
    TINY,
    check_choice,
    check_flags,
    check_names,
    check_real,
    check_text,
    check_whole,
    is_real,
    is_whole,
    shown,
)
from model.network.config import MAX_LAYERS
from model.network.counts.total import CHANNEL_MIXERS, FLOP_CONVENTIONS, MIXERS, FlopConvention
from model.network.execution import AUTO, Execution
from model.training.config import ALGORITHMS, DECAYS, Decay, EvalConfig, MuonConfig
from model.training.parameterization import PARAMETERIZATIONS, BaseConstants, Parameterization

MAX_NAME = 100  # Characters; a path has room for more below it.
MAX_BUDGET = 1e30  # FLOPs: a thousand times the largest run that is known.
MAX_SIZES = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class ShapeRule:
    """Width -> network. Everything but the width is an opinion.

    n_layers = d_model / width_per_layer, rounded, within [min_layers, max_layers];
    n_heads = d_model / head_width, rounded down, at least min_heads; d_ff = ff_ratio d_model,
    rounded up to a multiple of ff_multiple. Other fields as in ModelConfig.
    """

    width_multiple: int
    width_per_layer: float
    min_layers: int
    max_layers: int
    head_width: int
    min_heads: int
    queries_per_kv_head: int
    ff_ratio: float
    ff_multiple: int
    mixers: tuple[str, ...]
    channel_mixers: tuple[str, ...]
    norm: Literal["rmsnorm", "layernorm"]
    norm_eps: float
    positions: Literal["rope", "learned"]
    rope_theta: float
    use_bias: bool
    use_qk_norm: bool
    tie_embeddings: bool
    embedding_init_std: float
    hidden_init_gain: float
    output_init_std: float

    def __post_init__(self) -> None:
        check_whole(self, "width_multiple head_width min_heads queries_per_kv_head ff_multiple")
        check_whole(self, "min_layers max_layers", high=MAX_LAYERS)
        check_real(self, "width_per_layer ff_ratio rope_theta hidden_init_gain")
        check_real(self, "norm_eps embedding_init_std output_init_std", low=0.0)
        check_choice(self, "norm", ("rmsnorm", "layernorm"))
        check_choice(self, "positions", ("rope", "learned"))
        check_flags(self, "use_bias use_qk_norm tie_embeddings")
        for name, known in (("mixers", MIXERS), ("channel_mixers", CHANNEL_MIXERS)):
            check_names(self, name)
            if unknown := [kind for kind in getattr(self, name) if kind not in known]:
                raise ValueError(
                    f"{name}={shown(unknown[0])}: known are {', '.join(sorted(known))}."
                )
        if self.min_layers > self.max_layers:
            raise ValueError(f"min_layers={self.min_layers} is above max_layers={self.max_layers}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchRule:
    """Tokens per step = reference_tokens (n_tokens / reference_run)^exponent, in whole sequences.

    At least ``multiple`` sequences, and a multiple of that.
    """

    reference_tokens: float
    reference_run: float
    exponent: float
    multiple: int

    def __post_init__(self) -> None:
        check_real(self, "reference_tokens reference_run")
        check_real(self, "exponent", low=0.0, high=2.0)
        check_whole(self, "multiple")


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerRule:
    """AdamW, or Muon for the hidden matrices, by rule.

    Attributes:
      algorithm: of the hidden matrices; the other roles always have AdamW. The base rate of the
        hidden role is this algorithm's.
      muon: Muon's constants; only "muon" reads them, and needs them.
      learning_rate: factor on all four base rates; the axis to sweep.
      beta1: AdamW's decay of the first moment per step.
      beta2_halflife_tokens: its second moment forgets half within so many tokens, whatever the
        batch: beta2 = 2^(-tokens per step / halflife) (Marek et al. 2025, arXiv:2507.07101).
      clip_norm: global gradient norm.
      weight_decay_timescale: the timescale 1 / (rate x decay), in steps, as a fraction of the
        run (Wang & Aitchison 2024, arXiv:2405.13698).
      warmup_fraction, decay_fraction: of the run; a fixed warm-up bends the curves (Porian et al.
        2024, arXiv:2406.19146, sec. 3.2). What both leave is a plateau: warm-up, stable, decay.
        Where the recipe has a horizon, warm-up and timescale are shares of that.
      decay, final_fraction: shape of the fall, and the share of the peak rate that it reaches at
        the end of each run's own token budget; see ScheduleConfig.
      z_loss_weight: see TrainConfig.
    """

    algorithm: Literal["adamw", "muon"]
    muon: MuonConfig | None
    learning_rate: float
    beta1: float
    beta2_halflife_tokens: float
    clip_norm: float
    weight_decay_timescale: float
    warmup_fraction: float
    decay_fraction: float
    decay: Decay
    final_fraction: float
    z_loss_weight: float

    def __post_init__(self) -> None:
        check_choice(self, "algorithm", ALGORITHMS)
        check_real(self, "learning_rate beta2_halflife_tokens clip_norm weight_decay_timescale")
        check_real(self, "beta1 warmup_fraction decay_fraction final_fraction", low=0.0, high=1.0)
        check_real(self, "z_loss_weight", low=0.0)
        check_choice(self, "decay", DECAYS)
        if self.algorithm == "muon" and self.muon is None:
            raise ValueError("algorithm='muon' needs its constants: give muon=MuonConfig(...).")


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A named set of opinions: how a width becomes a network and a budget becomes a run.

    Attributes:
      name: of these constants, with where they come from in the file that defines them.
      shape, batch, optimizer: the rules.
      base: constants at the base shape.
      parameterization: how they are carried to other shapes (model/training/parameterization.py).
      compute_dtype: dtype of activations and matrix products.
      horizon_tokens_per_param: the length of run that batch, warm-up and weight decay are chosen
        for, in tokens per parameter, so that they are the same for all runs of a size, whatever
        their length: trunks need that. None: each run's own length. The decay of the rate is
        always a share of the run's own.
    """

    name: str
    shape: ShapeRule
    base: BaseConstants
    parameterization: Parameterization
    batch: BatchRule
    optimizer: OptimizerRule
    horizon_tokens_per_param: float | None
    compute_dtype: Literal["float32", "bfloat16"]

    def __post_init__(self) -> None:
        check_text(self, "name")
        check_choice(self, "parameterization", PARAMETERIZATIONS)
        if self.horizon_tokens_per_param is not None:
            check_real(self, "horizon_tokens_per_param")
        check_choice(self, "compute_dtype", ("float32", "bfloat16"))


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
        check_whole(self, "n_sizes", low=2, high=MAX_SIZES)
        _check_range(self.tokens_per_param)


def _check_range(tokens_per_param: tuple[float, float]) -> None:
    is_pair = len(tokens_per_param) == 2 and all(is_real(ratio) for ratio in tokens_per_param)
    if not is_pair or not TINY <= tokens_per_param[0] < tokens_per_param[1] <= HUGE:
        raise ValueError(
            f"tokens_per_param={shown(tokens_per_param)}: must be 0 < lowest < highest, finite."
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """A field of the recipe that takes several values; axes multiply.

    Attributes:
      field: path into the Recipe, for instance "optimizer.learning_rate".
      values: at least one.
    """

    field: str
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        check_text(self, "field")
        if not self.values or not all(is_real(v) and abs(v) <= HUGE for v in self.values):
            raise ValueError(f"values={shown(self.values)} of {self.field!r}: numbers are needed.")


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
      data: where tokens come from.
      seq_len: tokens per sequence.
      evaluation: the fixed validation set.
      max_epochs: most passes over the training tokens that any run may make.
      flops: FLOP convention of the budgets; the table of runs carries all.
      recipe: the opinions.
      axes: fields of the recipe to vary.
      forecast_budgets: beyond the grid: predicted by the fit, then trained, never fitted.
      mesh: sizes of the four mesh axes of model/network/sharding.py.
      execution: how the networks are computed; by default chosen by the device.
      trunks: whether what runs of one size and seed have in common, warm-up and plateau, is
        trained once (experiments/plan/trunks.py). Moves no loss; refused where none is common.
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
    axes: tuple[Axis, ...] = ()
    forecast_budgets: tuple[float, ...] = ()
    mesh: tuple[int, int, int, int] = (1, 1, 1, 1)
    execution: Execution = AUTO
    trunks: bool = False

    def __post_init__(self) -> None:
        _check_study_name(self.name)
        check_text(self, "question")
        check_whole(self, "seq_len")
        check_real(self, "max_epochs")
        check_choice(self, "flops", FLOP_CONVENTIONS)
        check_flags(self, "trunks")
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
        for n, seeds in enumerate(self.seeds_per_budget):
            is_legal = all(is_whole(seed) and 0 <= seed <= MAX_SEED for seed in seeds)
            if not seeds or not is_legal or len(set(seeds)) != len(seeds):
                raise ValueError(
                    f"seeds at budget {n} are {shown(seeds)}: need distinct whole numbers "
                    f">= 0 and <= {MAX_SEED}."
                )
        if not all(budgets[-1] < budget for budget in self.forecast_budgets):
            raise ValueError(
                f"forecast_budgets={shown(self.forecast_budgets)}: must be above the largest "
                f"budget {budgets[-1]:g}; a forecast inside the grid proves nothing."
            )

    @property
    def seeds_per_budget(self) -> tuple[tuple[int, ...], ...]:
        """The seeds of each budget, in order."""
        are_numbers = {isinstance(entry, int) for entry in self.seeds}
        if are_numbers == {True}:
            return (self.seeds,) * len(self.budgets)  # type: ignore[return-value]
        if True in are_numbers or len(self.seeds) != len(self.budgets):
            raise ValueError(
                f"seeds={shown(self.seeds)}: give numbers for all budgets, or one list for "
                f"each of the {len(self.budgets)} budgets."
            )
        return self.seeds  # type: ignore[return-value]


def _check_study_name(name: str) -> None:
    """Raises ValueError for what is no name of a folder on every system."""
    allowed = set(string.ascii_letters + string.digits + "-_")
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME or not set(name) <= allowed:
        raise ValueError(
            f"name={shown(name)}: use 1 to {MAX_NAME} letters, digits, '-' and '_' only."
        )
