# SPDX-License-Identifier: Apache-2.0
"""What `isoflop plan` says beside the grid."""

import json
import re
from pathlib import Path

import pytest
from command_line import is_one_line
from small_studies import mine

from experiments.cli import run
from experiments.cli.opening.load_study import load_study
from experiments.ledger.ledger import Ledger
from experiments.plan.plan import plan
from experiments.plan.point import point_from_json
from model.data.manifest import Manifest

BOTH = "final weights of 2 runs are kept, {} MB (keep={})"
AUTO = "auto, networks of at most {:,} parameters"


@pytest.mark.parametrize(
    ("keep", "most", "said"),
    [
        ("auto", 10_000_000, BOTH.format("0.0325", AUTO.format(10_000_000))),
        ("auto", 1600, "final weights of 1 run are kept, 0.0064 MB"),
        ("final", 1600, BOTH.format("0.0325", "final")),
        ("none", 10_000_000, "final weights of 0 runs are kept, 0 MB (keep=none)"),
    ],
)
def test_it_says_of_how_many_runs_the_weights_are_kept(
    isoflop, tmp_path, monkeypatch, keep, most, said
):
    """Of two runs, with 1,600 and 6,528 parameters of four bytes."""
    for module in ("experiments.study.study", "experiments.cli.plan"):
        monkeypatch.setattr(f"{module}.MOST_KEPT_PARAMS", most)
    (tmp_path / "mine.py").write_text(mine())
    code, out, err = isoflop("plan", "mine.py", f"keep={keep}")
    assert (code, err) == (0, "")
    assert said in " ".join(out.split())


