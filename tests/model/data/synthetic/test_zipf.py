# SPDX-License-Identifier: Apache-2.0
"""The synthetic language has the entropy it claims; three ways to it share no code."""

import itertools
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from model.data.source import Zipf
from model.data.streams import Purpose
from model.data.synthetic import zipf
from model.data.synthetic.zipf import ZipfLanguage, describe, entropy_nats

LARGE = Zipf(alpha=0.5, epsilon=0.1, base=32, n_digits=3, n_answers=3, language_seed=0)
SMALL = Zipf(alpha=0.7, epsilon=0.3, base=3, n_digits=2, n_answers=2, language_seed=5)
PUBLISHED = [(0.35, 0.85763), (0.5, 0.72814), (0.8, 0.57344)]


@pytest.mark.parametrize(("alpha", "entropy"), PUBLISHED)
def test_closed_form_gives_the_stated_entropy(alpha: float, entropy: float) -> None:
    assert entropy_nats(replace(LARGE, alpha=alpha)) == pytest.approx(entropy, abs=5e-6)


@pytest.mark.parametrize(("alpha", "_"), PUBLISHED)
def test_oracle_on_samples_agrees_with_the_closed_form(alpha: float, _: float) -> None:
    language = ZipfLanguage(replace(LARGE, alpha=alpha))
    windows = language.sample_windows(0, 8000, seq_len=126, seed=1, purpose=Purpose.VALIDATION)
    # Windows are independent: the standard error is that of their means.
    losses = language.oracle_losses(windows).mean(axis=1)
    error = losses.std(ddof=1) / np.sqrt(len(losses))
    assert error < 2e-3
    assert abs(losses.mean() - entropy_nats(language.source)) < 4 * error


@pytest.mark.parametrize("source", [SMALL, replace(SMALL, epsilon=1.0, n_digits=1)])
def test_all_sentences_sum_to_one_and_to_the_entropy(source: Zipf) -> None:
    language = ZipfLanguage(source)
    n = source.record_length - 1
    digits = list(itertools.product(range(source.base), repeat=n))
    windows = np.full((len(digits), n + 2), source.separator)
    windows[:, 1:-1] = digits
    nats = language.oracle_losses(windows).sum(axis=1)
    probability = np.exp(-nats)
    assert probability.sum() == pytest.approx(1.0, abs=1e-12)
    entropy = (probability * nats).sum() / source.record_length
    assert entropy == pytest.approx(entropy_nats(source), abs=1e-12)


def test_samples_follow_the_distribution_of_the_oracle() -> None:
    language = ZipfLanguage(SMALL)
    records = language.sample_records(0, 100_000, seed=3, purpose=Purpose.TRAIN)
    sentences, counts = np.unique(records, axis=0, return_counts=True)
    ends = np.full((len(sentences), 1), SMALL.separator)
    nats = language.oracle_losses(np.concatenate([sentences, ends], axis=1)).sum(axis=1)
    expected = np.exp(-nats) * len(records)
    chi2 = ((counts - expected) ** 2 / expected).sum() + (len(records) - expected.sum())
    # 81 sentences: mean 80, standard deviation 12.6; 5 of them.
    assert len(sentences) == 81
    assert chi2 < 80 + 5 * 12.6


def test_closed_form_and_oracle_share_no_code(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = entropy_nats(SMALL)
    with monkeypatch.context() as patch:
        patch.setattr(zipf, "ZipfLanguage", None)
        patch.setattr(zipf, "random_stream", None)
        assert entropy_nats(SMALL) == expected
    monkeypatch.setattr(zipf, "entropy_nats", None)
    language = ZipfLanguage(SMALL)
    windows = language.sample_windows(0, 4, seq_len=10, seed=0, purpose=Purpose.TRAIN)
    assert np.isfinite(language.oracle_loss(windows))


@pytest.mark.parametrize("n_answers", [1, 3, 4, 7])
def test_any_part_of_the_stream_can_be_made_alone(n_answers: int) -> None:
    language = ZipfLanguage(replace(SMALL, n_answers=n_answers))
    whole = language.sample_records(0, 40, seed=9, purpose=Purpose.TRAIN)
    part = language.sample_records(13, 20, seed=9, purpose=Purpose.TRAIN)
    np.testing.assert_array_equal(part, whole[13:33])


def test_streams_differ_by_seed_and_purpose_and_language_by_its_seed() -> None:
    language = ZipfLanguage(LARGE)

    def draw(language: ZipfLanguage, seed: int, purpose: Purpose) -> bytes:
        return language.sample_records(0, 50, seed=seed, purpose=purpose).tobytes()

    samples = {draw(language, s, p) for s in (0, 1) for p in (Purpose.TRAIN, Purpose.VALIDATION)}
    other = ZipfLanguage(replace(LARGE, language_seed=1))
    assert len(samples | {draw(other, 0, Purpose.TRAIN)}) == 5


def test_questions_are_a_bijection_and_answers_are_fixed_without_noise() -> None:
    language = ZipfLanguage(replace(SMALL, epsilon=0.0, alpha=0.1))
    records = language.sample_records(0, 5000, seed=0, purpose=Purpose.TRAIN)
    assert sorted(language.codes) == list(range(9))
    assert (records[:, 0] == SMALL.separator).all()
    assert len(np.unique(records, axis=0)) == len(np.unique(records[:, 1:3], axis=0)) == 9
    assert records[:, 1:].max() < SMALL.base


def test_impossible_token_costs_infinity() -> None:
    language = ZipfLanguage(replace(SMALL, epsilon=0.0))
    window = language.sample_windows(0, 1, seq_len=5, seed=0, purpose=Purpose.TRAIN)
    assert np.isfinite(language.oracle_loss(window))
    window[0, -2] = (window[0, -2] + 1) % SMALL.base
    assert language.oracle_loss(window) == np.inf


def test_windows_off_the_record_are_refused() -> None:
    language = ZipfLanguage(SMALL)
    windows = language.sample_windows(0, 3, seq_len=20, seed=0, purpose=Purpose.TRAIN)
    with pytest.raises(ValueError, match="do not hold whole records"):
        language.oracle_losses(windows[:, 1:-4])
    with pytest.raises(ValueError, match="do not hold whole records"):
        language.oracle_losses(windows[:, :-1])


def test_manifest_fingerprints_the_language() -> None:
    manifest = describe(LARGE)
    assert manifest.entropy_nats == pytest.approx(0.72814, abs=5e-6)
    assert (manifest.window_multiple, manifest.n_train_tokens) == (7, None)
    changes = [{"alpha": 0.6}, {"epsilon": 0.2}, {"n_answers": 2}, {"language_seed": 1}]
    prints = {describe(replace(LARGE, **change)).fingerprint for change in changes}
    assert len(prints | {manifest.fingerprint}) == 5


def test_alpha_1_is_the_same_language_as_alpha_1_0() -> None:
    # In a process of its own: shapes and types are checked at every call here, and 1 is no float.
    code = (
        "from model.data.source import Zipf\n"
        "from model.data.synthetic.zipf import describe\n"
        "for alpha in (1, 1.0):\n"
        "    source = Zipf(alpha=alpha, epsilon=0, base=2, n_digits=1, n_answers=1, "
        "language_seed=0)\n"
        "    print(describe(source).fingerprint)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    one, two = done.stdout.split()
    assert one == two
