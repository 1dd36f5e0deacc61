# SPDX-License-Identifier: Apache-2.0
"""Images in files: what becomes of them, and what is refused in a line."""

from pathlib import Path

import numpy as np
import pytest

from model.data.corpus import open_corpus
from model.data.image_files import DIGITS
from model.data.prepare import prepare
from model.data.source import Digits, source_from_dict

ALL = Digits(validation_fraction=0.2, labelled=True)


def test_the_digits_are_all_there_once_and_split_by_what_they_are(tmp_path: Path) -> None:
    manifest = prepare(ALL, tmp_path)
    corpus = open_corpus(manifest, tmp_path)
    n_train, n_held = manifest.n_train_documents, manifest.n_validation_documents
    assert (n_train, n_held) == (1463, 334)
    assert manifest.n_train_tokens == n_train * 64
    assert corpus.n_windows(64) == n_train
    trained = corpus.train_windows(0, n_train, seq_len=64, seed=3)
    held = corpus.validation_windows(n_held * 64, 64, 0)
    with np.load(DIGITS) as arrays:
        known = np.concatenate(
            [17 + arrays["labels"][:, None].astype(int), arrays["images"].reshape(-1, 64)], axis=1
        )
    found = np.concatenate([trained, held])
    assert sorted(map(tuple, found)) == sorted(map(tuple, known))
    assert manifest.vocab_size == found.max() + 1 == 27
    assert source_from_dict(manifest.source) == ALL
    plain = prepare(Digits(validation_fraction=0.2, labelled=False), tmp_path / "plain")
    assert plain.vocab_size == 18
    assert plain.fingerprint != manifest.fingerprint
    (first, *_) = open_corpus(plain, tmp_path / "plain").train_windows(0, 1, seq_len=64, seed=3)
    np.testing.assert_array_equal(first, [17, *trained[0, 1:]])


def test_other_windows_and_more_than_there_is_are_refused(tmp_path: Path) -> None:
    corpus = open_corpus(prepare(ALL, tmp_path), tmp_path)
    with pytest.raises(ValueError, match=r"seq_len=32: source 'digits' has images of 64 values"):
        corpus.n_windows(32)
    with pytest.raises(ValueError, match="needs 335 windows"):
        corpus.validation_windows(335 * 64, 64, 0)


def test_a_class_that_is_held_out_whole_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"training has no image of class 0, 2, 3, 6, 7, 9: .*Give more"
    ):
        prepare(Digits(validation_fraction=0.998, labelled=True), tmp_path)
