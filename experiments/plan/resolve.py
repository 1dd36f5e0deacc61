# SPDX-License-Identifier: Apache-2.0
"""One point of a study with every number resolved. No JAX, no disk, no clock.

Each rounding of a point happens here or in what this calls, once.
"""

import dataclasses

from experiments.plan.epochs import passes
from experiments.plan.from_recipe import (
    Length,
    Refused,
    flops_of_a_token,
    length,
    model_config,
    train_config,
    transferred_constants,
    with_multipliers,
)
from experiments.plan.point import SEMANTICS, Point, Spec, spec_id, typed
from experiments.plan.settings import data_of
from experiments.plan.trunks import cluster_id
from experiments.study.study import Label, Study
from model.data.manifest import Manifest
from model.network.config import ModelConfig
from model.network.counts.total import FLOP_CONVENTIONS, count_params
from model.network.sharding import LAYOUTS, check_divisible
from model.training.objectives.kinds import check_network
from scaling.tables.units import power

BUDGET_TOLERANCE = 0.01


def resolve(
    study: Study,
    manifest: Manifest,
    *,
    budget: float,
    d_model: int,
    seed: int,
    axes: dict[str, Label],
    data_seed: int | None = None,
    role: str = "grid",
) -> Point:
    """The run of this width that spends the budget; its seed sets the data order, too, unless
    that has its own.

    Args:
      study: with the values of ``axes``, which are only written down (settings.py).

    Raises:
      Refused: if the budget cannot be met within 1 %, the data do not suffice, or the mesh does
        not divide the run.
    """
    recipe, manifest = study.recipe, data_of(study, manifest)
    model = network(study, manifest, d_model)
    per_token = flops_of_a_token(recipe, model, study.flops)
    run = length(recipe, model, budget / per_token)
    _check_budget(run, budget=budget, per_token=per_token, d_model=d_model)
    epochs = _epochs(study, manifest, run.n_tokens, d_model)
    _check_mesh(study, model, run.batch_size)
    transferred = transferred_constants(recipe, model, run)
    train = train_config(
        recipe,
        transferred,
        model=model,
        run=run,
        evaluation=study.evaluation,
        init_seed=seed,
        data_seed=seed if data_seed is None else data_seed,
    )
    model = with_multipliers(model, transferred)
    if study.documents_apart:
        from model.data.tokens.encoding import separator_of  # Brings NumPy.

        model = dataclasses.replace(model, separator=separator_of(manifest))
        check_network(recipe.objective, model)
    fingerprint = manifest.fingerprint
    spec = typed(Spec(model=model, train=train, data_fingerprint=fingerprint, semantics=SEMANTICS))
    return Point(
        id=spec_id(spec),
        spec=spec,
        role=role,
        budget=float(budget),
        convention=study.flops,
        axes=dict(axes),
        n_tokens=run.n_tokens,
        epochs=epochs,
        params=count_params(model),
        flops={
            c: float(flops_of_a_token(recipe, model, c) * run.n_tokens) for c in FLOP_CONVENTIONS
        },
        cluster_id=cluster_id(spec),
        smallest_batch=recipe.batch.multiple,
    )


def resolve_tokens(
    study: Study,
    manifest: Manifest,
    *,
    n_tokens: float,
    d_model: int,
    seed: int,
    axes: dict[str, Label],
) -> Point:
    """The run of this width on so many tokens; its budget is what they cost.

    Raises:
      Refused: as `resolve`.
    """
    budget = n_tokens * flops_at(study, manifest, d_model)
    return resolve(study, manifest, budget=budget, d_model=d_model, seed=seed, axes=axes)


def flops_at(study: Study, manifest: Manifest, d_model: int) -> float:
    """Training FLOPs per token of the recipe's network, in the study's convention."""
    model = network(study, data_of(study, manifest), d_model)
    return flops_of_a_token(study.recipe, model, study.flops)


def network(study: Study, manifest: Manifest, d_model: int) -> ModelConfig:
    """Of the recipe, for its own data, with the multipliers of the base."""
    vocab_size = manifest.vocab_size
    return model_config(study.recipe, d_model, vocab_size=vocab_size, seq_len=study.seq_len)


def _check_budget(run: Length, *, budget: float, per_token: float, d_model: int) -> None:
    achieved = run.n_tokens * per_token
    if abs(achieved / budget - 1) > BUDGET_TOLERANCE:
        raise Refused(
            f"budget {power(budget)} FLOPs is {budget / per_token:.4g} tokens at d_model "
            f"{d_model}; {run.n_steps} steps of {run.tokens_per_step} tokens miss it by "
            f"{achieved / budget - 1:+.1%}, more than 1 %. Raise the budget to at least "
            f"{power(50 * run.tokens_per_step * per_token)}, or lower the batch."
        )


def _epochs(study: Study, manifest: Manifest, n_tokens: int, d_model: int) -> float | None:
    """Over the data or, of a mixture, over the part that is repeated most."""
    found = passes(study, manifest, n_tokens)
    for one in found:
        if one.epochs > one.most:
            of_part = f" of part {one.name!r}" * bool(one.name)
            raise Refused(
                f"{one.n_tokens:.3g} tokens{of_part} at d_model {d_model} are {one.epochs:.2f} "
                f"epochs of the {one.n_unique:.3g} training tokens, above max_epochs={one.most:g}. "
                "Give more data, lower the budget, or raise max_epochs."
            )
    return max((one.epochs for one in found), default=None)


def _check_mesh(study: Study, model: ModelConfig, batch_size: int) -> None:
    layout = LAYOUTS[study.execution.layout]
    try:
        check_divisible(model, study.mesh, batch_size=batch_size, layout=layout)
    except ValueError as error:
        raise Refused(f"mesh {study.mesh}: {error}") from None
