# SPDX-License-Identifier: Apache-2.0
"""What `isoflop plan` says beside the grid."""

import json
from pathlib import Path

import pytest
from small_studies import mine

from experiments.cli.load_study import load_study
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
        ("auto", 1600, "final weights of 1 runs are kept, 0.0064 MB"),
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
    assert said in out


def test_the_plan_as_an_object_is_that_of_the_table(isoflop, mine_file):
    code, out, err = isoflop("plan", "mine.py", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    study = load_study("mine.py")
    ledger = Ledger(Path("results"), "mine")
    planned = plan(study, Manifest.read(ledger.manifest)).points
    assert [point_from_json(json.dumps(run)) for run in found["runs"]] == list(planned)
    assert (found["study"], found["refused"]) == ("mine", [])
    # And its states, before anything was trained.
    assert isoflop("status", "mine.py", "--json")[0] == 2
    ledger.write_plan("{}", list(planned))
    code, out, err = isoflop("status", "mine.py", "--json")
    assert (code, err) == (0, "")
    runs = json.loads(out)["runs"]
    assert {run["id"] for run in runs} == {point.id for point in planned}
    assert {(run["state"], run["attempt"], run["reason"]) for run in runs} == {("waiting", 0, "")}
    assert isoflop("status", "mine.py", "--json", "--watch")[0] == 2
