# SPDX-License-Identifier: Apache-2.0
"""How many runs of one shape train best together on one device, measured and kept on disk.

``results/packs.json`` maps a kind of device and a shape (network, batch, dtype, algorithm) to the
runs x steps per second of packs of 1, 2, 4, ... runs: as far as twice as many still gained
MIN_GAIN, and the memory lasted.

On a CPU a process trains on one core, and one process per core is the pack: mapping runs over a
leading axis gains nothing there, and the best size that is found for such a process is 1.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from experiments.files import checked_json
from experiments.files.storage import Storage
from experiments.plan.point import Point

_FILE = "packs.json"
MIN_GAIN = 1.05  # For twice as many runs: what they lose when one is killed must be worth it.
MAX_RUNS = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class PackSpeeds:
    """Speeds of one shape on one kind of device.

    Attributes:
      run_steps_per_second: runs in a pack -> runs x steps per second.
    """

    run_steps_per_second: dict[int, float]

    def __post_init__(self) -> None:
        sizes = sorted(self.run_steps_per_second)
        if sizes != [2**i for i in range(len(sizes))] or not sizes:
            raise ValueError(f"packs of {sizes} runs: must be 1, 2, 4 and so on.")
        if not all(0 < speed < float("inf") for speed in self.run_steps_per_second.values()):
            raise ValueError(f"speeds {self.run_steps_per_second}: must be positive.")

    @property
    def best(self) -> int:
        """The largest pack up to which every doubling gained MIN_GAIN."""
        speeds = self.run_steps_per_second
        size = 1
        while 2 * size in speeds and speeds[2 * size] >= MIN_GAIN * speeds[size]:
            size *= 2
        return size


def best_pack(results: Path, device: str, point: Point) -> int | None:
    """Runs of this point's shape that train best together on a device; None if not measured.

    Args:
      device: its kind, as provenance.device_facts reports it.

    Raises:
      Damaged: if the file is not what was written.
    """
    known = known_speeds(results, device, shape_key(point))
    return known.best if known else None


def known_speeds(results: Path, device: str, key: str) -> PackSpeeds | None:
    """What was measured of a shape, by its key; raises as `best_pack`."""
    return _read(results).get(device, {}).get(key)


def shape_key(point: Point) -> str:
    """The point's compiled program in words, with a digest of all that it depends on."""
    model, train = point.spec.model, point.spec.train
    algorithm = train.optimizer.compiled
    parts = [model, train.batch_size, train.compute_dtype, algorithm, train.objective]
    everything = msgspec.to_builtins(parts)
    digest = hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()
    words = f"d{model.d_model} l{model.n_layers} t{model.seq_len} b{train.batch_size}"
    return f"{words} {train.compute_dtype} {algorithm.name} {digest[:16]}"


def search(measure: Callable[[int], float | None], max_runs: int = MAX_RUNS) -> PackSpeeds | None:
    """Speeds of packs of 1, 2, 4, ... runs, until one gains too little or does not fit.

    Args:
      measure: runs in a pack -> runs x steps per second; None where memory does not hold it.

    Returns:
      None where not even one run fits.
    """
    speeds: dict[int, float] = {}
    size = 1
    while size <= max_runs:
        speed = measure(size)
        if speed is None:
            break
        speeds[size] = speed
        if size > 1 and speed < MIN_GAIN * speeds[size // 2]:
            break
        size *= 2
    return PackSpeeds(run_steps_per_second=speeds) if speeds else None


def store(results: Path, device: str, key: str, speeds: PackSpeeds) -> None:
    """Adds a shape to the file; a newer measurement wins."""
    everything = _read(results)
    everything.setdefault(device, {})[key] = speeds
    Storage(results).replace(_FILE, checked_json.encode(everything))


def _read(results: Path) -> dict[str, dict[str, PackSpeeds]]:
    kind = dict[str, dict[str, PackSpeeds]]
    way_out = "Delete it; it is measured again."
    return checked_json.read(Storage(results), _FILE, kind, way_out=way_out) or {}
