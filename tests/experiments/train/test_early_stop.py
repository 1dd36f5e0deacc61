# SPDX-License-Identifier: Apache-2.0
"""A run far above the curve that was forecast is given up, and no other."""

import dataclasses

import pytest

from experiments.ledger.forecasts import Predicted, Trajectory, write_forecast
from experiments.plan.jobs import alone
from experiments.train.early_stop import Watch, watch
from model.training.outcome import CurvePoint, Order

# The band is 0.2 wide: what lies more than 0.2 above its upper end is far above.
EXPECTED = Trajectory(
    level=0.95,
    share=(0.25, 0.5, 0.75, 1.0),
    value=(3.0, 2.5, 2.2, 2.0),
    lower=(2.9, 2.4, 2.1, 1.9),
    upper=(3.1, 2.6, 2.3, 2.1),
)


def point(share: float, loss: float) -> CurvePoint:
    return CurvePoint(step=1, n_tokens=int(1000 * share), loss_nats=loss)


def heard(*losses: float, shares=EXPECTED.share, expected=EXPECTED) -> Watch:
    made = Watch(expected, 1000)
    for share, loss in zip(shares, losses, strict=False):
        made.hear((point(share, loss),))
    return made


@pytest.mark.parametrize(
    ("losses", "at"),
    [
        ((3.0, 2.5, 2.2, 2.0), ""),
        ((3.29, 2.79, 2.49, 2.29), ""),
        ((3.31, 2.81), "50%"),
        ((3.31, 2.79, 2.51), ""),
        ((3.0, 2.81, 2.51), "75%"),
        # Its last evaluation is its end: there is nothing left to save.
        ((3.0, 2.5, 2.51, 2.31), ""),
    ],
)
def test_twice_in_a_row_far_above_the_band_is_hopeless(losses, at):
    reason = heard(*losses).reason
    assert bool(reason) is bool(at)
    assert reason.startswith(f"stopped early at {at} of its tokens" if at else "")


def test_between_the_points_of_the_forecast_the_band_is_a_line_and_before_them_there_is_none():
    between = (0.375, 0.625)
    assert heard(3.06, 2.66, shares=between).reason
    assert not heard(3.04, 2.66, shares=between).reason
    assert not heard(9.0, 9.0, shares=(0.1, 0.2)).reason
    assert not heard(9.0, 9.0, expected=None).reason


def test_an_order_of_others_comes_first():
    hopeless = heard(9.0, 9.0)
    for asked, obeyed in (
        (Order.GO, Order.GIVE_UP),
        (Order.SAVE_AND_STOP, Order.SAVE_AND_STOP),
        (Order.STOP, Order.STOP),
    ):
        assert hopeless.control(lambda step, a=asked: a)(3) is obeyed
    assert heard(3.0).control(lambda step: Order.GO)(3) is Order.GO


def test_only_a_run_that_was_forecast_and_trains_alone_is_watched_where_it_is_asked(
    ledger, study, points, forecast
):
    guess = {"additive": Predicted(value=2.0, lower=1.9, upper=2.1)}
    write_forecast(ledger, "k", forecast(points[0], forecasts=guess, trajectory=EXPECTED))
    mine, other = (alone(p) for p in points[:2])

    def stops(planned_job, *, is_asked=True):
        made = watch(ledger, planned_job, is_asked=is_asked)
        for share in (0.5, 0.75):
            n_tokens = int(planned_job.points[0].n_tokens * share)
            made.hear((CurvePoint(step=1, n_tokens=n_tokens, loss_nats=9.0),))
        return bool(made.reason)

    assert stops(mine)
    assert not stops(mine, is_asked=False)
    assert not stops(other)
    pack = dataclasses.replace(mine, points=(points[0], points[1]))
    assert not stops(pack)
