# SPDX-License-Identifier: Apache-2.0
"""From texts to tokens and back: bytes, or the tokens of a tokenizer that lies in a file."""

import hashlib
import itertools
import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from model.data.manifest import Manifest
from model.data.source import (
    BYTE_SEPARATOR,
    BYTE_VOCAB_SIZE,
    FileSource,
    ImageFiles,
    Language,
    TextSource,
    TokenArrays,
    source_from_dict,
)
from model.data.tokenizer import (
    SEPARATOR,
    FileTokenizer,
    HuggingFaceTokenizer,
    Tiktoken,
    TrainedBPE,
)
from model.data.tokens.tiktoken_ranks import read_ranks_file, tokenizer_json
from model.data.tokens.token_files import token_dtype, tokens_folder

TOKENIZER_FILE = "tokenizer.json"
STRETCH = 2**16
_TEXT_AT_A_TIME = 2**20
# The end of a line that is white space alone, between what is none.
_CUT = re.compile(rb"[!-~]\n(?=[!-~])")


class Encoding(ABC):
    """A vocabulary, and how text is written in it."""

    vocab_size: int
    separator: int

    @abstractmethod
    def encode(self, texts: Sequence[bytes]) -> list[bytes]:
        """The tokens of each text (UTF-8), as little-endian bytes of `token_dtype`."""

    @abstractmethod
    def decode(self, tokens: Sequence[int]) -> bytes:
        """The text of tokens; UTF-8 where they are those of a text."""

    def ids(self, encoded: bytes) -> list[int]:
        """Of what `encode` gave."""
        return np.frombuffer(encoded, token_dtype(self.vocab_size)).tolist()


class ByteEncoding(Encoding):
    """A byte is a token."""

    vocab_size = BYTE_VOCAB_SIZE
    separator = BYTE_SEPARATOR

    def encode(self, texts: Sequence[bytes]) -> list[bytes]:
        return list(texts)

    def decode(self, tokens: Sequence[int]) -> bytes:
        return bytes(tokens)


class IdEncoding(Encoding):
    """Token ids made elsewhere: what they say is not known."""

    def __init__(self, vocab_size: int, separator: int):
        self.vocab_size, self.separator = vocab_size, separator

    def encode(self, texts: Sequence[bytes]) -> list[bytes]:
        return list(texts)

    def decode(self, tokens: Sequence[int]) -> bytes:
        return ",".join(map(str, tokens)).encode()


class FileEncoding(Encoding):
    """The tokens of a tokenizer.json.

    Tokens that mean something else than text (separators, masks) are never made of text that looks
    like them, and none is put in front of a text or behind it.

    Attributes:
      json: the file's text.
      separator_text: the separator, as the file names it.
      special: its tokens that mean something else than text, by id.

    Raises:
      ValueError: if the package is missing, the text is no tokenizer, or it lacks the separator.
    """

    def __init__(self, text: str, separator: str, where: str):
        library = _library()
        try:
            self._tokenizer = library.Tokenizer.from_str(text)
        except Exception as error:  # The library raises nothing narrower.
            reason = str(error).splitlines()[0]
            raise ValueError(f"{where} is no tokenizer: {reason}.") from error
        self.json = text
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True
        vocabulary = self._tokenizer.get_vocab()
        added = sorted(self._tokenizer.get_added_tokens_decoder().items())
        self.special = [token.content for _, token in added if token.special]
        if separator not in vocabulary:
            raise ValueError(
                f"{where} has no token {separator!r}: its special tokens are {self.special[:20]}. "
                "Set separator of the tokenizer."
            )
        self.separator_text, self.separator = separator, vocabulary[separator]
        self.vocab_size = max(vocabulary.values()) + 1
        self._dtype = token_dtype(self.vocab_size)
        self._is_cut = _merges_end_at_lines(text)

    def encode(self, texts: Sequence[bytes]) -> list[bytes]:
        parts = [list(_stretches(text)) if self._is_cut else [text] for text in texts]
        flat = [part.decode() for text in parts for part in text]
        found = (
            np.array(one.ids, self._dtype).tobytes()
            for some in _at_a_time(flat)
            for one in self._tokenizer.encode_batch_fast(some, add_special_tokens=False)
        )
        return [b"".join(itertools.islice(found, len(text))) for text in parts]

    def decode(self, tokens: Sequence[int]) -> bytes:
        return self._tokenizer.decode(list(tokens), skip_special_tokens=False).encode()

    def described(self) -> dict[str, Any]:
        """What a manifest says of it."""
        return {
            "sha256": hashlib.sha256(self.json.encode()).hexdigest(),
            "separator": self.separator_text,
            "separator_id": self.separator,
        }


def _merges_end_at_lines(text: str) -> bool:
    """Whether a text may be cut between lines and is the same tokens: with the words of GPT-2, and
    nothing that changes text or finds tokens in it before."""
    values = json.loads(text)
    words = values.get("pre_tokenizer") or {}
    is_gpt2 = words.get("type") == "ByteLevel" and words.get("use_regex", True)
    is_plain = values.get("normalizer") is None and not words.get("add_prefix_space", True)
    return is_gpt2 and is_plain and all(one["special"] for one in values["added_tokens"])


