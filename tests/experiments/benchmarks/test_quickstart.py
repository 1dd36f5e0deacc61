# SPDX-License-Identifier: Apache-2.0
"""The page of make bench-quickstart, from repeats that were made up."""

import csv
import json
import os
import subprocess

import pytest

from experiments.benchmarks import quickstart
from experiments.benchmarks.quickstart import APPROACHES, gathered, kept, page, train
from experiments.cli.opening.load_study import load_study
from experiments.ledger.ledger import Ledger
from experiments.studies.quickstart import STUDY


def finish(work, name, *, lacking=(), n_resolved=4, came_out=1.45, losses=(2.0, 2.1)):
    ledger = Ledger(work, name)
    ledger.fits.mkdir(parents=True)
    exponents = {n: {"a": 0.5, "is_certified": n not in lacking} for n in APPROACHES}
    predicted = {"value": 1.42, "lower": 1.37, "upper": 1.47}
    forecast = {"by_law": {"curved": predicted, "additive": {}}, "came_out": came_out}
    ledger.answer.write_text(json.dumps({"exponents": exponents, "forecasts": [forecast]}))
    (ledger.fits / "resolved.json").write_text(json.dumps(STUDY.budgets[:n_resolved]))
    (ledger.fits / "curved.json").write_text(json.dumps({"parameters": {"E": 0.461}}))
    rows = [{"role": "grid", "status": "ok", "budget": "2e10", "d_model": 8, "loss_nats": loss}
            for loss in losses]  # fmt: skip
    rows.append(rows[0] | {"role": "forecast", "loss_nats": 9.0})
    rows.append(rows[0] | {"status": "diverged", "loss_nats": ""})
    with ledger.table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def cells(text, first):
    lines = [line for line in text.splitlines() if line.startswith(f"| {first} |")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_a_budget_is_resolved_by_its_own_parabola(tmp_path):
    rows = ["role,status,budget,n_params,n_tokens,flops,loss_nats"]
    for k, budget in enumerate(STUDY.budgets):
        for i in range(7):
            n = 1e4 * 2**k * 1.5 ** (i - 3)
            # The last budget falls to its largest size.
            loss = 2 - 0.1 * k + (0.05 * (i - 3) ** 2 if k < 3 else -0.05 * i)
            rows.append(f"grid,ok,{budget},{n},{budget / 6 / n},{budget},{loss + 0.001 * (i % 2)}")
    table = tmp_path / "table.csv"
    table.write_text("\n".join(rows))
    assert quickstart.resolved(table) == list(STUDY.budgets[:3])
    table.write_text("\n".join([rows[0], *rows[-14:]]))
    assert quickstart.resolved(table) == []


def test_every_repeat_is_counted_and_shown(tmp_path, monkeypatch):
    told = lambda table: json.loads((table.parent / "fits" / "resolved.json").read_text())  # noqa: E731
    monkeypatch.setattr(quickstart, "resolved", told)
    finish(tmp_path, "peps-2", lacking=("isoflop",), n_resolved=3)
    finish(tmp_path, "peps-1")
    finish(tmp_path, "peps-10", came_out=1.5, losses=(2.3,))
    (tmp_path / "peps-3").mkdir()  # Not finished.
    record = {"command": "make bench-quickstart", "device": "an abacus", "cores": 2}
    record |= {"python": "3.11.2", "version_jax": "0.10", "git_commit": "0123456789"}
    monkeypatch.setattr(quickstart, "facts", lambda _: record)
    text = page(record | {"texts": gathered(tmp_path, {})})
    share = "2 (9% to 99%)"
    assert cells(text, "peps") == [["peps", "3", share, share, share]]
    half = ["0.500"] * 4
    made = "an abacus, 0123456"
    assert cells(text, 1) == [
        ["1", *half, "", "0.46", "4 of 4", "1.420 (1.370 to 1.470), came out 1.450", made]
    ]
    assert cells(text, 2)[0][5:8] == ["isoflop", "0.46", "3 of 4"]
    assert cells(text, 10)[0][-2].endswith("came out 1.500")
    # Of 2.0, 2.1, 2.0, 2.1 and 2.3.
    assert cells(text, "2e10") == [["2e10", "8", "5", "0.1225"]]


def test_repeats_of_an_earlier_record_stay_and_are_not_trained_again(tmp_path, monkeypatch):
    monkeypatch.setattr(quickstart, "resolved", lambda _: [])
    monkeypatch.setattr(quickstart, "FOLDER", tmp_path)
    monkeypatch.setattr(quickstart, "write", lambda name, record, _: written.append(record))
    trained, written = [], []

    def made_up(text, repeat, work):
        trained.append(repeat)
        finish(work, f"{text}-{repeat}")
        return Ledger(work, f"{text}-{repeat}")

    monkeypatch.setattr(quickstart, "train", made_up)
    monkeypatch.setattr("sys.argv", ["quickstart", "--repeats", "2", "--work", str(tmp_path)])
    finish(tmp_path / "elsewhere", "peps-1", came_out=1.5)
    record = {"device": "an abacus", "git_commit": "0123456789", "texts": {"peps": []}}
    monkeypatch.setattr(quickstart, "facts", lambda _: record)
    record["texts"] = gathered(tmp_path / "elsewhere", {})
    (tmp_path / "quickstart_repeats.json").write_text(json.dumps(record))
    record = {"device": "a slide rule", "git_commit": "abcdef0123", "cores": 1, "command": "make"}
    record |= {"python": "3", "version_jax": "0.10"}
    quickstart.main()
    assert trained == [2]
    one, two = written[0]["texts"]["peps"]
    assert (one["device"], one["forecast"]["came_out"]) == ("an abacus", 1.5)
    assert (two["device"], two["forecast"]["came_out"]) == ("a slide rule", 1.45)
    (tmp_path / "quickstart_repeats.json").write_text(json.dumps(written[0]))
    assert list(kept(tmp_path / "quickstart_repeats.json").values()) == [one, two]


@pytest.mark.parametrize("text", ["peps", "stdlib", "zipf", "a.txt,b.txt"])
def test_a_repeat_is_the_quickstart_with_other_seeds(tmp_path, monkeypatch, text):
    commands = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: commands.append(command))
    ledger = train(text, 3, tmp_path)
    (command,) = commands
    study = load_study(command[4])
    assert ledger.folder.name == f"{study.data.kind}-3"
    assert getattr(study.data, "paths", ()) == (
        tuple(os.path.abspath(name) for name in text.split(",")) if "," in text else ()
    )
    assert (study.budgets, study.sizes, study.recipe) == (
        STUDY.budgets, STUDY.sizes, STUDY.recipe
    )  # fmt: skip
    assert "seeds=[[3000, 3001, 3002], [3000, 3001, 3002], [3000, 3001], [3000]]" in command
    assert max(map(max, STUDY.seeds_per_budget)) < quickstart.SEEDS_APART
