# SPDX-License-Identifier: Apache-2.0
"""The opinions that a question is answered with. No JAX."""

from dataclasses import dataclass
from typing import Any, Literal, Self

from experiments.study.changes import changed
from model.field_checks import (
    check_choice,
    check_flags,
    check_kinds,
    check_real,
    check_text,
    check_whole,
    shown,
)
from model.network.config import MAX_LAYERS
from model.network.counts.kinds import LayerRule
from model.network.counts.patches import PatchConfig
from model.training.config import ALGORITHMS, DECAYS, Decay, MuonConfig
from model.training.objectives.kinds import check_objective
from model.training.optimizers.parameterization import (
    PARAMETERIZATIONS,
    BaseConstants,
    Parameterization,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockRule:
    """Width -> one block of the pattern; no channel mixer where that is None."""

    mixer: LayerRule
    channel_mixer: LayerRule | None


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderRule:
    """An encoder of the first tokens of a window; its pattern is repeated as often as the other.

    Attributes:
      source_share: of a window; the source has so many of its tokens, rounded.
      blocks: the pattern.
    """

    source_share: float
    blocks: tuple[BlockRule, ...]

    def __post_init__(self) -> None:
        check_real(self, "source_share", high=1.0)
        _check_blocks(self.blocks)


def _check_blocks(blocks: tuple[BlockRule, ...]) -> None:
    if not blocks or not all(isinstance(block, BlockRule) for block in blocks):
        raise ValueError(f"blocks={shown(blocks)}: must be one BlockRule or more.")


@dataclass(frozen=True, kw_only=True, slots=True)
class ShapeRule:
    """Width -> network. Everything but the width is an opinion.

    n_layers = d_model / width_per_layer, rounded, within [min_layers, max_layers], and then to a
    multiple of the length of the pattern of blocks. Other fields as in ModelConfig.

    Attributes:
      blocks: the pattern; each layer's own rule (network/counts/) makes its sizes.
      encoder: of the source, for objective "translation"; ``blocks`` are then the decoder's.
      patches: of images, for objective "classification".
    """

    width_multiple: int
    width_per_layer: float
    min_layers: int
    max_layers: int
    blocks: tuple[BlockRule, ...]
    norm: Literal["rmsnorm", "layernorm"]
    norm_eps: float
    learned_positions: bool
    use_bias: bool
    tie_embeddings: bool
    embedding_init_std: float
    hidden_init_gain: float
    branch_init_gain: float
    output_init_std: float
    encoder: EncoderRule | None = None
    patches: PatchConfig | None = None

    def __post_init__(self) -> None:
        check_kinds(self)
        check_whole(self, "width_multiple")
        check_whole(self, "min_layers max_layers", high=MAX_LAYERS)
        check_real(self, "width_per_layer hidden_init_gain")
        check_real(self, "norm_eps embedding_init_std branch_init_gain output_init_std", low=0.0)
        check_choice(self, "norm", ("rmsnorm", "layernorm"))
        check_flags(self, "learned_positions use_bias tie_embeddings")
        _check_blocks(self.blocks)
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
        check_kinds(self)
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
        batch: beta2 = 2^(-tokens per step / halflife) (Marek et al. 2025, arXiv:2507.07101). That
        is for a run of ``batch.reference_run`` tokens.
      beta2_halflife_exponent: of the half-life in the run's tokens. With 0 it is one for all; with
        ``batch.exponent`` it is the same number of steps for all, but for the rounding of batches.
      clip_norm: global gradient norm.
      weight_decay_timescale: the timescale 1 / (rate x decay), in steps, as a fraction of the
        run (Wang & Aitchison 2024, arXiv:2405.13698), for a run of 20 tokens per parameter.
      weight_decay_exponent: of that fraction in tokens per parameter; -0.527 in Bergsma et al.
        2025 (arXiv:2505.13738). With 0 it is the same for every run.
      weight_decay_falls: False: all steps have the decay of the run. True: it needs no end. After
        the warm-up each step has what it adds to the decay that the two rules above give, over all
        steps, a run that ends with it: with an exponent of -0.5 it falls as 1 / sqrt(step).
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
    beta2_halflife_exponent: float
    clip_norm: float
    weight_decay_timescale: float
    weight_decay_exponent: float
    warmup_fraction: float
    decay_fraction: float
    decay: Decay
    final_fraction: float
    z_loss_weight: float
    weight_decay_falls: bool = False

    def __post_init__(self) -> None:
        check_kinds(self)
        check_choice(self, "algorithm", ALGORITHMS)
        check_real(self, "learning_rate beta2_halflife_tokens clip_norm weight_decay_timescale")
        check_real(self, "beta1 warmup_fraction decay_fraction final_fraction", low=0.0, high=1.0)
        check_real(self, "z_loss_weight", low=0.0)
        check_real(self, "beta2_halflife_exponent weight_decay_exponent", low=-2.0, high=2.0)
        check_choice(self, "decay", DECAYS)
        check_flags(self, "weight_decay_falls")
        if self.weight_decay_falls and not -1 <= self.weight_decay_exponent < 0:
            raise ValueError(
                f"weight_decay_falls=True with weight_decay_exponent="
                f"{shown(self.weight_decay_exponent)}: no decay of single steps adds up to that. "
                "Give an exponent from -1 to below 0, or weight_decay_falls=False."
            )
        if self.algorithm == "muon" and self.muon is None:
            raise ValueError("algorithm='muon' needs its constants: give muon=MuonConfig(...).")


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A named set of opinions: how a width becomes a network and a budget becomes a run.

    Attributes:
      name: of these constants, with where they come from in the file that defines them.
      shape, batch, optimizer: the rules.
      base: constants at the base shape.
      parameterization: how they are carried to other shapes (model/training/optimizers/).
      compute_dtype: dtype of activations and matrix products of the smaller networks.
      bfloat16_from_params: networks of so many parameters and more have bfloat16; None: none has
        another dtype than the smaller ones.
      objective: what is minimised (model/training/objectives/kinds.py).
      mask_ratio: "masked" hides this share of the tokens; None with other objectives.
      horizon_tokens_per_param: the length of run that batch, warm-up and weight decay are chosen
        for, in tokens per parameter, so that they are the same for all runs of a size, whatever
        their length: trunks need that. None: each run's own length. The decay of the rate is
        always a share of the run's own, and a weight decay that falls depends on no length.
    """

    name: str
    shape: ShapeRule
    base: BaseConstants
    parameterization: Parameterization
    batch: BatchRule
    optimizer: OptimizerRule
    horizon_tokens_per_param: float | None
    compute_dtype: Literal["float32", "bfloat16"]
    bfloat16_from_params: float | None
    objective: str = "next_token"
    mask_ratio: float | None = None

    def __post_init__(self) -> None:
        check_kinds(self)
        check_text(self, "name")
        check_objective(self.objective, self.mask_ratio)
        check_choice(self, "parameterization", PARAMETERIZATIONS)
        if self.horizon_tokens_per_param is not None:
            check_real(self, "horizon_tokens_per_param")
        if self.bfloat16_from_params is not None:
            check_real(self, "bfloat16_from_params")
        check_choice(self, "compute_dtype", ("float32", "bfloat16"))

    def dtype(self, n_params: int) -> Literal["float32", "bfloat16"]:
        """Of activations and matrix products of a network with so many parameters."""
        is_large = self.bfloat16_from_params is not None and n_params >= self.bfloat16_from_params
        return "bfloat16" if is_large else self.compute_dtype

    def with_(self, **changes: Any) -> Self:
        """Another recipe: its fields by their path, dots written as two underscores.

        ``TINY_BYTES.with_(name="mine", batch__multiple=2, optimizer__learning_rate=0.5)``

        Raises:
          ValueError: one line, if there is no such field, or its value is refused.
        """
        return changed(self, [(path.replace("__", "."), new) for path, new in changes.items()])
