# SPDX-License-Identifier: Apache-2.0
"""What a recipe makes of a width and a number of tokens: the network and its training. No JAX."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from experiments.study.recipe import BlockRule, EncoderRule, OptimizerRule, Recipe, ShapeRule
from model.network.config import EncoderConfig, ModelConfig
from model.network.counts.kinds import BlockConfig
from model.network.counts.total import FlopConvention, count_params, flops_per_token
from model.training.config import (
    EvalConfig,
    MuonConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
)
from model.training.objectives.kinds import KINDS, check_network
from model.training.optimizers.parameterization import Transferred, transfer

# The run that a recipe's timescale of weight decay is stated for (Hoffmann et al. 2022).
REFERENCE_TOKENS_PER_PARAM = 20.0


class Refused(ValueError):
    """One point cannot be trained as asked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Length:
    """The length of a run in steps.

    Attributes:
      batch_size: sequences per step.
      tokens_per_step: those times the sequence length.
      n_steps: of the run.
      horizon_steps: of the run that warm-up, and weight decay unless it falls, are chosen for.
    """

    batch_size: int
    tokens_per_step: int
    n_steps: int
    horizon_steps: float

    @property
    def n_tokens(self) -> int:
        return self.n_steps * self.tokens_per_step


def model_config(recipe: Recipe, d_model: int, *, vocab_size: int, seq_len: int) -> ModelConfig:
    """The network of this width by the recipe's shape rule, with the base multipliers.

    Args:
      vocab_size: token ids of the data; where the objective has a mask, that is one more, and of
        classes those behind the levels of the images.

    Raises:
      Refused: if a layer has no sizes for this width, or does not serve the objective.
    """
    shape, period = recipe.shape, len(recipe.shape.blocks)
    n_layers = round(d_model / shape.width_per_layer)
    n_layers = min(max(n_layers, shape.min_layers), shape.max_layers)
    n_layers = max(1, _nearest(n_layers / period)) * period
    same = {f.name for f in dataclasses.fields(ModelConfig)} & {
        f.name for f in dataclasses.fields(ShapeRule)
    }
    fields: dict[str, Any] = {name: getattr(shape, name) for name in same}
    try:
        fields["blocks"] = tuple(_block(block, d_model, n_layers) for block in shape.blocks)
        if shape.encoder is not None:
            fields["encoder"] = _encoder(shape.encoder, d_model, n_layers, seq_len)
        model = ModelConfig(
            vocab_size=_vocabulary(recipe, vocab_size),
            seq_len=seq_len,
            d_model=d_model,
            n_layers=n_layers,
            residual_multiplier=recipe.base.residual_multiplier,
            logit_multiplier=recipe.base.logit_multiplier,
            **fields,
        )
        check_network(recipe.objective, model)
        return model
    except ValueError as error:
        raise Refused(str(error)) from None


def _vocabulary(recipe: Recipe, vocab_size: int) -> int:
    patches = recipe.shape.patches
    return vocab_size + KINDS[recipe.objective].has_mask - (patches.levels if patches else 0)


def flops_of_a_token(recipe: Recipe, model: ModelConfig, convention: FlopConvention) -> int | float:
    """Training FLOPs per token, in a convention; a mask that the objective does not have hides
    nothing from anything."""
    if convention == "matmul_causal" and not KINDS[recipe.objective].is_causal:
        convention = "matmul_full"
    return flops_per_token(model, convention)


def _block(rule: BlockRule, d_model: int, n_layers: int) -> BlockConfig:
    mixer, channel_mixer = (
        None if layer is None else layer.config(d_model=d_model, n_layers=n_layers)
        for layer in (rule.mixer, rule.channel_mixer)
    )
    assert mixer is not None
    return BlockConfig(mixer=mixer, channel_mixer=channel_mixer)


def _encoder(rule: EncoderRule, d_model: int, n_layers: int, seq_len: int) -> EncoderConfig:
    return EncoderConfig(
        source_len=_nearest(rule.source_share * seq_len),
        blocks=tuple(_block(block, d_model, n_layers) for block in rule.blocks),
    )


def _nearest(x: float) -> int:
    """Halves upwards: Python's ``round`` would send 1.5 and 2.5 to the same number."""
    return math.floor(x + 0.5)


def length(recipe: Recipe, model: ModelConfig, n_tokens: float) -> Length:
    """The run of about so many tokens, in whole steps of the recipe's batch."""
    horizon = n_tokens
    if recipe.horizon_tokens_per_param is not None:
        horizon = recipe.horizon_tokens_per_param * count_params(model).total
    batch_size = _batch_size(recipe, horizon, model.seq_len)
    tokens_per_step = batch_size * model.seq_len
    n_steps = round(n_tokens / tokens_per_step)
    is_own = recipe.horizon_tokens_per_param is None
    return Length(
        batch_size=batch_size,
        tokens_per_step=tokens_per_step,
        n_steps=n_steps,
        horizon_steps=n_steps if is_own else horizon / tokens_per_step,
    )


