# SPDX-License-Identifier: Apache-2.0
"""isoflop run --until with a planted trainer: it stops at the goal or the budget, and goes on."""

import io
import itertools
import math
import types

import numpy as np
import pytest
from command_line import is_one_line
from rich.console import Console

from experiments.adaptive import until, until_surfaces
from experiments.adaptive.prices import (
    device_seconds,
    planned_jobs_of,
    price,
    prices,
    spent,
    training_flops,
)
from experiments.cli import main
from experiments.cli.opening.load_study import load_study
from experiments.ledger.ledger import Ledger
from experiments.plan.jobs import trunk_id
from experiments.plan.plan import plan
from experiments.plan.trunks import grow, saving
from experiments.speed import calibration
from experiments.train import run_points
from model.data.manifest import Manifest
from scaling.answers.goal import parse_goal
from scaling.approaches.surface.fit import fit_surface
from scaling.fit import FitError


class Killed(BaseException):
    """Stands for a signal that no code survives."""


def law(point) -> float:
    """Not by the id of the run, which every new field of a configuration changes."""
    who = [round(point.budget), point.spec.model.d_model, point.seed]
    noise = np.random.default_rng(who).standard_normal()
    loss = 1.2 + 40 * point.params.total**-0.45 + 200 * point.n_tokens**-0.45
    return loss * math.exp(0.002 * noise)


@pytest.fixture
def isoflop(mine_file, capsys, monkeypatch, record, no_drawing):
    """Runs `isoflop run mine.py` with a planted trainer: (exit code, output, error)."""
    monkeypatch.chdir(mine_file.parent)
    trained: list[list[str]] = []

    def run_planned_jobs(ledger, planned_jobs, jobs, executor, view, **_):
        assert (executor.idle is not None) == run.is_until
        trained.append([])
        for planned_job in planned_jobs:
            if run.dies_after is not None and sum(map(len, trained)) >= run.dies_after:
                raise Killed
            for point in planned_job.points if planned_job.job.results else ():
                costs = {}
                if run.speed is not None:
                    speed = run.speed(point)
                    took = point.flops["matmul_full"] / speed
                    costs = {"train_seconds": took, "wall_seconds": took + run.besides}
                    costs |= {"flops_per_second": round(speed)}
                made = record(law(point), costs=costs, flops_spent=point.flops)
                ledger.write_result(point.id, made)
                trained[-1].append(point.id)
        return []

    def fit(runs, law, n_bootstrap=1000):
        if law == "curved":
            raise FitError("not in this test")
        run.replicates.append(n_bootstrap)
        return fit_surface(runs, law, n_bootstrap=60, replicate_starts=1)

    def refuse(*rest):
        raise FitError("not in this test")

    monkeypatch.setattr(run_points, "run_planned_jobs", run_planned_jobs)
    monkeypatch.setattr(calibration, "learn", lambda ledger, points: None)
    for name in (
        "experiments.report.fits.fit_once.fit_surface",
        "scaling.approaches.surface.fit.fit_surface",
    ):
        monkeypatch.setattr(name, fit)
    for name in ("fit_envelope", "fit_isoflop"):
        monkeypatch.setattr(f"experiments.report.fits.fit_once.{name}", refuse)

    def run(*arguments):
        code, run.is_until = 0, "--until" in arguments
        trained.clear()
        try:
            main.main(["run", "mine.py", *arguments])
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    run.trained, run.dies_after, run.replicates = trained, None, []
    run.speed, run.besides = None, 0.0
    run.ledger = Ledger(mine_file.parent / "results", "mine")
    return run


