# SPDX-License-Identifier: Apache-2.0
"""Tokenizers: what they hold out, write, give back and refuse."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from model.data.corpus import open_corpus
from model.data.manifest import Manifest
from model.data.prepare import prepare
from model.data.read_tokens import read_texts
from model.data.source import TextFiles, source_from_dict
from model.data.splits import is_validation
from model.data.tokenizer import SEPARATOR, HuggingFaceTokenizer, TrainedBPE
from model.data.tokens.encoding import FileEncoding, encoding_of, open_encoding, separator_of

tokenizers = pytest.importorskip("tokenizers")

TEXTS = [
    f"Document {i}: the cat \N{SNOWMAN} sat on mat {i * i}, and\tso\r\n it goes{' on' * (i % 5)}."
    for i in range(200)
]
BPE = TrainedBPE(vocab_size=300)


def source_of(folder: Path, tokenizer: Any = None, **fields: Any) -> TextFiles:
    if not (folder / "a.txt").exists():
        (folder / "a.txt").write_bytes("\0".join(TEXTS).encode())
    known = {"paths": (str(folder / "a.txt"),), "validation_fraction": 0.2}
    return TextFiles(**{**known, "tokenizer": tokenizer, **fields})


def by_hand(*, normalizer: dict | None = None, processor: dict | None = None) -> str:
    """A tokenizer.json of four tokens and two special ones, a merge among them."""
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [{"id": i, "content": name, "special": True, **special} for i, name in
             ((4, "<end>"), (5, "<start>"))]  # fmt: skip
    model = {
        **{"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None},
        **{"end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False},
        **{"ignore_merges": False, "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3}},
        "merges": [["a", "b"]],
    }
    truncation = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    return json.dumps(
        {
            **{"version": "1.0", "truncation": truncation, "padding": None},
            **{"added_tokens": added, "normalizer": normalizer, "pre_tokenizer": None},
            **{"post_processor": processor, "decoder": {"type": "Fuse"}, "model": model},
        }
    )


def written(folder: Path, encoding: Any, split: str) -> list[bytes]:
    """The texts of the documents whose tokens were written."""
    texts, document = [], []
    for token in np.load(folder / f"{split}.npy").tolist():
        if token == encoding.separator:
            texts.append(encoding.decode(document))
            document = []
        else:
            document.append(token)
    assert not document
    return texts


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Path]:
    folder = tmp_path_factory.mktemp("trained")
    return prepare(source_of(folder, BPE), folder / "data"), folder / "data"


def test_every_vocabulary_holds_out_the_same_documents_and_gives_them_back(
    trained: tuple[Manifest, Path], tmp_path: Path
) -> None:
    manifest, folder = trained
    in_bytes = prepare(source_of(tmp_path), tmp_path / "data")
    for split in ("train", "validation"):
        documents = (tmp_path / "data" / f"{split}.npy").read_bytes()[128:].split(b"\0")[:-1]
        assert written(folder, open_encoding(manifest, folder), split) == documents
    for name in ("n_documents", "n_bytes", "n_train_documents", "n_validation_documents"):
        assert getattr(manifest, name) == getattr(in_bytes, name)
    assert manifest.n_train_tokens < in_bytes.n_train_tokens / 1.5
    assert (manifest.vocab_size, in_bytes.vocab_size) == (300, 256)
    assert in_bytes.tokenizer is None


def test_bytes_per_token_are_those_of_what_is_held_out(
    trained: tuple[Manifest, Path], tmp_path: Path
) -> None:
    """A token of bytes is a byte, the one that ends a document too: so it is for every other."""
    manifest, _ = trained
    in_bytes = prepare(source_of(tmp_path), tmp_path / "data")
    assert in_bytes.bytes_per_token == 1.0
    expected = in_bytes.n_validation_tokens / manifest.n_validation_tokens
    assert manifest.bytes_per_token == expected


@pytest.mark.parametrize("has_paths", [False, True])
def test_a_vocabulary_is_trained_on_nothing_that_is_held_out(
    tmp_path: Path, has_paths: bool
) -> None:
    names = (f"{'QXZQXZ ' * 5000}{i}" for i in range(1000))
    held_out = next(text for text in names if is_validation(text.encode(), 0.2))
    apart: dict[str, Any] = {}
    if has_paths:
        (tmp_path / "valid.txt").write_text(held_out)
        paths = (str(tmp_path / "valid.txt"),)
        apart = {"validation_fraction": None, "validation_paths": paths}
    else:
        (tmp_path / "a.txt").write_bytes("\0".join([*TEXTS, held_out]).encode())
    manifest = prepare(source_of(tmp_path, BPE, **apart), tmp_path / "out")
    encoding = open_encoding(manifest, tmp_path / "out")
    assert held_out.encode() in written(tmp_path / "out", encoding, "validation")
    tokens = json.loads((tmp_path / "out" / "tokenizer.json").read_text())["model"]["vocab"]
    assert not any("QX" in token for token in tokens)
    assert any("cat" in token for token in tokens)


def test_the_same_text_trains_the_same_vocabulary(
    trained: tuple[Manifest, Path], tmp_path: Path
) -> None:
    manifest, folder = trained
    again = prepare(source_of(tmp_path, BPE), tmp_path / "data")
    assert (again.fingerprint, again.tokenizer) == (manifest.fingerprint, manifest.tokenizer)
    for name in ("tokenizer.json", "train.npy"):
        assert (folder / name).read_bytes() == (tmp_path / "data" / name).read_bytes()
    fewer = prepare(source_of(tmp_path, TrainedBPE(vocab_size=299)), tmp_path / "data")
    assert fewer.fingerprint != manifest.fingerprint


def test_a_corpus_and_a_file_of_ones_own_are_in_the_same_tokens(
    trained: tuple[Manifest, Path], tmp_path: Path
) -> None:
    manifest, folder = trained
    assert open_corpus(manifest, folder).train_windows(0, 2, seq_len=9, seed=0).max() < 300
    (tmp_path / "mine.txt").write_text(TEXTS[3])
    encoding = open_encoding(manifest, folder)
    source = source_from_dict(manifest.source)
    texts = read_texts(source, str(tmp_path / "mine.txt"))
    assert texts == [TEXTS[3].encode()]
    found = encoding.ids(*encoding.encode(texts))
    assert encoding.separator == separator_of(manifest)
    assert encoding.decode(found).decode() == TEXTS[3]
    assert len(found) < len(TEXTS[3]) / 1.5


def test_a_tokenizer_of_others_gives_its_ids_and_nothing_more(tmp_path: Path) -> None:
    """Not the token that it puts in front, no end made of text like one, nothing left out behind
    the two tokens that the file would keep."""
    front = {"id": "<start>", "ids": [5], "tokens": ["<start>"]}
    processor = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<start>", "type_id": 0}},
                   {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<start>": front},
    }  # fmt: skip
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "tokenizer.json").write_text(by_hand(processor=processor))
    for path in (tmp_path / "t", tmp_path / "t" / "tokenizer.json"):
        tokenizer = HuggingFaceTokenizer(path=str(path), separator="<end>")
        encoding = encoding_of(source_of(tmp_path, tokenizer), ())
        assert (encoding.vocab_size, encoding.separator) == (6, 4)
        encoded = encoding.encode([b"abcba", b"aab", b"a<end>b"])
        assert [encoding.ids(one) for one in encoded] == [[3, 2, 1, 0], [0, 3], [3]]


def test_text_that_does_not_come_back_has_no_bits_per_byte(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\0".join(b"AbC"[: 1 + i % 3] * (1 + i) for i in range(90)))
    path = tmp_path / "tokenizer.json"
    tokenizer = HuggingFaceTokenizer(path=str(path), separator="<end>")
    path.write_text(by_hand(normalizer={"type": "Lowercase"}))
    manifest = prepare(source_of(tmp_path, tokenizer), tmp_path / "out")
    n = manifest.n_validation_documents
    assert manifest.bytes_per_token is None
    said = f"{n} documents that are held out do not come back from their tokens as they were"
    assert any(note.startswith(said) for note in manifest.notes)
    (tmp_path / "a.txt").write_bytes(b"\0".join(b"abc"[: 1 + i % 3] * (1 + i) for i in range(90)))
    assert prepare(source_of(tmp_path, tokenizer), tmp_path / "out").bytes_per_token is not None


def test_a_tokenizer_that_was_changed_is_not_used(tmp_path: Path) -> None:
    manifest = prepare(source_of(tmp_path, BPE), tmp_path / "data")
    manifest.write(tmp_path / "manifest.json")
    assert Manifest.read(tmp_path / "manifest.json") == manifest
    path = tmp_path / "data" / "tokenizer.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(ValueError, match="not the one that the data were prepared with"):
        open_encoding(manifest, tmp_path / "data")
    path.unlink()
    with pytest.raises(ValueError, match=r"tokenizer\.json' is missing"):
        open_encoding(manifest, tmp_path / "data")


BAD = [
    ("x", "", "is no tokenizer: "),
    ("{}", "<end>", "is no tokenizer: "),
    (by_hand(), "</s>", r"has no token '</s>': its special tokens are \['<end>', '<start>'\]"),
    (None, "<end>", "cannot be read: No such file"),
    (b"\xff", "<end>", "is not UTF-8"),
]


@pytest.mark.parametrize(("content", "separator", "message"), BAD)
def test_a_tokenizer_that_cannot_be_used_is_one_line(
    tmp_path: Path, content: str | bytes | None, separator: str, message: str
) -> None:
    path = tmp_path / "t.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    tokenizer = HuggingFaceTokenizer(path=str(path), separator=separator or "<end>")
    with pytest.raises(ValueError, match=message) as caught:
        prepare(source_of(tmp_path, tokenizer), tmp_path / "out")
    assert repr(str(path)) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "out").rglob("*"))


def test_too_few_texts_for_a_vocabulary_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is 9999: the training documents have no more than \d+"):
        prepare(source_of(tmp_path, TrainedBPE(vocab_size=9999)), tmp_path / "out")


def test_without_the_package_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ValueError, match=r"needs the package `tokenizers`: pip install 'isoflop\["):
        prepare(source_of(tmp_path, BPE), tmp_path / "out")
    prepare(source_of(tmp_path), tmp_path / "out")


def test_the_separator_of_a_trained_vocabulary_is_never_made_of_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\0".join([*TEXTS, f"a{SEPARATOR}b"]).encode())
    source = source_of(tmp_path, BPE, document_separator="\0")
    manifest = prepare(source, tmp_path / "out")
    encoding = open_encoding(manifest, tmp_path / "out")
    assert isinstance(encoding, FileEncoding)
    texts = [text for split in ("train", "validation")
             for text in written(tmp_path / "out", encoding, split)]  # fmt: skip
    assert f"a{SEPARATOR}b".encode() in texts


def test_a_long_text_is_the_same_tokens_as_in_one_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose vocabulary knows every way to end a line."""
    ends = ["\n", "\n\n", " \n", "\n  ", "\r\n", "\n\u00a0", "\u2003\n", "'s\n'll"]
    ends += [".\n\t", "\n1", "\n\u00e9", "\n\n\n", " \n "]
    text = "".join(f"line {i} of it{ends[i % len(ends)]}" for i in range(4000)).encode()
    encoding = encoding_of(source_of(tmp_path, TrainedBPE(vocab_size=330)), [text])
    assert isinstance(encoding, FileEncoding)
    (tmp_path / "tokenizer.json").write_text(encoding.json)
    folder = tmp_path
    library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    expected = library.encode(text.decode()).ids
    given: list[str] = []
    encode = encoding._tokenizer.encode_batch_fast
    seen = SimpleNamespace(encode_batch_fast=lambda t, **o: (given.extend(t), encode(t, **o))[1])
    monkeypatch.setattr(encoding, "_tokenizer", seen)
    for size in (7, 100, 5000):
        monkeypatch.setattr("model.data.tokens.encoding.STRETCH", size)
        given.clear()
        assert [encoding.ids(one) for one in encoding.encode([b"a\nb", text])] == [
            library.encode("a\nb").ids,
            expected,
        ]
        assert len(given) > 4


def test_a_tokenizer_that_looks_across_lines_is_given_whole_texts(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(by_hand())
    tokenizer = HuggingFaceTokenizer(path=str(tmp_path / "t.json"), separator="<end>")
    encoding = encoding_of(source_of(tmp_path, tokenizer), ())
    text = b"a\nb" * 100_000
    (encoded,) = encoding.encode([text])
    # Without words "a" and "b" are merged where a line end, which is no token, was dropped.
    assert encoding.ids(encoded) == [3] * 100_000


def test_no_tokenizer_is_left_beside_bytes(tmp_path: Path) -> None:
    prepare(source_of(tmp_path, BPE), tmp_path / "data")
    assert (tmp_path / "data" / "tokenizer.json").exists()
    prepare(source_of(tmp_path), tmp_path / "data")
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [
        *("train.npy", "validation.npy"),
    ]
