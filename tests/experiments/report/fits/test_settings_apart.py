# SPDX-License-Identifier: Apache-2.0
"""Settings without numbers: a law of each, and the compute that each is worth beside the first."""

import dataclasses
import functools

import numpy as np
import pytest

from experiments.plan.plan import plan
from experiments.report.build import gather
from experiments.report.figures.drawing import drawn
from experiments.report.fits import fit_once
from experiments.report.fits.analysis import analyse
from experiments.report.fits.settings_apart import cost_rows, side_rows
from experiments.report.page.page import page
from experiments.report.setting_rows import setting_rows
from experiments.study.study import Axis
from scaling.approaches.surface.fit import fit_surface
from scaling.fit import FitStatus
from scaling.tables.runs import Runs

RATE = "recipe.optimizer.learning_rate"
# By setting: what its sizes and tokens are worth, and what half of the best rate costs.
WORTH = {"plain": (1.0, 0.3), "deep": (2.0, 0.1)}


@pytest.fixture
def compared(ledger, three_by_six, manifest, record, quick_fits):
    """A study of two patterns of blocks and two rates whose losses follow laws of their own."""
    blocks = three_by_six.recipe.shape.blocks
    asked = dataclasses.replace(
        three_by_six,
        axes=(
            Axis(field="recipe.shape.blocks", values=(blocks, 2 * blocks), labels=tuple(WORTH)),
            Axis(field=RATE, values=(0.5, 1.0)),
        ),
    )
    points = list(plan(asked, manifest).points)
    ledger.write_plan("{}", points)
    for i, point in enumerate(points):
        worth, extra = WORTH[point.axes["recipe.shape.blocks"]]
        loss = (
            1.0 + 20 * (worth * point.params.total) ** -0.4 + 90 * (worth * point.n_tokens) ** -0.4
        )
        loss += extra * (point.axes[RATE] == 0.5) + 1e-3 * (i % 3 - 1)
        seconds = {"train_seconds": 8.0 * worth, "joules": None}
        ledger.write_result(point.id, record(loss, costs=seconds))
    return asked, points, analyse(ledger, asked, points)


def test_each_setting_is_fitted_and_set_beside_the_first(ledger, compared, manifest):
    study, points, analysis = compared
    assert [side.name for side in analysis.sides] == [*WORTH]
    assert analysis.sides[0].gain is None
    # Twice the size and twice the tokens for as much: a quarter of the compute.
    gain = analysis.sides[1].gain
    np.testing.assert_allclose(gain.ratio, 4.0, rtol=0.15)
    for side in analysis.sides:
        assert {side.fit.runs.extra[RATE][i] for i in range(len(side.fit.runs))} == {1.0}
        assert side.fit.parameters["E"] == pytest.approx(1.0, abs=0.1)
    # Kept, and read again.
    again = analyse(ledger, study, points)
    assert [side.fit.to_json() for side in again.sides] == [
        side.fit.to_json() for side in analysis.sides
    ]
    report = gather(ledger, points, analysis, "byte")
    rows = side_rows(analysis.sides)
    assert [row["setting"] for row in rows] == [*WORTH]
    left, right = drawn(report)["side_by_side"].axes
    assert [line.get_label() for line in left.get_lines()[::2]] == [*WORTH]
    np.testing.assert_array_equal(right.get_lines()[0].get_ydata(), gain.ratio)
    html = page(study, manifest, points, report, {})
    assert "<h2>Side by side</h2>" in html
    # Along the rate each has a curve of its own at every budget, of its best size there.
    losses: dict = {}
    for point in points:
        at = (point.budget, point.axes["recipe.shape.blocks"], point.axes[RATE])
        loss = ledger.read_result(point.id).loss_nats
        losses.setdefault(at, {}).setdefault(point.params.total, []).append(loss)
    curves = analysis.sweeps[RATE]
    assert [(curve.at["budget"], curve.setting) for curve in curves] == [
        (budget, name) for budget in study.budgets for name in WORTH
    ]
    for curve in curves:
        of_sizes = [losses[curve.at["budget"], curve.setting, rate] for rate in curve.values]
        expected = [min(map(np.mean, sizes.values())) for sizes in of_sizes]
        np.testing.assert_allclose(curve.losses, expected, rtol=1e-12)
    assert [row["setting"] for row in setting_rows(curves)] == 3 * [*WORTH]
    texts = [text.get_text() for text in drawn(report)["settings"].legends[0].get_texts()]
    assert texts == [*WORTH, "lowest"]
    took = cost_rows(points, report.verdicts)
    assert [(row["setting"], row["seconds of training"]) for row in took] == [
        ("plain", "8"), ("deep", "16")
    ]  # fmt: skip
    assert {row["joules"] for row in took} == {"unknown"}
    alone = [point for point in points if point.axes["recipe.shape.blocks"] == "plain"]
    assert cost_rows(alone, report.verdicts) == []


@pytest.fixture(scope="module")
def bent():
    """By gamma the surfaces of losses 1 + (A N^-alpha + B D^-beta)^gamma, to 0.1 %."""
    flops = np.repeat(np.geomspace(1e10, 1e12, 4), 6)
    n_params = np.sqrt(flops) * np.tile(np.geomspace(0.02, 0.4, 6), 4)
    n_tokens = flops / (6 * n_params)
    noise = 1 + 1e-3 * np.random.default_rng(0).standard_normal(len(flops))
    found = {}
    for gamma in (1.0, 0.5):
        fall = (20 * n_params**-0.35) ** (1 / gamma) + (60 * n_tokens**-0.35) ** (1 / gamma)
        runs = Runs.from_columns(
            n_params=n_params, n_tokens=n_tokens, loss_nats=(1 + fall**gamma) * noise
        )
        quick = functools.partial(fit_surface, runs, n_bootstrap=30, replicate_starts=1)
        found[gamma] = {law: quick(law) for law in fit_once.SURFACES}
    return found


@pytest.mark.parametrize(
    ("gammas", "law"), [((1.0, 1.0), "additive"), ((0.5,), "curved"), ((1.0, 0.5), "curved")]
)
def test_all_settings_have_the_law_that_one_of_them_needs(bent, gammas, law):
    found = fit_once._of_one_law(dict(enumerate(bent[gamma] for gamma in gammas)))
    assert [fit.law for fit in found.values()] == [law for _ in gammas]


def test_a_curved_law_that_is_not_certified_is_of_no_setting(bent):
    uncertain = dataclasses.replace(bent[1.0]["curved"], status=FitStatus.AT_BOUND)
    found = {0: bent[0.5], 1: bent[1.0] | {"curved": uncertain}, 2: {"additive": uncertain}}
    chosen = fit_once._of_one_law(found)
    assert [fit.law for fit in chosen.values()] == ["curved", "additive", "curved"]
    assert chosen[2] is uncertain