def _batch_size(recipe: Recipe, n_tokens: float, seq_len: int) -> int:
    rule = recipe.batch
    tokens = rule.reference_tokens * (n_tokens / rule.reference_run) ** rule.exponent
    return max(1, round(tokens / seq_len / rule.multiple)) * rule.multiple


def transferred_constants(recipe: Recipe, model: ModelConfig, run: Length) -> Transferred:
    """The base constants, at the recipe's learning rate, carried over to this network and run."""
    rule = recipe.optimizer
    factor, muon = rule.learning_rate, _muon(rule)
    base = dataclasses.replace(
        recipe.base,
        hidden_rate=factor * recipe.base.hidden_rate,
        input_rate=factor * recipe.base.input_rate,
        output_rate=factor * recipe.base.output_rate,
        vector_rate=factor * recipe.base.vector_rate,
    )
    return transfer(
        base,
        d_model=model.d_model,
        n_layers=model.n_layers,
        decay_per_step=_decay_per_step(recipe, run, count_params(model).total),
        parameterization=recipe.parameterization,
        muon_scale=muon.scale if muon else None,
    )


def _decay_per_step(recipe: Recipe, run: Length, n_params: int) -> float:
    """Of the whole run; where decay falls, of its steps before that."""
    rule = recipe.optimizer
    n_steps, share = run.horizon_steps, 1.0
    if rule.weight_decay_falls:
        # The rule gives n steps a decay of n^-exponent in all, of which this is the derivative.
        n_steps, share = _held_steps(recipe, run), -rule.weight_decay_exponent
    relative = n_steps * run.tokens_per_step / n_params / REFERENCE_TOKENS_PER_PARAM
    timescale = rule.weight_decay_timescale * relative**rule.weight_decay_exponent
    return share / (timescale * n_steps)


def _held_steps(recipe: Recipe, run: Length) -> int:
    """After which a decay that falls begins to: in the warm-up the rates hold it down."""
    return max(1, _warmup_steps(recipe, run))


def _warmup_steps(recipe: Recipe, run: Length) -> int:
    return round(recipe.optimizer.warmup_fraction * run.horizon_steps)


def with_multipliers(model: ModelConfig, transferred: Transferred) -> ModelConfig:
    """The network with the multipliers and the initialisation of its own shape."""
    return dataclasses.replace(
        model,
        residual_multiplier=transferred.residual_multiplier,
        logit_multiplier=transferred.logit_multiplier,
        output_init_std=model.output_init_std * transferred.output_init_factor,
    )


def train_config(
    recipe: Recipe,
    transferred: Transferred,
    *,
    model: ModelConfig,
    run: Length,
    evaluation: EvalConfig,
    init_seed: int,
    data_seed: int,
) -> TrainConfig:
    """The training of a run: rates, decay, moments and schedule in absolute steps.

    Raises:
      Refused: if a warm-up of the horizon's leaves the run no room for its decay.
    """
    return TrainConfig(
        batch_size=run.batch_size,
        optimizer=_optimizer(recipe, transferred, run),
        schedule=_schedule(recipe, run, model.d_model),
        evaluation=evaluation,
        z_loss_weight=recipe.optimizer.z_loss_weight,
        compute_dtype=recipe.dtype(count_params(model).total),
        init_seed=init_seed,
        data_seed=data_seed,
        objective=recipe.objective,
        mask_ratio=recipe.mask_ratio,
    )


def _optimizer(recipe: Recipe, transferred: Transferred, run: Length) -> OptimizerConfig:
    rule = recipe.optimizer
    length = run.horizon_steps * run.tokens_per_step / recipe.batch.reference_run
    halflife = rule.beta2_halflife_tokens * length**rule.beta2_halflife_exponent
    return OptimizerConfig(
        algorithm=rule.algorithm,
        input=transferred.input,
        hidden=transferred.hidden,
        output=transferred.output,
        vector=transferred.vector,
        final_norm=transferred.final_norm,
        beta1=rule.beta1,
        beta2=2 ** (-run.tokens_per_step / halflife),
        clip_norm=rule.clip_norm,
        muon=_muon(rule),
        weight_decay_holds=_held_steps(recipe, run) if rule.weight_decay_falls else 0,
        weight_decay_fall=1 + rule.weight_decay_exponent if rule.weight_decay_falls else 0.0,
    )


def _muon(rule: OptimizerRule) -> MuonConfig | None:
    return rule.muon if rule.algorithm == "muon" else None


def _schedule(recipe: Recipe, run: Length, d_model: int) -> ScheduleConfig:
    rule = recipe.optimizer
    warmup = _warmup_steps(recipe, run)
    decay = round(rule.decay_fraction * run.n_steps)
    if recipe.horizon_tokens_per_param is not None and warmup + decay > run.n_steps:
        raise Refused(
            f"at d_model {d_model} a warm-up of {warmup} steps and a decay of {decay} do not "
            f"fit into {run.n_steps}. Raise the budget, or lower recipe.horizon_tokens_per_param."
        )
    return ScheduleConfig(
        n_steps=run.n_steps,
        warmup_steps=warmup,
        decay_steps=min(decay, run.n_steps - warmup),
        decay=rule.decay,
        final_fraction=rule.final_fraction,
    )
