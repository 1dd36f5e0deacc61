# SPDX-License-Identifier: Apache-2.0
"""How one network is trained: every number that moves its loss. Standard library only."""

import math
from dataclasses import dataclass, fields
from typing import Literal

ROLES = ("input", "hidden", "output", "vector")


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupConfig:
    """AdamW's constants for the parameters of one role, already transferred to this width.

    Attributes:
      learning_rate: peak rate.
      weight_decay: decoupled (Loshchilov & Hutter 2017, arXiv:1711.05101): each step multiplies
        the weights by 1 - rate x weight_decay.
      eps: added to the root of the second moment.
    """

    learning_rate: float
    weight_decay: float
    eps: float

    def __post_init__(self) -> None:
        for name in ("learning_rate", "weight_decay", "eps"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)}: must be a number of at least 0.")


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """AdamW with one group per role and one global gradient clip.

    Attributes:
      input: embeddings and learned positions.
      hidden: matrices between hidden units.
      output: an untied head.
      vector: gains and biases.
      beta1, beta2: decay of the first and second moment per step.
      clip_norm: gradients are scaled so that their global norm is at most this.
    """

    input: GroupConfig
    hidden: GroupConfig
    output: GroupConfig
    vector: GroupConfig
    beta1: float
    beta2: float
    clip_norm: float

    def __post_init__(self) -> None:
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be in [0, 1).")
        if not self.clip_norm > 0:
            raise ValueError(f"clip_norm={self.clip_norm}: must be above 0.")


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleConfig:
    """Warm-up, plateau and decay in absolute steps; the plateau is what the two others leave.

    Attributes:
      n_steps: steps of the run.
      warmup_steps: linear rise; the first step has 1 / warmup_steps of the peak rate.
      decay_steps: the last so many steps fall to zero, reached one step after the end.
      decay: "linear" (Bergsma et al. 2025, arXiv:2502.15938) or "cosine".
    """

    n_steps: int
    warmup_steps: int
    decay_steps: int
    decay: Literal["linear", "cosine"]

    def __post_init__(self) -> None:
        if self.decay not in ("linear", "cosine"):
            raise ValueError(f"decay={self.decay!r}: must be 'linear' or 'cosine'.")
        if self.n_steps < 1 or self.warmup_steps < 0 or self.decay_steps < 0:
            raise ValueError(f"{self}: n_steps must be at least 1, the others at least 0.")
        if self.warmup_steps + self.decay_steps > self.n_steps:
            raise ValueError(
                f"warmup_steps={self.warmup_steps} and decay_steps={self.decay_steps} do not fit "
                f"into n_steps={self.n_steps}."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalConfig:
    """Where and on what the validation loss is measured.

    Attributes:
      n_tokens: size of the fixed validation set, in target tokens; the final loss uses all.
      curve_tokens: its first so many are used for the points of the curve.
      n_points: points of the curve, evenly spaced in steps; the last lies at the end of the run.
      seed: which windows of the validation split.
    """

    n_tokens: int
    curve_tokens: int
    n_points: int
    seed: int

    def __post_init__(self) -> None:
        if not 1 <= self.curve_tokens <= self.n_tokens:
            raise ValueError(
                f"curve_tokens={self.curve_tokens}: must be between 1 and n_tokens={self.n_tokens}."
            )
        if self.n_points < 1:
            raise ValueError(f"n_points={self.n_points}: a curve needs at least its last point.")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training run.

    Attributes:
      batch_size: sequences per step; tokens per step are batch_size x the model's seq_len.
      optimizer, schedule, evaluation: see there.
      z_loss_weight: weight of mean((log Z)^2) in the training loss (PaLM, arXiv:2204.02311,
        sec. 5); reported losses never contain it.
      compute_dtype: dtype of activations and matrix products; parameters, norms, softmax and the
        loss are float32 always.
      init_seed, data_seed: initial weights; order of the data.
    """

    batch_size: int
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    evaluation: EvalConfig
    z_loss_weight: float
    compute_dtype: Literal["float32", "bfloat16"]
    init_seed: int
    data_seed: int

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size}: must be at least 1 sequence.")
        if self.compute_dtype not in ("float32", "bfloat16"):
            raise ValueError(f"compute_dtype={self.compute_dtype!r}: 'float32' or 'bfloat16'.")
        if not 0 <= self.z_loss_weight < math.inf:
            raise ValueError(f"z_loss_weight={self.z_loss_weight}: must be a number of at least 0.")

    @property
    def eval_steps(self) -> tuple[int, ...]:
        """Steps after which the curve has a point, ascending, the last one = n_steps."""
        n_steps, n_points = self.schedule.n_steps, self.evaluation.n_points
        return tuple(sorted({-(-n_steps * i // n_points) for i in range(1, n_points + 1)}))


def groups(config: OptimizerConfig) -> dict[str, GroupConfig]:
    """The group of each role."""
    by_name = {field.name: getattr(config, field.name) for field in fields(config)}
    return {role: by_name[role] for role in ROLES}
