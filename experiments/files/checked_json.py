# SPDX-License-Identifier: Apache-2.0
"""JSON with the digest of its own text: a cut, an emptied file or one flipped bit is noticed."""

import hashlib
import json
from typing import Any

_HEAD = b'{"sha256": "%s", "record": '
_LENGTH = len(_HEAD) - 2 + 64


class Damaged(ValueError):
    """A file of the ledger is not what was written."""


def seal(text: str) -> bytes:
    """``{"sha256": ..., "record": TEXT}`` and a line end, for a text that is JSON."""
    return _seal(text.encode())


def seal_record(record: dict[str, Any]) -> bytes:
    """The sealed canonical JSON of a record; raises ValueError for NaN and infinities."""
    return seal(json.dumps(record, sort_keys=True, allow_nan=False))


def unseal(data: bytes) -> bytes | None:
    """The text that was sealed, or None where ``data`` is anything else."""
    text = data[_LENGTH:-2]
    return text if data == _seal(text) else None


def _seal(data: bytes) -> bytes:
    return _HEAD % hashlib.sha256(data).hexdigest().encode() + data + b"}\n"
