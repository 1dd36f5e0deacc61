# SPDX-License-Identifier: Apache-2.0
"""What makes tokens of text, where bytes are not to be: descriptions, checked when built.

Standard library only: study files and planning import this.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from model.data.source_checks import check_int, check_that

SEPARATOR = "<|endoftext|>"
"""The token that ends each document, of a vocabulary that is trained here or is tiktoken's."""

TIKTOKEN_NAMES = ("r50k_base", "p50k_base", "cl100k_base", "o200k_base")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedBPE:
    """Byte-pair encoding of bytes, trained on the training documents of the study.

    Any text can be written and comes back byte for byte. GPT-2's (Radford et al. 2019): merges do
    not cross from words to spaces, digits or signs.

    Args:
      vocab_size: tokens in all: 256 bytes, the separator, and a merge each.
    """

    kind: ClassVar[str] = "bpe"
    vocab_size: int

    def __post_init__(self) -> None:
        check_int(self.kind, "vocab_size", self.vocab_size, 257, 2**20)


@dataclass(frozen=True, kw_only=True, slots=True)
class HuggingFaceTokenizer:
    """A tokenizer that exists, as `tokenizers` and Hugging Face save it.

    Args:
      path: its tokenizer.json, or the folder of it; in a study file as seen from there.
      separator: its token that ends each document, such as "<|endoftext|>" or "</s>".
    """

    kind: ClassVar[str] = "hugging_face"
    path: str
    separator: str

    def __post_init__(self) -> None:
        for name in ("path", "separator"):
            value: Any = getattr(self, name)
            is_legal = isinstance(value, str) and value != "" and "\0" not in value
            check_that(self, name, is_legal, "a non-empty string")


@dataclass(frozen=True, kw_only=True, slots=True)
class Tiktoken:
    """A vocabulary of `tiktoken`, whose file of ranks lies here: nothing is fetched.

    Any text can be written and comes back byte for byte. "<|endoftext|>" ends each document.

    Args:
      name: one of TIKTOKEN_NAMES: its words and its special tokens. GPT-2's is r50k_base.
      path: a file of ranks, in a study file as seen from there. None: the one that `tiktoken` keeps
        in its cache. Other ranks than the name's have its words, and one special token, the
        separator, with the id behind their last.
    """

    kind: ClassVar[str] = "tiktoken"
    separator: ClassVar[str] = SEPARATOR
    name: str
    path: str | None = None

    def __post_init__(self) -> None:
        check_that(self, "name", self.name in TIKTOKEN_NAMES, f"one of {', '.join(TIKTOKEN_NAMES)}")
        path: Any = self.path
        is_path = path is None or (isinstance(path, str) and path != "" and "\0" not in path)
        check_that(self, "path", is_path, "a non-empty string, or None")


FileTokenizer = HuggingFaceTokenizer | Tiktoken
Tokenizer = TrainedBPE | FileTokenizer
_TOKENIZERS: dict[str, type[Tokenizer]] = {
    each.kind: each for each in (TrainedBPE, HuggingFaceTokenizer, Tiktoken)
}


def check_tokenizer(source: Any) -> None:
    """Raises ValueError unless the source's tokenizer is one, or None."""
    is_one = source.tokenizer is None or isinstance(source.tokenizer, Tokenizer)
    legal = "TrainedBPE(...), HuggingFaceTokenizer(...), Tiktoken(...) or None"
    check_that(source, "tokenizer", is_one, legal)


def tokenizer_to_dict(tokenizer: Tokenizer) -> dict[str, object]:
    """The tokenizer as a JSON object: its kind and its fields."""
    return {"kind": tokenizer.kind, **dataclasses.asdict(tokenizer)}


def tokenizer_from_dict(values: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that `tokenizer_to_dict` described.

    Raises:
      ValueError: on an unknown kind or other fields than it has, or a value out of range.
    """
    fields = {name: value for name, value in values.items() if name != "kind"}
    kind = _TOKENIZERS.get(str(values.get("kind")))
    if kind is None or set(fields) != {field.name for field in dataclasses.fields(kind)}:
        raise ValueError(
            f"unknown tokenizer {dict(values)!r}: known are {', '.join(_TOKENIZERS)}, each with "
            "its own fields."
        )
    return kind(**fields)