def test_it_ends_as_soon_as_the_goal_is_met(isoflop):
    goal = 8
    code, _, err = isoflop("--until", f"ci(n_params_opt) < {goal} %", "--target-flops", "4.8e10")
    assert code == 0, err
    rounds = [len(ids) for ids in isoflop.trained]
    assert len(rounds) > 1
    widths = [line for line in err.splitlines() if "ci(n_params_opt) is" in line]
    values = [float(line.split(" is ")[1].split(" %")[0]) for line in widths]
    assert values[-1] < goal <= min([*values[:-1], math.inf])
    # Met by as many replicates as the answer has; fewer are enough to see that it is far.
    asked = [n for value in values for n in ((200,) if value >= 1.25 * goal else (200, 1000))]
    assert max(values) >= 1.25 * goal
    assert isoflop.replicates == [*asked, 1000]
    # No round spends more than the root law asks for, but for one run where that is less.
    study = load_study("mine.py")
    grid = plan(study, Manifest.read(isoflop.ledger.manifest)).points
    one = min(p.flops[study.flops] for p in grid)
    flops = [float(line.split(" of ")[0]) for line in widths]
    for (before, after), value in zip(itertools.pairwise(flops), values, strict=False):
        assert after <= 1.01 * max((value / goal) ** 2 * before, before + one)
    spent = sum(p.flops[study.flops] for p in isoflop.ledger.read_plan())
    assert spent < sum(p.flops[study.flops] for p in grid)
    assert isoflop.ledger.report.exists()


def test_how_much_more_a_goal_should_take(monkeypatch):
    goal = parse_goal("ci(a) < 0.02")
    console = Console(file=io.StringIO())

    def needed(answer):
        def is_met(*rest):
            if answer is None:
                raise FitError("nothing")
            return answer

        monkeypatch.setattr("scaling.answers.goal.is_met", is_met)
        monkeypatch.setattr(until_surfaces, "fitted_surfaces", lambda runs, n_bootstrap: [])
        return until_surfaces.budget_needed(goal, None, 1e12, console, "so far")

    assert needed((0.06, False)) == pytest.approx(9.0)
    assert needed((0.0201, False)) == until_surfaces.GROWTH
    assert needed((0.019, True)) == 1.0
    # Narrow, but of a fit that is not certified; unknown; no fit at all.
    assert [needed(case) for case in ((0.01, False), (math.nan, False), None)] == 3 * [math.inf]


@pytest.mark.slow(reason="a growing study with many fits")
def test_it_ends_when_the_budget_is_spent(isoflop):
    code, out, _ = isoflop("--until", "ci(a) < 1e-9", "--budget", "1e10")
    assert code == 0
    assert "1e10 FLOPs are spent, and ci(a) < 1e-09 is not met." in out
    points = isoflop.ledger.read_plan()
    spent = sum(p.flops["matmul_full"] for p in points)
    assert 0.8e10 < spent <= 1e10


@pytest.mark.slow(reason="a growing study with many fits")
def test_per_device_second_it_leaves_out_what_takes_long(isoflop):
    """Small networks train at a twentieth of the speed of the others."""

    def slow(point):
        return 1e8 if point.spec.model.d_model > 16 else 5e6

    def seconds(folder, *options):
        isoflop.speed = slow
        asked = ("--until", "ci(a) < 1e-9", "--budget", "1e10", "--results", folder)
        code, out, err = isoflop(*asked, *options)
        assert code == 0, err
        ledger = Ledger(isoflop.ledger.results.parent / folder, "mine")
        points = ledger.read_plan()
        assert sum(point.flops["matmul_full"] for point in points) <= 1e10
        return out, {p.id: p.flops["matmul_full"] / slow(p) for p in points}

    _, plain = seconds("plain")
    out, timed = seconds("timed", "--per", "device-second")
    assert sum(timed.values()) < 0.7 * sum(plain.values())
    assert "1e10 FLOPs, or the time that the grid takes for them, are spent" in out


def test_no_round_passes_the_budget_of_flops_whatever_it_is_counted_in(
    study, manifest, tmp_path, monkeypatch
):
    points = sorted(plan(study, manifest).points, key=lambda point: point.flops["matmul_full"])
    flops = [point.flops["matmul_full"] for point in points]
    record = {"budget": 1.001 * sum(flops[:3]), "per": "device-second", "target_flops": 1e13}
    loop = until._Loop(
        study=study,
        ledger=Ledger(tmp_path / "results", "mine"),
        console=Console(file=io.StringIO()),
        goal=parse_goal("ci(a) < 0.02"),
        record=record | {"goal": "", "rounds": []},
        grid=points,
        pool={point.id: point for point in points},
    )

    def all_of_them(posterior, target, *, left, **rest):
        return types.SimpleNamespace(rows=tuple(range(len(left)))), 0.0

    monkeypatch.setattr(until, "choose_next", all_of_them)
    monkeypatch.setattr(until, "posterior_and_target", lambda *rest, **more: (None, None))
    chosen = until._choose(loop, [], until.runs_of([], study.flops), math.inf)
    assert [point.id for point in chosen] == [point.id for point in points[:3]]


