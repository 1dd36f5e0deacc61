# SPDX-License-Identifier: Apache-2.0
"""isoflop fit TABLE by column: no runs, several targets, groups, rows to predict."""

import csv
import json

import numpy as np
import pytest

from experiments.cli.main import main

# What is planted: (group, streams, size) -> loss, and a second target of twice the size.
FLOORS = {"code": 1.0, "web": 2.0}


def loss(group, n_params, streams):
    return FLOORS[group] + 30.0 / (n_params * (1.0 + 0.4 * np.log(streams))) ** 0.2


def rows(sizes):
    return [
        (group, n / 1e6, p, loss(group, n, p), 2.0 * loss(group, n, p))
        for group in FLOORS
        for n in sizes
        for p in (1, 2, 4)
    ]


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "streams.csv"
    lines = [",".join(map(str, row)) for row in rows(np.geomspace(5e8, 4e9, 6))]
    path.write_text("\n".join(["corpus,size,streams,loss,double", *lines]) + "\n")
    return path


NAMED = ("--law", "parallel", "--columns", "n_params=size:M,n_streams=streams")


def test_groups_and_targets_are_fitted_and_rows_of_a_file_predicted(tmp_path, table, capsys):
    ask, to, out = tmp_path / "ask.csv", tmp_path / "new" / "told.csv", tmp_path / "fit.json"
    asked = [("web", 9e9, 8), ("code", 1e10, 1)]
    lines = [f"{g},{n / 1e6},{p}" for g, n, p in asked]
    ask.write_text("\n".join(["corpus,size,streams", *lines]) + "\n")
    arguments = ("--target", "loss,double", "--by", "corpus", "--bootstrap", "16")
    main(["fit", str(table), *NAMED, *arguments, "--predict", str(ask), str(to), "--out", str(out)])
    said = capsys.readouterr().out
    assert "parallel: L = E + K (N (1 + k ln P))^-alpha" in said
    assert said.count("certified.") == 4
    assert "2 rows predicted" in said
    with to.open() as file:
        told = list(csv.DictReader(file))
    assert [row["corpus"] for row in told] == ["web", "code"]
    for row, (group, n, p) in zip(told, asked, strict=True):
        assert float(row["loss"]) == pytest.approx(loss(group, n, p), rel=1e-6)
        assert float(row["double"]) == pytest.approx(2 * loss(group, n, p), rel=1e-6)
        ends = float(row["loss_lower"]), float(row["loss_upper"])
        assert ends == pytest.approx((loss(group, n, p),) * 2, rel=1e-4)
    answer = json.loads(out.read_text())
    found = {(one["group"], one["target"]): one["parameters"] for one in answer["fits"]}
    assert found["code", "loss"]["E"] == pytest.approx(1.0, rel=1e-5)
    assert found["web", "double"]["alpha"] == pytest.approx(0.2, rel=1e-5)
    assert answer["held_out"]["r2"] > 0.9999


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--target", "loss", "--columns", "n_params=size"), "has no column n_streams"),
        ((*NAMED, "--target", "perplexity"), "has no column perplexity"),
        ((*NAMED, "--target", "loss", "--by", "text"), "has no column text"),
        ((*NAMED, "--target", "corpus"), "corpus is 'code', not a number"),
        ((*NAMED, "--target", "loss", "--best-per", "size"), "--best-per: for runs, not with"),
        ((*NAMED, "--columns", "width=size", "--target", "loss"), "--columns names width"),
        ((*NAMED, "--target", "loss", "--where", "streams=1", "--where", "size<900"),
         "4 free parameters and needs at least 6 different"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_a_line(table, refused, arguments, said):
    arguments = arguments if "--law" in arguments else ("--law", "parallel", *arguments)
    assert said in " ".join(refused("fit", table, *arguments).split())


def test_a_group_that_was_not_fitted_is_named(tmp_path, table, refused):
    ask = tmp_path / "ask.csv"
    ask.write_text("corpus,size,streams\nmaths,900,2\n")
    arguments = ("--target", "loss", "--by", "corpus", "--bootstrap", "0")
    line = refused("fit", table, *NAMED, *arguments, "--predict", ask, tmp_path / "to.csv")
    assert "the group 'maths'; groups are code, web" in line
