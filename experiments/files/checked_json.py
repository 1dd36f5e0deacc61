# SPDX-License-Identifier: Apache-2.0
"""JSON with the checksum of its own text: a cut, an emptied file or one flipped bit is noticed.

A file, or a line of one, holds ``{"sha256": ..., "record": TEXT}`` and a line end.
"""

import hashlib
import json
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from experiments.files import strict_json
from experiments.files.storage import Storage

T = TypeVar("T")
_HEAD = b'{"sha256": "%s", "record": '
_LENGTH = len(_HEAD) - 2 + 64


class Damaged(ValueError):
    """A file is not what was written."""


def with_checksum(text: str | bytes) -> bytes:
    """The content of a file that holds a JSON text."""
    data = text.encode() if isinstance(text, str) else text
    return _HEAD % hashlib.sha256(data).hexdigest().encode() + data + b"}\n"


def text_of(data: bytes) -> bytes | None:
    """The text to which ``with_checksum`` gave its checksum; None where ``data`` is none such."""
    text = data[_LENGTH:-2]
    return text if data == with_checksum(text) else None


def text_sha256(data: bytes) -> str:
    """The checksum that ``with_checksum`` wrote before its text."""
    return data[12 : 12 + 64].decode()


def encode(record: object) -> bytes:
    """The content of a file that holds a record; raises ValueError for NaN and infinities."""
    # msgspec would write null for them.
    json.dumps(msgspec.to_builtins(record, str_keys=True), allow_nan=False)
    return with_checksum(msgspec.json.encode(record))


def decode(data: bytes, kind: type[T], name: str, *, way_out: str) -> T:
    """The record of a content that ``encode`` made.

    Args:
      name: of the file, for people.
      way_out: what to do about a damaged one, in a sentence.

    Raises:
      Damaged: one line with the name, what is wrong, and the way out.
    """
    if (text := text_of(data)) is None:
        raise Damaged(f"{name} is damaged. {way_out}".rstrip())
    try:
        return strict_json.decode(text, kind)
    except ValueError as error:
        words = " ".join(str(error).split()).rstrip(".")
        raise Damaged(f"{name} is not what it should be: {words}. {way_out}".rstrip()) from None


def read(storage: Storage, key: str, kind: type[T], *, way_out: str) -> T | None:
    """The record in a file, None where there is none; raises as ``decode``."""
    data = storage.read(key)
    return None if data is None else decode(data, kind, storage.name(key), way_out=way_out)


def intact(read: Callable[..., T | None], *given: Any) -> T | None:
    """What is read; None where it is damaged, too: the doctor names it."""
    try:
        return read(*given)
    except Damaged:
        return None
