# SPDX-License-Identifier: Apache-2.0
"""Planted power laws of size against width."""

import numpy as np
import pytest

from scaling.hyperparameters.width_depth_growth import FLAT, growth
from scaling.plots.width_depth_growth import Panel, figure_growth

WIDTHS = np.array([32, 64, 128, 256])


@pytest.mark.parametrize(
    ("exponent", "verdict"),
    [(0.0, "flat"), (0.24, "flat"), (-0.24, "flat"), (0.26, "grows"), (-0.5, "falls")],
)
def test_a_planted_exponent_comes_back_with_its_verdict(exponent, verdict):
    found = growth(WIDTHS, [3.0 * WIDTHS**exponent, 0.1 * WIDTHS**exponent])
    assert found.exponent == pytest.approx(exponent, abs=1e-12)
    assert found.standard_error == pytest.approx(0, abs=1e-12)
    assert found.verdict == verdict


def test_the_standard_error_is_that_of_the_mean_over_seeds():
    found = growth(WIDTHS, [WIDTHS**0.1, WIDTHS**0.4, WIDTHS**0.7])
    assert found.exponent == pytest.approx(0.4)
    assert found.standard_error == pytest.approx(0.3 / 3**0.5)


def test_one_seed_has_no_standard_error():
    found = growth(WIDTHS, [WIDTHS**0.5])
    assert found.exponent == pytest.approx(0.5)
    assert np.isnan(found.standard_error)


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_what_is_zero_or_not_finite_follows_no_power_law(bad):
    assert growth(WIDTHS, [[1.0, 1.0, 1.0, bad]]).verdict == "no power law"


def test_the_figure_names_every_slope():
    values = {"logits": np.stack([WIDTHS**0.5] * 2), "mixer": np.ones((2, 4))}
    growths = {name: growth(WIDTHS, of) for name, of in values.items()}
    panel = Panel(
        title="standard: width",
        axis="width",
        sizes=WIDTHS.tolist(),
        changes=values,
        finals=values,
        growths=growths,
    )
    axes = figure_growth([[panel, panel], [panel, panel]], ["one note"]).axes
    assert len(axes) == 4
    assert [text.get_text() for text in axes[0].get_legend().get_texts()] == [
        "logits +0.50",
        "mixer +0.00",
    ]
    assert FLAT < 0.5
