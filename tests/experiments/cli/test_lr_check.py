# SPDX-License-Identifier: Apache-2.0
"""The rate check with a planted trainer: its optimum and what the recipe's rate costs come back."""

import json
import math

import pytest
from small_studies import mine

from experiments.cli import main
from experiments.ledger.ledger import Ledger
from experiments.speed import calibration
from experiments.train import run_points
from experiments.train.runner import Elsewhere

STUDY = mine("""
    budgets=(1e9, 1e10), sizes=Ladder(d_models=(8, 16, 32, 64), tokens_per_param=(0.1, 1e4))
""")
# Factor of the planted optimum by width: the recipe's rate is 2^0.8 too small at 16.
BEST = {16: 2**0.8, 32: 1.0, 64: 0.7}
CURVATURE = 0.04
CHECK = ("lr-check", "mine.py", "--results", "results")
ASKED = ("--widths", "16,32,64", "--tokens", "1e5,4e5")


def planted(point) -> float:
    """A parabola in the logarithm of the factor on this width's own rate; seed 1 is worse."""
    model, optimizer = point.spec.model, point.spec.train.optimizer
    factor = optimizer.hidden.learning_rate / (1e-2 * 64 / model.d_model)
    assert point.axes["recipe.optimizer.learning_rate"] == pytest.approx(factor)
    distance = math.log(factor / BEST.get(model.d_model, 1.0))
    return 2.0 + CURVATURE * distance**2 + 0.1 * point.seed + 1e4 / point.n_tokens


@pytest.fixture
def trained(tmp_path, monkeypatch, record):
    """Runs the planted trainer in place of workers; the batches of points it was asked for."""
    (tmp_path / "mine.py").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    asked = []

    def run_planned_jobs(ledger, planned_jobs, jobs, executor, view, **_):
        points = [point for planned_job in planned_jobs for point in planned_job.points]
        asked.append(points)
        for point in points:
            ledger.write_result(point.id, record(planted(point)))
        return []

    monkeypatch.setattr(run_points, "run_planned_jobs", run_planned_jobs)
    # Nothing was timed.
    monkeypatch.setattr(calibration, "learn", lambda ledger, points: None)
    return asked


def test_the_planted_optimum_and_cost_come_back(trained, tmp_path, capsys):
    main.main([*CHECK, *ASKED, "--out", str(tmp_path / "out")])
    found = json.loads((tmp_path / "out" / "lr_check.json").read_text())["sweeps"]
    assert len(found) == 6
    for sweep in found:
        best = BEST[sweep["d_model"]]
        assert sweep["best_factor"] == pytest.approx(best, rel=1e-5)
        assert sweep["cost_nats"] == pytest.approx(CURVATURE * math.log(best) ** 2, abs=1e-8)
        assert len(sweep["runs"]) == 14
        assert sweep["spec"]["model"]["d_model"] == sweep["d_model"]
    out = capsys.readouterr().out
    assert "d_model 16, 100k tokens: best factor 1.74 (1.74 to 1.74)" in out
    assert "the recipe's rate costs 0.0123 (0.0123 to 0.0123) nats, 0.57%." in out
    # The best loss is the mean of two seeds, 2.05 + 1e4 / tokens: 2.075 of the longer runs.
    sizes = [sweep["n_params"] for sweep in found]
    verdict = (
        f"over {max(sizes) / min(sizes):.3g}x in parameters and 4x in tokens the recipe's rate "
        "costs 0.59% of the loss at most, at d_model 16 and 400k tokens."
    )
    assert verdict in out
    page = (tmp_path / "out" / "lr_check.md").read_text()
    assert verdict in page
    assert "--widths 16,32,64 --tokens 100000,400000 --rates 0.125,0.25" in page
    assert (tmp_path / "out" / "lr_check.png").stat().st_size > 10_000


@pytest.mark.usefixtures("no_drawing")
def test_points_are_those_of_a_ledger_and_are_trained_once(trained, tmp_path, capsys):
    main.main([*CHECK, *ASKED])
    (points,) = trained
    ledger = Ledger(tmp_path / "results", "mine-lr-check")
    assert {p.id for p in ledger.read_plan()} == {p.id for p in points}
    assert len(points) == 3 * 2 * 7 * 2
    for wanted in (1e5, 4e5):
        near = [p for p in points if abs(p.n_tokens / wanted - 1) < 0.01]
        assert len(near) == len(points) / 2
        assert len({p.spec.train.batch_size for p in near}) == 1
    main.main([*CHECK, *ASKED])
    assert len(trained) == 1, "a finished sweep trains nothing"
    assert ledger.table.read_text().count("\n") == len(points) + 1
    assert (ledger.folder / "lr_check.json").exists()
    main.main(["status", "mine.py", "name=mine-lr-check", "--results", "results"])
    assert "84 of 84 runs have a result" in capsys.readouterr().out


@pytest.mark.usefixtures("no_drawing")
def test_what_is_not_asked_lies_within_the_study(trained):
    main.main(list(CHECK))
    (points,) = trained
    widths = {p.spec.model.d_model for p in points}
    assert len(widths) == 3
    assert widths < {8, 16, 32, 64}
    assert len({p.n_tokens for p in points}) == 2
    # The study's smallest and largest budgets, but for the rounding of the tokens to two digits.
    lengths = sorted({p.n_tokens for p in points})
    assert lengths[1] / lengths[0] == pytest.approx(10, rel=0.1)
    assert max(p.budget for p in points) == pytest.approx(1e10, rel=0.05)


@pytest.mark.usefixtures("no_drawing")
def test_runs_that_diverged_are_named_and_the_others_answer(trained, record, monkeypatch, tmp_path):
    def run_planned_jobs(ledger, planned_jobs, jobs, executor, view, **_):
        points = [point for planned_job in planned_jobs for point in planned_job.points]
        for point in points:
            is_fast = point.axes["recipe.optimizer.learning_rate"] == 8.0
            bad = record(None, status="diverged", reason="loss is not finite at step 3")
            ledger.write_result(point.id, bad if is_fast else record(planted(point)))
        return [(points[0], "out of memory")]

    monkeypatch.setattr(run_points, "run_planned_jobs", run_planned_jobs)
    with pytest.raises(SystemExit) as end:
        main.main([*CHECK, *ASKED])
    assert end.value.code == 1
    written = json.loads((tmp_path / "results/mine-lr-check/lr_check.json").read_text())
    assert len(written["notes"]) == 6 * 2
    assert "rate 8, seed 0: loss is not finite at step 3" in written["notes"][0]
    assert written["sweeps"][1]["best_factor"] == pytest.approx(1.0, rel=1e-5)


def test_what_an_engine_was_handed_is_said(trained, monkeypatch, capsys):
    def elsewhere(*_, **__):
        raise Elsewhere("Start them: kubectl create -f jobs.yaml")

    monkeypatch.setattr(run_points, "run_planned_jobs", elsewhere)
    main.main([*CHECK, *ASKED])
    assert "kubectl create -f jobs.yaml" in capsys.readouterr().err
