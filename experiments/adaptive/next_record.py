# SPDX-License-Identifier: Apache-2.0
"""next.json of a study: the runs proposed last, and what the planned ones would tell."""

import msgspec

from experiments.plan.point import Point

FILE = "next.json"
# A planned run that alone gives less than this share of what all planned runs would is marked:
# its outcome cannot matter.
IDLE = 0.01


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run that may be trained; FLOPs in the study's convention."""

    id: str
    budget: float
    d_model: int
    seed: str
    flops: float


class Proposed(Run, frozen=True, kw_only=True):
    """share: of what the whole proposal would tell."""

    share: float
    point: Point


class Remaining(Run, frozen=True, kw_only=True):
    """A run of the plan that is not finished; gain: of what all of them would tell."""

    gain: float
    is_idle: bool


class NextRuns(msgspec.Struct, frozen=True, kw_only=True):
    """An answer of `isoflop next`.

    Attributes:
      target, target_flops, budget, rounds: as asked.
      flops: that the proposal spends.
      width_after_over_before: of the target's interval; None where none is known.
      estimate, before, after: of the target: now, its interval, and the interval that is expected.
      level, law: of the interval.
    """

    study: str
    target: str
    target_flops: float
    budget: float
    rounds: int
    flops: float
    n_runs_finished: int
    width_after_over_before: float | None
    estimate: float | None
    before: tuple[float, float] | None
    after: tuple[float, float] | None
    level: float | None
    law: str | None
    findings: tuple[str, ...]
    proposed: tuple[Proposed, ...]
    remaining: tuple[Remaining, ...]

    @property
    def idle(self) -> list[Remaining]:
        return [run for run in self.remaining if run.is_idle]
