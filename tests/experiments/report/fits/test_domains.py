# SPDX-License-Identifier: Apache-2.0
"""Each domain of a validation set has a fit of its own, and its losses stand side by side."""

import dataclasses
import json

import numpy as np
import pytest

from experiments.plan.plan import plan
from experiments.report.build import gather
from experiments.report.figures.drawing import drawn
from experiments.report.fits.analysis import analyse
from experiments.report.fits.domains import by_domain, loss_matrix, matrix_rows
from experiments.report.page.page import page
from experiments.study.study import Axis, Ladder
from model.training.outcome import Loss
from scaling.tables.read_tables import read_runs

RATE = "recipe.optimizer.learning_rate"
# E and the amplitude of the size, by domain.
LAWS = {"peps": (1.0, 20.0), "code": (2.0, 40.0)}


def losses_at(n_params: float, n_tokens: float, shift: float = 0.0) -> dict[str, Loss]:
    nats = {
        name: shift + floor + size * n_params**-0.4 + 90 * n_tokens**-0.4
        for name, (floor, size) in LAWS.items()
    }
    nats["all"] = sum(nats.values()) / 2
    units = {"se_nats": None, "n_units": 512, "n_bytes": 512.0, "is_bound": False}
    return {name: Loss(nats=value, **units) for name, value in nats.items()}


def finish(ledger, record, points, shift=lambda point: 0.0):
    ledger.write_plan("{}", points)
    for i, point in enumerate(points):
        noise = 2e-3 * (i % 3 - 1)
        found = losses_at(point.params.total, point.n_tokens, shift(point) + noise)
        ledger.write_result(point.id, record(losses=found))


@pytest.fixture
def domains(ledger, three_by_six, manifest, record, quick_fits):
    """A study of two domains whose losses follow laws of their own: study, points."""
    points = list(plan(three_by_six, manifest).points)
    finish(ledger, record, points)
    return three_by_six, points


def test_each_domain_has_its_own_law_on_the_page_and_in_a_figure(ledger, domains, manifest):
    study, points = domains
    analysis = analyse(ledger, study, points)
    for name, (floor, _) in LAWS.items():
        interval = analysis.domains[name].intervals["E"]
        assert abs(analysis.domains[name].parameters["E"] - floor) < 0.05
        assert interval.upper - interval.lower < 0.3
    kept = analyse(ledger, study, points).domains
    assert {name: json.loads(fit.to_json()) for name, fit in kept.items()} == {
        name: json.loads(fit.to_json()) for name, fit in analysis.domains.items()
    }
    assert (ledger.fits / "domain_peps.json").exists()
    report = gather(ledger, points, analysis, "byte")
    assert "domains" in drawn(report)
    html = page(study, manifest, points, report, {})
    assert "<h2>Domains</h2>" in html
    table = html[html.index("<h2>Domains</h2>") :]
    table = table[: table.index("</table>")]
    assert "<td>peps</td>" in table
    # A unit is a byte here.
    for name, runs in by_domain(analysis.runs).items():
        assert runs.bits_per_nat == pytest.approx(1 / np.log(2)), name
    assert table.count("bits per byte") == 1


def test_a_study_without_domains_shows_none(ledger, planted, manifest, report):
    study, points = planted
    assert report.analysis.domains == {}
    assert "domains" not in drawn(report)
    assert "<h2>Domains</h2>" not in page(study, manifest, points, report, {})


def test_the_matrix_has_the_means_at_the_size_that_is_best_of_all(ledger, study, manifest, record):
    asked = dataclasses.replace(
        study,
        budgets=(1e11,),
        sizes=Ladder(d_models=(16, 32), tokens_per_param=(0.3, 2000.0)),
        axes=(Axis(field=RATE, values=(0.5, 1.0)),),
    )
    points = list(plan(asked, manifest).points)
    # The smaller network is better at the first rate, the larger at the second.
    best = {0.5: 16, 1.0: 32}

    def shift(point):
        return 0.0 if point.spec.model.d_model == best[point.axes[RATE]] else 5.0

    finish(ledger, record, points, shift)
    analyse(ledger, asked, points)
    runs = read_runs(ledger.table, flops="matmul_full")
    matrix = loss_matrix(asked, runs)
    assert [one.axes for one in matrix] == [{RATE: 0.5}, {RATE: 1.0}]
    for one in matrix:
        rows = [
            i
            for i, point in enumerate(points)
            if point.axes == one.axes and point.spec.model.d_model == best[one.axes[RATE]]
        ]
        assert len(rows) == 2, "a seed each"
        for name, own in by_domain(runs).items():
            assert one.losses[name] == pytest.approx(np.mean(own.loss_nats[rows]), abs=1e-12)
            # A unit is a byte here.
            assert one.bits[name] == pytest.approx(one.losses[name] / np.log(2))
    assert set(matrix[0].losses) == set(LAWS)
    shown = matrix_rows(matrix)[0]
    assert set(shown) == {"setting", *LAWS, *(f"{name}, bits per byte" for name in LAWS)}
    in_bits = dataclasses.replace(runs, loss_unit="bits per byte")
    assert [one.bits for one in loss_matrix(asked, in_bits)] == [{}, {}]
