# SPDX-License-Identifier: Apache-2.0
"""Figures of settings and sizes show the means that they are given, and every run."""

import itertools

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from scaling.plots.loss_curves import figure_settings, figure_sizes
from scaling.plots.style import save, scientific
from scaling.tables.loss_curves import LossCurve, loss_curves
from scaling.tables.runs import Runs


def curve(budget, n_params, values, losses):
    at = {"budget": budget, "n_params": n_params}
    return LossCurve(
        at=at, values=np.array(values), losses=np.array(losses), errors=np.full(len(values), np.nan)
    )


RATES = np.geomspace(1 / 8, 8, 7)


@pytest.fixture
def sweeps():
    """Four budgets of a rate, two of a batch; a rate of one curve diverged, one curve did whole."""
    rates = [
        curve(budget, n_params, RATES, 2 + 0.1 * np.log(RATES) ** 2 - i)
        for i, budget in enumerate((1e10, 3e10, 1e11, 3e11))
        for n_params in (1e4, 3e4)
    ]
    rates[0].losses[-1] = np.nan
    rates[1].losses[:] = np.nan
    batches = [curve(b, 1e4, [8.0, 16.0], [1.9, 2.0]) for b in (1e10, 3e10)]
    return {"recipe.optimizer.learning_rate": rates, "recipe.batch.multiple": batches}


def data(ax, marker):
    return [np.array(line.get_data()) for line in ax.lines if line.get_marker() == marker]


def test_each_budget_of_each_setting_has_a_panel_with_its_curves(sweeps):
    figure = figure_settings(sweeps)
    shown = [ax for ax in figure.axes if ax.get_visible()]
    rate, batch = ["learning rate"], ["multiple"]
    assert [ax.get_xlabel() for ax in shown] == rate * 4 + batch * 2
    titles = [ax.get_title(loc="left") for ax in shown[2:5]]
    assert titles == ["10¹¹ FLOPs", f"{scientific(3e11)} FLOPs", "10¹⁰ FLOPs"]
    curves = sweeps["recipe.optimizer.learning_rate"][2:4]
    for found, wanted in zip(
        [line.get_data() for line in shown[1].lines if line.get_marker() != "*"],
        curves,
        strict=True,
    ):
        np.testing.assert_array_equal(found, [wanted.values, wanted.losses])


def test_the_lowest_loss_of_each_curve_is_marked(sweeps):
    first, second, *_ = figure_settings(sweeps).axes
    assert len(data(first, "*")) == 1, "a curve without a loss has no lowest"
    np.testing.assert_allclose([star.ravel() for star in data(second, "*")], [[1, 1], [1, 1]])


def test_settings_with_a_name_have_a_line_each_whatever_their_sizes():
    lengths = np.array([64.0, 128.0, 256.0])
    losses = {"lstm": [2.0, 1.9, 9.0], "attention": [2.1, 1.7, 1.6]}
    curves = [
        LossCurve(
            at={"budget": budget},
            values=lengths,
            losses=np.array(own),
            errors=lengths,
            setting=name,
        )
        for budget in (1e10, 3e10)
        for name, own in losses.items()
    ]
    figure = figure_settings({"seq_len": curves})
    for ax in figure.axes:
        lines = [line for line in ax.lines if line.get_marker() != "*"]
        np.testing.assert_array_equal([line.get_ydata() for line in lines], [*losses.values()])
        assert ax.get_ylim()[1] > 9.0
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [*losses, "lowest"]
    assert len({handle.get_color() for handle in legend.legend_handles}) == 3


def test_rates_that_blow_up_do_not_flatten_the_rest():
    losses = [2.0, 1.9, 2.0, 90.0]
    (ax,) = figure_settings({"rate": [curve(1e10, 1e4, [1.0, 2.0, 4.0, 8.0], losses)]}).axes
    assert ax.get_ylim()[1] == pytest.approx(2.5)


def test_lines_that_only_rise_are_shown_whole():
    curves = [curve(1e10, 1e4, [1.0, 2.0], [0.1, 3.4]), curve(1e10, 2e4, [1.0, 2.0], [1.5, 3.5])]
    (ax,) = figure_settings({"seq_len": curves}).axes
    assert ax.get_ylim()[1] > 3.5


@pytest.mark.parametrize("n_values", [2, 7, 12])
def test_labels_do_not_overlap_at_the_size_of_a_page(tmp_path, n_values):
    rates = np.geomspace(1 / 8, 8, n_values)
    curves = [curve(b, 1e4, rates, np.full(n_values, 2.0)) for b in (1e10, 3e10, 1e11)]
    figure = figure_settings({"rate": curves})
    save(figure, tmp_path / "settings")
    assert figure.get_figwidth() == 6.75
    assert {t.get_fontsize() for t in figure.findobj(mpl.text.Text) if t.get_text()} == {8.0}
    renderer = FigureCanvasAgg(figure).get_renderer()
    for ax in figure.axes:
        boxes = [t.get_window_extent(renderer) for t in ax.get_xticklabels() if t.get_text()]
        assert len(boxes) >= 2
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_sizes_are_drawn_without_a_fit():
    n_params = np.tile([1e4, 2e4, 4e4], 4)
    losses = 3 - 0.1 * np.arange(12.0)
    runs = Runs.from_columns(
        n_params=n_params, n_tokens=np.full(12, 1e6), loss_nats=losses,
        budget=np.repeat([1e10, 3e10], 6), status=["diverged", *["ok"] * 11],
    )  # fmt: skip
    figure = figure_sizes(runs, loss_curves(runs, "n_params", ("budget",)))
    (ax,) = figure.axes
    (marks, others), lines = data(ax, "o") + data(ax, "s"), data(ax, "None")
    np.testing.assert_array_equal(marks, [n_params[1:6], losses[1:6]])
    np.testing.assert_array_equal(others, [n_params[6:], losses[6:]])
    # Of two runs of a size, one of which diverged, the other; of two the mean.
    np.testing.assert_allclose(lines[0], [[1e4, 2e4, 4e4], [2.7, 2.75, 2.65]])
    assert len(lines) == 2
    assert "1 of 12 runs are not ok" in figure.get_label()
