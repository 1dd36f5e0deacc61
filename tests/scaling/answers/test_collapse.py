# SPDX-License-Identifier: Apache-2.0
"""Planted curves that are one curve, and what is said when one of them is not."""

import numpy as np
import pytest

from scaling.answers.collapse import collapse
from scaling.tables.runs import Curves, Runs

FLOOR, N_POINTS = 1.2, 8
SHARE = np.arange(1, N_POINTS + 1) / N_POINTS
BUDGETS = np.repeat([1e15, 3e15, 1e16, 3e16], 3)
N_PARAMS = np.sqrt(BUDGETS / 120) * np.tile([0.8, 1.0, 1.25], 4)
OPTIMA = {float(b): float(np.sqrt(b / 120)) for b in BUDGETS}
ENDS = 0.9 * (BUDGETS / 1e15) ** -0.1
BENT = SHARE**-0.3 * (1 + 0.2 * (1 - SHARE))  # What a run does on its way.
BAD = 4


def planted(change=None, *, scatter=0.004, seed=0, offset=0.0):
    """Twelve runs of four budgets; the curve of one of them is changed."""
    noise = np.random.default_rng(seed).standard_normal((len(BUDGETS), N_POINTS))
    ways = BENT * np.exp(scatter * noise)
    ways /= ways[:, -1:]
    if change is not None:
        ways[BAD] = change(ways[BAD])
    losses = FLOOR + ENDS[:, None] * ways
    n_tokens = BUDGETS / (6 * N_PARAMS)
    runs = Runs.from_columns(
        n_params=N_PARAMS, n_tokens=n_tokens, loss_nats=losses[:, -1] - offset, budget=BUDGETS
    )
    tokens = (n_tokens[:, None] * SHARE).ravel()
    return runs, Curves(
        run_id=np.repeat(runs.run_id, N_POINTS),
        step=np.tile(np.arange(N_POINTS), len(BUDGETS)),
        n_tokens=tokens,
        flops=np.zeros(len(tokens)),
        loss_nats=losses.ravel(),
    )


def spike(way):
    return np.where(np.arange(N_POINTS) == 5, 1.3 * way, way)


def high_rate(way):
    return way * (1 + 0.4 * SHARE * (1 - SHARE))


def undercooled(way):
    return np.where(SHARE == 1, 1.25 * way, way)


def test_curves_that_are_one_collapse_onto_it():
    found = collapse(*planted(), OPTIMA, floor=FLOOR)
    assert found.leaving == {}
    assert found.findings == ()
    assert found.middle == pytest.approx(BENT / BENT[-1], rel=0.01)
    # Noise of a point and noise of the end by which it is divided.
    assert found.deviation[:-1] == pytest.approx(0.004 * 2**0.5, rel=0.7)
    assert found.deviation[-1] == 0.0
    exact = collapse(*planted(scatter=0.0), OPTIMA, floor=FLOOR)
    assert exact.deviation == pytest.approx(0.0, abs=1e-12)
    # With another floor they are no longer one.
    assert max(collapse(*planted(scatter=0.0), OPTIMA, floor=0.0).deviation) > 0.01


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (spike, "at 75% of its tokens: a spike"),
        (high_rate, "too high for its end, as with another learning rate"),
        (undercooled, "as of a rate that hardly falls"),
    ],
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_run_that_leaves_the_bundle_is_named_and_no_other(change, said, seed):
    runs, curves = planted(change, seed=seed)
    found = collapse(runs, curves, OPTIMA, floor=FLOOR)
    assert list(found.leaving) == [str(runs.run_id[BAD])]
    (sentence,) = found.findings
    assert said in sentence
    # What left is in neither the middle nor the deviation.
    assert found.middle == pytest.approx(BENT / BENT[-1], rel=0.01)
    assert max(found.deviation) < 0.02


def test_the_ladder_is_what_lies_near_the_optimum_and_few_runs_are_none():
    runs, curves = planted()
    far = {budget: 2 * best for budget, best in OPTIMA.items()}
    # Of each budget only the largest is within a factor of 1.5 of twice the middle one.
    assert collapse(runs, curves, far, floor=FLOOR) is None
    nearer = {budget: 1.25 * best for budget, best in OPTIMA.items()}
    found = collapse(runs, curves, nearer, floor=FLOOR)
    assert sorted(found.run_id) == sorted(runs.run_id[0.9 * np.sqrt(BUDGETS / 120) < N_PARAMS])
    ends = Curves(**{f: getattr(curves, f)[N_POINTS - 1 :: N_POINTS]
                     for f in ("run_id", "step", "n_tokens", "flops", "loss_nats")})  # fmt: skip
    assert collapse(runs, ends, OPTIMA, floor=FLOOR) is None


def test_the_curve_of_a_further_run_is_the_bundle_times_the_forecast_of_its_end():
    found = collapse(*planted(scatter=0.0, offset=0.03), OPTIMA, floor=FLOOR)
    end = FLOOR + 0.5
    band = found.trajectory(np.array([end - 0.1, end, end + 0.1]), end, 1.0)
    way = BENT / BENT[-1]
    assert band.value == pytest.approx(FLOOR + 0.03 + 0.5 * way)
    assert band.lower == pytest.approx(FLOOR + 0.03 + 0.4 * way)
    assert band.upper == pytest.approx(FLOOR + 0.03 + 0.6 * way)
    # A curve that left is not among those that are expected.
    runs, curves = planted(high_rate, scatter=0.0)
    same = collapse(runs, curves, OPTIMA, floor=FLOOR).trajectory(np.array([end]), end, 0.9)
    assert same.upper == pytest.approx(FLOOR + 0.5 * way)
