# SPDX-License-Identifier: Apache-2.0
"""isoflop run --until with a planted trainer: it stops at the goal or the budget, and goes on."""

import math

import numpy as np
import pytest

from experiments import calibration, cli, pipeline, until
from experiments.jobs import trunk_id
from experiments.ledger import Ledger
from experiments.next_runs import prices
from experiments.plan import plan
from experiments.trunks import grow, saving
from scaling.fit import FitError
from scaling.surface import fit_surface


class Killed(BaseException):
    """Stands for a signal that no code survives."""


def law(point) -> float:
    noise = np.random.default_rng(int(point.id, 16)).standard_normal()
    loss = 1.2 + 40 * point.params.total**-0.45 + 200 * point.n_tokens**-0.45
    return loss * math.exp(0.002 * noise)


@pytest.fixture
def isoflop(mine_file, capsys, monkeypatch, record):
    """Runs `isoflop run mine.py` with a planted trainer: (exit code, output, error)."""
    monkeypatch.chdir(mine_file.parent)
    trained: list[list[str]] = []

    def run_pieces(ledger, pieces, mesh, workers, view):
        trained.append([])
        for piece in pieces:
            if run.dies_after is not None and sum(map(len, trained)) >= run.dies_after:
                raise Killed
            for point in piece.points if piece.job.results else ():
                made = record(law(point))
                made["costs"] |= {"compile_seconds": 0.0, "peak_flops_per_second": 0}
                made["costs"] |= {"flops_per_second": 0, "stall_seconds": 0.0}
                ledger.write_result(point.id, made)
                trained[-1].append(point.id)
        return []

    def fit(runs, law):
        if law == "curved":
            raise FitError("not in this test")
        return fit_surface(runs, law, n_bootstrap=60, replicate_starts=1)

    def refuse(*rest):
        raise FitError("not in this test")

    monkeypatch.setattr(pipeline, "run_pieces", run_pieces)
    monkeypatch.setattr(calibration, "learn", lambda ledger, points: None)
    monkeypatch.setattr("experiments.analysis.fit_surface", fit)
    for name in ("fit_envelope", "fit_isoflop"):
        monkeypatch.setattr(f"experiments.analysis.{name}", refuse)

    def run(*arguments):
        code = 0
        trained.clear()
        try:
            cli.main(["run", "mine.py", *arguments])
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    run.trained, run.dies_after = trained, None
    run.ledger = Ledger(tmp_path / "results", "mine")
    return run


def test_it_ends_as_soon_as_the_goal_is_met(isoflop):
    code, out, err = isoflop("--until", "ci(n_params_opt) < 18 %", "--target-flops", "4.8e10")
    assert code == 0, err
    rounds = [len(ids) for ids in isoflop.trained]
    assert len(rounds) > 1
    widths = [line for line in out.splitlines() if "ci(n_params_opt) is" in line]
    values = [float(line.split(" is ")[1].split(" %")[0]) for line in widths]
    assert values[-1] < 18 <= min([*values[:-1], math.inf])
    study = cli.load_study("mine.py")
    grid = plan(study, cli.Manifest.read(isoflop.ledger.manifest)).points
    spent = sum(p.flops[study.flops] for p in isoflop.ledger.read_plan())
    assert spent < sum(p.flops[study.flops] for p in grid)
    assert isoflop.ledger.report.exists()


def test_it_ends_when_the_budget_is_spent(isoflop):
    code, out, _ = isoflop("--until", "ci(a) < 1e-9", "--budget", "1e10")
    assert code == 0
    assert "1e+10 FLOPs are spent, and ci(a) < 1e-09 is not met." in out
    points = isoflop.ledger.read_plan()
    spent = sum(p.flops["matmul_full"] for p in points)
    assert 0.8e10 < spent <= 1e10


@pytest.mark.parametrize(
    "dies_after",
    [pytest.param(1, marks=pytest.mark.slow), 6, pytest.param(11, marks=pytest.mark.slow)],
)
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


@pytest.mark.slow
def test_what_was_trained_before_is_used_and_not_asked_for_again(isoflop):
    isoflop()
    before = {point.id for point in isoflop.ledger.read_plan()}
    isoflop("--until", "ci(a) < 1e-9", "--budget", "9e10")
    assert not before & {name for ids in isoflop.trained for name in ids}
    assert before < {point.id for point in isoflop.ledger.read_plan()}


def test_bad_goals_are_one_line(isoflop):
    for goal, words in (("ci(b) < 1", "is not of the form"), ("ci(a) < 0", "no positive")):
        code, _, err = isoflop("--until", goal)
        assert (code, err.count("\n")) == (2, 1)
        assert words in err
    code, _, err = isoflop("--until", "ci(a) < 1", "--budget=-1")
    assert (code, err.count("\n")) == (2, 1)


def test_a_branch_of_a_trunk_that_is_there_costs_its_branch_alone(branched, manifest):
    points = list(plan(branched, manifest).points)
    tree = grow(points)[0]
    middle, last = tree.points[1:]
    per_step = last.flops["matmul_full"] / last.spec.train.schedule.n_steps
    (price,) = prices(branched, [tree.points[0], middle], [last])
    begins = tree.leaves_at[1]
    assert price == pytest.approx((last.spec.train.schedule.n_steps - begins) * per_step)
    assert trunk_id([last], begins) == trunk_id([middle], begins)
    (price,) = prices(branched, [last], [middle])
    assert price == pytest.approx(middle.spec.train.schedule.decay_steps * per_step)
    (price,) = prices(branched, [], [last])
    assert price == pytest.approx(saving([grow([last])[0]]).spent)
