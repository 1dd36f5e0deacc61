# SPDX-License-Identifier: Apache-2.0
"""What the figures of collapse, of a forecast curve and of calibration show, and only that."""

import numpy as np
import pytest

from scaling.answers.calibration import calibration
from scaling.answers.collapse import Collapse
from scaling.intervals import Band
from scaling.plots.calibration import figure_calibration
from scaling.plots.collapse import figure_collapse, figure_trajectory
from scaling.plots.style import scientific

SHARE = np.array([0.5, 0.75, 1.0])


def drawn(ax, style=None):
    """The heights of every line of an axis, those of one style."""
    return [line.get_ydata().tolist() for line in ax.lines
            if style is None or line.get_linestyle() == style]  # fmt: skip


@pytest.fixture
def collapsed():
    return Collapse(
        floor=1.5,
        share=SHARE,
        run_id=np.array(["a", "b", "c"]),
        budget=np.array([1e9, 3e9, 3e9]),
        normalised=np.array([[1.4, 1.2, 1.0], [1.5, 1.2, 1.0], [1.4, 1.9, 1.0]]),
        middle=np.array([1.45, 1.2, 1.0]),
        deviation=np.array([0.05, 0.02, 0.0]),
        offset=0.0,
        leaving={"c": "leaves the bundle: a spike"},
    )


def test_a_run_that_left_is_dashed_and_named(collapsed):
    figure = figure_collapse(collapsed)
    left, right = figure.axes
    assert drawn(left, "-") == collapsed.normalised[:2].tolist()
    assert drawn(left, "--") == collapsed.normalised[2:].tolist()
    assert drawn(right) == [[5.0, 2.0, 0.0]]
    assert "1 that leave the bundle" in figure.get_label()
    assert "run c leaves the bundle: a spike." in figure.get_label()
    assert [text.get_text() for text in left.get_legend().get_texts()] == [
        scientific(1e9),
        scientific(3e9),
    ]


@pytest.mark.parametrize("has_come", [True, False])
def test_a_curve_that_was_forecast_stands_beside_the_one_that_came(has_come):
    band = Band(value=np.array([2.4, 2.2, 2.0]), lower=np.full(3, 1.9), upper=np.full(3, 2.5))
    came = (np.array([0.5, 1.0]), np.array([2.45, 2.1])) if has_come else None
    figure = figure_trajectory(SHARE, band, 0.95, "nats per token", came)
    (ax,) = figure.axes
    assert drawn(ax) == [[2.4, 2.2, 2.0], *([[2.45, 2.1]] * has_come)]
    (filled,) = ax.collections
    heights = filled.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (1.9, 2.5)
    assert "band: 95%" in figure.get_label()


def test_calibration_is_drawn_in_per_cent_against_the_diagonal():
    quantiles = np.array([[1.0, 2.0, 3.0], [2.5, 3.0, 4.0]])
    found = calibration((0.25, 0.5, 0.75), quantiles, np.array([2.0, 2.0]), np.array(["s", "t"]))
    figure = figure_calibration(found)
    (ax,) = figure.axes
    assert drawn(ax) == [[0, 100], [50.0]]
    assert ax.lines[1].get_xdata().tolist() == [50.0]
    assert "2 forecasts of 2 studies" in figure.get_label()
