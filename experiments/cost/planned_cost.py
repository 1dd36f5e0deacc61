# SPDX-License-Identifier: Apache-2.0
"""results/<study>/cost.json: what was planned, kept to be compared with what came out.

Written once per plan. When the plan changes, a run that has a result keeps what was planned for it
before: a plan made after it would know what it predicts.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from experiments.cost.estimate import Estimate, Terms, beyond_name
from experiments.files import checked_json
from experiments.files.checked_json import Damaged
from experiments.ledger.forecasts import read_forecasts
from experiments.ledger.ledger import Ledger
from experiments.plan.point import Point

KEY = "cost.json"
_WAY_OUT = "Delete it: `isoflop run` plans again what has no result."


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """What was planned.

    Attributes:
      plan_sha256: of the ids of the grid's points, in order.
      device, basis: see DeviceSpeed; "" where no speed was known.
      n_devices: to use at once.
      wall_seconds: until the last has ended; None where not known.
      terms: see there.
      device_seconds: by name of the work; None where not known.
    """

    plan_sha256: str
    device: str
    basis: str
    n_devices: int
    wall_seconds: float | None
    terms: Terms
    device_seconds: dict[str, float | None]

    def __post_init__(self) -> None:
        terms = (self.terms.price, self.terms.watts, self.terms.pue, self.terms.carbon)
        for value in (self.wall_seconds, *self.device_seconds.values(), *terms):
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{value} among times, price, watts, PUE and carbon")


def remember(ledger: Ledger, points: Sequence[Point], expected: Estimate) -> list[str]:
    """Writes what is planned, unless that stands already; what is to be said about it."""
    said = []
    try:
        before = read(ledger)
    except Damaged:
        before = None
        said.append(f"{KEY} was damaged; it is written again, for what has no result.")
    digest = plan_sha256(points)
    if before is not None and before.plan_sha256 == digest and before.basis:
        return said
    known = {} if before is None else before.device_seconds
    kept = {name: known.get(name) for name in finished(ledger, points)}
    fresh = Planned(
        plan_sha256=digest,
        device="" if expected.speed is None else expected.speed.device,
        basis="" if expected.speed is None else expected.speed.basis,
        n_devices=expected.n_devices,
        wall_seconds=expected.wall_seconds,
        terms=expected.terms,
        device_seconds=expected.device_seconds | kept,
    )
    data = checked_json.encode(fresh)
    if not ledger.storage.create(KEY, data) and ledger.storage.read(KEY) != data:
        ledger.storage.replace(KEY, data)
    return said


def finished(ledger: Ledger, points: Sequence[Point]) -> list[str]:
    """Names of the works that have a result."""
    grid = [point.id for point in points if ledger.has_result(point.id)]
    done = [one.budget for one in read_forecasts(ledger) if ledger.has_result(one.point.id)]
    return [*grid, *map(beyond_name, done)]


def plan_sha256(points: Sequence[Point]) -> str:
    """Digest of the ids of the points, in order."""
    return hashlib.sha256(" ".join(point.id for point in points).encode()).hexdigest()


def read(ledger: Ledger) -> Planned | None:
    """What was planned last; None where nothing was.

    Raises:
      Damaged: if the file is not what was written.
    """
    return checked_json.read(ledger.storage, KEY, Planned, way_out=_WAY_OUT)