def test_the_plan_as_an_object_is_that_of_the_table(isoflop, mine_file):
    code, out, err = isoflop("plan", "mine.py", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    study = load_study("mine.py")
    ledger = Ledger(Path("results"), "mine")
    planned = plan(study, Manifest.read(ledger.manifest)).points
    assert [point_from_json(json.dumps(run)) for run in found["runs"]] == list(planned)
    fewer = "fewer than 0.1 tokens per parameter."
    assert found["study"] == "mine"
    assert found["refused"] == [{"budget": 3e8, "d_model": 32, "reason": fewer}]
    parabolas, envelope = found["answers"].pop("may_not")
    assert parabolas.startswith("isoflop: parabolas at ")
    assert envelope.startswith("envelope: 5 sizes; it is certified from 6 on")
    assert found["answers"] == {"no_law": "", "cannot": [], "refusal": ""}
    # And its states, before anything was trained.
    assert isoflop("status", "mine.py", "--json")[0] == 2
    ledger.write_plan("{}", list(planned))
    code, out, err = isoflop("status", "mine.py", "--json")
    assert (code, err) == (0, "")
    runs = json.loads(out)["runs"]
    assert {run["id"] for run in runs} == {point.id for point in planned}
    assert {(run["state"], run["attempt"], run["reason"]) for run in runs} == {("waiting", 0, "")}
    assert isoflop("status", "mine.py", "--json", "--watch")[0] == 2


def test_a_plan_says_what_it_leaves_out_and_what_it_cannot_answer(isoflop, tmp_path):
    sizes = "sizes=Ladder(d_models=(8, 16, 24, 32), tokens_per_param=(0.5, 30))"
    (tmp_path / "mine.py").write_text(mine(f"budgets=(3e8, 1e9), {sizes}"))
    code, out, err = isoflop("plan", "mine.py")
    assert (code, err) == (0, "")
    assert "left out at 3e8 FLOPs: d_model 24, 32: fewer than 0.5 tokens per parameter." in out
    assert "left out at 1e9 FLOPs: d_model 8: more than 30 tokens per parameter." in out
    code, out, err = isoflop("plan", "mine.py", "budgets=3e8")
    assert (code, err) == (0, "")
    assert "`isoflop run` refuses it: 2 sizes at 1 budget: no approach can answer." in out
    code, out, err = isoflop("plan", "mine.py", "budgets=3e8", "axes=optimizer.learning_rate:0.5,1")
    assert (code, err) == (0, "")
    assert "refuses" not in out
    assert "cannot answer" not in out
    assert "2 sizes at 1 budget: no law is fitted, losses are compared." in out
    assert (
        "may not answer: axis recipe.optimizer.learning_rate: 2 values, a minimum needs 3; "
        "0.5 to 1 does not reach both sides of the study's 1: the best may lie beyond."
    ) in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80


def test_a_plan_tells_of_forecasts_and_of_data_that_are_read_again(isoflop, tmp_path):
    texts = 'data=TextFiles(paths=("texts",), validation_fraction=0.2), max_epochs=1e3'
    (tmp_path / "texts").mkdir()
    for i in range(60):
        (tmp_path / "texts" / f"{i}.txt").write_text(chr(48 + i) * 90)
    (tmp_path / "mine.py").write_text(mine(f"{texts}, forecast_budgets=(9e8,)"))
    then = "then a run at 9e8 FLOPs, whose loss is forecast first: not counted above"
    code, out, err = isoflop("plan", "mine.py", "budgets=1e8,3e8")
    assert (code, err) == (0, "")
    assert then in out
    # One budget tells nothing of others: no forecast, and no run that waits for one.
    code, out, err = isoflop("plan", "mine.py")
    assert (code, err) == (0, "")
    assert "cannot answer: a forecast: one budget tells nothing of others." in out
    assert then not in out
    found = json.loads(isoflop("plan", "mine.py", "--json")[1])["runs"]
    most = max(run["epochs"] for run in found)
    assert most > 1
    said = f"2 of them read their training data more than once, up to {most:.2f} times"
    assert said in " ".join(out.split())
    (tmp_path / "mine.py").write_text(mine())
    plain = " ".join(isoflop("plan", "mine.py")[1].split())
    assert "more than once" not in plain
    assert "forecast" not in plain


def test_widths_that_some_settings_train_are_left_out_by_some(isoflop, tmp_path):
    sizes = "sizes=Ladder(d_models=(8, 16, 24, 32), tokens_per_param=(2.0, 40.0))"
    lengths = 'axes=(Axis(field="seq_len", values=(16, 128)),)'
    study = mine(f"budgets=(1e9,), {sizes}, {lengths}").replace(
        "import Ladder", "import Axis, Ladder"
    )
    (tmp_path / "mine.py").write_text(study)
    code, out, err = isoflop("plan", "mine.py")
    assert (code, err) == (0, "")
    planned = plan(load_study("mine.py"), Manifest.read(Ledger(Path("results"), "mine").manifest))
    trained = {point.spec.model.d_model for point in planned.points}
    said = {one.d_model: one.d_model in trained for one in planned.refused}
    assert {True, False} == set(said.values())
    for line in planned.left_out:
        assert line in " ".join(out.split())
        widths = re.search(r"d_model ([\d, ]+):", line)[1].split(", ")
        assert {said[int(width)] for width in widths} == {"by some settings" in line}


def test_nothing_that_a_plan_lists_is_wider_than_a_terminal(isoflop, tmp_path):
    """Settings have a column; one line tells all widths that a budget has no data for."""
    few = "data=TextFiles(paths=('texts',), validation_fraction=0.2), max_epochs=1.0"
    sizes = "sizes=Ladder(d_models=(8, 16, 24, 32), tokens_per_param=(0.1, 1e4))"
    (tmp_path / "texts").mkdir()
    for i in range(60):
        (tmp_path / "texts" / f"{i}.txt").write_text(chr(48 + i) * 200)
    (tmp_path / "mine.py").write_text(mine(f"{few}, budgets=(1e9,), {sizes}"))
    code, out, err = isoflop("plan", "mine.py", "axes=optimizer.learning_rate:0.25,1")
    assert (code, err) == (0, "")
    lines = [one for one in out.splitlines() if one.startswith(("budget", "1e9", "left", "  "))]
    assert max(map(len, lines)) <= 80
    head, *rows = [line.split() for line in lines if "left" not in line]
    assert head[:5] == ["budget", "d_model", "learning_rate", "params", "tokens"]
    assert {row[2] for row in rows if row[0] == "1e9"} == {"0.25", "1"}
    said = " ".join(out.split())
    assert "left out at 1e9 FLOPs: d_model 8, 16: " in said
    assert said.count("epochs of the") == 2
    assert said.count("Give more data, lower the budget, or raise max_epochs.") == 1


def test_data_may_change_until_training_has_begun(isoflop, tmp_path):
    (tmp_path / "mine.py").write_text(mine())
    assert isoflop("plan", "mine.py")[0] == 0
    (tmp_path / "mine.py").write_text(mine("data=replace(zipf, language_seed=1)"))
    assert isoflop("plan", "mine.py")[0] == 0
    ledger = Ledger(Path("results"), "mine")
    assert Manifest.read(ledger.manifest).source["language_seed"] == 1
    planned = plan(load_study("mine.py"), Manifest.read(ledger.manifest))
    ledger.write_plan("{}", list(planned.points))
    (tmp_path / "mine.py").write_text(mine())
    code, out, err = isoflop("plan", "mine.py")
    assert (code, out) == (2, "")
    assert is_one_line(err), err
    assert "describes other data than the study asks for" in err


@pytest.fixture
def trained(monkeypatch):
    """Stands for the training of what is missing: the grids that it was asked for."""
    asked = []
    monkeypatch.setattr(run, "answer_study", lambda work, goal: asked.append(work.grid))
    return asked


def test_a_grid_that_nothing_can_answer_is_refused_before_it_is_trained(
    isoflop, tmp_path, trained, record
):
    (tmp_path / "mine.py").write_text(mine())
    code, out, err = isoflop("run", "mine.py")
    assert (code, out) == (2, "")
    assert is_one_line(err), err
    assert "2 sizes at 1 budget: no approach can answer" in err
    assert "--anyway trains these" in err
    assert not trained
    assert isoflop("run", "mine.py", "--anyway")[0] == 0
    # One size, settings to compare, runs that are chosen as it goes, what is trained already.
    for legal in (["sizes.d_models=8"], ["axes=seq_len:16,32"], ["--until", "ci(a) < 1"]):
        assert isoflop("run", "mine.py", *legal)[0] == 0
    assert len(trained) == 4
    ledger = Ledger(Path("results"), "mine")
    ledger.write_plan("{}", trained[0])
    for point in trained[0]:
        ledger.write_result(point.id, record())
    assert isoflop("run", "mine.py")[0] == 0
