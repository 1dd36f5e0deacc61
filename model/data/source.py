# SPDX-License-Identifier: Apache-2.0
"""Where the tokens of a study come from: one frozen description per source, checked when built.

Standard library only: study files and planning import this.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from model.data.images.sources import Digits, ImageArrays, ImageFolder, MarkovMesh
from model.data.languages import Pairs, Recall, Zipf
from model.data.manifest import Manifest
from model.data.source_checks import (
    check_held_out,
    check_int,
    check_paths,
    check_real,
    check_that,
)
from model.data.text_sources import HuggingFaceDataset, PepsText, StdlibText, TextFiles
from model.data.tokenizer import (
    Tokenizer,
    check_tokenizer,
    tokenizer_from_dict,
    tokenizer_to_dict,
)

BYTE_VOCAB_SIZE = 256
BYTE_SEPARATOR = 0
TOKEN_DTYPES = ("uint8", "uint16", "uint32", "int32", "int64")
ORDERS = ("shuffled", "files")

ALL_DOMAINS = "all"
"""Of losses, that of the whole validation set: no part may have this name."""
MAX_VOCAB_SIZE = 2**31 - 1


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


TextSource = PepsText | StdlibText | TextFiles | HuggingFaceDataset
FileSource = TextSource | TokenArrays
ImageFiles = Digits | ImageFolder | ImageArrays
ImageSource = ImageFiles | MarkovMesh
Language = Zipf | Recall | Pairs | MarkovMesh
SingleSource = FileSource | Language | ImageFiles


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A part of a `Mixture`, whose validation set is a domain with a loss of its own.

    Args:
      name: in tables and figures: letters, digits, "-" and "_".
      source: its data; text without a tokenizer of its own.
      weight: its share of the windows that are trained on, over the sum of all weights; > 0.
      unique_tokens: train on so many of its tokens only, again and again: windows chosen at random,
        the same for every seed, those of a smaller number among those of a larger. None: on all.
      max_epochs: most passes over them; None: those of the study.
    """

    kind: ClassVar[str] = "part"
    name: str
    source: SingleSource
    weight: float
    unique_tokens: int | None = None
    max_epochs: float | None = None

    def __post_init__(self) -> None:
        is_name = isinstance(self.name, str) and re.fullmatch(r"[\w-]{1,40}", self.name, re.ASCII)
        is_other = self.name != ALL_DOMAINS
        legal = f"1 to 40 letters, digits, '-' and '_', and not {ALL_DOMAINS!r}"
        check_that(self, "name", bool(is_name) and is_other, legal)
        is_single = isinstance(self.source, SingleSource) and not isinstance(
            self.source, ImageSource
        )
        check_that(self, "source", is_single, "a data source that is no Mixture, and no images")
        is_plain = getattr(self.source, "tokenizer", None) is None
        check_that(self, "source", is_plain, "without tokenizer: set that of the Mixture")
        check_real(self.kind, "weight", self.weight, 0.0, math.inf)
        if self.unique_tokens is not None:
            check_int(self.kind, "unique_tokens", self.unique_tokens, 1, 2**62)
            is_finite = not isinstance(self.source, Language)
            legal = f"None for {self.source.kind}, which has no end"
            check_that(self, "unique_tokens", is_finite, legal)
        if self.max_epochs is not None:
            check_real(self.kind, "max_epochs", self.max_epochs, 0.0, math.inf)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixture:
    """Several sources with one vocabulary, mixed window by window (`model.data.mixture`).

    Each part is validated on equally many tokens, whatever the weights; the loss of all is that of
    the parts, equally weighted.

    Args:
      parts: at least one; names and sources each once.
      tokenizer: of all text; one that is to be trained, is on the training texts of all parts.
    """

    kind: ClassVar[str] = "mixture"
    parts: tuple[Part, ...]
    tokenizer: Tokenizer | None = None

    def __post_init__(self) -> None:
        are_parts = isinstance(self.parts, tuple) and all(isinstance(p, Part) for p in self.parts)
        check_that(self, "parts", are_parts and len(self.parts) > 0, "a tuple of Part(...)")
        for what in ("name", "source"):
            found = [getattr(part, what) for part in self.parts]
            is_once = len(set(found)) == len(found)
            check_that(self, "parts", is_once, f"parts that have each {what} once")
        check_tokenizer(self)
        is_text = all(isinstance(part.source, TextSource) for part in self.parts)
        is_legal = self.tokenizer is None or is_text
        check_that(self, "tokenizer", is_legal, "None, or all parts text")

    @property
    def shares(self) -> tuple[float, ...]:
        """Of each part, of all windows."""
        total = sum(part.weight for part in self.parts)
        return tuple(part.weight / total for part in self.parts)


