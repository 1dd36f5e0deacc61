# SPDX-License-Identifier: Apache-2.0
"""Runs of a recipe that are asked for by their tokens, where a study asks by FLOPs."""

from experiments.plan.plan import model_config, resolve
from experiments.plan.point import Point
from experiments.study.study import Study
from model.data.manifest import Manifest
from model.network.counts.total import flops_per_token


def resolve_tokens(
    study: Study,
    manifest: Manifest,
    *,
    n_tokens: float,
    d_model: int,
    seed: int,
    axes: dict[str, float],
) -> Point:
    """The study's point with this width and so many tokens; its budget is what they cost.

    Raises:
      Refused: as experiments.plan.resolve.
    """
    budget = n_tokens * flops_of_a_token(study, manifest, d_model)
    return resolve(study, manifest, budget=budget, d_model=d_model, seed=seed, axes=axes)


def flops_of_a_token(study: Study, manifest: Manifest, d_model: int) -> float:
    """Training FLOPs per token of the recipe's network, in the study's convention."""
    model = model_config(
        study.recipe, d_model, vocab_size=manifest.vocab_size, seq_len=study.seq_len
    )
    return flops_per_token(model, study.flops)
