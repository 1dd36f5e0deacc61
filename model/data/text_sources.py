# SPDX-License-Identifier: Apache-2.0
"""Sources of text. Standard library only: study files and planning import this."""

from dataclasses import dataclass
from typing import ClassVar

from model.data.source_checks import (
    check_fraction,
    check_held_out,
    check_int,
    check_paths,
    check_that,
    is_encoding,
)
from model.data.tokenizer import Tokenizer, check_tokenizer

TEXT_FORMATS = ("text", "jsonl", "json", "csv", "parquet", "arrow")

DROPS = (None, "duplicates", "overlap")


class _Text:
    """What sources of text have in common: windows in an order of ours, and tokens that are bytes
    unless they say a tokenizer."""

    __slots__ = ()
    order: ClassVar[str] = "shuffled"


@dataclass(frozen=True, kw_only=True, slots=True)
class _FoundText(_Text):
    """Text that needs no paths.

    Args:
      validation_fraction: share of the documents held out, 0 < x < 1, chosen by their hash.
      tokenizer: None for bytes.
      drop: see TextFiles.
    """

    kind: ClassVar[str]
    validation_fraction: float
    tokenizer: Tokenizer | None = None
    drop: str | None = None

    def __post_init__(self) -> None:
        check_fraction(self.kind, self.validation_fraction)
        check_tokenizer(self)
        check_that(self, "drop", self.drop in DROPS, '"duplicates", "overlap" or None')


@dataclass(frozen=True, kw_only=True, slots=True)
class StdlibText(_FoundText):
    """The *.py files of the running Python's standard library; one file, one document."""

    kind: ClassVar[str] = "stdlib"


@dataclass(frozen=True, kw_only=True, slots=True)
class PepsText(_FoundText):
    """703 Python Enhancement Proposals that come with the package: the same everywhere."""

    kind: ClassVar[str] = "peps"


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
      drop: of training documents, all "duplicates" but the first; "overlap": these, and every one
        that has 64 bytes in a row in common with what is held out. None: none.
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
    drop: str | None = None

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
        check_that(self, "drop", self.drop in DROPS, '"duplicates", "overlap" or None')


@dataclass(frozen=True, kw_only=True, slots=True)
class HuggingFaceDataset(_Text):
    """A dataset that the package `datasets` reads (extra "text"), streamed; a row is a document.

    Args:
      path: a folder, such as one of Parquet files, in a study file as seen from there; or a name of
        the Hugging Face hub.
      name: of the configuration, where the dataset has several.
      split: what is trained on and, where there is no `validation_split`, split by hash.
      revision: commit of the hub; required for a name. A folder is known by its digest.
      text_field: the column of the text; "meta.text" is the field `text` of `meta`.
      validation_fraction: share of the documents held out, 0 < x < 1, chosen by their hash; or
      validation_split: a split that is held out as it is. One of the two.
      tokenizer: None for UTF-8 bytes.
      drop: see TextFiles.
    """

    kind: ClassVar[str] = "dataset"
    path: str
    name: str | None = None
    split: str
    revision: str | None = None
    text_field: str = "text"
    validation_fraction: float | None = None
    validation_split: str | None = None
    tokenizer: Tokenizer | None = None
    drop: str | None = None

    def __post_init__(self) -> None:
        for field in ("path", "split", "text_field"):
            check_that(self, field, _is_name(getattr(self, field)), "a non-empty string")
        for field in ("name", "revision", "validation_split"):
            value = getattr(self, field)
            check_that(self, field, value is None or _is_name(value), "a non-empty string, or None")
        if (self.validation_fraction is None) == (self.validation_split is None):
            raise ValueError(
                f"validation_fraction of source 'dataset' is {self.validation_fraction!r} and "
                f"validation_split is {self.validation_split!r}: give one of them, a share of the "
                "documents or a split of the dataset."
            )
        if self.validation_fraction is not None:
            check_fraction(self.kind, self.validation_fraction)
        is_other = self.validation_split != self.split
        check_that(self, "validation_split", is_other, "another split than the one trained on")
        check_tokenizer(self)
        check_that(self, "drop", self.drop in DROPS, '"duplicates", "overlap" or None')


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value != "" and "\0" not in value
