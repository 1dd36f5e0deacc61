# SPDX-License-Identifier: Apache-2.0
"""Planted truth, the short form of make bench-truth: real training, known entropy."""

import csv
import json

import pytest
from command_line import isoflop

# A minute and a half of training.
pytestmark = pytest.mark.slow(reason="trains on a language of known entropy")

STUDY = """
import dataclasses
from experiments.studies.zipf_truth import STUDY as truth
from experiments.study.study import Ladder
from model.data.source import Zipf
from model.training.config import EvalConfig
# One batch for all runs: every width compiles once.
STUDY = dataclasses.replace(
    truth, name="short", budgets=(1e9, 3e9, 1e10, 3e10), seeds=(0,), seq_len=64,
    sizes=Ladder(d_models=(8, 12, 20), tokens_per_param=(0.5, 300.0)),
    data=Zipf(alpha=0.8, epsilon=0.25, base=8, n_digits=1, n_answers=2, language_seed=0),
    evaluation=EvalConfig(n_tokens=65536, curve_tokens=4096, n_points=2, seed=0),
    recipe=truth.recipe.with_(batch__reference_tokens=256.0, batch__exponent=0.0),
)
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("truth")
    (folder / "study.py").write_text(STUDY)
    isoflop("run", "study.py", "--results", "results", cwd=folder, check=True)
    return folder / "results" / "short"


def rows(finished):
    with (finished / "table.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_no_model_is_better_than_the_source_itself(finished):
    for row in rows(finished):
        # .002 nats: four standard deviations of a 65,536-token mean of the difference, which is
        # at most about .1 nats per token for a model that good.
        assert float(row["loss_nats"]) > float(row["oracle_loss_nats"]) - 0.002


def test_the_best_model_comes_near_the_entropy(finished):
    entropy = json.loads((finished / "manifest.json").read_text())["entropy_nats"]
    best = min(float(row["loss_nats"]) for row in rows(finished))
    assert best == pytest.approx(entropy, rel=0.03)


def test_the_curved_law_extrapolates_to_the_entropy(finished):
    entropy = json.loads((finished / "manifest.json").read_text())["entropy_nats"]
    fit = json.loads((finished / "fits" / "curved.json").read_text())
    # A dozen short runs: five percent here, two percent over five studies in make bench-truth.
    assert fit["parameters"]["E"] == pytest.approx(entropy, rel=0.05)
