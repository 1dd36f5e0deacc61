# SPDX-License-Identifier: Apache-2.0
"""Figures draw from fits, say what they leave out, and have the same bytes twice."""

import itertools

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from scaling.answers.agreement import agreement
from scaling.answers.frontier import frontier
from scaling.answers.loss_forecast import predict_loss
from scaling.approaches.isoflop.fit import fit_isoflop
from scaling.approaches.surface.fit import fit_surface
from scaling.fit import FitStatus
from scaling.plots import figures, residuals
from scaling.plots.style import (
    count,
    formula_text,
    log_flops,
    log_ratios,
    new_figure,
    save,
    scientific,
)
from scaling.tables.runs import Curves, Runs


@pytest.fixture(scope="module")
def drawn():
    """Of a small study in which one run diverged and one budget has no minimum: what draws every
    figure, and its fits."""
    rng = np.random.default_rng(0)
    rows = {"budget": [], "n_params": [], "n_tokens": [], "loss_nats": []}
    for budget, reach in ((1e11, 5.0), (1e12, 5.0), (1e13, 5.0), (1e14, 1.0)):
        for N in 3e4 * (budget / 1e11) ** 0.5 * np.geomspace(1 / reach, reach, 6):
            D = budget / (6 * N)
            loss = 0.86 + 66 / N**0.5 + 124 / D**0.41 + 0.003 * rng.standard_normal()
            for values, value in zip(rows.values(), (budget, N, D, loss), strict=True):
                values.append(value)
    status = ["diverged", *["ok"] * (len(rows["budget"]) - 1)]
    runs = Runs.from_columns(**rows, flops=rows["budget"], status=status)
    steps = np.linspace(0.1, 1, 10)
    curves = Curves(
        run_id=np.repeat(runs.run_id, 10),
        step=np.tile(np.arange(10), len(runs)),
        n_tokens=(runs.n_tokens[:, None] * steps).ravel(),
        flops=(runs.flops[:, None] * steps).ravel(),
        loss_nats=(runs.loss_nats[:, None] / steps**0.1).ravel(),
    )
    surface, isoflop = fit_surface(runs, n_bootstrap=40), fit_isoflop(runs, n_bootstrap=40)
    fronts = [frontier(fit, np.geomspace(1e11, 1e15, 9)) for fit in (isoflop, surface)]
    forecasts = {surface.name: predict_loss(surface, 1e6, 1e8)}

    def draw():
        compared = agreement([isoflop, surface], 1e15)
        return {
            "curves": figures.figure_curves(curves, runs),
            "isoflop": figures.figure_isoflop(isoflop),
            "frontier": figures.figure_frontier(fronts, [isoflop, surface]),
            "surface": figures.figure_surface(surface, fronts[1]),
            "residuals": figures.figure_residuals(surface),
            "agreement": figures.figure_agreement(compared, [isoflop, surface]),
            "forecast": figures.figure_forecast(
                fronts[1], surface, forecasts, flops=6e14, outcome=0.95
            ),
        }

    return draw, isoflop, surface


@pytest.fixture(scope="module")
def figure_of(drawn):
    """Every figure by its name."""
    return drawn[0]()


@pytest.fixture(scope="module")
def png_of(figure_of, tmp_path_factory):
    """Where each is saved."""
    folder = tmp_path_factory.mktemp("figures")
    return {name: save(figure, folder / name)[0] for name, figure in figure_of.items()}


def texts(figure):
    return figure.get_label()


@pytest.mark.slow(reason="7 s of drawing everything twice")
def test_the_same_fit_gives_the_same_bytes(drawn, tmp_path):
    draw, *_ = drawn
    before = dict(mpl.rcParams)
    paths = {name: save(figure, tmp_path / name) for name, figure in draw().items()}
    assert len({path for both in paths.values() for path in both}) == 14
    assert all(path.stat().st_size > 5000 for both in paths.values() for path in both)
    again = draw()
    for name in ("isoflop", "surface"):
        second = save(again[name], tmp_path / f"{name}-again")
        for one, two in zip(paths[name], second, strict=True):
            assert one.read_bytes() == two.read_bytes()
    assert dict(mpl.rcParams) == before


def test_figures_say_what_they_leave_out_and_why(drawn, figure_of):
    _, isoflop, _ = drawn
    assert "1 of 24 runs are not ok" in texts(figure_of["curves"])
    note = texts(figure_of["isoflop"]).replace("\n", " ")
    assert f"{len(isoflop.left_out)} of 24 runs left out: 1 for status diverged" in note
    assert "budget 1e14 FLOPs: its runs have one size" in note
    labels = [t.get_text() for t in figure_of["isoflop"].axes[0].get_legend().get_texts()]
    assert [label for label in labels if "left out" in label] == ["10¹⁴ (left out)"]


def test_fits_that_are_not_certified_are_flagged(drawn, figure_of):
    _, isoflop, _ = drawn
    assert isoflop.status is FitStatus.TOO_FEW_POINTS
    assert "not certified: isoflop is TOO_FEW_POINTS" in texts(figure_of["frontier"])
    (legend,) = figure_of["frontier"].legends
    assert legend.get_texts()[0].get_text() == "isoflop, not certified"


