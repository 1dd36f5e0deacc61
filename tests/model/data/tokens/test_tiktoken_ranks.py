# SPDX-License-Identifier: Apache-2.0
"""Vocabularies of tiktoken: its ids for any text, from files of ranks that lie here."""

import base64
import hashlib
import json
import random
import sys
from collections.abc import Callable
from typing import Any

import pytest

from model.data.prepare import prepare, source_key
from model.data.source import TextFiles
from model.data.tokenizer import SEPARATOR, TIKTOKEN_NAMES, Tiktoken, TrainedBPE
from model.data.tokens import tiktoken_ranks as subject
from model.data.tokens.encoding import FileEncoding, encoding_of, open_encoding

pytest.importorskip("tokenizers")

TEXTS = [
    f"Document {i}: it's the CAT'S {i * i} mats,\r\n\t  \N{SNOWMAN} so on{' on' * (i % 5)}...\n\n  "
    for i in range(200)
]
# What the words of some vocabulary treat in a way of their own.
PIECES = (
    *(" plugh", " plughs"),
    *("a", "B", "the ", " CAT", "it's", "IT'S", "'ll", "'LL", "don\u2019t", "'\u017f", "\u01c5x"),
    *(" ", "  ", "\t", "\n", "\r\n", "\n\n", " \n", "\n ", "\u00a0", "\u2028", "\u3000", "\x85"),
    *("1", "12", "1234", "\u00b2", "\u0663", "\u2167", "7th", "x9"),
    *(".", "...", "!?", "//", "/", "-", "_", "(", "<|endoftext|>", "\u2603", "\U0001f600"),
    *("\u00e9", "e\u0301", "\u00df", "\u0130", "\u4f60\u597d", "\u0e01\u0e33", "\ufeff", "\u200d"),
)


@pytest.fixture(scope="module")
def ranks() -> dict[bytes, int]:
    """Those of a vocabulary that was trained here, whose merges have their order, and behind them a
    word that no two tokens make."""
    source = TextFiles(paths=("a",), validation_fraction=0.5, tokenizer=TrainedBPE(vocab_size=600))
    encoding = encoding_of(source, [text.encode() for text in TEXTS])
    assert isinstance(encoding, FileEncoding)
    letters = {letter: byte for byte, letter in enumerate(subject._LETTERS)}
    vocab = json.loads(encoding.json)["model"]["vocab"]
    tokens = sorted((i, bytes(letters[c] for c in t)) for t, i in vocab.items() if t != SEPARATOR)
    return {token: rank for rank, (_, token) in enumerate([*tokens, (0, b" plugh")])}


def lines(ranks: dict[bytes, int]) -> bytes:
    return b"".join(base64.b64encode(t) + b" %d\n" % rank for t, rank in ranks.items())


def encoding_with(tokenizer: Any) -> FileEncoding:
    source = TextFiles(paths=("a",), validation_fraction=0.5, tokenizer=tokenizer)
    encoding = encoding_of(source, ())
    assert isinstance(encoding, FileEncoding)
    return encoding


@pytest.fixture
def theirs(ranks, monkeypatch) -> Callable[[str], tuple[Any, str, str]]:
    """tiktoken's own encoding of a name with our ranks, and the address and digest of its own."""
    tiktoken = pytest.importorskip("tiktoken")
    public = sys.modules.get("tiktoken_ext.openai_public") or pytest.importorskip(
        "tiktoken_ext.openai_public"
    )

    def made(name: str) -> tuple[Any, str, str]:
        asked: list[str] = []

        def load(address: str, expected_hash: str) -> dict[bytes, int]:
            asked.extend((address, expected_hash))
            return ranks

        monkeypatch.setattr(public, "load_tiktoken_bpe", load)
        described = public.ENCODING_CONSTRUCTORS[name]()
        described.pop("explicit_n_vocab", None)
        return tiktoken.Encoding(**described), *asked

    return made


