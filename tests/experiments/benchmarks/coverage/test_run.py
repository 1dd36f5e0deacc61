# SPDX-License-Identifier: Apache-2.0
"""The coverage benchmark: what it draws, and its page."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from experiments.benchmarks.coverage import forecasts as simulated
from experiments.benchmarks.coverage import run
from experiments.benchmarks.coverage.page import page
from experiments.benchmarks.coverage.studies import STUDIES
from scaling.intervals import Interval


def counts(study, hits, n=1000):
    key = (study, "surface", "residual", "a", "truth")
    return Counter(
        {(*key, "simulations"): n, (*key, "answers"): n, (*key, 0.8): hits}
        | {(*key, level): n for level in (0.9, 0.95)}
    )


def test_the_page_has_shares_in_per_cent_and_marks_what_misses():
    of_small = counts("small, one seed", 800)
    both = counts("symmetric", 800) + counts("curved", 700)
    text = page(of_small + both, "`make bench-coverage`")
    assert "| surface | residual | truth | a | 80.0 | **100.0** | **100.0** | 100 % |" in text
    assert "| surface | residual | truth | a | **70.0** | **100.0** | **100.0** | 100 % |" in text
    apart = "| by themselves | surface | residual | truth | 1 of 6 | 70.0 for 80 % (curved, a)"
    assert apart in text
    assert text.index(apart) < text.index("| small | surface | residual | truth | 1 of 3 |")


def forecasts(inside, n=400):
    of_each = {"simulations": n, "answers": n, "inside": inside, "width": 20.0}
    return Counter(
        {
            ("symmetric", run.ESTIMATOR, method, what): value
            for method in ("bootstrap", "widened", "conformal")
            for what, value in of_each.items()
        }
    )


def test_forecasts_have_a_page_of_their_own_and_one_level():
    """Of five budgets 5/6; the standard error there is 1.9 points."""
    pages = run._pages(counts("symmetric", 800) + forecasts(333), "about")
    assert list(pages) == ["coverage", "coverage_forecasts"]
    half = "83.2 | 0.050 | 100 %"
    assert (
        f"| symmetric | 5 | 83.3 | 1.9 | {half} | {half} | {half} |" in pages["coverage_forecasts"]
    )
    assert "forecast" not in pages["coverage"]
    assert "**77.0**" in run._pages(forecasts(308), "")["coverage_forecasts"]
    assert "| 78.5 |" in run._pages(forecasts(314), "")["coverage_forecasts"]


def test_a_new_run_is_inside_where_its_interval_holds_it(monkeypatch):
    study = next(study for study in STUDIES if study.name == "small, one seed")
    truth = study.truth()["loss_opt"]
    wide = Interval(lower=0.9 * truth, upper=1.1 * truth)
    asked = []

    def intervals(study, runs, at):
        asked.append(at)
        return wide, wide, Interval(lower=wide.lower, upper=truth)

    monkeypatch.setattr(simulated, "_intervals", intervals)
    found = simulated.count_forecasts(study, 7, 2000)
    key = (study.name, run.ESTIMATOR)
    assert found[(*key, "bootstrap", "inside")] == 2000
    # Half of the noise is positive.
    assert found[(*key, "conformal", "inside")] == pytest.approx(1000, abs=100)
    assert found[(*key, "conformal", "width")] == pytest.approx(2000 * 0.1 * truth)
    (n_params, n_tokens), *_ = asked
    assert 6 * n_params * n_tokens == pytest.approx(study.flops)
    assert simulated.level_of(study) == 4 / 5


def test_a_part_is_shown_and_the_whole_page_stays(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "_results", lambda *_: iter([counts("symmetric", 800)]))
    command = ["coverage", "--only", "symm", "--simulations", "1", "--results", str(tmp_path)]
    monkeypatch.setattr("sys.argv", command)
    run.main()
    assert "## symmetric" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_no_study_begins_with_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["coverage", "--only", "branches"])
    with pytest.raises(SystemExit, match="2"):
        run.main()
    assert "no study begins so; studies: symmetric, " in capsys.readouterr().err


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_noise_of_a_study_is_shared_as_it_says(study):
    """Variance, and correlation between budgets of one trunk, over all runs; what budgets that
    wander add is apart."""
    runs = study.runs()
    study = replace(study, wander=0.0)
    drawn = study.noise_draws(runs.loss_nats, 3000, np.random.default_rng(0))
    drawn = (drawn - drawn.mean(axis=0)) / drawn.std(axis=0)
    shared = runs.cluster_id[:, None] == runs.cluster_id
    np.fill_diagonal(shared, False)
    assert np.any(shared) == (study.trunk is not None)
    correlation = drawn.T @ drawn / len(drawn)
    if study.trunk is not None:
        assert np.mean(correlation[shared]) == pytest.approx(study.trunk, abs=0.01)
        assert len(np.unique(runs.cluster_id)) == study.n_sizes * study.n_seeds
    np.fill_diagonal(shared, True)
    assert np.max(np.abs(correlation[~shared])) < 0.1
