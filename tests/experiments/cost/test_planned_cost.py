# SPDX-License-Identifier: Apache-2.0
"""What was planned is kept once, is never made to fit, and is compared with what came out."""

import dataclasses
import io

import pytest
from rich.console import Console
from stand_in_training import steady

from experiments.cost import estimate, planned_cost, planned_vs_real
from experiments.cost.estimate import Terms
from experiments.cost.planned_vs_real import Real
from experiments.files.checked_json import Damaged, text_of, with_checksum
from experiments.ledger.claims import Limits
from experiments.ledger.forecasts import write_forecast
from experiments.operations import status
from experiments.operations.doctor import doctor
from experiments.plan.jobs import alone
from experiments.plan.plan import plan
from experiments.plan.point import to_json
from experiments.report.build import gather
from experiments.report.figures.cost import figure_cost
from experiments.report.fits.analysis import Analysis, grid_runs
from experiments.report.page.page import page as report_page
from scaling.tables.read_tables import read_curves

TERMS = Terms(price=2.0, watts=500.0, watts_source="a page", pue=1.2, carbon=400.0)


@pytest.fixture
def expect(study, manifest):
    """What the study costs on a device of so many FLOP/s; None where no speed is known."""

    def expect(flops_per_second=1e9, terms=TERMS, forecast_budgets=()):
        asked = dataclasses.replace(study, forecast_budgets=forecast_budgets)
        return estimate.estimate(
            estimate.stages(asked, plan(asked, manifest)),
            steady(flops_per_second) if flops_per_second else None,
            terms,
            n_devices=4,
            n_devices_per_work=1,
        )

    return expect


@pytest.fixture
def finish(ledger, record):
    """Gives a point a result that took so many device-seconds."""

    def finish(point, device_seconds, status="ok"):
        made = record(status=status, costs={"device_seconds": device_seconds})
        ledger.write_result(point.id, made)

    return finish


def test_what_is_planned_is_read_back(ledger, points, expect):
    expected = expect(forecast_budgets=(1e12,))
    assert planned_cost.read(ledger) is None
    assert planned_cost.remember(ledger, points, expected) == []
    planned = planned_cost.read(ledger)
    assert planned.device_seconds == expected.device_seconds
    assert len(planned.device_seconds) == len(points) + 1
    assert planned.wall_seconds == expected.wall_seconds
    assert (planned.device, planned.basis, planned.n_devices) == ("abacus", "counted beads", 4)
    assert planned.terms == TERMS


def test_a_plan_is_written_down_once_whatever_is_thought_later(ledger, points, expect):
    planned_cost.remember(ledger, points, expect(1e9))
    before = (ledger.folder / "cost.json").read_bytes()
    planned_cost.remember(ledger, points, expect(7e9, dataclasses.replace(TERMS, price=9.0)))
    assert (ledger.folder / "cost.json").read_bytes() == before


def test_runs_that_have_a_result_keep_what_was_planned_for_them(ledger, points, expect, finish):
    first, later = expect(1e9), expect(4e9)
    planned_cost.remember(ledger, points[:-1], first)
    finish(points[0], 1.0)
    planned_cost.remember(ledger, points, later)
    planned = planned_cost.read(ledger).device_seconds
    assert planned[points[0].id] == first.device_seconds[points[0].id]
    assert planned[points[1].id] == later.device_seconds[points[1].id]


def test_a_run_beyond_the_grid_keeps_its_plan_too(ledger, points, expect, finish, forecast):
    beyond = estimate.beyond_name(1e12)
    first = expect(1e9, forecast_budgets=(1e12,))
    planned_cost.remember(ledger, points[:-1], first)
    far = dataclasses.replace(points[0], id="far", role="forecast", budget=1e12)
    write_forecast(ledger, "key", forecast(far))
    planned_cost.remember(ledger, points, expect(2e9, forecast_budgets=(1e12,)))
    changed = planned_cost.read(ledger).device_seconds[beyond]
    assert changed == pytest.approx(first.device_seconds[beyond] / 2)
    finish(far, 1.0)
    planned_cost.remember(ledger, points[1:], expect(4e9, forecast_budgets=(1e12,)))
    assert planned_cost.read(ledger).device_seconds[beyond] == changed