Source = SingleSource | Mixture


# In whose windows each lies one image: tokens are values of pixels.
IMAGE_KINDS = (MarkovMesh.kind, Digits.kind, ImageFolder.kind, ImageArrays.kind)


def check_images(manifest: Manifest, seq_len: int) -> None:
    """Raises ValueError if a window of so many tokens does not hold one image of the data."""
    n_values = manifest.window_multiple
    if manifest.kind in IMAGE_KINDS and seq_len != n_values:
        raise ValueError(
            f"seq_len={seq_len}: source {manifest.kind!r} has images of {n_values} values, one in "
            f"each window. Say seq_len={n_values}."
        )


def with_tokenizer(source: Any, tokenizer: Tokenizer | None) -> Any:
    """A source of text that is written with a tokenizer; any source where that is None."""
    return source if tokenizer is None else dataclasses.replace(source, tokenizer=tokenizer)


def is_bytes(source: Source) -> bool:
    """Whether its tokens are bytes of text."""
    if isinstance(source, Mixture):
        return all(is_bytes(part.source) for part in source.parts) and source.tokenizer is None
    return isinstance(source, TextSource) and source.tokenizer is None


SOURCES: dict[str, type[Source]] = {
    s.kind: s
    for s in (
        *(PepsText, StdlibText, TextFiles, HuggingFaceDataset, TokenArrays),
        *(Zipf, Recall, Pairs, MarkovMesh, Digits, ImageFolder, ImageArrays, Mixture),
    )
}


def source_to_dict(source: Source) -> dict[str, object]:
    """The source as a JSON object: its kind and its fields, without those that may be left out and
    are; tuples become lists."""
    return {"kind": source.kind, **_fields(source)}


def _fields(node: Source | Part) -> dict[str, object]:
    values = {f.name: getattr(node, f.name) for f in dataclasses.fields(node)}
    unsaid = {f.name for f in dataclasses.fields(node) if f.default is None is values[f.name]}
    return {k: _as_json(v) for k, v in values.items() if k not in unsaid}


def _as_json(value: object) -> object:
    if isinstance(value, Tokenizer):
        return tokenizer_to_dict(value)
    if isinstance(value, Part):
        return _fields(value)
    if isinstance(value, SingleSource):
        return source_to_dict(value)
    return [_as_json(one) for one in value] if isinstance(value, tuple) else value


def source_from_dict(values: Mapping[str, object]) -> Source:
    """The source that `source_to_dict` described.

    Raises:
      ValueError: on an unknown kind, a missing or unknown field, or a value out of range.
    """
    kind = values.get("kind")
    if not isinstance(kind, str) or kind not in SOURCES:
        raise ValueError(f"unknown data source {kind!r}: choose one of {', '.join(SOURCES)}.")
    return _made(SOURCES[kind], {k: v for k, v in values.items() if k != "kind"})


def _made(node: Callable[..., Any], values: Mapping[str, object]) -> Any:
    fields = dataclasses.fields(node)  # type: ignore[arg-type]
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    unknown = sorted(set(given) - {f.name for f in fields})
    required = {f.name for f in fields if f.default is dataclasses.MISSING}
    missing = sorted(required - set(given))
    if unknown or missing:
        raise ValueError(
            f"source {node.kind!r} has unknown fields {unknown} and lacks {missing}: "  # type: ignore[attr-defined]
            f"its fields are {', '.join(f.name for f in fields)}."
        )
    if isinstance(described := given.get("tokenizer"), dict):
        given["tokenizer"] = tokenizer_from_dict(described)
    if node is Mixture and isinstance(parts := given["parts"], tuple):
        given["parts"] = tuple(_made(Part, one) if isinstance(one, dict) else one for one in parts)
    if node is Part and isinstance(described := given["source"], dict):
        given["source"] = source_from_dict(described)
    return node(**given)
