# SPDX-License-Identifier: Apache-2.0
"""Costs worked out by hand from first principles, and the speeds that they rest on."""

import dataclasses
import io

import pytest
from rich.console import Console
from stand_in_training import steady

from experiments.cost import display, estimate
from experiments.cost.accuracy import accuracy
from experiments.cost.estimate import Terms, Work
from experiments.plan.jobs import alone
from experiments.plan.plan import plan
from experiments.plan.trunks import grow, saving
from experiments.speed import device_speed
from experiments.speed.calibration import Calibration
from experiments.speed.device_speed import StepLaw, fit_steps
from experiments.study.study import Axis
from experiments.terminal import table
from model.hardware import lookup

TERMS = Terms(price=2.5, watts=700.0, watts_source="a page", pue=1.5, carbon=400.0)


def calibration(speeds, *, device="abacus", peak=1e12, compile_seconds=5.0):
    return Calibration(
        device=device,
        flops_per_second=speeds,
        peak_flops_per_second=peak,
        compile_seconds=compile_seconds,
    )


def make(name, flops, **changes):
    return Work(**{"name": name, "flops": flops, "flops_per_step": 1e9, "program": name} | changes)


def test_units_from_first_principles():
    # 7.2e15 FLOPs at 1e12 FLOP/s are two hours.
    made = estimate.estimate(
        [[make("a", 7.2e15)]], steady(1e12), TERMS, n_devices=2, n_devices_per_work=2
    )
    assert made.wall_seconds == pytest.approx(7200.0)
    # Two hours on two devices: four device-hours of 2.5 each.
    assert made.total_device_seconds == pytest.approx(4 * 3600.0)
    assert made.total_money == pytest.approx(10.0)
    # Four hours of 700 W are 2.8 kWh; the site uses 1.5 times that; 400 g of CO2 for each kWh.
    kwh = TERMS.kwh(made.total_device_seconds)
    assert kwh == pytest.approx(4.2)
    assert TERMS.co2_kg(kwh) == pytest.approx(1.68)
    assert TERMS.site_kwh(3.6e6) == pytest.approx(1.5)


def test_what_is_not_known_is_none_and_never_nothing():
    blind = dataclasses.replace(TERMS, price=None, watts=None)
    assert blind.kwh(3600.0) is None
    assert blind.co2_kg(None) is None
    assert blind.money(3600.0) is None
    assert TERMS.kwh(None) is None
    assert TERMS.money(None) is None
    made = estimate.estimate([[make("a", 1.0)]], None, TERMS, n_devices=1, n_devices_per_work=1)
    assert (made.total_device_seconds, made.wall_seconds, made.total_money) == (None, None, None)
    assert table.amount(None) == "unknown"


def test_totals_are_the_sum_of_the_works():
    works = [make("a", 3e12), make("b", 5e12), make("c", 1e12, eval_flops=10e12)]
    made = estimate.estimate([works], steady(1e12), TERMS, n_devices=2, n_devices_per_work=1)
    assert made.device_seconds == pytest.approx({"a": 3.0, "b": 5.0, "c": 11.0})
    assert made.total_device_seconds == pytest.approx(19.0)
    each = [TERMS.money(s) for s in made.device_seconds.values()]
    assert made.total_money == pytest.approx(sum(each))
    # The longest alone on one device, the others on the second: not half of the sum.
    assert made.wall_seconds == pytest.approx(11.0)


def test_a_program_is_compiled_once_by_the_largest_of_its_works():
    works = [make(n, f, program=p) for n, f, p in (("a", 1e12, 1), ("b", 2e12, 1), ("c", 1e12, 2))]
    made = estimate.estimate([works], steady(1e12, 10.0), TERMS, n_devices=1, n_devices_per_work=1)
    assert made.device_seconds == pytest.approx({"a": 1.0, "b": 12.0, "c": 11.0})


def test_a_branch_waits_for_its_trunk_and_a_stage_for_the_one_before():
    works = [make("trunk", 4e12), make("branch", 1e12, after="trunk"), make("x", 2e12)]
    stages = [works, [make("later", 3e12)]]
    made = estimate.estimate(stages, steady(1e12), TERMS, n_devices=8, n_devices_per_work=1)
    assert made.wall_seconds == pytest.approx(4 + 1 + 3)
    assert made.total_device_seconds == pytest.approx(10.0)