@pytest.mark.parametrize("name", TIKTOKEN_NAMES)
def test_ids_are_those_of_tiktoken(name, ranks, theirs, tmp_path, monkeypatch) -> None:
    """Its words, its special tokens, and its file where it keeps it."""
    expected, address, digest = theirs(name)
    assert subject._NAMED[name].sha256 == digest
    own = subject._NAMED[name]._replace(sha256=hashlib.sha256(lines(ranks)).hexdigest())
    monkeypatch.setitem(subject._NAMED, name, own)
    (tmp_path / hashlib.sha1(address.encode()).hexdigest()).write_bytes(lines(ranks))
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    encoding = encoding_with(Tiktoken(name=name))
    special = {token: expected.encode_single_token(token) for token in expected.special_tokens_set}
    assert own.special == special
    assert (encoding.separator, encoding.vocab_size) == (expected.eot_token, expected.n_vocab)
    draws = random.Random(0)
    texts = ["".join(draws.choices(PIECES, k=draws.randrange(1, 30))) for _ in range(4000)]
    texts += TEXTS
    found = [encoding.ids(one) for one in encoding.encode([text.encode() for text in texts])]
    for text, ids in zip(texts, found, strict=True):
        assert ids == expected.encode_ordinary(text), repr(text)
        assert encoding.decode(ids) == text.encode()
    assert encoding.decode([encoding.separator]) == SEPARATOR.encode()


def test_text_is_prepared_with_a_file_of_ranks_and_comes_back(ranks, tmp_path) -> None:
    (tmp_path / "ranks").write_bytes(lines(ranks))
    (tmp_path / "a.txt").write_bytes("\0".join(TEXTS).encode())
    tokenizer = Tiktoken(name="cl100k_base", path=str(tmp_path / "ranks"))
    source = TextFiles(
        paths=(str(tmp_path / "a.txt"),), validation_fraction=0.2, tokenizer=tokenizer
    )
    manifest = prepare(source, tmp_path / "data")
    assert manifest.vocab_size == len(ranks) + 1
    assert manifest.tokenizer is not None
    assert manifest.tokenizer["separator"] == SEPARATOR
    assert manifest.tokenizer["separator_id"] == len(ranks)
    assert manifest.bytes_per_token is not None, "all of it comes back"
    assert open_encoding(manifest, tmp_path / "data").vocab_size == manifest.vocab_size
    assert f"Special tokens, which no text becomes: {SEPARATOR!r}." in manifest.notes
    key = source_key(source)
    (tmp_path / "ranks").write_bytes(lines(dict(list(ranks.items())[:-1])))
    assert source_key(source) != key, "other ranks are other data"


def test_what_is_not_in_the_cache_is_never_fetched_and_the_way_out_is_said(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    path = tmp_path / "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"  # As others ship it, by its name.
    for content in (None, b"half"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ValueError, match="ranks of tokenizer 'cl100k_base'") as caught:
            encoding_with(Tiktoken(name="cl100k_base"))
        told = str(caught.value)
        assert str(path) in told
        assert "tiktoken.get_encoding('cl100k_base')" in told
        assert "\n" not in told


BAD = [
    ("no lines", b"", "byte 0 is no token"),
    ("no base64", b"!!! 0\n", r"line 1 is b'!!! 0', no token in base64 and its rank"),
    ("no rank", b"AA== 0\nAQ==\n", "line 2 is b'AQ=='"),
    ("a rank of words", b"AA== one\n", "line 1 is"),
    ("a byte that is missing", b"AA== 0\n", "byte 1 is no token"),
    ("a rank twice", b"AA== 255\n", "a token or a rank is there twice"),
    ("a token twice", b"AA== 256\n", "a token or a rank is there twice"),
    (
        "the separator as text",
        base64.b64encode(SEPARATOR.encode()) + b" 256\n",
        "is a token of text",
    ),
]
BYTES = b"".join(base64.b64encode(bytes([i])) + b" %d\n" % i for i in range(256))


@pytest.mark.parametrize(("content", "message"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_a_file_without_ranks_is_one_line(tmp_path, content, message) -> None:
    path = tmp_path / "ranks"
    path.write_bytes(BYTES + content if "twice" in message or "is a tok" in message else content)
    with pytest.raises(ValueError, match=message) as caught:
        encoding_with(Tiktoken(name="r50k_base", path=str(path)))
    assert repr(str(path)) in str(caught.value)
    assert "\n" not in str(caught.value)