def _at_a_time(parts: Sequence[str]) -> Iterator[list[str]]:
    """As many as give every core something, and no more memory than need be."""
    some: list[str] = []
    size = 0
    for part in parts:
        some.append(part)
        size += len(part)
        if size >= _TEXT_AT_A_TIME:
            yield some
            some, size = [], 0
    if some:
        yield some


def _stretches(text: bytes) -> Iterator[bytes]:
    """A long text in stretches of lines: the library takes 130 bytes for each of a text while it is
    at work, and a thread for each text."""
    start = 0
    while len(text) - start > 2 * STRETCH and (cut := _CUT.search(text, start + STRETCH)):
        yield text[start : cut.end()]
        start = cut.end()
    yield text[start:]


def encoding_of(source: FileSource, training: Iterable[bytes]) -> Encoding:
    """The encoding that a source asks for; a vocabulary to be trained is, on the training texts.

    Raises:
      ValueError: if the tokenizer cannot be read, or the texts are too few for the vocabulary.
    """
    if isinstance(source, TokenArrays):
        return IdEncoding(source.vocab_size, source.separator)
    tokenizer = source.tokenizer
    if tokenizer is None:
        return ByteEncoding()
    if isinstance(tokenizer, HuggingFaceTokenizer):
        text = tokenizer_text(tokenizer)
        return FileEncoding(text, tokenizer.separator, f"tokenizer {tokenizer.path!r}")
    if isinstance(tokenizer, Tiktoken):
        return FileEncoding(tokenizer_json(tokenizer), SEPARATOR, f"tokenizer {tokenizer.name!r}")
    text = train_bpe(tokenizer, training)
    return FileEncoding(text, SEPARATOR, "the tokenizer that was trained")


def tokenizer_text(tokenizer: HuggingFaceTokenizer) -> str:
    """What its file holds; raises ValueError if that cannot be read."""
    path, where = Path(tokenizer.path), f"tokenizer {tokenizer.path!r}"
    path = path / TOKENIZER_FILE if path.is_dir() else path
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{where} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is no tokenizer.json: it is not UTF-8.") from error


def tokenizer_digest(tokenizer: FileTokenizer) -> str:
    """Of the file that it is made from; raises ValueError if that cannot be read."""
    if isinstance(tokenizer, Tiktoken):
        return hashlib.sha256(read_ranks_file(tokenizer)).hexdigest()
    return hashlib.sha256(tokenizer_text(tokenizer).encode()).hexdigest()


def separator_of(manifest: Manifest) -> int:
    """The token that ends each document."""
    if manifest.tokenizer is not None:
        return int(manifest.tokenizer["separator_id"])
    if manifest.parts:
        return separator_of(manifest.parts[0])
    source = source_from_dict(manifest.source)
    if isinstance(source, ImageFiles):
        return source.levels
    return source.separator if isinstance(source, TokenArrays | Language) else BYTE_SEPARATOR


def open_encoding(manifest: Manifest, folder: Path) -> Encoding:
    """What prepared data were encoded with.

    Raises:
      ValueError: if the tokenizer in `folder` is missing, or not the one that the manifest says.
    """
    if manifest.parts:
        return open_encoding(manifest.parts[0], folder)
    folder = tokens_folder(folder, manifest.fingerprint)
    if manifest.tokenizer is None:
        is_text = isinstance(source_from_dict(manifest.source), TextSource)
        return (
            ByteEncoding() if is_text else IdEncoding(manifest.vocab_size, separator_of(manifest))
        )
    path = folder / TOKENIZER_FILE
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != manifest.tokenizer["sha256"]:
        raise ValueError(
            f"tokenizer {os.fspath(path)!r} is missing, or not the one that the data were prepared "
            "with. Prepare them again with `isoflop data STUDY`."
        )
    return FileEncoding(content.decode(), str(manifest.tokenizer["separator"]), repr(path))


def train_bpe(tokenizer: TrainedBPE, training: Iterable[bytes]) -> str:
    """The tokenizer.json of a vocabulary that is trained on texts; raises as `encoding_of`."""
    library = _library()
    from tokenizers import decoders, models, pre_tokenizers, trainers

    made = library.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=tokenizer.vocab_size,
        special_tokens=[SEPARATOR],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator((text.decode() for text in training), trainer)
    n_found = made.get_vocab_size()
    if n_found < tokenizer.vocab_size:
        raise ValueError(
            f"vocab_size of the tokenizer is {tokenizer.vocab_size}: the training documents have "
            f"no more than {n_found} tokens. Lower it, or give more text."
        )
    return made.to_str()


def _library() -> ModuleType:
    try:
        import tokenizers
    except ImportError as error:
        raise ValueError(
            "a tokenizer needs the package `tokenizers`: pip install 'isoflop[text]'."
        ) from error
    return tokenizers
