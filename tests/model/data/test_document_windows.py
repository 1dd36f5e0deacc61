# SPDX-License-Identifier: Apache-2.0
"""Documents in windows: every token is asked once, and so is every byte whatever the tokens."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.data.corpus import Corpus, open_corpus
from model.data.document_windows import NO_TARGET, document_windows
from model.data.prepare import prepare
from model.data.source import TextFiles, TokenArrays
from model.data.tokenizer import HuggingFaceTokenizer, TrainedBPE
from model.data.tokens.encoding import open_encoding

END = 9
TEXTS = [f"Document {i}: so it goes{' on' * (i % 7)}, {i * i}." for i in range(200)]


def test_windows_of_two_documents_written_by_hand() -> None:
    documents = [np.array(tokens) for tokens in ([1, 2, 3], [4], [5, 6])]
    found = document_windows(documents, [30, 10, 20], separator=END, seq_len=2)
    expected = [[END, 1, 2], [2, 3, END], [END, 4, END], [END, 5, 6], [6, END, NO_TARGET]]
    np.testing.assert_array_equal(found.windows, expected)
    np.testing.assert_array_equal(found.document, [0, 0, 1, 2, 2])
    np.testing.assert_array_equal(found.n_bytes, [31, 0, 11, 21, 0])


@pytest.mark.parametrize("seq_len", [1, 3, 8, 100])
def test_every_token_and_the_end_are_targets_once_after_what_is_before_them(seq_len: int) -> None:
    draw = np.random.default_rng(0)
    documents = [draw.integers(0, END, size) for size in (1, 2, 7, 8, 9, 24, 0)]
    found = document_windows(documents, [1] * 7, separator=END, seq_len=seq_len)
    for i, tokens in enumerate(documents):
        windows = found.windows[found.document == i]
        targets = windows[:, 1:].ravel()
        is_target = targets != NO_TARGET
        np.testing.assert_array_equal(targets[is_target], [*tokens, END])
        before = windows[:, :-1].ravel()[is_target]
        np.testing.assert_array_equal(before, [END, *tokens])
        assert len(windows) == -(-(len(tokens) + 1) // seq_len)


def corpus_of(folder: Path, tokenizer: Any = None, texts: list[str] = TEXTS) -> Corpus:
    (folder / "a.txt").write_bytes("\0".join(texts).encode())
    paths = (str(folder / "a.txt"),)
    source = TextFiles(paths=paths, validation_fraction=0.4, tokenizer=tokenizer)
    return open_corpus(prepare(source, folder / "data"), folder / "data")


def texts_of(corpus: Corpus, folder: Path, n_bytes: int, seed: int) -> list[bytes]:
    """Of the documents that are asked, from their targets."""
    found = corpus.validation_documents(n_bytes, 8, seed)
    encoding = open_encoding(corpus.manifest, folder / "data")
    texts = []
    for i in range(found.document[-1] + 1):
        targets = found.windows[found.document == i, 1:].ravel()
        *tokens, end = targets[targets != NO_TARGET].tolist()
        assert end == encoding.separator
        texts.append(encoding.decode(tokens))
        assert found.n_bytes[found.document == i].sum() == len(texts[-1]) + 1
    return texts


def test_every_vocabulary_is_asked_the_same_documents(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    asked = []
    for vocab_size in (None, 300, 350):
        folder = tmp_path / str(vocab_size)
        folder.mkdir()
        corpus = corpus_of(folder, vocab_size and TrainedBPE(vocab_size=vocab_size))
        asked.append(
            [texts_of(corpus, folder, n, seed) for n, seed in ((1, 0), (900, 0), (900, 1))]
        )
    assert asked[0] == asked[1] == asked[2]
    (first, some, other) = asked[0]
    # The first documents that have so many bytes, their ends counted; others with another seed.
    assert first == some[:1]
    assert sum(len(text) + 1 for text in some) >= 900 > sum(len(text) + 1 for text in some[:-1])
    assert set(some) != set(other)
    assert {text.decode() for text in [*some, *other]} <= set(TEXTS)


def test_more_bytes_than_are_held_out_are_refused(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path)
    n_bytes = corpus.manifest.n_validation_bytes
    assert n_bytes == corpus.manifest.n_validation_tokens
    found = corpus.validation_documents(n_bytes, 8, 0)
    assert found.document[-1] + 1 == corpus.manifest.n_validation_documents
    with pytest.raises(ValueError, match=f"validation of {n_bytes + 1} bytes: .* have {n_bytes}"):
        corpus.validation_documents(n_bytes + 1, 8, 0)


def test_data_whose_bytes_are_not_known_are_refused(tmp_path: Path, zipf_corpus: Corpus) -> None:
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", np.tile(np.arange(7, dtype=np.uint16), 100))
    source = TokenArrays(
        paths=(str(tmp_path / "a.npy"),),
        vocab_size=9,
        separator=3,
        validation_fraction=None,
        validation_paths=(str(tmp_path / "b.npy"),),
        bytes_per_token=4.0,
    )
    tokens = open_corpus(prepare(source, tmp_path / "data"), tmp_path / "data")
    for corpus in (zipf_corpus, tokens):
        assert corpus.manifest.n_validation_bytes is None
        with pytest.raises(ValueError, match=r"does not say which bytes .*n_tokens, not n_b"):
            corpus.validation_documents(1, 8, 0)


def test_a_tokenizer_that_changes_text_is_refused(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.normalizer = tokenizers.normalizers.NFKC()
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(TEXTS, trainer)
    made.save(str(tmp_path / "tokenizer.json"))
    tokenizer = HuggingFaceTokenizer(path=str(tmp_path / "tokenizer.json"), separator="<end>")
    kept = corpus_of(tmp_path, tokenizer)
    assert kept.validation_documents(100, 8, 0).n_bytes.sum() >= 100
    texts = [f"{text} \N{LATIN SMALL LIGATURE FI}" for text in TEXTS]
    changed = corpus_of(tmp_path, tokenizer, texts)
    with pytest.raises(ValueError, match="does not give all validation documents back"):
        changed.validation_documents(100, 8, 0)


def test_a_separator_that_text_may_hold_is_refused(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    alphabet = sorted({*"".join(TEXTS)})
    vocabulary = {letter: i for i, letter in enumerate(alphabet)}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    made.decoder = tokenizers.decoders.Fuse()
    made.save(str(tmp_path / "tokenizer.json"))
    tokenizer = HuggingFaceTokenizer(path=str(tmp_path / "tokenizer.json"), separator="o")
    corpus = corpus_of(tmp_path, tokenizer)
    with pytest.raises(ValueError, match="which ends documents, occurs"):
        corpus.validation_documents(100, 8, 0)
