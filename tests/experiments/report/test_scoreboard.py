# SPDX-License-Identifier: Apache-2.0
"""Forecasts beside what came out: which count, how often they hold, and what is shown of them."""

import json
import math
import os
import time

import pytest
from scipy.stats import binomtest

from experiments.files.checked_json import text_of
from experiments.ledger.forecasts import Predicted, name_of, write_forecast
from experiments.ledger.ledger import Ledger
from experiments.ledger.owner import this_process
from experiments.report.scoreboard import as_object, calibrated, covered, scoreboard, scores

GUESS = {"value": 2.0, "lower": 1.9, "upper": 2.1}


@pytest.fixture
def forecasted(tmp_path, points, record, forecast):
    """A study with one forecast of its last point, whose grid's largest budget is 4e11."""

    def make(name="one", *, came_out=2.05, begins=True, status="ok", guess=GUESS, **changes):
        ledger = Ledger(tmp_path / "results", name)
        ledger.write_plan("{}", points)
        changes = {"made_at": time.time(), "grid_budget": 4e11, **changes}
        made = forecast(points[-1], forecasts={"additive": Predicted(**guess)}, **changes)
        write_forecast(ledger, "k", made)
        if begins:
            ledger.job(points[-1].id).claim(this_process({}), lease_seconds=60.0, max_attempts=3)
        if came_out != "open":
            by = {"job_id": points[-1].id}
            ledger.write_result(points[-1].id, record(came_out, status=status, provenance=by))
        return ledger

    return make


def only(ledger):
    ((found,), damaged) = scores(ledger)
    assert damaged == []
    return found


@pytest.mark.parametrize(
    ("what", "verdict"),
    [
        ({}, "inside"),
        ({"came_out": 2.11}, "outside"),
        ({"came_out": 1.9}, "inside"),
        ({"came_out": None, "status": "diverged"}, "outside"),
        ({"came_out": None, "status": "stopped"}, "outside"),
        ({"came_out": "open"}, "not trained yet"),
        ({"came_out": "open", "begins": False}, "not trained yet"),
        ({"guess": GUESS | {"upper": None}}, "no interval"),
        # Its run had begun, or nobody can tell when.
        ({"made_at": 4e9}, "late"),
        ({"made_at": 4e9, "came_out": "open"}, "late"),
        ({"begins": False}, "late"),
    ],
)
def test_a_forecast_counts_where_it_is_older_than_its_run(forecasted, what, verdict):
    found = only(forecasted(**what))
    assert found.verdict == verdict
    assert found.counts is (verdict in ("inside", "outside", "no interval"))
    assert found.factor == pytest.approx(2.5)
    assert found.is_dated
    if "status" in what:
        assert (found.came_out, found.ended) == (math.inf, what["status"])


def test_a_forecast_without_a_time_has_that_of_its_file(forecasted):
    ledger = forecasted(made_at=None, grid_budget=None)
    found = only(ledger)
    assert (found.verdict, found.is_dated, found.factor) == ("inside", False, pytest.approx(2.5))
    path = ledger.folder / name_of(1e12, "k")
    os.utime(path, (4e9, 4e9))
    assert only(ledger).verdict == "late"


def test_a_damaged_forecast_is_named_and_a_changed_one_is_damaged(forecasted):
    ledger = forecasted()
    path = ledger.folder / name_of(1e12, "k")
    path.write_bytes(path.read_bytes().replace(b'"upper":2.1', b'"upper":2.9'))
    found, damaged = scores(ledger)
    assert found == []
    assert len(damaged) == 1
    assert str(path) in damaged[0]


def test_coverage_takes_a_study_for_one_trial_and_tells_factors_apart(forecasted, forecast, points):
    for number, came_out in enumerate((2.0, 2.05, 2.5, "open")):
        forecasted(f"study{number}", came_out=came_out)
    far = forecasted("far", budget=8e12)
    found, _ = scoreboard([far.results])
    assert [one.study for one in found] == ["far", "study0", "study1", "study2", "study3"]
    near, beyond = covered(found)
    assert (near.n_inside, near.n_forecasts, near.n_studies) == (2, 3, 3)
    exact = binomtest(2, 3).proportion_ci()
    ends = near.share.interval
    assert (ends.lower, ends.upper) == pytest.approx((exact.low, exact.high))
    assert near.median_error == pytest.approx(0.05)
    assert (beyond.factors, beyond.n_inside) == ((20.0, math.inf), 1)


def test_the_object_and_the_curve_have_what_a_program_wants(forecasted):
    quantiles = tuple(2.0 + 0.01 * n for n in range(-19, 20))
    ledger = forecasted(guess=GUESS | {"quantiles": quantiles}, came_out=2.1)
    found, damaged = scores(ledger)
    curve = calibrated(found)
    # Ten hundredths above the middle: outside of the ten narrowest, inside the nine others.
    assert curve.observed.value.tolist() == [0.0] * 9 + [1.0] * 10
    made = as_object(found, damaged)
    (row,) = made["forecasts"]
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert row["error_nats"] == pytest.approx(0.1)
    assert (row["verdict"], row["law"], row["level"]) == ("inside", "additive", 0.95)
    assert row["made_at"] < row["began_at"]
    data = (ledger.folder / name_of(1e12, "k")).read_bytes()
    assert row["sha256"] == json.loads(data)["sha256"]
    assert text_of(data)
    assert made["coverage"][0]["share"] == 1.0
    assert calibrated([]) is None


def test_the_table_has_eighty_columns_and_names_what_does_not_count(forecasted, isoflop):
    forecasted("a" * 20, came_out=2.4)
    forecasted("late", made_at=4e9)
    forecasted("open", came_out="open")
    results = forecasted("undated", made_at=None).results
    code, out, err = isoflop("scoreboard", str(results))
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    for said in ("2.5x", "1.900 to 2.100", "+0.400", "outside", "additive"):
        assert said in out
    assert "1 of 2 inside their 95% intervals, 50%" in " ".join(out.split())
    assert "1 forecasts do not count" in out
    assert "* by the time of the file" in out
    code, out, _ = isoflop("scoreboard", str(results), "--json")
    assert [one["verdict"] for one in json.loads(out)["forecasts"]] == [
        "outside", "late", "not trained yet", "inside"
    ]  # fmt: skip


def test_the_folder_of_one_study_has_its_own_forecasts(forecasted, isoflop):
    forecasted("other")
    study = forecasted("one").folder
    code, out, _ = isoflop("scoreboard", str(study), "--json")
    assert code == 0
    assert [one["study"] for one in json.loads(out)["forecasts"]] == ["one"]


def test_folders_without_forecasts_and_without_quantiles_are_told_in_a_line(
    forecasted, isoflop, tmp_path
):
    results = forecasted().results
    code, _, err = isoflop("scoreboard", str(tmp_path / "nowhere"))
    assert code == 2
    assert "no such folder" in err
    assert err.count("\n") == 1
    code, _, err = isoflop("scoreboard", str(results), "--figure", str(tmp_path / "c.png"))
    assert code == 2
    assert "quantiles" in err
    assert err.count("\n") == 1
    (tmp_path / "empty").mkdir()
    assert isoflop("scoreboard", str(tmp_path / "empty")) == (
        0, f"no forecast in {tmp_path / 'empty'}.\n", ""
    )  # fmt: skip