@pytest.mark.slow(reason="a growing study with many fits")
@pytest.mark.parametrize("dies_after", [1, 6, 11])
def test_killed_at_any_moment_it_goes_on_as_if_it_had_not_been(isoflop, dies_after):
    asked = ("--until", "ci(a) < 1e-9", "--budget", "1e10")
    isoflop(*asked, "--results", "calm")
    calm = Ledger(isoflop.ledger.results.parent / "calm", "mine")
    isoflop.dies_after = dies_after
    with pytest.raises(Killed):
        isoflop(*asked)
    isoflop.dies_after = None
    isoflop(*asked)
    assert isoflop.ledger.table.read_bytes() == calm.table.read_bytes()
    same = [ledger.storage.read(until.FILE) for ledger in (isoflop.ledger, calm)]
    assert same[0] == same[1]


@pytest.mark.slow(reason="a growing study with many fits")
def test_what_was_trained_before_is_used_and_not_asked_for_again(isoflop):
    isoflop()
    before = {point.id for point in isoflop.ledger.read_plan()}
    isoflop("--until", "ci(a) < 1e-9", "--budget", "9e10")
    assert not before & {name for ids in isoflop.trained for name in ids}
    assert before < {point.id for point in isoflop.ledger.read_plan()}


def test_bad_goals_are_one_line(isoflop):
    for goal, words in (("ci(b) < 1", "is not of the form"), ("ci(a) < 0", "no positive")):
        code, _, err = isoflop("--until", goal)
        assert (code, is_one_line(err)) == (2, True)
        assert words in err
    code, _, err = isoflop("--until", "ci(a) < 1", "--budget=-1")
    assert (code, is_one_line(err)) == (2, True)
    for option in ("--budget", "--target-flops"):
        code, _, err = isoflop(option, "1e10")
        assert (code, err) == (
            2,
            f"isoflop: {option} is of --until GOAL: give one, or leave it out.\n",
        )


def test_a_branch_of_a_trunk_that_is_there_costs_its_branch_alone(branched, manifest):
    points = list(plan(branched, manifest).points)
    tree = grow(points)[0]
    first, middle, last = tree.points
    per_step = last.flops["matmul_full"] / last.spec.train.schedule.n_steps
    n_steps, decay = last.spec.train.schedule.n_steps, last.spec.train.schedule.decay_steps
    at = dict(zip((p.id for p in tree.points), tree.leaves_at, strict=True))

    def cost(known, *wanted):
        """In steps of the trunk's size, where each known point was trained by itself, in order."""
        there = set()
        for n, point in enumerate(known):
            planned_jobs = planned_jobs_of(branched, known[:n], [point], there.__contains__)
            there |= {planned_job.job.id for planned_job in planned_jobs}
        return price(branched, known, wanted, there.__contains__) / per_step

    assert cost([first, middle], last) == pytest.approx(n_steps - at[middle.id])
    assert trunk_id([last], at[middle.id]) == trunk_id([middle], at[middle.id])
    # What a longer run left behind is its end: a shorter one begins anew.
    shorter = at[middle.id] + middle.spec.train.schedule.decay_steps
    assert cost([last], middle) == pytest.approx(shorter)
    assert cost([first, last], middle) == pytest.approx(shorter - at[first.id])
    assert cost([], last) == pytest.approx(n_steps)
    # Together they cost the trunk once.
    both = cost([], middle, last)
    assert both == pytest.approx(n_steps + middle.spec.train.schedule.decay_steps)
    one_by_one = prices(branched, [], [middle, last])
    assert sum(one_by_one) / per_step == pytest.approx(both + at[middle.id])
    assert decay < n_steps - at[middle.id]
    assert price(branched, [], points) == pytest.approx(saving(grow(points)).spent)


