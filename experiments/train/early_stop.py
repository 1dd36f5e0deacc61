# SPDX-License-Identifier: Apache-2.0
"""`--stop-early`: when a run beyond the grid is given up.

Its whole curve was forecast before it began (experiments/report/forecast.py). Twice in a row an
evaluation must lie above the band by more than the band is wide: noise does not do that, and an end
inside the interval is then out of reach. Only a run that trains alone is judged.
"""

import bisect
from collections.abc import Callable, Sequence

from experiments.ledger.forecasts import Trajectory, read_forecasts
from experiments.ledger.ledger import Ledger
from experiments.plan.jobs import PlannedJob
from model.training.outcome import CurvePoint, Order

TIMES = 2


class Watch:
    """Hears the curve of a run, and knows whether it is hopeless.

    Args:
      expected: the curve that was forecast; None where there is none, and nothing is given up.
      n_tokens: of the whole run.

    Attributes:
      reason: in a sentence once it is hopeless, else empty.
    """

    def __init__(self, expected: Trajectory | None, n_tokens: int):
        self._expected, self._n_tokens = expected, n_tokens
        self._n_above = 0
        self.reason = ""

    def hear(self, points: tuple[CurvePoint, ...]) -> None:
        """The newest point of the curve."""
        if self._expected is None or not points:
            return
        (point,) = points
        share = point.n_tokens / self._n_tokens
        lower, upper = (
            _read_off(share, self._expected.share, ends)
            for ends in (self._expected.lower, self._expected.upper)
        )
        # A point before the first that was forecast says nothing.
        is_above = share >= self._expected.share[0] and point.loss_nats > 2 * upper - lower
        self._n_above = self._n_above + 1 if is_above else 0
        if self._n_above == TIMES and share < 1:
            self.reason = (
                f"stopped early at {share:.0%} of its tokens: a loss of {point.loss_nats:.4f} "
                f"where {lower:.4f} to {upper:.4f} was forecast"
            )

    def control(self, ask: Callable[[int], Order]) -> Callable[[int], Order]:
        """What ``ask`` orders, unless the run is to be given up."""

        def order(step: int) -> Order:
            asked = ask(step)
            return Order.GIVE_UP if self.reason and asked is Order.GO else asked

        return order


def _read_off(x: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """On the line through points, ascending; beyond them the last. A worker begins without NumPy,
    whose threads would take its signals."""
    i = bisect.bisect_left(xs, x)
    if i in (0, len(xs)):
        return ys[min(i, len(ys) - 1)]
    weight = (x - xs[i - 1]) / (xs[i] - xs[i - 1])
    return ys[i - 1] + weight * (ys[i] - ys[i - 1])


def watch(ledger: Ledger, planned_job: PlannedJob, *, is_asked: bool) -> Watch:
    """Of the run of a job; one that gives nothing up where it is not asked, or not one run."""
    point = planned_job.points[0]
    expected = None
    if is_asked and len(planned_job.points) == 1 and planned_job.job.kind != "trunk":
        curves = {made.point.id: made.trajectory for made in read_forecasts(ledger)}
        expected = curves.get(point.id)
    return Watch(expected, point.n_tokens)
