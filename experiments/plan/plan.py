# SPDX-License-Identifier: Apache-2.0
"""plan(study, manifest) -> Plan: every number resolved. No JAX, no disk, no clock.

Each rounding of a study happens here, once.
"""

import dataclasses
import itertools
import math
from dataclasses import dataclass
from typing import Any

from experiments.plan.point import SEMANTICS, Point, Spec, spec_id, typed
from experiments.plan.trunks import check_trunks, cluster_id
from experiments.study.study import Ladder, OptimizerRule, Recipe, ShapeRule, Study
from model.data.manifest import Manifest
from model.network.config import ModelConfig
from model.network.counts.total import FLOP_CONVENTIONS, count_params, flops_per_token
from model.network.sharding import LAYOUTS, check_divisible
from model.training.config import MuonConfig, OptimizerConfig, ScheduleConfig, TrainConfig
from model.training.parameterization import Transferred, transfer

BUDGET_TOLERANCE = 0.01
MAX_WIDTH = 2**16  # Several times the widest network that is known; a search must end.


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """A point that cannot be trained as asked, and why."""

    budget: float
    d_model: int
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The points of a study, by budget, size, axes, seed; and what was refused."""

    points: tuple[Point, ...]
    refused: tuple[Refusal, ...]


class Refused(ValueError):
    """One point cannot be trained as asked."""


def plan(study: Study, manifest: Manifest) -> Plan:
    """Resolves a study: same study and manifest, same bytes.

    Raises:
      ValueError: if nothing remains at some budget, two points are the same run, or trunks are
        asked for where runs of a size have none in common.
    """
    _check_data(study, manifest)
    points: list[Point] = []
    refused: list[Refusal] = []
    for budget, seeds in zip(study.budgets, study.seeds_per_budget, strict=True):
        before = len(points)
        for d_model in _widths(study, manifest, budget):
            for axes in _combinations(study):
                try:
                    points += [
                        resolve(study, manifest, budget=budget, d_model=d_model, seed=s, axes=axes)
                        for s in seeds
                    ]
                except Refused as error:
                    refused.append(Refusal(budget=budget, d_model=d_model, reason=str(error)))
        if len(points) == before:
            raise ValueError(_nothing_left(study, budget, refused))
    _check_distinct(points)
    if study.trunks:
        check_trunks(points)
    return Plan(points=tuple(points), refused=tuple(dict.fromkeys(refused)))


def resolve(
    study: Study,
    manifest: Manifest,
    *,
    budget: float,
    d_model: int,
    seed: int,
    axes: dict[str, float],
    role: str = "grid",
) -> Point:
    """One point with every number resolved.

    Raises:
      Refused: if the budget cannot be met within 1 %, the data do not suffice, or the mesh does
        not divide the run.
    """
    recipe = with_axes(study.recipe, axes)
    model = model_config(recipe, d_model, vocab_size=manifest.vocab_size, seq_len=study.seq_len)
    per_token = flops_per_token(model, study.flops)
    horizon = _horizon(recipe, model, budget / per_token)
    batch_size = _batch_size(recipe, horizon, study.seq_len)
    tokens_per_step = batch_size * study.seq_len
    n_steps = round(budget / per_token / tokens_per_step)
    achieved = n_steps * tokens_per_step * per_token
    if abs(achieved / budget - 1) > BUDGET_TOLERANCE:
        raise Refused(
            f"budget {budget:.3g} FLOPs is {budget / per_token:.4g} tokens at d_model {d_model}; "
            f"{n_steps} steps of {tokens_per_step} tokens miss it by "
            f"{achieved / budget - 1:+.1%}, more than 1 %. Raise the budget to at least "
            f"{50 * tokens_per_step * per_token:.3g}, or lower the batch."
        )
    n_tokens = n_steps * tokens_per_step
    epochs = _epochs(study, manifest, n_tokens, d_model)
    try:
        layout = LAYOUTS[study.execution.layout]
        check_divisible(model, study.mesh, batch_size=batch_size, layout=layout)
    except ValueError as error:
        raise Refused(f"mesh {study.mesh}: {error}") from None
    horizon_steps = (
        n_steps if recipe.horizon_tokens_per_param is None else horizon / tokens_per_step
    )
    train = train_config(
        recipe,
        model,
        study,
        batch_size=batch_size,
        n_steps=n_steps,
        horizon_steps=horizon_steps,
        seed=seed,
    )
    transferred = _transfer(recipe, model, horizon_steps)
    model = dataclasses.replace(
        model,
        residual_multiplier=transferred.residual_multiplier,
        logit_multiplier=transferred.logit_multiplier,
        output_init_std=model.output_init_std * transferred.output_init_factor,
    )
    spec = typed(
        Spec(model=model, train=train, data_fingerprint=manifest.fingerprint, semantics=SEMANTICS)
    )
    return Point(
        id=spec_id(spec),
        spec=spec,
        role=role,
        budget=float(budget),
        convention=study.flops,
        seed=seed,
        axes={name: float(value) for name, value in axes.items()},
        n_tokens=n_tokens,
        epochs=epochs,
        params=count_params(model),
        flops={c: float(flops_per_token(model, c) * n_tokens) for c in FLOP_CONVENTIONS},
        cluster_id=cluster_id(spec),
    )


def model_config(recipe: Recipe, d_model: int, *, vocab_size: int, seq_len: int) -> ModelConfig:
    """The network of this width by the recipe's shape rule, with the base multipliers.

    Raises:
      Refused: if the heads do not divide the width.
    """
    shape = recipe.shape
    n_layers = round(d_model / shape.width_per_layer)
    n_layers = min(max(n_layers, shape.min_layers), shape.max_layers)
    n_heads = max(d_model // shape.head_width, shape.min_heads)
    if d_model % n_heads or n_heads % shape.queries_per_kv_head:
        raise Refused(
            f"{n_heads} heads (head_width={shape.head_width}, queries_per_kv_head="
            f"{shape.queries_per_kv_head}) do not divide d_model={d_model}. Choose another width."
        )
    same = {f.name for f in dataclasses.fields(ModelConfig)} & {
        f.name for f in dataclasses.fields(ShapeRule)
    }
    try:
        return ModelConfig(
            vocab_size=vocab_size,
            seq_len=seq_len,
            d_model=d_model,
            n_layers=n_layers,
            n_heads=n_heads,
            n_kv_heads=n_heads // shape.queries_per_kv_head,
            d_head=d_model // n_heads,
            d_ff=math.ceil(shape.ff_ratio * d_model / shape.ff_multiple) * shape.ff_multiple,
            residual_multiplier=recipe.base.residual_multiplier,
            logit_multiplier=recipe.base.logit_multiplier,
            **{name: getattr(shape, name) for name in same},
        )
    except ValueError as error:
        raise Refused(str(error)) from None


def train_config(
    recipe: Recipe,
    model: ModelConfig,
    study: Study,
    *,
    batch_size: int,
    n_steps: int,
    horizon_steps: float,
    seed: int,
) -> TrainConfig:
    """The run of this length: rates, decay, moments and schedule in absolute steps.

    Args:
      horizon_steps: length of the run that warm-up and weight decay are chosen for.

    Raises:
      Refused: if a warm-up of the horizon's leaves the run no room for its decay.
    """
    rule = recipe.optimizer
    tokens_per_step = batch_size * study.seq_len
    transferred = _transfer(recipe, model, horizon_steps)
    optimizer = OptimizerConfig(
        algorithm=rule.algorithm,
        input=transferred.input,
        hidden=transferred.hidden,
        output=transferred.output,
        vector=transferred.vector,
        beta1=rule.beta1,
        beta2=2 ** (-tokens_per_step / rule.beta2_halflife_tokens),
        clip_norm=rule.clip_norm,
        muon=_muon(rule),
    )
    warmup = round(rule.warmup_fraction * horizon_steps)
    decay = round(rule.decay_fraction * n_steps)
    if recipe.horizon_tokens_per_param is not None and warmup + decay > n_steps:
        raise Refused(
            f"at d_model {model.d_model} a warm-up of {warmup} steps and a decay of {decay} do not "
            f"fit into {n_steps}. Raise the budget, or lower recipe.horizon_tokens_per_param."
        )
    schedule = ScheduleConfig(
        n_steps=n_steps,
        warmup_steps=warmup,
        decay_steps=min(decay, n_steps - warmup),
        decay=rule.decay,
        final_fraction=rule.final_fraction,
    )
    return TrainConfig(
        batch_size=batch_size,
        optimizer=optimizer,
        schedule=schedule,
        evaluation=study.evaluation,
        z_loss_weight=rule.z_loss_weight,
        compute_dtype=recipe.compute_dtype,
        init_seed=seed,
        data_seed=seed,
    )


def _muon(rule: OptimizerRule) -> MuonConfig | None:
    return rule.muon if rule.algorithm == "muon" else None


def _horizon(recipe: Recipe, model: ModelConfig, n_tokens: float) -> float:
    """Tokens of the run that a network's batch, warm-up and weight decay are chosen for.

    Args:
      n_tokens: of the run itself.
    """
    if recipe.horizon_tokens_per_param is None:
        return n_tokens
    return recipe.horizon_tokens_per_param * count_params(model).total


def _transfer(recipe: Recipe, model: ModelConfig, n_steps: float) -> Transferred:
    factor, muon = recipe.optimizer.learning_rate, _muon(recipe.optimizer)
    base = dataclasses.replace(
        recipe.base,
        hidden_rate=factor * recipe.base.hidden_rate,
        input_rate=factor * recipe.base.input_rate,
        output_rate=factor * recipe.base.output_rate,
        vector_rate=factor * recipe.base.vector_rate,
    )
    decay_per_step = 1 / (recipe.optimizer.weight_decay_timescale * n_steps)
    return transfer(
        base,
        d_model=model.d_model,
        n_layers=model.n_layers,
        decay_per_step=decay_per_step,
        parameterization=recipe.parameterization,
        muon_scale=muon.scale if muon else None,
    )


def with_axes(recipe: Recipe, axes: dict[str, float]) -> Recipe:
    """The recipe with the named fields replaced; a path like "optimizer.learning_rate"."""
    for path, value in axes.items():
        recipe = _replace(recipe, path.split("."), value, path)
    return recipe


def _replace(node: Any, names: list[str], value: Any, path: str) -> Any:
    known = {f.name for f in dataclasses.fields(node)} if dataclasses.is_dataclass(node) else set()
    if names[0] not in known:
        raise ValueError(
            f"axis {path!r}: {type(node).__name__} has no field {names[0]!r}; "
            f"it has {', '.join(sorted(known))}."
        )
    inner = getattr(node, names[0])
    new = value if len(names) == 1 else _replace(inner, names[1:], value, path)
    return dataclasses.replace(node, **{names[0]: new})


def _combinations(study: Study) -> list[dict[str, float]]:
    values = [[(axis.field, value) for value in axis.values] for axis in study.axes]
    return [dict(combination) for combination in itertools.product(*values)]


def _batch_size(recipe: Recipe, n_tokens: float, seq_len: int) -> int:
    rule = recipe.batch
    tokens = rule.reference_tokens * (n_tokens / rule.reference_run) ** rule.exponent
    return max(1, round(tokens / seq_len / rule.multiple)) * rule.multiple


def _tokens_per_param(study: Study, manifest: Manifest, budget: float, d_model: int) -> float:
    model = model_config(
        study.recipe, d_model, vocab_size=manifest.vocab_size, seq_len=study.seq_len
    )
    return budget / flops_per_token(model, study.flops) / count_params(model).total


def _widths(study: Study, manifest: Manifest, budget: float) -> list[int]:
    """The widths of a budget, ascending."""
    low, high = study.sizes.tokens_per_param
    if isinstance(study.sizes, Ladder):
        ladder = study.sizes.d_models
        return [d for d in ladder if low <= _tokens_per_param(study, manifest, budget, d) <= high]
    steps = study.sizes.n_sizes - 1
    targets = [high * (low / high) ** (i / steps) for i in range(steps + 1)]
    widths = sorted({width_for(study, manifest, budget, target) for target in targets})
    if len(widths) < len(targets):
        raise ValueError(
            f"budget {budget:.3g}: {len(targets)} sizes over {low:g}...{high:g} tokens per "
            f"parameter fall on only {len(widths)} widths (multiples of "
            f"{study.recipe.shape.width_multiple}). Ask for fewer sizes or a wider range."
        )
    return widths


def width_for(study: Study, manifest: Manifest, budget: float, tokens_per_param: float) -> int:
    """The width whose ratio of tokens to parameters at this budget is nearest, in logarithm.

    Raises:
      ValueError: if it is beyond MAX_WIDTH.
    """

    def distance(d_model: int) -> float:
        try:
            ratio = _tokens_per_param(study, manifest, budget, d_model)
        except Refused:
            return math.inf
        return abs(math.log(ratio / tokens_per_param))

    multiple = study.recipe.shape.width_multiple
    top = multiple
    while _ratio_or(study, manifest, budget, top, math.inf) > tokens_per_param:
        if top > MAX_WIDTH:
            raise ValueError(
                f"budget {budget:.3g}: {tokens_per_param:.3g} tokens per parameter need a network "
                f"wider than {MAX_WIDTH}. Lower the budget, or ask for more tokens per parameter."
            )
        top *= 2
    return min(range(multiple, top + 1, multiple), key=distance)


def _ratio_or(study: Study, manifest: Manifest, budget: float, d_model: int, other: float) -> float:
    try:
        return _tokens_per_param(study, manifest, budget, d_model)
    except Refused:
        return other


def _epochs(study: Study, manifest: Manifest, n_tokens: int, d_model: int) -> float | None:
    if manifest.n_train_tokens is None:
        return None
    epochs = n_tokens / manifest.n_train_tokens
    if epochs > study.max_epochs:
        raise Refused(
            f"{n_tokens:.3g} tokens at d_model {d_model} are {epochs:.2f} epochs of the "
            f"{manifest.n_train_tokens:.3g} training tokens, above max_epochs="
            f"{study.max_epochs:g}. Give more data, lower the budget, or raise max_epochs."
        )
    return epochs


def _check_data(study: Study, manifest: Manifest) -> None:
    if study.seq_len % manifest.window_multiple:
        raise ValueError(
            f"seq_len={study.seq_len}: this source needs a multiple of {manifest.window_multiple} "
            "(windows hold whole records)."
        )
    available = manifest.n_validation_tokens
    n_windows = math.ceil(study.evaluation.n_tokens / study.seq_len)
    if available is not None and n_windows > (available - 1) // study.seq_len:
        raise ValueError(
            f"evaluation.n_tokens={study.evaluation.n_tokens} are {n_windows} windows of "
            f"{study.seq_len} tokens: the validation split has {available} tokens, one more than "
            "its windows are needed. Ask for fewer, or raise data.validation_fraction."
        )


def _nothing_left(study: Study, budget: float, refused: list[Refusal]) -> str:
    reasons = [refusal.reason for refusal in refused if refusal.budget == budget]
    if reasons:
        return f"budget {budget:.3g}: no size can be trained. {reasons[0]}"
    low, high = study.sizes.tokens_per_param
    return (
        f"budget {budget:.3g}: no size of the ladder has {low:g} to {high:g} tokens per parameter. "
        "Widen sizes.tokens_per_param, or extend the ladder."
    )


def _check_distinct(points: list[Point]) -> None:
    seen: dict[str, Point] = {}
    for point in points:
        if point.id in seen:
            raise ValueError(
                f"budgets {seen[point.id].budget:.4g} and {point.budget:.4g} resolve to the same "
                f"run at d_model {point.spec.model.d_model}. Space the budgets wider, or name each "
                "axis value once."
            )
        seen[point.id] = point
