# SPDX-License-Identifier: Apache-2.0
"""The coverage benchmark: what it draws, and a table of which a part is run again."""

from __future__ import annotations

import argparse
import json
from collections import Counter

import numpy as np
import pytest

from experiments.benchmarks.coverage import run
from experiments.benchmarks.coverage.page import write
from experiments.benchmarks.coverage.studies import STUDIES


def counts(study, hits, n=1000):
    key = (study, "surface", "residual", "a", "truth")
    return Counter(
        {(*key, "simulations"): n, (*key, "answers"): n, (*key, 0.8): hits}
        | {(*key, level): n for level in (0.9, 0.95)}
    )


def options(results, only=None):
    return argparse.Namespace(only=only, results=results, processes=1, replicates=39, seed=1)


def test_studies_that_are_run_again_replace_their_cells_alone(tmp_path):
    both = counts("one", 800) + counts("two", 790)
    write(options(tmp_path), both, 7.0)
    write(options(tmp_path, ["two"]), counts("two", 810), 2.0)
    write(options(tmp_path, ["t"]), counts("two", 820) + counts("three", 830), 3.0)
    record = json.loads((tmp_path / "benchmarks" / "coverage.json").read_text())
    found = {cell["study"]: cell["80"]["coverage"] for cell in record["cells"]}
    assert found == {"one": pytest.approx(80), "two": pytest.approx(82), "three": pytest.approx(83)}
    assert len(record["cells"]) == 3
    assert record["seconds"] == 7
    assert [(part["studies"], part["seconds"]) for part in record["later"]] == [
        (["two", "three"], 3)
    ]
    page = (tmp_path / "benchmarks" / "coverage.md").read_text()
    assert page.count("Run later") == 1
    assert "Studies: two; three." in page


def test_a_name_that_no_study_begins_with_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["coverage", "--only", "branches"])
    with pytest.raises(SystemExit, match="2"):
        run.main()
    assert "no study begins so; studies: symmetric, " in capsys.readouterr().err


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_noise_of_a_study_is_shared_as_it_says(study):
    """Variance, and correlation between budgets of one trunk, over all runs."""
    runs = study.runs()
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
