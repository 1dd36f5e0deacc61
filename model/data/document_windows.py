# SPDX-License-Identifier: Apache-2.0
"""Whole documents as windows of tokens: what is asked is the same bytes, whatever the tokens."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, Int64, Integer

from model.data.tokens.encoding import Encoding

NO_TARGET = -1
"""In a window behind the end of its document."""


class DocumentWindows(NamedTuple):
    """Documents in windows of T targets.

    The first target of a document is its first token, after the separator; the last is the
    separator that ends it. The windows of a document follow one another and share no target: each
    begins with the last target of the one before, and what lies further back is not seen.

    Attributes:
      windows: inputs are [:, :-1], targets [:, 1:]; NO_TARGET behind the end of a document.
      document: which document each window is of, ascending.
      n_bytes: of the document, its end counted as one, in its first window; else 0.
      domains: which windows are of which part of the data, by its name, where there are parts.
    """

    windows: Int32[np.ndarray, "n_windows T1"]
    document: Int64[np.ndarray, " n_windows"]
    n_bytes: Int64[np.ndarray, " n_windows"]
    domains: Mapping[str, Bool[np.ndarray, " n_windows"]] = MappingProxyType({})


def choose_documents(
    tokens: Integer[np.ndarray, " n"],
    encoding: Encoding,
    order: Int64[np.ndarray, " n_documents"],
    n_bytes: int,
) -> tuple[list[Integer[np.ndarray, "_"]], list[int]]:
    """Documents until they have so many bytes, and the bytes of each, its end not among them.

    Args:
      tokens: of all documents, each ended by the separator.

    Raises:
      ValueError: if the separator does not tell them apart, or they have fewer bytes.
    """
    ends = np.flatnonzero(tokens == encoding.separator)
    if len(ends) != len(order):
        raise ValueError(
            f"token {encoding.separator}, which ends documents, occurs {len(ends)} times in "
            f"{len(order)} validation documents: they cannot be told apart. Set another separator "
            "of the tokenizer, or give evaluation.n_tokens."
        )
    documents: list[np.ndarray] = []
    sizes: list[int] = []
    for place in order:
        documents.append(tokens[ends[place - 1] + 1 if place else 0 : ends[place]])
        sizes.append(len(encoding.decode(documents[-1].tolist())))
        if sum(sizes) + len(sizes) >= n_bytes:
            return documents, sizes
    raise ValueError(
        f"validation of {n_bytes} bytes: the documents that are held out have "
        f"{sum(sizes) + len(sizes)}. Lower evaluation.n_bytes or raise validation_fraction."
    )


def document_windows(
    documents: Sequence[Integer[np.ndarray, "_"]],
    n_bytes: Sequence[int],
    *,
    separator: int,
    seq_len: int,
) -> DocumentWindows:
    """The windows of documents, in their order.

    Args:
      documents: their tokens, without separators. n_bytes: of the text of each.
    """
    counts = [-(-(len(tokens) + 1) // seq_len) for tokens in documents]
    firsts = np.cumsum([0, *counts])
    windows = np.full((firsts[-1], seq_len + 1), NO_TARGET, np.int32)
    own_bytes = np.zeros(firsts[-1], np.int64)
    for tokens, count, first, size in zip(documents, counts, firsts[:-1], n_bytes, strict=True):
        whole = np.full(count * seq_len + 1, NO_TARGET, np.int32)
        whole[1 : len(tokens) + 1] = tokens
        whole[0] = whole[len(tokens) + 1] = separator
        own = windows[first : first + count]
        own[:, 1:] = whole[1:].reshape(count, seq_len)
        own[:, 0] = whole[:-1:seq_len]
        own_bytes[first] = size + 1
    document = np.repeat(np.arange(len(documents)), counts)
    return DocumentWindows(windows, document, own_bytes)
