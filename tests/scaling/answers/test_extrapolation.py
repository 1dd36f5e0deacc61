# SPDX-License-Identifier: Apache-2.0
"""Rows are held out at the far end, and the law that reaches there is chosen."""

import numpy as np
import pytest

from scaling.answers.extrapolation import Score, best, cuts, r_squared, score
from scaling.approaches.columns import Way
from scaling.laws.law import Law, amplitude, exponent

BARE = Law(
    name="bare_power",
    formula="y = K x^-c",
    source="this test",
    columns=("log_x",),
    parameters=(amplitude("K"), exponent("c")),
    value=lambda xp, p, x: p[0] * xp.exp(-p[1] * x["log_x"]),
    target="y",
)
FLOORED = Law(
    name="floored_power",
    formula="y = E + K x^-c",
    source="this test",
    columns=("log_x",),
    parameters=(amplitude("E"), amplitude("K"), exponent("c")),
    value=lambda xp, p, x: p[0] + p[1] * xp.exp(-p[2] * x["log_x"]),
    target="y",
)
WAYS = (Way(law=BARE), Way(law=FLOORED))
X = np.geomspace(1.0, 1e4, 20)


def test_the_dearest_rows_are_held_out_and_equal_ones_together():
    cost = np.repeat([1.0, 2.0, 3.0, 4.0, 5.0], 4)
    found = cuts({"x": X}, far=cost)
    assert [sorted(set(cost[mask])) for mask in found] == [[5.0], [4.0, 5.0]]


def test_every_group_gives_its_own_far_end():
    group = np.repeat(["a", "b"], 20)
    cost = np.concatenate([X, 1e6 * X])
    for mask in cuts({"x": np.tile(X, 2)}, far=cost, groups=group):
        assert mask[:20].tolist() == mask[20:].tolist()
        assert mask.any()


def test_rows_of_one_price_are_held_out_by_their_distance_from_the_middle():
    points = np.random.default_rng(0).standard_normal((40, 2))
    points[7] = (30.0, 30.0)
    found = cuts({"p": points[:, 0], "q": points[:, 1]}, far=np.ones(40))
    assert all(mask[7] for mask in found)
    assert [int(mask.sum()) for mask in found] == [4, 8, 14]


def test_of_few_rows_each_is_held_out_once():
    found = cuts({"x": X[:6]}, far=X[:6])
    assert [np.flatnonzero(mask).tolist() for mask in found] == [[k] for k in range(6)]


@pytest.mark.parametrize(("floor", "expected"), [(0.0, "bare_power"), (1.5, "floored_power")])
def test_the_law_that_made_the_rows_is_chosen_and_the_simplest_of_equals(floor, expected):
    noise = np.exp(0.002 * np.random.default_rng(3).standard_normal(20))
    table = {"x": X, "y": (floor + 3.0 * X**-0.3) * noise}
    held_out = cuts(table, far=X)
    scores = [score(table, way, held_out, targets=("y",), cost=X) for way in WAYS]
    assert best(scores, ("y",)).way.law.name == expected


def test_a_way_that_some_cut_leaves_too_few_rows_has_no_score():
    table = {"x": X[:4], "y": X[:4] ** -0.3}
    one = score(table, WAYS[1], cuts(table, far=X[:4]), targets=("y",), cost=X[:4])
    assert one == Score(way=WAYS[1], error=np.inf, r2=-1.0)


def test_r_squared_is_clipped_as_published():
    observed = np.array([1.0, 2.0, 3.0])
    assert r_squared(observed, observed) == 1.0
    assert r_squared(observed, np.full(3, 2.0)) == 0.0
    assert r_squared(observed, -9.0 * observed) == -1.0
    assert r_squared(observed, np.full(3, np.nan)) == -1.0
