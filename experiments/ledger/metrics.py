# SPDX-License-Identifier: Apache-2.0
"""Lines of metrics, one file per attempt: what a run reported while it was trained."""

import json
import math
import zlib
from dataclasses import dataclass
from typing import Any

from experiments.files import strict_json
from experiments.files.storage import Storage
from experiments.plan.jobs import TRUNK
from experiments.plan.point import check_id

_CRC = ', "crc32": '


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """What the attempts before this one cost.

    Attributes:
      wall_seconds: as far as they had reported; a share, as in Costs of result.py.
      resumed_at: the step at which each began.
    """

    wall_seconds: float
    resumed_at: tuple[int, ...]


class Metrics:
    """The metrics of a study's runs and trunks, by their ids."""

    def __init__(self, storage: Storage):
        self.storage = storage

    def write(self, run_id: str, attempt: int, row: dict[str, Any]) -> None:
        """Adds a line to the attempt's own file, in one write, with its checksum.

        A gradient may be infinite, for which JSON has no number: null stands for it.
        """
        finite = {k: None if v in (math.inf, -math.inf) or v != v else v for k, v in row.items()}
        text = json.dumps(finite, allow_nan=False)[:-1]
        line = f"{text}{_CRC}{zlib.crc32(text.encode())}}}\n"
        self.storage.append(_key(run_id, attempt), line.encode())

    def read(self, run_id: str, attempt: int) -> tuple[list[dict[str, Any]], int]:
        """The rows of an attempt, and how many lines were torn or damaged."""
        good, n_damaged = self._lines(run_id, attempt)
        return [strict_json.loads(line) for line in good], n_damaged

    def history(self, run_id: str) -> list[dict[str, Any]]:
        """The rows of all attempts as those of one run: of steps trained again, the last; seconds
        are those of all attempts so far."""
        history: list[dict[str, Any]] = []
        seconds = 0.0
        for attempt in self.attempts(run_id):
            rows, _ = self.read(run_id, attempt)
            if rows:
                history = [row for row in history if row["step"] <= rows[0]["resumed_at"]]
                history += [row | {"wall_seconds": seconds + row["wall_seconds"]} for row in rows]
                seconds = history[-1]["wall_seconds"]
        return history

    def read_last(self, run_id: str, attempt: int) -> tuple[bytes | None, int]:
        """The last row of an attempt as JSON text, and how many lines were torn or damaged."""
        good, n_damaged = self._lines(run_id, attempt)
        return (good[-1] if good else None), n_damaged

    def attempts(self, run_id: str) -> list[int]:
        """Numbers of the attempts that wrote any."""
        names = self.storage.names(_folder(run_id))
        return [int(name[:6]) for name in names if name[:6].isdecimal()]

    def spent(self, run_id: str, *, before: int) -> Spent:
        """What the attempts before ``before`` cost."""
        last = []
        for attempt in self.attempts(run_id):
            rows, _ = self.read(run_id, attempt) if attempt < before else ([], 0)
            last += rows[-1:]
        return Spent(
            wall_seconds=sum(row["wall_seconds"] / row.get("n_sharing", 1) for row in last),
            resumed_at=tuple(row["resumed_at"] for row in last),
        )

    def _lines(self, run_id: str, attempt: int) -> tuple[list[bytes], int]:
        data = self.storage.read(_key(run_id, attempt)) or b""
        texts = [_text(line) for line in data.splitlines()]
        good = [text for text in texts if text is not None]
        return good, len(texts) - len(good)


def _folder(run_id: str) -> str:
    """A trunk is no point: what it reports lies with its job."""
    return f"{'jobs' if run_id.startswith(TRUNK) else 'runs'}/{check_id(run_id)}/metrics"


def _key(run_id: str, attempt: int) -> str:
    return f"{_folder(run_id)}/{attempt:06d}.jsonl"


def _text(line: bytes) -> bytes | None:
    """A row without its checksum, or None where the line is not what was written."""
    text, _, crc = line.rpartition(_CRC.encode())
    return text + b"}" if crc == b"%d}" % zlib.crc32(text) else None
