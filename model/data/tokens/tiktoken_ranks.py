# SPDX-License-Identifier: Apache-2.0
"""A vocabulary of `tiktoken` as a tokenizer.json: the same ids for any text.

Its file has a line for each token: the bytes in base64, and the id, which is also the rank of the
merge that makes it. A merge may join any two tokens whose bytes together are a token; a word that
is a token is one, whatever the merges. So `tokenizers` has it with all such pairs as merges, by
rank, and `ignore_merges`. Addresses, digests, words and special tokens are those of
tiktoken_ext/openai_public.py (tiktoken 0.14, MIT).
"""

import base64
import binascii
import hashlib
import itertools
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from model.data.tokenizer import SEPARATOR, Tiktoken

_FOLDER = "https://openaipublic.blob.core.windows.net/encodings"


class _Named(NamedTuple):
    """``words``: in the spelling of Oniguruma, which `tokenizers` uses: \\z is tiktoken's $, and
    possessive marks, which save time alone, are left out. None: GPT-2's."""

    sha256: str
    words: str | None
    special: Mapping[str, int]


_MIDDLE = {f"<|fim_{part}|>": 100258 + i for i, part in enumerate(("prefix", "middle", "suffix"))}
_MARK, _UPPER, _LOWER = (
    r"[^\r\n\p{L}\p{N}]?",
    r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}",
    r"\p{Ll}\p{Lm}\p{Lo}\p{M}",
)
_ENDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_NAMED = {
    "r50k_base": _Named(
        "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930", None, {SEPARATOR: 50256}
    ),
    "p50k_base": _Named(
        "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069", None, {SEPARATOR: 50256}
    ),
    "cl100k_base": _Named(
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        rf"'(?i:[sdmt]|ll|ve|re)|{_MARK}\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*"
        r"|\s+\z|\s*[\r\n]|\s+(?!\S)|\s",
        {SEPARATOR: 100257, **_MIDDLE, "<|endofprompt|>": 100276},
    ),
    "o200k_base": _Named(
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        rf"{_MARK}[{_UPPER}]*[{_LOWER}]+{_ENDS}|{_MARK}[{_UPPER}]+[{_LOWER}]*{_ENDS}"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        {SEPARATOR: 199999, "<|endofprompt|>": 200018},
    ),
}


def read_ranks_file(tokenizer: Tiktoken) -> bytes:
    """What its file holds.

    Raises:
      ValueError: if it cannot be read, or that of the cache is not what the name says.
    """
    name, is_named = tokenizer.name, tokenizer.path is None
    path = _in_cache(name) if tokenizer.path is None else Path(tokenizer.path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"the ranks of tokenizer {name!r} cannot be read from {os.fspath(path)!r}: "
            f"{error.strerror}.{_fetch(name) * is_named}"
        ) from error
    if is_named and hashlib.sha256(content).hexdigest() != _NAMED[name].sha256:
        raise ValueError(
            f"{os.fspath(path)!r} does not hold the ranks of tokenizer {name!r}: it is damaged."
            f"{_fetch(name)}"
        )
    return content


def _in_cache(name: str) -> Path:
    """Where tiktoken keeps it (tiktoken/load.py)."""
    variables = (os.environ.get(f"{who}_CACHE_DIR") for who in ("TIKTOKEN", "DATA_GYM"))
    folder = next(filter(None, variables), os.path.join(tempfile.gettempdir(), "data-gym-cache"))
    return Path(folder, hashlib.sha1(f"{_FOLDER}/{name}.tiktoken".encode()).hexdigest())


def _fetch(name: str) -> str:
    code = f"import tiktoken; tiktoken.get_encoding({name!r})"
    return f' Where there is a network `python -c "{code}"` fetches it; or give the file as path=.'


def tokenizer_json(tokenizer: Tiktoken) -> str:
    """The text of the tokenizer.json; raises as read_ranks_file, and if its file has no ranks."""
    named, content = _NAMED[tokenizer.name], read_ranks_file(tokenizer)
    ranks = _ranks(content, os.fspath(tokenizer.path or _in_cache(tokenizer.name)))
    is_own = hashlib.sha256(content).hexdigest() == named.sha256
    special = named.special if is_own else {SEPARATOR: max(ranks.values()) + 1}
    plain: dict[str, Any] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    words: dict[str, Any] = plain | {"use_regex": named.words is None}
    if named.words is not None:
        split: dict[str, Any] = {"type": "Split", "pattern": {"Regex": named.words}}
        split |= {"behavior": "Isolated", "invert": False}
        words = {"type": "Sequence", "pretokenizers": [split, words]}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    spelled = {token: _spelled(token) for token in ranks}
    model = {
        "type": "BPE",
        "ignore_merges": True,
        "vocab": {**{spelled[token]: rank for token, rank in ranks.items()}, **special},
        "merges": [(spelled[left], spelled[right]) for left, right in _merges(ranks)],
    }
    return json.dumps(
        {
            "version": "1.0",
            "added_tokens": [
                {"id": number, "content": content, **flags, "special": True}
                for content, number in special.items()
            ],
            "pre_tokenizer": words,
            "decoder": plain,
            "model": model,
        },
        ensure_ascii=False,
    )


def _ranks(content: bytes, where: str) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(content.splitlines(), 1):
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as error:
            raise ValueError(
                f"{where!r} has no ranks of tiktoken: line {number} is {line[:40]!r}, no token in "
                "base64 and its rank."
            ) from error
    reason = ""
    if lacking := [byte for byte in range(256) if bytes([byte]) not in ranks]:
        reason = f"byte {lacking[0]} is no token"
    elif len(set(ranks.values())) < len(content.splitlines()):
        reason = "a token or a rank is there twice"
    elif SEPARATOR.encode() in ranks:
        reason = f"{SEPARATOR!r}, which ends documents, is a token of text"
    if reason:
        raise ValueError(f"{where!r} has no ranks of tiktoken that can be used: {reason}.")
    return ranks


def _merges(ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """All pairs of tokens whose bytes together are a token, by its rank."""
    pairs = [
        (rank, ranks[left], ranks[right], left, right)
        for token, rank in ranks.items()
        for cut in range(1, len(token))
        if (left := token[:cut]) in ranks and (right := token[cut:]) in ranks
    ]
    return [(left, right) for *_, left, right in sorted(pairs)]


_OTHERS = itertools.count(256)
# GPT-2's letter for each byte: its own where that can be printed.
_LETTERS = [
    chr(byte) if chr(byte).isprintable() and byte != ord(" ") else chr(next(_OTHERS))
    for byte in range(256)
]


def _spelled(token: bytes) -> str:
    return "".join(_LETTERS[byte] for byte in token)
