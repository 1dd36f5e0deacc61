# SPDX-License-Identifier: Apache-2.0
"""A study that was run under another name is named by that alone: its folder tells what it is."""

import json
from pathlib import Path

import pytest
from command_line import is_one_line

from experiments.cli.opening.load_study import load_study
from experiments.ledger.ledger import Ledger
from experiments.plan.point import to_json
from experiments.train import run_points


@pytest.fixture
def shaken(isoflop, mine_file, monkeypatch, record):
    """`isoflop run mine.py name=shake3 ...` without training; then the file is gone."""

    def run_planned_jobs(ledger, planned_jobs, jobs, executor, view, **_):
        for point in (point for job in planned_jobs for point in job.points):
            n, d = point.params.total, point.n_tokens
            ledger.write_result(point.id, record(1.5 + 26 * n**-0.4 + 90 * d**-0.4))
        return []

    monkeypatch.setattr(run_points, "run_planned_jobs", run_planned_jobs)
    changes = ("name=shake3", "budgets=4.8e9", "seeds=3", "recipe.optimizer.beta1=0.8")
    code, _, err = isoflop("run", "mine.py", *changes)
    assert code == 0, err
    asked = load_study("mine.py")
    mine_file.unlink()
    return asked


def test_its_name_is_enough(isoflop, shaken):
    study = load_study("shake3", Path("results"))
    assert (study.name, study.budgets, study.seeds) == ("shake3", (4.8e9,), (3,))
    assert study.recipe.optimizer.beta1 == 0.8
    assert study.sizes == shaken.sizes
    assert Ledger(Path("results"), "shake3").is_study(to_json(study))
    code, answer, err = isoflop("fit", "shake3")
    assert (code, err) == (0, "")
    assert answer.startswith("At 4.8e9 FLOPs train ")
    for command in ("status", "report", "plot", "data"):
        code, out, err = isoflop(command, "shake3")
        assert code == 0, err
        assert "the study now asks otherwise" not in out
    code, out, err = isoflop("compare", "shake3", "shake3", "--approach", "isoflop")
    assert "interior minima at 0" in err or "needs at least two budgets" in err, err


def test_a_folder_elsewhere_is_named_with_results(isoflop, shaken):
    Path("results").rename("others")
    code, _, err = isoflop("status", "shake3")
    assert code == 2
    assert is_one_line(err)
    assert "unknown study 'shake3'" in err
    assert isoflop("status", "shake3", "--results", "others")[0] == 0


def test_a_folder_that_does_not_tell_its_study_is_refused(isoflop, shaken):
    path = Path("results/shake3/study.json")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"shake3", b"shake4"))
    code, _, err = isoflop("status", "shake3")
    assert (code, is_one_line(err)) == (2, True)
    assert "does not tell its study" in err
    ledger = Ledger(Path("results"), "shake3")
    path.write_bytes(whole)
    text = ledger.study_json()
    unknown = json.loads(text) | {"name": "other", "seed": 3}
    without = {name: value for name, value in json.loads(text).items() if name != "keep"}
    for asked in (unknown, without):
        ledger.write_plan(json.dumps(asked), ledger.read_plan())
        code, _, err = isoflop("fit", "shake3")
        assert (code, is_one_line(err)) == (2, True)
        assert "name the file that it is from" in err


def test_a_path_is_no_name(isoflop, shaken):
    code, _, err = isoflop("status", "../results/shake3")
    assert code == 2
    assert "unknown study" in err