def test_without_trunks_every_point_costs_its_whole_run(study, manifest):
    points = list(plan(study, manifest).points)
    whole = [point.flops["matmul_full"] for point in points]
    assert prices(study, points[:3], points) == pytest.approx(whole)
    assert price(study, points[:3], points) == pytest.approx(sum(whole))


def test_device_time_is_that_of_finished_jobs(study, manifest, tmp_path, record):
    ledger, points = Ledger(tmp_path / "results", "mine"), list(plan(study, manifest).points)
    ledger.write_plan("{}", points)
    assert device_seconds(ledger, points) is None
    speeds = {16: 1e9, 32: 2e9, 64: 4e9}
    besides = itertools.cycle([0.25, 0.25, 5.0])  # Of each size the first compiles.
    for point in points[::2]:
        speed = speeds[point.spec.model.d_model]
        costs = {"train_seconds": point.flops["matmul_full"] / speed, "evaluate_seconds": 2.0}
        costs["wall_seconds"] = sum(costs.values()) + next(besides)
        costs |= {"flops_per_second": round(speed)}
        ledger.write_result(point.id, record(2.0, costs=costs))
    charge = device_seconds(ledger, points)
    for point in points:
        spec = point.spec
        evaluation = spec.train.evaluation
        n_eval = evaluation.n_tokens + len(spec.train.eval_steps) * evaluation.curve_tokens
        # A token of evaluation is a third of one of training.
        flops = point.flops["matmul_full"] * (1 + n_eval / point.n_tokens / 3)
        [planned_job] = planned_jobs_of(study, (), [point])
        expected = flops / speeds[spec.model.d_model] + 0.25
        assert charge(planned_job) == pytest.approx(expected, rel=1e-6)
    assert prices(study, (), points[:2], charge=charge) == pytest.approx(
        [price(study, (), [point], charge=charge) for point in points[:2]]
    )


def test_the_speed_of_branches_is_told_by_their_trunks(
    branched, manifest, tmp_path, record, trunk_record
):
    """Branches are short; of a size all jobs together tell its speed."""
    ledger = Ledger(tmp_path / "results", "mine")
    points = grow(plan(branched, manifest).points)[0].points
    [trunk, *_] = planned_jobs_of(branched, (), points)
    assert trunk.job.kind == "trunk"
    ledger.write_plan("{}", list(points), [trunk.job])
    costs = {"flops_per_second": 10**9, "train_seconds": 0.4}
    ledger.write_result(points[0].id, record(2.0, costs=costs))
    assert calibration.learn(ledger, points) is None
    costs = {"flops_per_second": 3 * 10**9, "train_seconds": 1.2}
    ledger.write_trunk(trunk.job.id, trunk_record(points[0].cluster_id, costs=costs))
    [speed] = calibration.learn(ledger, points).flops_per_second.values()
    assert speed == pytest.approx((0.4 * 1e9 + 1.2 * 3e9) / 1.6)


def test_what_is_spent_is_what_the_records_say(branched, manifest, tmp_path, record, trunk_record):
    """A loop that is told 1e12 by its plan and spends 2e12 on disk would pass its budget."""
    ledger = Ledger(tmp_path / "results", "mine")
    points = grow(plan(branched, manifest).points)[0].points
    ledger.write_plan("{}", list(points))
    assert spent(branched, ledger, points) == 0
    for point in points[:2]:
        ledger.write_result(point.id, record(2.0, flops_spent={"matmul_full": 3e9}))
    planned_jobs = planned_jobs_of(branched, points[:1], points[1:2])
    for planned_job in (
        planned_job for planned_job in planned_jobs if planned_job.job.kind == "trunk"
    ):
        ledger.write_plan("{}", list(points), [planned_job.job])
        trunk = trunk_record(points[0].cluster_id, flops_spent={"matmul_full": 1e9})
        ledger.write_trunk(planned_job.job.id, trunk)
    n_trunks = sum(planned_job.job.kind == "trunk" for planned_job in planned_jobs)
    assert n_trunks == 2
    assert spent(branched, ledger, points) == pytest.approx(6e9 + n_trunks * 1e9)
    assert sum(map(training_flops(branched), planned_jobs)) == pytest.approx(
        price(branched, points[:1], points[1:2])
    )
