# SPDX-License-Identifier: Apache-2.0
"""The study `recall`, and the page of make bench-recall from numbers that were made up."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import recall
from experiments.plan.plan import plan
from experiments.studies.recall import PAIRS, STUDY
from model.data.mixture import mixed
from model.data.source import Mixture
from model.data.synthetic.recall import describe

FACTS = {"command": "make", "device": "an abacus", "cores": 2, "python": "3.11"}
FACTS |= {"version_jax": "0.10", "git_commit": "0123456", "budget": 4e11}


def test_each_recipe_is_trained_on_records_of_every_number_of_pairs():
    assert isinstance(STUDY.data, Mixture)
    manifest = mixed(STUDY.data, [describe(source) for source in recall.SOURCES.values()])
    points = plan(STUDY, manifest).points
    assert {(p.axes["recipe"], p.spec.train.init_seed) for p in points} == {
        (name, seed) for name in recall.RECIPES for seed in STUDY.seeds
    }
    assert {source.n_pairs for source in recall.SOURCES.values()} == set(PAIRS)


def test_what_is_predicted_follows_from_the_numbers_of_the_states():
    numbers = {name: recall.state_numbers(name) for name in recall.RECIPES}
    of_states = {f"delta-net, {n} numbers": n for n in (16, 32, 64, 1024)}
    assert numbers == {"transformer": math.inf, "hybrid": math.inf} | of_states
    assert recall.predicted("transformer", 23) == 0
    assert recall.predicted("delta-net, 64 numbers", 23) == 0
    # Half a nat in each of 16 numbers, of 23 pairs.
    assert recall.predicted("delta-net, 16 numbers", 23) == pytest.approx(math.log(4) - 8 / 23)


def test_answers_alone_are_asked_for():
    """Of somebody who knows each value and nothing else, and of one who guesses among them."""
    source = recall.SOURCES[7]

    def knowing(tokens):
        of_value = np.where(tokens >= 28, (tokens - 28) % 4, -1)
        asked = (tokens[:, :, None] == (tokens[:, None] - 28) // 4) & (tokens[:, None] >= 28)
        is_own = np.cumsum(tokens == source.separator, 1)
        asked &= (is_own[:, :, None] == is_own[:, None]) & (tokens[:, None] != source.separator)
        value = np.where(asked, of_value[:, None], -1).max(-1)
        return jnp.asarray(50.0 * (np.arange(source.vocab_size) == 24 + value[..., None]))

    def guessing(tokens):
        is_value = (np.arange(source.vocab_size) >= 24) & (np.arange(source.vocab_size) < 28)
        return jnp.broadcast_to(jnp.asarray(50.0 * is_value), (*tokens.shape, source.vocab_size))

    assert recall.answer_nats(knowing, source) == pytest.approx(0, abs=1e-12)
    assert recall.answer_nats(guessing, source) == pytest.approx(math.log(4))


def test_the_page_and_the_figure_have_nats_per_answer_and_bits():
    """23 pairs have 46 bits: of half a guess 23 are known."""
    half = math.log(4) / 2
    few, many = "delta-net, 16 numbers", "delta-net, 32 numbers"
    rows = recall.rows({("transformer", 7): [0.0, 0.2], (few, 23): [half], (many, 23): [1.5]})
    text = recall.page(FACTS | {"answers": rows})
    nothing = "not measured | not measured"
    assert f"| transformer | not measured | 0.000 to 0.200 | {nothing} | 14.0 |  |" in text
    assert f"{few} | {nothing} | not measured | 0.693 to 0.693 (1.04) | 23.0 | 1.44 |" in text
    assert f"{many} | {nothing} | not measured | 1.500 to 1.500 (0.69) | 0.0 | 0.00 |" in text
    lines = {line.get_label(): line for line in recall.figure(rows).axes[0].get_lines()}
    np.testing.assert_array_equal(lines[few].get_xydata(), [[23, round(half, 4)]])
