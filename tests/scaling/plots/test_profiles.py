# SPDX-License-Identifier: Apache-2.0
"""What the figures of profiles and replicates show."""

import numpy as np
import pytest

from scaling.approaches.surface.fit import fit_surface
from scaling.intervals import Interval
from scaling.plots.profiles import figure_bootstrap_pairs, figure_profiles
from scaling.plots.style import save
from scaling.profiles.profile import Profile


def parabola(**changes):
    grid = np.linspace(0.2, 0.6, 9)
    body = {
        "quantity": "alpha", "flops": None, "estimate": 0.4, "grid": grid,
        "objective": 3.0 + 50.0 * (grid - 0.4) ** 2, "is_certified": np.ones(9, bool),
        "minimum": 3.0, "threshold": 0.5, "level": 0.95,
        "interval": Interval(lower=0.3, upper=0.5), "calibration": "chi-square(1)",
        "flat": False, "findings": (),
    }  # fmt: skip
    return Profile(**{**body, **changes})


def test_the_curve_crosses_one_at_the_ends_of_the_interval():
    ax = figure_profiles([parabola()]).axes[0]
    x, y = ax.lines[0].get_data()
    np.testing.assert_allclose(np.interp([0.3, 0.5], x, y), 1.0)
    assert "95 % by chi-square(1)" in ax.get_title(loc="left")
    assert len(ax.lines[1].get_xdata()) == 0


def test_open_flat_and_uncertified_profiles_say_so(tmp_path):
    doubtful = np.arange(9) < 7
    found = parabola(
        interval=Interval(lower=0.3, upper=np.inf), flat=True, is_certified=doubtful,
        findings=("alpha is open above.",),
    )  # fmt: skip
    figure = figure_profiles([found])
    ax = figure.axes[0]
    np.testing.assert_array_equal(ax.lines[1].get_xdata(), found.grid[~doubtful])
    assert ax.get_title(loc="left").endswith("flat")
    assert "alpha is open above." in figure.get_label()
    assert all(path.stat().st_size > 5000 for path in save(figure, tmp_path / "profile"))


def test_every_pair_of_replicates_has_a_panel(planted_named):
    fit = fit_surface(planted_named("chinchilla").runs(sd=0.01), n_bootstrap=30)
    figure = figure_bootstrap_pairs(fit, ("E", "exponent_a", "B"))
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert len(shown) == 3
    x, y = shown[0].lines[0].get_data()
    np.testing.assert_array_equal(x, fit.replicates["E"])
    np.testing.assert_array_equal(y, fit.replicates["exponent_a"])
    assert "30 residual replicates" in figure.get_label()
    with pytest.raises(ValueError, match="give two or more of E, A, B"):
        figure_bootstrap_pairs(fit, ("E", "gamma"))
