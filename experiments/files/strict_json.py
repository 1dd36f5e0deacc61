# SPDX-License-Identifier: Apache-2.0
"""JSON text as RFC 8259 has it, and no more: what is read from disk is right or refused."""

import json
import math
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def decode(text: str | bytes, kind: type[T]) -> T:
    """The value of a JSON text, of a type that msgspec knows.

    Raises:
      ValueError: as ``loads``, and for what is not of that type or has a field that it has not.
    """
    try:
        value = msgspec.json.decode(text, type=kind)
        # What is, byte for byte, as we write it needs no strict reading, which takes much longer.
        if msgspec.json.encode(value) == (text.encode() if isinstance(text, str) else text):
            return value
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    tree = loads(text)
    value = msgspec.convert(tree, kind, str_keys=True)
    _refuse_unknown(tree, msgspec.to_builtins(value), "$")
    return value


def _refuse_unknown(given: Any, known: Any, path: str) -> None:
    """Raises ValueError for a field that is in a tree and not in what was read from it."""
    if isinstance(given, dict):
        is_table = any(not isinstance(key, str) for key in known)  # Of numbers by number.
        for key, value in given.items() if not is_table else ():
            if key not in known:
                raise ValueError(f"there is no field {key[:40]!a} - at `{path}`")
            _refuse_unknown(value, known[key], f"{path}.{key}")
    elif isinstance(given, list):
        for value, item in zip(given, known, strict=True):
            _refuse_unknown(value, item, f"{path}[...]")


def loads(text: str | bytes) -> Any:
    """The value of a JSON text.

    Python's reader also takes NaN, Infinity, numbers beyond all floats (as infinity), an object
    that names a key twice (the last wins) and halves of surrogate pairs, which no file can hold.

    Raises:
      ValueError: one line saying what is wrong, for any of these and for whatever is no JSON.
    """
    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        value = json.loads(text, object_pairs_hook=_object)
        _check("the text", value)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text (byte {error.start})") from None
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"it names {_shown(twice)} twice")
    for key, value in pairs:
        _check("a key", key)
        _check(key, value)
    return values


def _check(key: str, value: Any) -> None:
    """Raises ValueError for what JSON cannot hold; objects inside were checked when read."""
    if isinstance(value, list):
        for item in value:
            _check(key, item)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{_shown(key)} is {value}: JSON has finite numbers only")
    elif isinstance(value, str) and not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError(f"{_shown(key)} holds half of a surrogate pair") from None


def _shown(key: str) -> str:
    return json.dumps(key[:40])
