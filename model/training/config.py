# SPDX-License-Identifier: Apache-2.0
"""How one network is trained: every number that moves its loss. Standard library only."""

from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

from model.field_checks import (
    MAX_SEED,
    check_choice,
    check_flags,
    check_real,
    check_whole,
    is_real,
    shown,
)
from model.training.objectives.kinds import KINDS, check_objective

# Each is an evaluation.
MAX_CURVE_POINTS = 10_000
# Each is three products of matrices in the compiled step.
MAX_NS_STEPS = 100
ROLES = ("input", "hidden", "output", "vector", "final_norm")
ALGORITHMS = ("adamw", "muon")
MUON_SCALES = ("spectral", "rms")
DECAYS = ("linear", "cosine", "one_minus_sqrt")
Decay = Literal["linear", "cosine", "one_minus_sqrt"]


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupConfig:
    """Constants for the parameters of one role, already transferred to this width.

    Attributes:
      learning_rate: peak rate.
      weight_decay: decoupled (Loshchilov & Hutter 2017, arXiv:1711.05101): each step multiplies
        the weights by 1 - rate x weight_decay.
      eps: AdamW: added to the root of the second moment. Muon: added to the Frobenius norm that
        each matrix is divided by.
    """

    learning_rate: float
    weight_decay: float
    eps: float

    def __post_init__(self) -> None:
        check_real(self, "learning_rate weight_decay eps", low=0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class MuonConfig:
    """Muon's own constants (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

    Attributes:
      momentum: decay of the sum of gradients per step.
      nesterov: whether the newest gradient counts once more.
      ns_steps: Newton-Schulz iterations; five bring singular values to 0.7 to 1.2.
      scale: size of an update of rate 1. "spectral": sqrt(fan_out / fan_in) in spectral norm (Yang
        et al. 2023, arXiv:2310.17813); "rms": 0.2 per entry, AdamW's (Liu et al. 2025,
        arXiv:2502.16982, sec. 2.2).
    """

    momentum: float
    nesterov: bool
    ns_steps: int
    scale: Literal["spectral", "rms"]

    def __post_init__(self) -> None:
        _check_share(self, "momentum")
        check_flags(self, "nesterov")
        check_whole(self, "ns_steps", high=MAX_NS_STEPS)
        check_choice(self, "scale", MUON_SCALES)


class Algorithm(NamedTuple):
    """What of an OptimizerConfig is compiled into a program; everything else is traced."""

    name: str
    nesterov: bool
    ns_steps: int
    scale: str


ADAMW = Algorithm(name="adamw", nesterov=False, ns_steps=0, scale="")


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """One group of constants per role, and one global gradient clip.

    Attributes:
      algorithm: of the hidden matrices; the other roles always have AdamW.
      input: embeddings and learned positions.
      hidden: matrices between hidden units.
      output: an untied head.
      vector: gains and biases of the blocks.
      final_norm: those of the norm before the head.
      beta1, beta2: AdamW's decay of the first and second moment per step.
      clip_norm: gradients are scaled so that their global norm, over all roles, is at most this.
        Muon's updates do not depend on a factor that all gradients have in common: there a clipped
        step only weighs less in the momentum.
      muon: Muon's constants; None with AdamW.
      weight_decay_holds, weight_decay_fall: step t (from 1) has the weight decay of each group, and
        after so many steps (t / weight_decay_holds)^-weight_decay_fall of it. With 0 it stays.
    """

    algorithm: Literal["adamw", "muon"]
    input: GroupConfig
    hidden: GroupConfig
    output: GroupConfig
    vector: GroupConfig
    final_norm: GroupConfig
    beta1: float
    beta2: float
    clip_norm: float
    muon: MuonConfig | None
    weight_decay_holds: int = 0
    weight_decay_fall: float = 0.0

    def __post_init__(self) -> None:
        check_choice(self, "algorithm", ALGORITHMS)
        _check_share(self, "beta1 beta2")
        check_real(self, "clip_norm")
        check_whole(self, "weight_decay_holds", low=0)
        check_real(self, "weight_decay_fall", low=0.0, high=2.0)
        if (self.muon is None) != (self.algorithm == "adamw"):
            raise ValueError(
                f"muon={shown(self.muon)}: algorithm={self.algorithm!r} needs "
                f"{'its constants' if self.muon is None else 'null here'}."
            )

    @property
    def compiled(self) -> Algorithm:
        """The part that programs are compiled for, and cached by."""
        if self.muon is None:
            return ADAMW
        muon = self.muon
        return Algorithm("muon", muon.nesterov, muon.ns_steps, muon.scale)


def _check_share(node: MuonConfig | OptimizerConfig, names: str) -> None:
    """Raises ValueError for a field of ``names`` that is no decay per step."""
    for name in names.split():
        value = getattr(node, name)
        if not is_real(value) or not 0 <= value < 1:
            raise ValueError(f"{name}={shown(value)}: must be in [0, 1).")


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleConfig:
    """Warm-up, plateau and decay in absolute steps; the plateau is what the two others leave.

    Attributes:
      n_steps: steps of the run.
      warmup_steps: linear rise; the first step has 1 / warmup_steps of the peak rate.
      decay_steps: the last so many steps fall to ``final_fraction``, reached one step after the
        end.
      decay: "linear" (Bergsma et al. 2025, arXiv:2502.15938), "cosine" (Loshchilov & Hutter 2016,
        arXiv:1608.03983, eq. 5) or "one_minus_sqrt" (Hägele et al. 2024, arXiv:2405.18392).
      final_fraction: of the peak rate; 0.1 in Hoffmann et al. 2022 (arXiv:2203.15556).
    """

    n_steps: int
    warmup_steps: int
    decay_steps: int
    decay: Decay
    final_fraction: float

    def __post_init__(self) -> None:
        check_choice(self, "decay", DECAYS)
        check_real(self, "final_fraction", low=0.0, high=1.0)
        check_whole(self, "n_steps")
        check_whole(self, "warmup_steps decay_steps", low=0)
        if self.warmup_steps + self.decay_steps > self.n_steps:
            raise ValueError(
                f"warmup_steps={self.warmup_steps} and decay_steps={self.decay_steps} do not fit "
                f"into n_steps={self.n_steps}."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalConfig:
    """Where and on what the validation loss is measured: windows, or documents of text.

    Windows are drawn from the validation split, as training has them. Documents are scored whole:
    with another tokenizer they are the same bytes, so losses compare in bits per byte (the rule is
    in model/data/document_windows.py).

    Attributes:
      n_tokens: size of the fixed validation set, in target tokens; the final loss uses all.
      curve_tokens: its first so many are used for the points of the curve.
      n_bytes, curve_bytes: instead of these: documents until they have so many bytes.
      n_points: points of the curve, evenly spaced in steps; the last lies at the end of the run.
      seed: which windows or documents of the validation split.
    """

    n_tokens: int | None = None
    curve_tokens: int | None = None
    n_bytes: int | None = None
    curve_bytes: int | None = None
    n_points: int
    seed: int

    def __post_init__(self) -> None:
        check_whole(self, "n_points", high=MAX_CURVE_POINTS)
        check_whole(self, "seed", low=0, high=MAX_SEED)
        by_tokens, by_bytes = ("n_tokens", "curve_tokens"), ("n_bytes", "curve_bytes")
        given = {name for name in (*by_tokens, *by_bytes) if getattr(self, name) is not None}
        if given not in ({*by_tokens}, {*by_bytes}):
            raise ValueError(
                f"evaluation gives {', '.join(sorted(given)) or 'no size'}: give n_tokens and "
                "curve_tokens, or n_bytes and curve_bytes."
            )
        whole, curve = by_bytes if self.is_by_document else by_tokens
        check_whole(self, f"{whole} {curve}")
        n_whole, n_curve = self.sizes
        if n_curve > n_whole:
            raise ValueError(f"{curve}={n_curve}: must be between 1 and {whole}={n_whole}.")

    @property
    def is_by_document(self) -> bool:
        """Whether documents are scored whole."""
        return self.n_bytes is not None

    @property
    def sizes(self) -> tuple[int, int]:
        """Of the whole set and of the curve's, in tokens or in bytes, of which a token has one at
        least."""
        whole = self.n_tokens if self.n_bytes is None else self.n_bytes
        curve = self.curve_tokens if self.n_bytes is None else self.curve_bytes
        assert whole is not None
        assert curve is not None
        return whole, curve


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
      init_seed, data_seed: initial weights; order of the data, and what an objective draws.
      objective: what is minimised: a file of training/objectives, in KINDS of its kinds.py.
      mask_ratio: "masked" hides this share of the tokens; None with other objectives.
    """

    batch_size: int
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    evaluation: EvalConfig
    z_loss_weight: float
    compute_dtype: Literal["float32", "bfloat16"]
    init_seed: int
    data_seed: int
    objective: str = "next_token"
    mask_ratio: float | None = None

    def __post_init__(self) -> None:
        check_objective(self.objective, self.mask_ratio)
        kind = KINDS[self.objective]
        if self.evaluation.is_by_document and (kind.has_source or not kind.is_causal):
            raise ValueError(
                f"evaluation.n_bytes={self.evaluation.n_bytes} scores documents from their "
                f"beginning, which objective={self.objective!r} cannot. Give n_tokens and "
                "curve_tokens: windows of text, which have bits per byte, too."
            )
        check_whole(self, "batch_size")
        check_real(self, "z_loss_weight", low=0.0)
        check_choice(self, "compute_dtype", ("float32", "bfloat16"))
        check_whole(self, "init_seed data_seed", low=0, high=MAX_SEED)

    @property
    def eval_steps(self) -> tuple[int, ...]:
        """Steps after which the curve has a point, ascending, the last one = n_steps."""
        n_steps, n_points = self.schedule.n_steps, self.evaluation.n_points
        return tuple(sorted({-(-n_steps * i // n_points) for i in range(1, n_points + 1)}))


def groups(config: OptimizerConfig) -> dict[str, GroupConfig]:
    """The group of each role."""
    by_name = {field.name: getattr(config, field.name) for field in fields(config)}
    return {role: by_name[role] for role in ROLES}
