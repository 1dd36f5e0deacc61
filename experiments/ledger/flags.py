# SPDX-License-Identifier: Apache-2.0
"""Signs that a run's loss is not what its size and tokens would give. A flagged run is fitted.

  spike           a mean training loss, or a gradient's norm, lies far above the five reports
                  before: by SDS times the scatter of such rises and by SPIKE. A report has the norm
                  of its last step only, so that most spikes of single steps are missed
  plateau         with the rate at half of its peak or more, the validation loss falls by less than
                  PLATEAU of itself per doubling of the tokens, from three quarters of that stretch
                  or before to its end: at such a rate more tokens bring nothing
  undercooled     the rate ends above COLD of its peak, which costs more the longer the run is
                  (Bergsma et al. 2025, arXiv:2502.15938), or falls over less than SHORT of the run
                  (Hägele et al. 2024, arXiv:2405.18392)
  batch_at_bound  its batch is the smallest that the recipe's rule can give

Too few reports, or points of the curve, raise no flag; of a branch, what follows its trunk counts.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.plan.point import Point
from model.training.config import ScheduleConfig
from model.training.outcome import CurvePoint

FLAGS = ("spike", "plateau", "undercooled", "batch_at_bound")

BEFORE, FEWEST = 5, 12  # Reports that one is compared with, and that a run must have made.
SDS = 8.0
SPIKE = {"loss_nats": 1.02, "grad_norm": 10.0}  # Factors.
PLATEAU = 0.005
COLD, SHORT = 0.01, 0.1
# Share of the decay after which the rate is half of its peak, where it ends at zero.
_HALF = {"linear": 0.5, "cosine": 0.5, "one_minus_sqrt": 0.25}


def flags(
    point: Point, curve: Sequence[CurvePoint], reports: Sequence[Mapping[str, Any]]
) -> tuple[str, ...]:
    """The flags of a run, in the order of FLAGS.

    Args:
      curve: validation losses.
      reports: its rows of metrics, by step.
    """
    schedule = point.spec.train.schedule
    raised = (
        any(has_spike(reports, name) for name in SPIKE),
        is_plateau(schedule, curve),
        schedule.final_fraction > COLD or schedule.decay_steps < SHORT * schedule.n_steps,
        point.spec.train.batch_size == point.smallest_batch,
    )
    return tuple(flag for flag, is_raised in zip(FLAGS, raised, strict=True) if is_raised)


def has_spike(reports: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Whether a column of the reports has one; where there is a loss, null is an infinite norm."""
    values = [row[name] for row in reports if row.get("loss_nats") is not None]
    if None in values:
        return True
    if len(values) < FEWEST:
        return False
    logs = [math.log(max(value, 1e-30)) for value in values]
    rises = [logs[i] - statistics.median(logs[i - BEFORE : i]) for i in range(BEFORE, len(logs))]
    middle = statistics.median(rises)
    # Of normal numbers the median distance from the middle is 1 / 1.4826 standard deviations.
    scatter = 1.4826 * statistics.median(abs(rise - middle) for rise in rises)
    return max(rises) > max(middle + SDS * scatter, math.log(SPIKE[name]))


def is_plateau(schedule: ScheduleConfig, curve: Sequence[CurvePoint]) -> bool:
    """Whether the loss hardly falls while the rate is high."""
    decay_begins = schedule.n_steps - schedule.decay_steps
    end = decay_begins + _HALF[schedule.decay] * schedule.decay_steps
    high = [point for point in curve if schedule.warmup_steps <= point.step <= end]
    early = [point for point in high if point.step <= 0.75 * high[-1].step]
    if not early:
        return False
    first, last = early[-1], high[-1]
    fall = (first.loss_nats - last.loss_nats) / math.log2(last.step / first.step)
    return fall < PLATEAU * last.loss_nats