def test_axes_carry_units(figure_of):
    ax = figure_of["isoflop"].axes[0]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("parameters (total)", "loss (nats per token)")


@pytest.mark.parametrize(
    ("value", "shown"), [(999.6e3, "1M"), (24000, "24k"), (1.5e9, "1.5B"), (512, "512")]
)
def test_counts_are_short(value, shown):
    assert count(value) == shown


def test_powers_and_formulas_are_set_as_mathematics():
    assert scientific(3e11) == "3\N{MULTIPLICATION SIGN}10¹¹"
    assert scientific(1.26e12) == "1.3\N{MULTIPLICATION SIGN}10¹²"
    assert scientific(1e-12) == "10⁻¹²"
    assert formula_text("L = E + A/N^alpha") == r"$L = E + A/N^{\alpha}$"


def boxes(texts, renderer):
    return [text.get_window_extent(renderer) for text in texts if text.get_text()]


@pytest.mark.usefixtures("png_of")
def test_figures_are_as_wide_as_a_page_and_readable_there(figure_of):
    for name, figure in figure_of.items():
        assert figure.get_figwidth() == 6.75
        assert {t.get_fontsize() for t in figure.findobj(mpl.text.Text) if t.get_text()} == {8.0}
        renderer, inside = FigureCanvasAgg(figure).get_renderer(), figure.bbox.padded(1.0)
        for ax in figure.axes:
            for labels in (ax.get_xticklabels(), ax.get_yticklabels(), [ax.title]):
                shown = boxes(labels, renderer)
                assert not any(a.overlaps(b) for a, b in itertools.combinations(shown, 2)), name
            for box in boxes([ax.title, ax.xaxis.label, ax.yaxis.label], renderer):
                assert inside.contains(box.x0, box.y0), name
                assert inside.contains(box.x1, box.y1), name


@pytest.mark.parametrize(
    ("low", "high"), [(1e18, 3e18), (2e10, 6e11), (6e18, 3e21), (1e17, 1e24), (1e9, 1e26)]
)
def test_labels_of_compute_are_several_and_do_not_overlap(low, high, tmp_path):
    figure, axes = new_figure(3, height=2.5)
    axes[2].set(xscale="log", xlim=(low, high))
    log_flops(axes[2].xaxis)
    save(figure, tmp_path / "narrow")
    shown = boxes(axes[2].get_xticklabels(which="both"), FigureCanvasAgg(figure).get_renderer())
    inside = [box for box in shown if axes[2].bbox.x0 <= box.x1 and box.x0 <= axes[2].bbox.x1]
    assert len(inside) >= 2
    assert not any(a.overlaps(b) for a, b in itertools.combinations(inside, 2))


@pytest.mark.parametrize(("low", "high"), [(0.8, 1.3), (0.03, 1.4), (1e-4, 1.4), (1e-3, 1e5)])
def test_labels_of_ratios_reach_both_ends_of_their_axis(low, high):
    figure, (ax, _) = new_figure(2, height=3.6)
    ax.set(yscale="log", ylim=(low, high))
    log_ratios(ax.yaxis)
    places = [at for at in ax.yaxis.get_majorticklocs() if low <= at <= high]
    assert len(places) >= 3
    share = np.log([places[0] / low, high / places[-1]]) / np.log(high / low)
    assert max(share) < 0.4
    figure.draw_without_rendering()
    shown = [label.get_text() for label in ax.get_yticklabels()]
    assert not {f"{at:g}" for at in places} - set(shown)


def test_a_caption_stands_beside_the_image_and_not_in_it(figure_of, png_of):
    for name, figure in figure_of.items():
        said = png_of[name].with_suffix(".txt").read_text()
        assert said == texts(figure) + "\n"
        assert len(said) > 20
        assert figure.texts == []
        assert figure.get_supxlabel() == ""


@pytest.mark.parametrize(
    ("name", "panel", "label"),
    [
        ("isoflop", 0, "fitted minimum"),
        ("residuals", -1, "sd of one run"),
        ("surface", 0, "efficient frontier"),
    ],
)
def test_marks_are_in_a_legend(figure_of, name, panel, label):
    legend = figure_of[name].axes[panel].get_legend()
    assert label in [text.get_text() for text in legend.get_texts()]


@pytest.mark.parametrize(
    ("name", "label"), [("frontier", "at one budget"), ("forecast", "measured")]
)
def test_a_legend_that_could_hide_points_stands_below_the_panels(figure_of, png_of, name, label):
    figure = figure_of[name]
    (legend,) = figure.legends
    assert label in [text.get_text() for text in legend.get_texts()]
    for ax in figure.axes:
        assert ax.get_legend() is None
        assert not legend.get_window_extent().overlaps(ax.get_tightbbox())


def test_many_residuals_are_an_image_in_the_vector_file(drawn, tmp_path, monkeypatch):
    *_, surface = drawn
    for most, is_image in ((500, False), (5, True)):
        monkeypatch.setattr(residuals, "_MANY", most)
        _, svg = save(figures.figure_residuals(surface), tmp_path / "residuals")
        assert ("<image" in svg.read_text()) is is_image
