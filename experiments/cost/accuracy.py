# SPDX-License-Identifier: Apache-2.0
"""How wrong a predicted time may be: real over predicted, over runs that have finished.

A run's own shape is left out of the speeds that predict it, so that the ratio holds the error of
interpolating between shapes, and not only the noise of the clock.
"""

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from experiments.cost.estimate import work
from experiments.files.checked_json import intact
from experiments.ledger.ledger import Ledger
from experiments.plan.jobs import alone
from experiments.plan.point import Point
from experiments.speed.calibration import Calibration
from experiments.speed.device_speed import DeviceSpeed

# Reading a result takes 0.1 ms: `isoflop plan` stays quick.
MOST_READ = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """Ratios of real to predicted seconds, without compilation.

    Attributes:
      n_runs: of them.
      lowest, median, highest: > 0.
    """

    n_runs: int
    lowest: float
    median: float
    highest: float

    @property
    def sentence(self) -> str:
        return (
            f"real over predicted time of {self.n_runs} finished runs, each predicted from other "
            f"shapes: median {self.median:.2f}, {self.lowest:.2f} to {self.highest:.2f}"
        )


def accuracy(ledger: Ledger, points: Sequence[Point], speed: DeviceSpeed) -> Accuracy | None:
    """Of the runs among the points that finished on the device, undisturbed; None without any.

    At most MOST_READ of them are looked at, spread over the plan. Damaged results are passed over:
    that is the doctor's.
    """
    stride = -(-len(points) // MOST_READ) or 1
    ratios = []
    for point in points[::stride]:
        real, predicted = _real_seconds(ledger, point, speed.device), _predicted(point, speed)
        if real is not None and predicted is not None:
            ratios.append(real / predicted)
    if not ratios:
        return None
    return Accuracy(
        n_runs=len(ratios),
        lowest=min(ratios),
        median=statistics.median(ratios),
        highest=max(ratios),
    )


def _real_seconds(ledger: Ledger, point: Point, device: str) -> float | None:
    result = intact(ledger.read_result, point.id)
    if result is None or result.status != "ok" or result.costs.resumed_at:
        return None
    seconds = result.costs.wall_seconds - result.costs.compile_seconds
    return seconds if seconds > 0 and result.provenance.device == device else None


def _predicted(point: Point, speed: DeviceSpeed) -> float | None:
    """Seconds of a point by the speeds of other shapes; None where there are none."""
    mine = work(alone(point))
    law = speed.law
    if isinstance(law, Calibration):
        # Its key in the file is rounded to seven digits.
        others = {
            flops: rate
            for flops, rate in law.flops_per_second.items()
            if abs(flops / mine.flops_per_step - 1) > 1e-5
        }
        if not others:
            return None
        law = dataclasses.replace(law, flops_per_second=others)
    return (mine.flops + mine.eval_flops) / law.speed(mine.flops_per_step)
