# SPDX-License-Identifier: Apache-2.0
"""The study `recall`, and the page of make bench-recall from a table that was made up."""

import math
from dataclasses import replace

import numpy as np
import pytest

from experiments.benchmarks import recall
from experiments.plan.plan import plan
from experiments.plan.settings import sources
from experiments.studies.recall import STUDY
from model.data.synthetic.recall import describe

HEADS = "status,recipe,data.n_pairs,loss_nats,oracle_loss_nats"


def test_a_record_of_every_number_of_pairs_fills_a_window():
    first, *others = map(describe, sources(STUDY))
    points = plan(STUDY, replace(first, variants=tuple(others))).points
    assert len(points) == len(recall.PAIRS) * len(recall.RECIPES)
    assert len({point.spec.data_fingerprint for point in points}) == len(recall.PAIRS)


def test_what_is_predicted_follows_from_the_rows_of_the_states():
    rows = {name: recall.state_rows(name) for name in recall.RECIPES}
    of_states = {f"delta-net, {n} rows": n for n in (8, 16, 64)}
    assert rows == {"transformer": math.inf, "hybrid": math.inf} | of_states
    assert recall.predicted("transformer", 25) == 0
    assert recall.predicted("delta-net, 16 rows", 16) == 0
    assert recall.predicted("delta-net, 8 rows", 16) == pytest.approx(math.log(8) / 2)


def test_the_page_and_the_figure_have_nats_per_answer():
    """Of 35 tokens, 6 of them answers: 0.12 nats per token are 0.7 per answer."""
    table = "\n".join([HEADS, "ok,transformer,11,2.12,2.0", "failed,transformer,16,,"])
    table += '\nok,"delta-net, 8 rows",16,2.24,2.0'
    rows = recall.answers(table)
    assert [row["nats"] for row in rows] == [0.7, 1.8]
    facts = {"command": "make", "device": "an abacus", "cores": 2, "python": "3.11"}
    facts |= {"version_jax": "0.10", "git_commit": "0123456", "budget": 4e11, "answers": rows}
    text = recall.page(facts)
    assert "| transformer | not measured | 0.70 (0.00) | not measured | not measured |" in text
    assert "8 rows | not measured | not measured | 1.80 (1.04) | not measured |" in text
    lines = {line.get_label(): line for line in recall.figure(rows).axes[0].get_lines()}
    np.testing.assert_array_equal(lines["delta-net, 8 rows"].get_xydata(), [[16, 1.8]])