def test_runs_that_ended_before_anything_was_planned_have_no_plan(ledger, points, expect, finish):
    finish(points[0], 1.0)
    planned_cost.remember(ledger, points, expect())
    planned = planned_cost.read(ledger)
    assert planned.device_seconds[points[0].id] is None
    runs = [
        Real(run_id=p.id, role="grid", budget=1e11, d_model=8, device_seconds=1.0) for p in points
    ]
    assert [row.real.run_id for row in planned_vs_real.compare(planned, runs)] == [
        point.id for point in points[1:]
    ]


def test_a_plan_without_a_speed_is_made_again_when_there_is_one(ledger, points, expect, finish):
    planned_cost.remember(ledger, points, expect(None))
    assert set(planned_cost.read(ledger).device_seconds.values()) == {None}
    assert planned_vs_real.totals(planned_cost.read(ledger), []) == [
        ("planned against real", "no speed was known when the study was planned")
    ]
    finish(points[0], 1.0)
    planned_cost.remember(ledger, points, expect())
    planned = planned_cost.read(ledger).device_seconds
    assert planned[points[0].id] is None
    assert None not in [planned[point.id] for point in points[1:]]


def test_every_flipped_bit_is_noticed_and_the_file_is_written_again(ledger, points, expect, finish):
    planned_cost.remember(ledger, points, expect())
    path = ledger.folder / "cost.json"
    good = path.read_bytes()
    for position in range(0, len(good), 7):
        path.write_bytes(
            good[:position] + bytes([good[position] ^ 1 << position % 8]) + good[position + 1 :]
        )
        with pytest.raises(Damaged, match=r"cost\.json is damaged. Delete it"):
            planned_cost.read(ledger)
    finish(points[0], 1.0)
    said = planned_cost.remember(ledger, points, expect())
    assert said == ["cost.json was damaged; it is written again, for what has no result."]
    assert planned_cost.read(ledger).device_seconds[points[0].id] is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"wall_seconds":', '"wall_seconds":-'),
        ('"price":2.0', '"price":"two"'),
        ('"pue":1.2', '"pue":0'),
        ('"n_devices":4', '"n_devices":null'),
        ('"watts":500.0,', ""),
    ],
)
def test_nonsense_with_a_right_checksum_is_no_plan_and_the_doctor_names_it(
    ledger, points, expect, old, new
):
    ledger.write_plan("{}", points)
    planned_cost.remember(ledger, points, expect())
    console = Console(file=io.StringIO(), width=300)
    doctor("mine", ledger, console)
    assert "cost.json" not in console.file.getvalue()
    path = ledger.folder / "cost.json"
    text = text_of(path.read_bytes()).decode()
    assert old in text
    path.write_bytes(with_checksum(text.replace(old, new)))
    with pytest.raises(Damaged, match=r"cost\.json is not what it should be"):
        planned_cost.read(ledger)
    doctor("mine", ledger, console)
    assert "DAMAGED cost.json" in console.file.getvalue()


def run(name, seconds, **changes):
    same = {"run_id": name, "role": "grid", "budget": 1e11, "d_model": 8}
    return Real(**same | {"device_seconds": seconds} | changes)


@pytest.fixture
def planned(ledger, points, expect):
    planned_cost.remember(ledger, points, expect(forecast_budgets=(1e12,)))
    made = planned_cost.read(ledger)
    beyond = estimate.beyond_name(1e12)
    return dataclasses.replace(made, device_seconds={"a": 1800.0, "b": 3600.0, beyond: 1200.0})


def test_totals_are_those_of_the_runs_that_finished_and_were_planned(planned):
    runs = [
        run("a", 3600.0),
        run("b", 7200.0),
        run("other", 1.0),
        run("zz", 600.0, role="forecast", budget=1e12),
    ]
    rows = planned_vs_real.compare(planned, runs)
    assert [row.ratio for row in rows] == [2.0, 2.0, 0.5]
    text = dict(planned_vs_real.totals(planned, rows))
    assert text["runs compared"] == "3 of 3"
    # 6600 s planned, 11400 s real; 2 for each hour.
    assert text["device-hours"] == "1.83 planned, 3.17 real (x1.73)"
    assert text["cost at 2 per device-hour"] == "3.67 planned, 6.33 real (x1.73)"
    assert "energy, kWh" not in text, "no counter: what is estimated is told once, elsewhere"


