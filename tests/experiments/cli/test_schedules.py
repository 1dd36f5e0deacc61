# SPDX-License-Identifier: Apache-2.0
"""isoflop fit CURVES --law multi_power: loss curves, their schedules, and others predicted."""

import csv
import json

import numpy as np
import pytest

from experiments.cli.main import main

# L0, A, alpha, B, C, beta, gamma of Luo et al. 2025 at 25M.
LAW = (3.040, 0.525, 0.508, 363.788, 2.066, 0.583, 0.641)
# Knots (step, rate) of schedules; linear in between.
KNOTS = {
    "flat": [(0, 0.0), (100, 3e-4), (1000, 3e-4)],
    "down": [(0, 0.0), (100, 3e-4), (600, 3e-4), (1000, 3e-5)],
    "early": [(0, 0.0), (100, 3e-4), (300, 3e-4), (1000, 3e-5)],
    "cliff": [(0, 0.0), (100, 3e-4), (499, 3e-4), (500, 9e-5), (1000, 9e-5)],
}
FITTED = ("flat", "down", "cliff")
NAMED = ("--columns", "run_id=name,learning_rate=lr", "--law", "multi_power")
# The others are found in a moment.
QUICK = ("--fix", "C=2.066,beta=0.583,gamma=0.641", "--no-intervals")


def naive(knots, t):
    """The law as printed, step by step."""
    L0, A, alpha, B, C, beta, gamma = LAW
    lr = np.interp(np.arange(t + 1), *np.transpose(knots))
    reach = np.cumsum(lr[::-1])[::-1]
    k = np.arange(1, t + 1)
    fallen = (lr[k - 1] - lr[k]) * (1 - (1 + C * lr[k] ** -gamma * reach[k]) ** -beta)
    return L0 + A * lr.sum() ** -alpha - B * fallen.sum()


def write(path, head, rows):
    path.write_text("\n".join([head, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return str(path)


@pytest.fixture
def curves(tmp_path):
    """Evaluations every 75 steps; the tracker also logs rates where nothing is evaluated."""
    rows = []
    for name in FITTED:
        at = {*range(200, 1001, 75), *(step for step, _ in KNOTS[name])}
        for t in sorted(at):
            loss = naive(KNOTS[name], t) if t >= 200 else ""
            rows.append((name, t, np.interp(t, *np.transpose(KNOTS[name])), loss))
    return write(tmp_path / "curves.csv", "name,step,lr,loss_nats", rows)


def test_curves_are_fitted_and_schedules_predicted(tmp_path, curves, capsys):
    new = [(name, *knot) for name in ("early", "flat") for knot in KNOTS[name]]
    ask = write(tmp_path / "ask.csv", "name,step,lr", new)
    out, to = tmp_path / "fit.json", tmp_path / "new" / "told.csv"
    main(["fit", curves, *NAMED, *QUICK, "--predict", ask, str(to), "--out", str(out)])
    said = capsys.readouterr().out
    assert "38 evaluations of 3 runs; sum of Huber(0.001) on residuals of log loss" in said
    assert "rows have no loss: no evaluations" in said
    assert "certified: converged to a certified minimum." in said
    found = json.loads(out.read_text())
    assert found["law"] == "multi_power"
    np.testing.assert_allclose(
        [found["parameters"][name] for name in ("L0", "A", "alpha", "B")], LAW[:4], rtol=1e-3
    )
    assert found["parameters"]["C"] == pytest.approx(2.066, rel=1e-12)
    ends = {name: naive(KNOTS[name], 1000) for name in ("early", "flat")}
    assert found["ranking"]["names"] == sorted(ends, key=lambda name: ends[name])
    assert found["ranking"]["loss"] == pytest.approx(sorted(ends.values()), abs=1e-4)
    with to.open() as file:
        rows = list(csv.DictReader(file))
    assert {row["run_id"] for row in rows} == {"early", "flat"}
    for row in rows[10::23]:
        exact = naive(KNOTS[row["run_id"]], int(row["step"]))
        assert float(row["loss_nats"]) == pytest.approx(exact, abs=1e-4)


def test_rates_may_stand_in_a_table_of_their_own(tmp_path, curves, capsys):
    with open(curves) as file:
        rows = [row for row in csv.DictReader(file) if row["loss_nats"]]
    alone = write(
        tmp_path / "losses.csv",
        "name,step,loss_nats",
        [(row["name"], row["step"], row["loss_nats"]) for row in rows],
    )
    knots = [(name, *knot) for name in KNOTS for knot in KNOTS[name]]
    rates = write(tmp_path / "rates.csv", "name,step,lr", knots)
    objectives = []
    for asked in ((curves,), (alone, "--schedules", rates)):
        main(["fit", *asked, *NAMED, *QUICK, "--json"])
        found = json.loads(capsys.readouterr().out)
        objectives.append(found["certificate"]["objective"])
        assert found["parameters"]["B"] == pytest.approx(LAW[3], rel=1e-3)
        assert not any("warm-up" in one for one in found["findings"])
    assert objectives[0] == pytest.approx(objectives[1], abs=1e-10)


@pytest.mark.parametrize(
    ("rows", "asked", "said"),
    [
        ([("a", 5, 1e-3, 3.0), ("a", 5, 2e-3, 2.9)], (), "run a has two rates at step 5"),
        ([("a", 5.5, 1e-3, 3.0)], (), "run a has a rate at step 5.5; steps are whole"),
        ([("a", 5, -1e-3, 3.0)], (), "lr is -0.001, must be positive and finite"),
        ([("a", 5, 1e-3, 3.0)], ("--tie", "beta=alpha"), "--tie: not with --law multi_power"),
        ([("a", 5, 1e-3, 3.0)], ("--weights", "lr"), "--weights: not with --law multi_power"),
        ([("a", 5, 1e-3, 3.0)], (), "the multi_power law has 7 free parameters"),
    ],
)
def test_curves_that_cannot_be_fitted_are_refused(tmp_path, refused, rows, asked, said):
    path = write(tmp_path / "bad.csv", "name,step,lr,loss_nats", rows)
    assert said in refused("fit", path, *NAMED, *asked)


def test_schedules_without_their_law_are_refused(refused, curves):
    line = refused("fit", curves, "--schedules", curves)
    assert "--schedules: only with --law multi_power" in line