@pytest.mark.parametrize("n_devices", [0, 1, 3])
def test_devices_that_do_not_hold_whole_runs_are_refused(n_devices):
    with pytest.raises(ValueError, match=f"--n-devices {n_devices}: must be a multiple of the 2"):
        estimate.estimate([], None, TERMS, n_devices=n_devices, n_devices_per_work=2)


def test_a_point_costs_its_training_its_evaluations_and_its_program(study, manifest):
    point = plan(study, manifest).points[0]
    made = estimate.work(alone(point))
    per_token = point.flops["matmul_full"] / point.n_tokens
    assert made.flops == point.flops["matmul_full"]
    assert made.flops_per_step == pytest.approx(
        per_token * point.spec.train.batch_size * study.seq_len
    )
    # The final loss on 4096 tokens and four points of a curve on 1024: forward passes only.
    assert made.eval_flops == pytest.approx(per_token / 3 * (4096 + 4 * 1024))


def test_runs_beyond_the_grid_are_stages_of_their_own_with_their_whole_budget(study, manifest):
    study = dataclasses.replace(study, forecast_budgets=(1e12, 4e12))
    made = plan(study, manifest)
    grid, first, second = estimate.stages(study, made)
    assert [work.name for work in grid] == [point.id for point in made.points]
    # The study counts in matmul_full, so the budget is what is spent.
    assert [first[0].flops, second[0].flops] == pytest.approx([1e12, 4e12])
    assert first[0].flops_per_step in [work.flops_per_step for work in grid]
    assert first[0].name != second[0].name
    # 6 N D leaves attention out: the same budget is more when it is counted.
    other = plan(dataclasses.replace(study, flops="6n_total"), manifest)
    _, beyond, _ = estimate.stages(study, other)
    largest = max(other.points, key=lambda point: point.flops["6n_total"])
    share = largest.flops["matmul_full"] / largest.flops["6n_total"]
    assert share != pytest.approx(1.0, abs=0.01)
    assert beyond[0].flops == pytest.approx(1e12 * share)
    # One budget tells nothing of others: no run follows.
    single = dataclasses.replace(study, budgets=(1e11,))
    assert len(estimate.stages(single, plan(single, manifest))) == 1


def test_what_is_left_begins_from_trunks_that_are_trained(branched, manifest):
    made = plan(branched, manifest)
    (whole,) = estimate.stages(branched, made)
    trunks = {work.after for work in whole if work.after is not None}
    done = {made.points[0].id, made.points[-1].id}
    (left,) = estimate.stages(branched, made, done=done, has_trunk=trunks.__contains__)
    assert {work.name for work in left} == {p.id for p in made.points} - done
    terms = {"n_devices": 1, "n_devices_per_work": 1}
    # One device works without a pause: what is left takes the sum of its works.
    found = estimate.estimate([left], steady(1e9), TERMS, **terms)
    assert found.wall_seconds == pytest.approx(found.total_device_seconds)
    flops = sum(work.flops + work.eval_flops for work in whole if work.name not in trunks | done)
    assert found.wall_seconds == pytest.approx(flops / 1e9)


def test_a_step_takes_its_overhead_besides_its_flops():
    law = StepLaw(peak_flops_per_second=1e12, utilisation=0.5, overhead_seconds=2e-3)
    # 1e9 FLOPs at half of 1e12 FLOP/s are 2 ms, and 2 ms besides.
    assert law.speed(1e9) == pytest.approx(1e9 / 4e-3)
    assert law.speed(1e15) == pytest.approx(5e11, rel=1e-4)


@pytest.mark.parametrize(("utilisation", "overhead"), [(0.5, 2e-3), (0.9, 0.0), (0.03, 1e-5)])
def test_a_planted_line_of_steps_is_found_and_carried_to_another_peak(utilisation, overhead):
    works = (1e7, 3e8, 1e10, 1e11)
    times = [overhead + work / (utilisation * 2e11) for work in works]
    speeds = {work: work / time for work, time in zip(works, times, strict=True)}
    law = fit_steps(calibration(speeds, peak=2e11), 9e14)
    assert law.utilisation == pytest.approx(utilisation, rel=1e-9)
    assert law.overhead_seconds == pytest.approx(overhead, abs=1e-12)
    assert law.peak_flops_per_second == 9e14


