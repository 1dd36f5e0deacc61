# SPDX-License-Identifier: Apache-2.0
"""make bench-forecast: its studies are those of the file, and every one that is done is counted."""

import csv
import itertools
import json

import pytest
from scipy.stats import binomtest

from experiments.benchmarks import forecasts
from experiments.benchmarks.forecasts import (
    STUDIES,
    curve_inside,
    gathered,
    lowest_of_grid,
    summary,
)
from experiments.benchmarks.forecasts_page import page
from experiments.ledger.forecasts import Trajectory
from experiments.ledger.ledger import Ledger
from model.training.outcome import CurvePoint


def test_no_two_studies_share_a_seed_a_language_or_a_name():
    assert len(STUDIES) >= 20
    assert len({study.name for study in STUDIES}) == len(STUDIES)
    seeds = [{*itertools.chain(*study.seeds_per_budget)} for study in STUDIES]
    assert sum(map(len, seeds)) == len(set.union(*seeds))
    languages = [study.data.language_seed for study in STUDIES if study.data.kind == "zipf"]
    assert len(set(languages)) == len(languages) == len(STUDIES) / 3
    for study in STUDIES:
        assert [budget / study.budgets[-1] for budget in study.forecast_budgets] == [3.0, 10.0]


def row(name, factor, *, value=2.0, came_out=2.0, inside=True, fall=0.2, kind="peps"):
    return {
        **{"study": name, "kind": kind, "recipe": "dense", "seq_len": 64, "alpha": None},
        **{"factor": factor, "value": value, "lower": 1.9, "upper": 2.1, "came_out": came_out},
        **{
            "widened": 1.25,
            "inside": inside,
            "fall": fall,
            "sha256": "00",
            "git_commit": "abcdef01",
        },
        **{"conformal": inside, "conformal_level": 0.75, "curve_inside": 0.5},
    }


def test_shares_are_exact_and_errors_are_shares_of_the_fall():
    rows = [row(f"s{i}", 3.0, came_out=2.0 + 0.01 * i, inside=i != 4) for i in range(5)]
    rows.append(row("s5", 3.0, came_out=None, inside=False, fall=None))
    found = summary(rows)
    exact = binomtest(4, 6).proportion_ci()
    assert (found["forecasts"], found["inside"]) == (6, 4)
    assert (found["lower"], found["upper"]) == pytest.approx((exact.low, exact.high))
    assert found["error_nats"] == pytest.approx(0.02)
    assert found["error_of_fall"] == pytest.approx(0.1)
    assert found["width_nats"] == pytest.approx(0.2)
    assert (found["conformal"], found["conformal_known"], found["curve_inside"]) == (4, 6, 0.5)
    # 0.08 is 0.1 / 1.25: so far the interval reaches before it is widened.
    assert summary([row("s", 3.0, came_out=2.079)])["inside_bootstrap"] == 1
    assert summary([row("s", 3.0, came_out=2.081)])["inside_bootstrap"] == 0
    # Where the loss did not fall at all, no error is small.
    assert summary([row("s", 3.0, came_out=2.1, fall=-0.1)])["error_of_fall"] is None


def test_the_page_counts_what_is_done_and_names_what_is_not(tmp_path):
    about = {"command": "make bench-forecast", "device": "an abacus", "cores": 2}
    about |= {"python": "3.11.2", "version_jax": "0.10", "git_commit": "0123456789"}
    rows = [row("peps-01", 3.0), row("peps-01", 10.0, came_out=None, inside=False, fall=None)]
    record = about | {
        "budgets": (1e9, 1e10),
        "studies": 2,
        "unfinished": ["zipf-02"],
        "forecasts": rows,
    }
    record["summary"] = [{"factor": 3.0, "data": "all", **summary(rows[:1])},
                         {"factor": 10.0, "data": "all", **summary(rows[1:])}]  # fmt: skip
    text = page(record)
    assert "1 of 2 studies" in text
    assert "written before their runs by commit abcdef0 (" in text
    assert (
        "| 3x | all | 1 of 1 (3% to 100%) | 1 | 0.000 | 0% | 0.200 | 1.25 | 1 of 1 | 50% |" in text
    )
    assert (
        "| 10x | all | 0 of 1 (0% to 98%) | 0 | unknown | unknown | 0.200 | 1.25 | 0 of 1 | 50% |"
        in text
    )
    assert "| peps-01 | dense | 64 |  | 10x | 2.000 (1.900 to 2.100) | diverged | no |" in text
    assert text.endswith("Not finished, or without both: zipf-02.\n")
    json.dumps(gathered(tmp_path), allow_nan=False)
    assert gathered(tmp_path)["unfinished"] == [study.name for study in STUDIES]


def test_a_curve_is_judged_where_it_was_evaluated(forecast, points):
    band = {"value": (2.5, 2.0), "lower": (2.4, 1.9), "upper": (2.6, 2.1)}
    expected = Trajectory(level=0.95, share=(0.5, 1.0), **band)
    made = forecast(points[0], trajectory=expected)
    # At three quarters the band is half-way: 2.15 to 2.35.
    curve = [
        CurvePoint(step=1, n_tokens=int(share * points[0].n_tokens), loss_nats=loss)
        for share, loss in ((0.5, 2.59), (0.75, 2.34), (0.75, 2.36), (1.0, 1.95))
    ]
    assert curve_inside(made, curve) == 0.75
    assert curve_inside(made, ()) is None
    assert curve_inside(forecast(points[0]), curve) is None


def test_the_lowest_loss_of_the_grid_is_a_mean_at_its_largest_budget(tmp_path):
    ledger = Ledger(tmp_path, "s")
    ledger.folder.mkdir()
    rows = [("grid", "ok", 1e9, 8, 1.0), ("grid", "ok", 3e9, 8, 2.0), ("grid", "ok", 3e9, 8, 2.4),
            ("grid", "ok", 3e9, 12, 2.3), ("grid", "diverged", 3e9, 16, ""),
            ("forecast", "ok", 3e10, 16, 1.5)]  # fmt: skip
    with ledger.table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("role", "status", "budget", "d_model", "loss_nats"))
        writer.writerows(rows)
    assert lowest_of_grid(ledger) == pytest.approx(2.2)


def test_a_study_is_run_as_a_user_would_from_a_file_that_names_it(tmp_path, monkeypatch):
    from experiments.cli.opening.load_study import load_study

    asked = []
    monkeypatch.setattr(
        forecasts, "run_study", lambda *words, results: asked.append((words, results))
    )
    forecasts.train(3, tmp_path, "1")
    (((file, *words), results),) = asked
    assert load_study(file, tmp_path) == STUDIES[3]
    assert (words, results) == (["--workers", "1"], tmp_path)
