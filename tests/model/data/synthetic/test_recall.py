# SPDX-License-Identifier: Apache-2.0
"""Associative recall: the best predictor is exact, and what a small state must lose is seen."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from model.data.source import Recall, source_from_dict
from model.data.streams import Purpose
from model.data.synthetic.open_language import describe_language
from model.data.synthetic.recall import RecallLanguage, entropy_nats, least_loss_nats

SMALL = Recall(n_keys=3, n_values=2, n_pairs=2, n_queries=1)
LARGE = Recall(n_keys=40, n_values=16, n_pairs=8, n_queries=5)


def test_all_sentences_sum_to_one_and_to_the_entropy() -> None:
    language, m = RecallLanguage(SMALL), SMALL.record_length
    said = [*itertools.product(range(SMALL.separator), repeat=m - 1)]
    windows = np.full((len(said), m + 1), SMALL.separator)
    windows[:, 1:-1] = said
    nats = language.oracle_losses(windows).sum(axis=1)
    assert np.exp(-nats).sum() == pytest.approx(1.0, abs=1e-12)
    can_be = np.isfinite(nats)
    # 3 x 2 keys, 2 x 2 values, 2 queries.
    assert can_be.sum() == 48
    entropy = np.sum(np.exp(-nats[can_be]) * nats[can_be]) / m
    assert entropy == pytest.approx(entropy_nats(SMALL), abs=1e-12)


def test_samples_are_what_the_oracle_expects() -> None:
    """Every sentence is as likely as any other that can be: the loss is the entropy, always."""
    language = RecallLanguage(LARGE)
    seq_len = 2 * LARGE.record_length
    windows = language.sample_windows(0, 500, seq_len=seq_len, seed=1, purpose=Purpose.TRAIN)
    means = language.oracle_losses(windows).mean(axis=1)
    np.testing.assert_allclose(means, entropy_nats(LARGE), rtol=1e-12)
    records = language.records_of(windows)
    keys, values = np.divmod(records[:, 1] - 56, 16)
    for drawn, n in ((keys, 40), (values, 16), (records[:, 9], 40)):  # Of a pair; what is asked.
        values, counts = np.unique(drawn, return_counts=True)
        assert len(values) == n
        # 1000 draws: mean 1000 / n, of which a standard deviation is about the root.
        assert np.abs(counts - 1000 / n).max() < 5 * math.sqrt(1000 / n)


def test_an_answer_is_the_value_of_its_key_and_no_other() -> None:
    language = RecallLanguage(LARGE)
    m = LARGE.record_length
    window = language.sample_windows(0, 1, seq_len=m, seed=0, purpose=Purpose.TRAIN)
    for query in range(LARGE.n_queries):
        key, value = window[0, 9 + 2 * query], window[0, 10 + 2 * query]
        assert 40 + 16 + 16 * key + value - 40 in window[0, 1:9]
    wrong = window.copy()
    wrong[0, 10] = 40 + (wrong[0, 10] - 39) % 16
    losses = language.oracle_losses(wrong)[0]
    assert np.isinf(losses[language.answers]).tolist() == [True, False, False, False, False]
    assert np.isfinite(np.delete(losses, 9)).all()
    with pytest.raises(ValueError, match="do not hold whole records"):
        language.oracle_losses(window[:, 1:])


def test_any_part_of_the_stream_can_be_made_alone() -> None:
    language = RecallLanguage(LARGE)
    whole = language.sample_records(0, 40, seed=9, purpose=Purpose.TRAIN)
    part = language.sample_records(13, 20, seed=9, purpose=Purpose.TRAIN)
    np.testing.assert_array_equal(part, whole[13:33])
    other = language.sample_records(0, 40, seed=9, purpose=Purpose.VALIDATION)
    assert (whole != other).any()


def test_what_a_state_must_lose_by_counting_states() -> None:
    """The best of all maps from the values of two pairs to a state of one bit, for a key of two."""
    language = replace(SMALL, n_keys=2)
    pairs = [*itertools.product(range(2), repeat=2)]
    least = math.inf
    for states in itertools.product(range(2), repeat=4):
        nats = 0.0
        for asked, state in itertools.product(range(2), range(2)):
            inside = [pair[asked] for pair, own in zip(pairs, states, strict=True) if own == state]
            for value in set(inside):
                n = inside.count(value)
                nats -= n * math.log(n / len(inside)) / 8
        least = min(least, nats)
    m, excess = SMALL.record_length, least_loss_nats(language, 1.0) - entropy_nats(language)
    assert excess * m == pytest.approx(least, abs=1e-12) == pytest.approx(math.log(2) / 2)
    assert (
        least_loss_nats(language, 2.0) == least_loss_nats(language, 1e9) == entropy_nats(language)
    )
    assert least_loss_nats(LARGE, 0.0) == pytest.approx(
        entropy_nats(LARGE) + 5 * math.log(16) / LARGE.record_length
    )


def test_a_source_comes_back_from_its_record_and_is_refused_in_words() -> None:
    manifest = describe_language(LARGE)
    assert source_from_dict(manifest.source) == LARGE
    assert (manifest.vocab_size, manifest.window_multiple) == (697, 19)
    assert manifest.entropy_nats == entropy_nats(LARGE)
    assert describe_language(replace(LARGE, n_pairs=7)).fingerprint != manifest.fingerprint
    with pytest.raises(ValueError, match=r"n_keys of source 'recall' is 7: .* \[8, 65536\]"):
        replace(LARGE, n_keys=7)