def test_steps_that_no_line_fits_give_a_line_that_can_be():
    one = fit_steps(calibration({1e9: 3e11}), 1e15)
    assert (one.utilisation, one.overhead_seconds) == pytest.approx((0.3, 0.0))
    # Larger steps are slower: the line's overhead would be negative.
    slower = fit_steps(calibration({1e8: 4e11, 1e10: 2e11}), 1e15)
    assert slower.overhead_seconds == 0.0
    assert 0.2 < slower.utilisation < 0.4
    # Faster than the peak, which was measured on a busy machine.
    over = fit_steps(calibration({1e8: 4e11, 1e10: 2e12}), 1e15)
    assert over.utilisation == 1.0
    assert over.overhead_seconds >= 0.0


def test_a_named_device_is_measured_carried_assumed_or_stated_and_says_so():
    kind, peak = "NVIDIA H200", lookup("NVIDIA H200").bfloat16
    cpu = calibration({1e9: 5e11}, compile_seconds=7.0)
    here = calibration({1e9: 1e14}, device=kind, peak=peak)
    measured = device_speed.named(kind, "bfloat16", 1, [cpu, here])
    assert measured.is_measured
    assert measured.seconds(1e15, 1e9) == pytest.approx(10.0)
    assert "ASSUMED" not in measured.basis
    carried = device_speed.named(kind, "bfloat16", 2, [cpu])
    assert not carried.is_measured
    assert carried.seconds(peak, 1e30) == pytest.approx(1 / (2 * 0.5))
    assert "ASSUMED that a step uses it as on abacus: 50%" in carried.basis
    assert carried.compile_seconds == 7.0
    blind = device_speed.named(kind, "float32", 1, [])
    assert "ASSUMED, as nothing was measured: 40%" in blind.basis
    assert "66.9 TFLOP/s in float32" in blind.basis
    assert blind.compile_seconds is None
    stated = device_speed.named(kind, "bfloat16", 1, [here], 0.25)
    assert stated.seconds(peak, 1e3) == pytest.approx(4.0)
    assert "--mfu" in stated.basis
    assert "ASSUMED" not in stated.basis


@pytest.fixture
def shown(study, manifest):
    """What `isoflop plan` prints of a cost, its sentences unwrapped."""

    def show(speed, terms=TERMS, wrong=None, n_devices=2, axes=()):
        made = plan(dataclasses.replace(study, axes=axes), manifest)
        planned = estimate.estimate(
            estimate.stages(study, made), speed, terms, n_devices=n_devices, n_devices_per_work=1
        )
        console = Console(file=io.StringIO(), width=240, markup=False)
        console.print(display.cost_table(made, planned, wrong, None))
        assert max(map(len, console.file.getvalue().splitlines())) <= 80
        table, begin, sentences = console.file.getvalue().partition("planned: ")
        return table + begin + sentences.replace("\n  ", " "), planned

    return show


def test_the_page_has_every_size_the_total_and_what_it_rests_on(shown, points):
    text, planned = shown(steady(1e9, 5.0))
    lines = text.splitlines()
    sizes = {(p.budget, p.spec.model.d_model) for p in points}
    assert len([line for line in lines if line.split()[:1] in (["1e11"], ["4e11"])]) == len(sizes)
    total = next(line for line in lines if line.split()[:1] == ["total"]).split()
    seconds = planned.total_device_seconds
    assert float(total[2]) == pytest.approx(seconds / 3600, rel=0.01)
    assert float(total[3]) == pytest.approx(seconds / 3600 * 2.5, rel=0.01)
    assert "speed: counted beads." in text
    assert "700 W per device" in text
    assert "PUE 1.5; 400 g CO2 per kWh." in text
    assert "with 2 devices" in text
    assert "compilation: 5.0 s for each of " in text
    assert "error: unknown until runs of this study have finished on abacus" in text


def test_of_axes_each_has_a_column_and_no_line_of_the_table_is_wide(shown):
    rates = Axis(field="recipe.optimizer.learning_rate", values=(0.25, 1.0))
    norms = Axis(field="recipe.shape.use_bias", values=(True, False))
    text, _ = shown(steady(1e9, 5.0), axes=(rates, norms))
    _, *lines = text.partition("planned: ")[0].splitlines()
    assert max(map(len, lines)) <= 80
    # What has room, by rank: the FLOPs of a run are its budget, or nearly.
    axes = ["learning_rate", "use_bias"]
    assert lines[0].split() == ["budget", "d_model", *axes, "runs", "device-hours", "cost", "kWh"]
    settings = {tuple(line.split()[2:4]) for line in lines if line.split()[0] in ("1e11", "4e11")}
    assert settings == {(rate, bias) for rate in ("0.25", "1") for bias in ("True", "False")}


