# SPDX-License-Identifier: Apache-2.0
"""JSON text as RFC 8259 has it, and no more: what is read from disk is right or refused."""

import json
import math
from typing import Any


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
