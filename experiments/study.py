# SPDX-License-Identifier: Apache-2.0
"""The question a lab asks (Study) and the opinions it answers it with (Recipe). No JAX."""

from dataclasses import dataclass, field
from typing import Literal

from model.counts.total import FLOP_CONVENTIONS, FlopConvention
from model.data.source import Source
from model.parameterization import BaseConstants
from model.training.config import EvalConfig


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


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchRule:
    """Tokens per step = reference_tokens (n_tokens / reference_run)^exponent, in whole sequences.

    At least ``multiple`` sequences, and a multiple of that.
    """

    reference_tokens: float
    reference_run: float
    exponent: float
    multiple: int


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerRule:
    """AdamW by rule.

    Attributes:
      learning_rate: factor on all four base rates; the axis to sweep.
      beta1: decay of the first moment per step.
      beta2_halflife_tokens: the second moment forgets half within so many tokens, whatever the
        batch: beta2 = 2^(-tokens per step / halflife) (Marek et al. 2025, arXiv:2507.07101).
      clip_norm: global gradient norm.
      weight_decay_timescale: AdamW's timescale 1 / (rate x decay), in steps, as a fraction of the
        run (Wang & Aitchison 2024, arXiv:2405.13698).
      warmup_fraction, decay_fraction: of the run; a fixed warm-up bends the curves (Porian et al.
        2024, arXiv:2406.19146, sec. 3.2).
      decay: "linear" or "cosine", to zero at the end of each run's own token budget.
      z_loss_weight: see TrainConfig.
    """

    learning_rate: float
    beta1: float
    beta2_halflife_tokens: float
    clip_norm: float
    weight_decay_timescale: float
    warmup_fraction: float
    decay_fraction: float
    decay: Literal["linear", "cosine"]
    z_loss_weight: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A named set of opinions: how a width becomes a network and a budget becomes a run.

    Attributes:
      name: of these constants, with where they come from in the file that defines them.
      shape, batch, optimizer: the rules.
      base: constants at the base shape, carried to others by model/parameterization.py.
      compute_dtype: dtype of activations and matrix products.
    """

    name: str
    shape: ShapeRule
    base: BaseConstants
    batch: BatchRule
    optimizer: OptimizerRule
    compute_dtype: Literal["float32", "bfloat16"]


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
        if not self.d_models or list(self.d_models) != sorted(set(self.d_models)):
            raise ValueError(f"d_models={self.d_models}: must be ascending, each width once.")
        _check_range(self.tokens_per_param)


@dataclass(frozen=True, kw_only=True, slots=True)
class LogSpaced:
    """At each budget, ``n_sizes`` widths log-spaced over a range of tokens per parameter."""

    n_sizes: int
    tokens_per_param: tuple[float, float]

    def __post_init__(self) -> None:
        if self.n_sizes < 2:
            raise ValueError(f"n_sizes={self.n_sizes}: a curve needs at least 2 sizes.")
        _check_range(self.tokens_per_param)


def _check_range(tokens_per_param: tuple[float, float]) -> None:
    low, high = tokens_per_param
    if not 0 < low < high:
        raise ValueError(f"tokens_per_param={tokens_per_param}: must be 0 < lowest < highest.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """A field of the recipe that takes several values; axes multiply.

    Attributes:
      field: path into the Recipe, for instance "optimizer.learning_rate".
      values: at least one.
    """

    field: str
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """A question about compute-optimal training: it says what, and holds no derived number.

    Attributes:
      name: folder below results/; letters, digits, '-', '_'.
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
      mesh: sizes of the four mesh axes of model/sharding.py.
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
    mesh: tuple[int, int, int, int] = field(default=(1, 1, 1, 1))

    def __post_init__(self) -> None:
        allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
        if not self.name or not set(self.name) <= allowed:
            raise ValueError(f"name={self.name!r}: use letters, digits, '-' and '_' only.")
        budgets = self.budgets
        if not budgets or list(budgets) != sorted(set(budgets)) or budgets[0] <= 0:
            raise ValueError(f"budgets={budgets}: must be positive, ascending, each once.")
        if not budgets[-1] < float("inf"):
            raise ValueError(f"budgets={budgets}: must be finite.")
        if self.flops not in FLOP_CONVENTIONS:
            raise ValueError(f"flops={self.flops!r}: must be one of {', '.join(FLOP_CONVENTIONS)}.")
        for n, seeds in enumerate(self.seeds_per_budget):
            if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
                raise ValueError(f"seeds at budget {n} are {seeds}: need distinct numbers >= 0.")
        if not all(budgets[-1] < budget < float("inf") for budget in self.forecast_budgets):
            raise ValueError(
                f"forecast_budgets={self.forecast_budgets}: must be finite and above the largest "
                f"budget {budgets[-1]:g}; a forecast inside the grid proves nothing."
            )
        if not self.max_epochs > 0 or self.seq_len < 1 or min(self.mesh) < 1:
            raise ValueError(
                f"max_epochs={self.max_epochs}, seq_len={self.seq_len}, mesh={self.mesh}: "
                "all must be above 0."
            )

    @property
    def seeds_per_budget(self) -> tuple[tuple[int, ...], ...]:
        """The seeds of each budget, in order."""
        are_numbers = {isinstance(entry, int) for entry in self.seeds}
        if are_numbers == {True}:
            return (self.seeds,) * len(self.budgets)  # type: ignore[return-value]
        if True in are_numbers or len(self.seeds) != len(self.budgets):
            raise ValueError(
                f"seeds={self.seeds}: give numbers for all budgets, or one list for each of the "
                f"{len(self.budgets)} budgets."
            )
        return self.seeds  # type: ignore[return-value]