def test_defaults_are_printed_with_their_source(shown):
    defaults = dataclasses.replace(TERMS, pue=display.PUE, carbon=display.CARBON)
    text, _ = shown(steady(1e9), defaults)
    assert "PUE 1.58 (average of data centres in 2023, Uptime" in text
    assert "445 g CO2 per kWh (world average of 2024, IEA" in text
    assert "time unknown, not included" in text


def test_unknown_energy_and_price_are_words_in_every_line(shown, points):
    blind = dataclasses.replace(TERMS, price=None, watts=None)
    text, _ = shown(steady(1e9), blind)
    rows = [line.split() for line in text.splitlines() if line.split()[:1] == ["1e11"]]
    assert rows
    assert all(row[-4:-1] == ["unknown"] * 3 for row in rows)
    assert "energy: unknown" in text
    assert "--watts" in text
    text, _ = shown(None, blind)
    assert "unknown: `isoflop calibrate" in text
    assert "0" not in text


@pytest.fixture
def finished(ledger, points, record):
    """Gives points results of so many seconds."""

    def finish(some, seconds, **changes):
        for point, time in zip(some, seconds, strict=True):
            costs = {"wall_seconds": time + 3.0, "compile_seconds": 3.0} | changes
            ledger.write_result(point.id, record(costs=costs))

    return finish


def test_the_error_is_that_of_runs_predicted_from_other_shapes(ledger, points, finished, shown):
    works = {point.id: estimate.work(alone(point)) for point in points}
    # Twice as fast at its own size of step as at all the others.
    odd = works[points[0].id].flops_per_step
    speeds = {work.flops_per_step: 1e9 for work in works.values()} | {odd: 2e9}
    speed = device_speed.here(calibration(speeds))
    others = [point for point in points if works[point.id].flops_per_step != odd]
    assert accuracy(ledger, points, speed) is None
    real = [(works[p.id].flops + works[p.id].eval_flops) / 1e9 for p in (points[0], *others)]
    finished([points[0], *others], [1.5 * real[0], *real[1:]])
    found = accuracy(ledger, points, speed)
    assert found.n_runs == 1 + len(others)
    assert found.median == pytest.approx(1.0, rel=0.3)
    assert found.highest == pytest.approx(1.5), "its own speed would have said 3"
    text, planned = shown(speed, wrong=found)
    assert f"error: real over predicted time of {found.n_runs} finished runs" in text
    high = planned.total_device_seconds * 1.5 / 3600
    assert f"to {high:.3g} device-hours by the error below" in text


def test_runs_of_another_device_resumed_and_diverged_ones_say_nothing(
    ledger, points, finished, record
):
    speed = device_speed.here(calibration({1e6: 1e9, 1e12: 1e9}))
    finished(points[:1], [1.0], resumed_at=5)
    costs = {"wall_seconds": 9.0, "compile_seconds": 1.0}
    ledger.write_result(points[1].id, record(None, status="diverged", costs=costs))
    (ledger.folder / "runs" / points[2].id).mkdir(parents=True)
    (ledger.folder / "runs" / points[2].id / "result.json").write_text("{}")
    assert accuracy(ledger, points, speed) is None
    finished(points[3:4], [1.0])
    assert accuracy(ledger, points, speed).n_runs == 1
    elsewhere = dataclasses.replace(speed, device="NVIDIA H200")
    assert accuracy(ledger, points, elsewhere) is None


def test_trunks_cost_once_branches_follow_them_and_all_is_what_the_points_would_share(
    branched, manifest
):
    made = plan(branched, manifest)
    (grid,) = estimate.stages(branched, made)
    names = [work.name for work in grid]
    trunks = [work for work in grid if work.name.startswith("trunk-")]
    assert len(names) == len(made.points) + len(trunks)
    for work in grid:
        assert work.after is None or names.index(work.after) < names.index(work.name)
    assert sum(work.flops for work in grid) == pytest.approx(saving(grow(made.points)).spent)
    assert {work.eval_flops for work in trunks} == {0.0}
    # The last branch of a tree ends no sooner than its whole run would take.
    speed = device_speed.here(calibration({work.flops_per_step: 1e9 for work in grid}))
    expected = estimate.estimate([grid], speed, TERMS, n_devices=99, n_devices_per_work=1)
    longest = max(point.flops["matmul_full"] for point in made.points) / 1e9
    assert expected.wall_seconds >= longest
    assert expected.total_device_seconds < sum(
        point.flops["matmul_full"] for point in made.points
    ) / 1e9 + 10 * len(made.points)