def test_energy_is_compared_where_a_counter_measured_it(planned):
    runs = [
        run("a", 3600.0, joules=3.6e6, joules_source="nvml"),
        run("b", 7200.0, joules=9e9, joules_source="estimate: 8 W per core"),
    ]
    text = dict(planned_vs_real.totals(planned, planned_vs_real.compare(planned, runs)))
    # Half an hour of 500 W and 1 kWh, both times 1.2.
    assert text["energy, kWh"] == "0.3 planned, 1.2 real (x4.00), 1 runs by nvml, PUE 1.2 in both"
    rows = planned_vs_real.run_rows(planned, planned_vs_real.compare(planned, runs))
    assert [row["kWh real"] for row in rows] == ["1.2", "unknown"]
    assert [row["real/planned"] for row in rows] == ["2.00", "2.00"]


@pytest.fixture
def told(ledger, study, points, expect, finish):
    """A study of which three runs are done, one of them twice as slow as planned; its status."""
    ledger.write_plan(to_json(study), points, [alone(point).job for point in points])
    expected = expect()
    speed = dataclasses.replace(expected.speed, basis="counted beads" + ", and again" * 9)
    planned_cost.remember(ledger, points, dataclasses.replace(expected, speed=speed))
    for point, factor in zip(points[:3], (1.0, 2.0, 1.0), strict=True):
        finish(point, factor * expected.device_seconds[point.id])

    def tell():
        console = Console(file=io.StringIO(), width=240, markup=False)
        status.status(study, ledger, console, name="mine", limits=Limits())
        return console.file.getvalue()

    return tell


def test_status_shows_planned_against_real_by_size_and_in_total(told, points, finish):
    # Ended early: not a run of the planned length.
    finish(points[3], 1.0, "diverged")
    text = told()
    first = points[0]
    assert (first.budget, first.spec.model) == (points[1].budget, points[1].spec.model)
    row = next(line for line in text.splitlines() if "(1.00 to 2.00)" in line).split()
    assert row[:4] == ["grid", "1e11", str(first.spec.model.d_model), "2"]
    assert float(row[6]) == pytest.approx(1.5, abs=0.01)
    assert f"runs compared: 3 of {len(points)}" in text
    assert "planned for: abacus, 4 at once; counted beads" in text
    assert "energy, kWh" not in text
    sentences = [line for line in text.splitlines() if ". " in line or ": " in line]
    assert max(map(len, sentences)) <= 80


def test_status_names_a_damaged_plan_of_costs_and_goes_on(told, ledger, points):
    (ledger.folder / "cost.json").write_text("{}")
    text = told()
    assert "cost.json is damaged. Delete it" in text
    assert f"3 of {len(points)} runs have a result" in text
    (ledger.folder / "cost.json").unlink()
    assert "planned" not in told()


def test_the_report_shows_every_run_with_its_plan(
    told, ledger, study, points, make_manifest, finish
):
    finish(points[3], 1.0, "diverged")
    analysis = Analysis(
        sweeps={},
        best=None,
        of="",
        runs=grid_runs(ledger, study, points),
        curves=read_curves(ledger.curves, flops=study.flops),
        fits={},
        frontiers={},
        agreement=None,
        findings=(),
        refusals={},
    )
    made = gather(ledger, points, analysis, "byte")
    assert [row.real.run_id for row in made.compared] == [point.id for point in points[:3]]
    assert [row.ratio for row in made.compared] == pytest.approx([1.0, 2.0, 1.0])
    page = report_page(study, make_manifest(), points, made, {"cost": ("PHN2Zy8+", "Costs.")})
    assert "Cost planned before, and real" in page
    assert "planned for</th><td>abacus, 4 at once; counted beads" in page
    assert "<td>2.00</td>" in page
    assert 'id="cost"' in page
    (ledger.folder / "cost.json").write_text("{}")
    without = gather(ledger, points, analysis, "byte")
    assert (without.planned, without.compared) == (None, ())


def test_the_figure_has_a_marker_for_every_run_where_it_belongs(planned):
    runs = [run("a", 3600.0), run("b", 900.0), run("z", 60.0, role="forecast", budget=1e12)]
    figure = figure_cost(planned_vs_real.compare(planned, runs))
    (ax,) = figure.axes
    markers = [
        xy for line in ax.lines if line.get_linestyle() == "None" for xy in line.get_xydata()
    ]
    assert sorted(map(tuple, markers)) == [(1200.0, 60.0), (1800.0, 3600.0), (3600.0, 900.0)]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert ax.get_xlim() == ax.get_ylim()
