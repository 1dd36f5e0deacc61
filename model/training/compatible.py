# SPDX-License-Identifier: Apache-2.0
"""What runs must have in common to train together, and to share a trunk."""

from collections.abc import Sequence
from typing import Any

import jax

from model.data.corpus import Corpus
from model.network.config import ModelConfig
from model.network.counts.layer import refuse_split_positions
from model.network.execution import Execution
from model.network.sharding import LAYOUTS, check_divisible
from model.training.config import TrainConfig
from model.training.objectives.kinds import KINDS, check_network


def check_pack(
    model: ModelConfig,
    configs: Sequence[TrainConfig],
    corpora: Sequence[Corpus],
    mesh_shape: tuple[int, ...],
    execution: Execution,
) -> None:
    """Raises ValueError if these runs cannot train together on this mesh."""
    if not configs:
        raise ValueError("a pack of no runs: give one configuration at least.")
    if len(corpora) != len(configs):
        raise ValueError(
            f"{len(corpora)} corpora for {len(configs)} runs: give one for all, or one for each."
        )
    for run, config in enumerate(configs):
        common, first = _common(config), _common(configs[0])
        if differing := [name for name in first if common[name] != first[name]]:
            raise ValueError(
                f"run {run} of the pack differs from run 0 in {', '.join(differing)}: "
                f"{[common[name] for name in differing]} and "
                f"{[first[name] for name in differing]}. Runs that are packed share these: train "
                "it apart."
            )
    if model.patches is not None:
        refuse_split_positions(execution, "which are patches of one image")
    layout, batch_size = LAYOUTS[execution.layout], configs[0].batch_size
    check_divisible(model, mesh_shape, batch_size=batch_size, layout=layout, n_runs=len(configs))
    if mesh_shape[0] > 1 and jax.process_count() > 1:
        raise ValueError(
            f"mesh axis run={mesh_shape[0]} over {jax.process_count()} processes: packed runs are "
            "split over the devices of one process only. Start a process for each pack."
        )
    check_network(configs[0].objective, model)
    has_mask = KINDS[configs[0].objective].has_mask
    n_ids = max(corpus.manifest.vocab_size for corpus in corpora) + has_mask
    n_ids -= 0 if model.patches is None else model.patches.levels
    if n_ids > model.vocab_size:
        raise ValueError(
            f"vocab_size={model.vocab_size} of the model is less than the {n_ids} token ids of the "
            f"data{' and the mask' * has_mask}. Raise it to at least that."
        )


def _common(config: TrainConfig) -> dict[str, Any]:
    """What all runs of a pack have in common: their program, and where they stop to evaluate."""
    evaluation = config.evaluation
    return {
        "batch_size": config.batch_size,
        "compute_dtype": config.compute_dtype,
        "objective": config.objective,
        "optimizer.compiled": config.optimizer.compiled,
        "schedule.n_steps": config.schedule.n_steps,
        "evaluation.n_tokens": evaluation.n_tokens,
        "evaluation.curve_tokens": evaluation.curve_tokens,
        "evaluation.n_bytes": evaluation.n_bytes,
        "evaluation.curve_bytes": evaluation.curve_bytes,
        "evaluation.n_points": evaluation.n_points,
    }


def check_stable(configs: Sequence[TrainConfig], step: int, what: str) -> None:
    """Raises ValueError if a trunk of so many steps is no part of one of these runs."""
    schedules = [config.schedule for config in configs]
    n_stable = min(schedule.n_steps - schedule.decay_steps for schedule in schedules)
    if not 1 <= step <= n_stable:
        raise ValueError(
            f"{what}: a trunk of {step} steps is no part of this run, whose rate decays after "
            f"{n_stable} of {schedules[0].n_steps} steps. A trunk has 1 to {n_stable} steps."
        )
