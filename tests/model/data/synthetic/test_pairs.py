# SPDX-License-Identifier: Apache-2.0
"""Pairs of a source and its target: every word comes from where the alignment says."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from model.data.corpus import open_corpus
from model.data.languages import PAIR_TASKS
from model.data.source import Pairs, source_from_dict
from model.data.streams import Purpose
from model.data.synthetic.open_language import describe_language
from model.data.synthetic.pairs import PairsLanguage

COPY = Pairs(task="copy", n_words=12, language_seed=0)
# By hand: words 0 to 5 are adjectives. "lookup" of four words: keys w // 3.
BY_HAND = {
    "copy": ([7, 3, 3, 9], [0, 1, 2, 3]),
    "reverse": ([7, 3, 3, 9], [3, 2, 1, 0]),
    "lookup": ([10, 0, 8, 5], [1, 3, 2, 0]),
    "translation": ([7, 3, 3, 9], [0, 1, 3, 2]),
}
every_task = pytest.mark.parametrize("task", PAIR_TASKS)


def sampled(source: Pairs, n: int, seq_len: int = 10) -> np.ndarray:
    return PairsLanguage(source).sample_windows(
        0, n, seq_len=seq_len, seed=3, purpose=Purpose.TRAIN
    )


@every_task
def test_alignment_is_that_found_by_hand(task):
    language = PairsLanguage(replace(COPY, task=task))
    words, places = BY_HAND[task]
    target = language.dictionary[[words[place] for place in places]]
    window = np.array([[13, *words, 12, *target, 13]])
    np.testing.assert_array_equal(language.alignment(window), [places])
    nats = language.oracle_losses(window)
    of_source = math.log(24 * 3**4) if task == "lookup" else 4 * math.log(12)
    assert nats.sum() == pytest.approx(of_source, abs=1e-12)
    np.testing.assert_array_equal(nats[:, 4:], 0.0)
    window[0, 6] = (window[0, 6] + 1) % 12
    assert language.oracle_loss(window) == math.inf


@every_task
def test_all_sentences_sum_to_one(task):
    language = PairsLanguage(Pairs(task=task, n_words=4, language_seed=1))
    said = [*itertools.product(range(4), repeat=4)]
    windows = np.full((len(said), 7), 5)
    windows[:, [1, 2, 4, 5]] = said
    windows[:, 3] = 4
    nats = language.oracle_losses(windows).sum(axis=1)
    assert np.exp(-nats).sum() == pytest.approx(1.0, abs=1e-12)


@every_task
def test_samples_are_what_the_oracle_expects(task):
    source = replace(COPY, task=task)
    windows = sampled(source, 4000)
    assert np.isfinite(PairsLanguage(source).oracle_losses(windows)).all()
    for column in (1, 4):
        values, counts = np.unique(windows[:, column], return_counts=True)
        assert len(values) == 12
        assert np.abs(counts - 4000 / 12).max() < 5 * math.sqrt(4000 / 12)


def test_a_dictionary_is_a_bijection_and_its_seeds_own():
    first, second = (
        PairsLanguage(Pairs(task="translation", n_words=50, language_seed=seed)).dictionary
        for seed in (0, 1)
    )
    assert sorted(first) == sorted(second) == [*range(50)]
    assert (first != second).any()
    assert (first != np.arange(50)).any()


def test_any_part_of_the_stream_can_be_made_alone():
    language = PairsLanguage(replace(COPY, task="lookup"))
    whole, part = (
        language.sample_windows(first, n, seq_len=12, seed=9, purpose=Purpose.TRAIN)
        for first, n in ((0, 40), (13, 20))
    )
    np.testing.assert_array_equal(part, whole[13:33])


def test_windows_that_are_no_pairs_are_refused():
    windows = sampled(COPY, 3)
    with pytest.raises(ValueError, match="are no pairs: separator 13 stands at both ends"):
        PairsLanguage(COPY).oracle_losses(np.roll(windows, 1, axis=1))


@pytest.mark.parametrize(
    ("seq_len", "words"),
    [
        (9, "does not hold whole records of 2 tokens"),
        (2, r"seq_len=2: a window of source 'pairs' is .* Make it 2 S \+ 2"),
        (16, "sources of 7 words are too long for task 'lookup' with n_words=12.* at most 14"),
    ],
)
def test_a_length_that_holds_no_pair_is_refused_in_one_line(seq_len, words):
    source = replace(COPY, task="lookup")
    corpus = open_corpus(describe_language(source), "")
    with pytest.raises(ValueError, match=words) as refused:
        corpus.train_windows(0, 1, seq_len=seq_len, seed=0)
    assert "\n" not in str(refused.value)
    assert corpus.train_windows(0, 1, seq_len=14, seed=0).shape == (1, 15)


def test_a_source_comes_back_from_its_record_and_is_refused_in_words():
    manifest = describe_language(COPY)
    assert source_from_dict(manifest.source) == COPY
    assert (manifest.vocab_size, manifest.window_multiple, manifest.entropy_nats) == (14, 2, None)
    assert describe_language(replace(COPY, language_seed=1)).fingerprint != manifest.fingerprint
    with pytest.raises(ValueError, match="task of source 'pairs' is 'sort': it must be one of"):
        replace(COPY, task="sort")
