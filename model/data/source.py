# SPDX-License-Identifier: Apache-2.0
"""Where the tokens of a study come from: one frozen description per source, checked when built.

Standard library only: study files and planning import this.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from model.data.source_checks import (
    check_fraction,
    check_held_out,
    check_int,
    check_paths,
    check_real,
    check_that,
    is_encoding,
)
from model.data.tokenizer import (
    Tokenizer,
    check_tokenizer,
    tokenizer_from_dict,
    tokenizer_to_dict,
)

BYTE_VOCAB_SIZE = 256
BYTE_SEPARATOR = 0
MAX_ZIPF_TABLE_TOKENS = 2**25
"""Largest table of distinct records, b^k (1+k+r) tokens, that a `Zipf` language may need."""

TEXT_FORMATS = ("text", "jsonl", "json", "csv", "parquet", "arrow")
TOKEN_DTYPES = ("uint8", "uint16", "uint32", "int32", "int64")
ORDERS = ("shuffled", "files")

MAX_VOCAB_SIZE = 2**31 - 1
MAX_SEED = 2**64 - 1


class _Text:
    """What sources of text have in common: windows in an order of ours, and tokens that are bytes
    unless they say a tokenizer."""

    __slots__ = ()
    order: ClassVar[str] = "shuffled"


@dataclass(frozen=True, kw_only=True, slots=True)
class StdlibText(_Text):
    """The *.py files of the running Python's standard library; one file, one document.

    Args:
      validation_fraction: share of the documents held out, 0 < x < 1, chosen by their hash.
      tokenizer: None for bytes.
    """

    kind: ClassVar[str] = "stdlib"
    validation_fraction: float
    tokenizer: Tokenizer | None = None

    def __post_init__(self) -> None:
        check_fraction(self.kind, self.validation_fraction)
        check_tokenizer(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class PepsText(_Text):
    """703 Python Enhancement Proposals that come with the package: the same everywhere.

    Args:
      validation_fraction: share of the documents held out, 0 < x < 1, chosen by their hash.
      tokenizer: None for bytes.
    """

    kind: ClassVar[str] = "peps"
    validation_fraction: float
    tokenizer: Tokenizer | None = None

    def __post_init__(self) -> None:
        check_fraction(self.kind, self.validation_fraction)
        check_tokenizer(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class TextFiles(_Text):
    """Text that lies in files.

    The ending of a file tells its format (below, and .gz .bz2 .xz .zst behind it); one that is not
    known is refused. A NUL byte always ends a document. Where all is one document, it is cut into
    about 200 at ends of lines.

        .txt .md, source code          a file, or what `document_separator` parts it into
        .jsonl .ndjson .json           an object in each line, or one array of objects
        .csv .tsv                      a row, the first line being of names
        .parquet .arrow                a row; also the folders that `datasets` saves

    Args:
      paths: files, folders (read recursively, in sorted order) or patterns ("texts/**/*.txt"); in a
        study file as seen from there, else from the working folder.
      validation_fraction: share of the documents held out, 0 < x < 1, chosen by their hash; or
      validation_paths: what is held out as it is, and `paths` is all for training. One of the two.
      text_field: the key or column of the text, in all formats but plain text; "meta.text" is the
        field `text` of `meta`.
      format: one of TEXT_FORMATS, whatever the endings.
      document_separator: what parts plain text into documents, such as "<|endoftext|>" or, for
        lines, "\\n"; line ends around it are dropped. None: NUL bytes.
      encoding: of all that is not Parquet or Arrow, by Python's name; byte order marks are dropped.
      max_document_bytes: a longer document is refused or,
      cut_long_documents: cut into documents of at most so many bytes, at ends of lines.
      tokenizer: None for UTF-8 bytes.
    """

    kind: ClassVar[str] = "text"
    paths: tuple[str, ...]
    validation_fraction: float | None = None
    validation_paths: tuple[str, ...] | None = None
    text_field: str = "text"
    format: str | None = None
    document_separator: str | None = None
    encoding: str = "utf-8"
    max_document_bytes: int = 64 * 2**20
    cut_long_documents: bool = False
    tokenizer: Tokenizer | None = None

    def __post_init__(self) -> None:
        check_paths(self.kind, "paths", self.paths)
        check_held_out(self)
        check_int(self.kind, "max_document_bytes", self.max_document_bytes, 16, 2**31)
        is_text = isinstance(self.text_field, str) and self.text_field != ""
        check_that(self, "text_field", is_text, "a non-empty string, the key or column of the text")
        is_format = self.format is None or self.format in TEXT_FORMATS
        check_that(self, "format", is_format, f"one of {', '.join(TEXT_FORMATS)}, or None")
        separator = self.document_separator
        is_separator = separator is None or (isinstance(separator, str) and separator != "")
        check_that(self, "document_separator", is_separator, "a non-empty string, or None")
        check_that(self, "encoding", is_encoding(self.encoding), "an encoding that Python knows")
        is_flag = isinstance(self.cut_long_documents, bool)
        check_that(self, "cut_long_documents", is_flag, "True or False")
        check_tokenizer(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenArrays:
    """Tokens made elsewhere, in files of integers; each document ends with `separator`.

        .npy            1-D arrays
        .bin with .idx  Megatron's; its index says where documents end
        .bin            llm.c's, by its header; else, as nanoGPT's, integers of `dtype`

    Where documents are held out, each gets one separator at its end. Files that are held out as
    they are, and those trained on beside them, are taken token for token.

    Args:
      paths: files, folders (read recursively, in sorted order) or patterns ("shards/*.bin").
      vocab_size: tokens lie in [0, vocab_size).
      separator: the token that ends each document.
      validation_fraction: share of the documents held out, 0 < x < 1, chosen by their hash; or
      validation_paths: what is held out as it is, and `paths` is all for training. One of the two.
      bytes_per_token: mean bytes of text per token, separators counted as tokens, for bits per
        byte; None where it is not known.
      dtype: one of TOKEN_DTYPES, little-endian, of .bin files without header.
      order: of the windows that are trained on: "shuffled", anew for each seed and epoch; or
        "files", as they lie in the files, whatever the seed.
    """

    kind: ClassVar[str] = "tokens"
    paths: tuple[str, ...]
    vocab_size: int
    separator: int
    validation_fraction: float | None = None
    validation_paths: tuple[str, ...] | None = None
    bytes_per_token: float | None
    dtype: str | None = None
    order: str = "shuffled"

    def __post_init__(self) -> None:
        check_paths(self.kind, "paths", self.paths)
        check_int(self.kind, "vocab_size", self.vocab_size, 2, MAX_VOCAB_SIZE)
        check_int(self.kind, "separator", self.separator, 0, self.vocab_size - 1)
        check_held_out(self)
        if self.bytes_per_token is not None:
            check_real(self.kind, "bytes_per_token", self.bytes_per_token, 0.0, math.inf)
        is_dtype = self.dtype is None or self.dtype in TOKEN_DTYPES
        check_that(self, "dtype", is_dtype, f"one of {', '.join(TOKEN_DTYPES)}, or None")
        check_that(self, "order", self.order in ORDERS, f"one of {', '.join(ORDERS)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Zipf:
    """A synthetic language of known entropy: records about facts i = 1..M with p_i ~ i^-(1+alpha).

    A record is m = 1 + k + r tokens: the separator (id b), the k base-b digits of pi(i), most
    significant first, then r answers g_j(i), each replaced by a uniform digit with probability
    epsilon. Digits are the ids 0..b-1; M = b^k. See `model.data.zipf`.

    Args:
      alpha: tail exponent, > 0.
      epsilon: probability that an answer is replaced by a uniform digit, 0 <= x <= 1.
      base: b, number of digits, >= 2.
      n_digits: k, digits of a question, >= 1.
      n_answers: r, answers of a record, >= 1.
      language_seed: fixes pi and g; not the order in which records are drawn.
    """

    kind: ClassVar[str] = "zipf"
    alpha: float
    epsilon: float
    base: int
    n_digits: int
    n_answers: int
    language_seed: int

    def __post_init__(self) -> None:
        check_real(self.kind, "alpha", self.alpha, 0.0, math.inf)
        check_real(self.kind, "epsilon", self.epsilon, 0.0, 1.0, closed=True)
        check_int(self.kind, "base", self.base, 2, MAX_ZIPF_TABLE_TOKENS)
        check_int(self.kind, "n_digits", self.n_digits, 1, MAX_ZIPF_TABLE_TOKENS)
        check_int(self.kind, "n_answers", self.n_answers, 1, MAX_ZIPF_TABLE_TOKENS)
        check_int(self.kind, "language_seed", self.language_seed, 0, MAX_SEED)
        log2_table = self.n_digits * math.log2(self.base) + math.log2(self.record_length)
        if log2_table > math.log2(MAX_ZIPF_TABLE_TOKENS):
            raise ValueError(
                f"base {self.base}, n_digits {self.n_digits} and n_answers {self.n_answers} of "
                f"source 'zipf' need a table of 2^{log2_table:.1f} tokens (base^n_digits records): "
                f"at most 2^{math.log2(MAX_ZIPF_TABLE_TOKENS):.0f}. Lower base or n_digits."
            )

    @property
    def record_length(self) -> int:
        """Tokens per record, m = 1 + k + r; a window holds whole records."""
        return 1 + self.n_digits + self.n_answers

    @property
    def n_facts(self) -> int:
        """Number of facts, M = b^k."""
        return self.base**self.n_digits

    @property
    def vocab_size(self) -> int:
        """b digits and the separator."""
        return self.base + 1

    @property
    def separator(self) -> int:
        """The id after the last digit."""
        return self.base


TextSource = PepsText | StdlibText | TextFiles
FileSource = TextSource | TokenArrays
Source = FileSource | Zipf

SOURCES: dict[str, type[Source]] = {
    s.kind: s for s in (PepsText, StdlibText, TextFiles, TokenArrays, Zipf)
}


def source_to_dict(source: Source) -> dict[str, object]:
    """The source as a JSON object: its kind and its fields, without those that may be left out and
    are; tuples become lists."""
    values = {f.name: getattr(source, f.name) for f in dataclasses.fields(source)}
    unsaid = {f.name for f in dataclasses.fields(source) if f.default is None is values[f.name]}
    listed = {k: _as_json(v) for k, v in values.items()}
    return {"kind": source.kind, **{k: v for k, v in listed.items() if k not in unsaid}}


def _as_json(value: object) -> object:
    if isinstance(value, Tokenizer):
        return tokenizer_to_dict(value)
    return list(value) if isinstance(value, tuple) else value


def source_from_dict(values: Mapping[str, object]) -> Source:
    """The source that `source_to_dict` described.

    Raises:
      ValueError: on an unknown kind, a missing or unknown field, or a value out of range.
    """
    kind = values.get("kind")
    if not isinstance(kind, str) or kind not in SOURCES:
        raise ValueError(f"unknown data source {kind!r}: choose one of {', '.join(SOURCES)}.")
    fields = dataclasses.fields(SOURCES[kind])
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k != "kind"}
    unknown = sorted(set(given) - {f.name for f in fields})
    required = {f.name for f in fields if f.default is dataclasses.MISSING}
    missing = sorted(required - set(given))
    if unknown or missing:
        raise ValueError(
            f"source {kind!r} has unknown fields {unknown} and lacks {missing}: "
            f"its fields are {', '.join(f.name for f in fields)}."
        )
    if isinstance(described := given.get("tokenizer"), dict):
        given["tokenizer"] = tokenizer_from_dict(described)
    make: Callable[..., Source] = SOURCES[kind]
    return make(**given)
