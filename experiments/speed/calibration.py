# SPDX-License-Identifier: Apache-2.0
"""Measured speed of this machine, kept on disk, so that planning stays pure.

``results/calibration.json`` maps a host, and the number of devices of a mesh of several, to the
FLOP/s per worker that runs reached there, by network and batch. Speed grows with the work per step,
so a shape that was not measured is interpolated in log FLOPs per step between the measured ones.
"""

import dataclasses
import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from experiments.files import checked_json
from experiments.files.storage import Storage
from experiments.ledger.ledger import Ledger
from experiments.ledger.result import Result, Trunk
from experiments.plan.jobs import PlannedJob
from experiments.plan.point import Point

_FILE = "calibration.json"
MIN_SECONDS = 1.0  # Less, of all runs of a shape, says more about start-up than about speed.


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Speeds of one host.

    Attributes:
      device: as its worker reported it.
      flops_per_second: FLOPs per step (convention "matmul_full") -> FLOP/s of one worker.
      peak_flops_per_second: of one worker (experiments/machine/peak.py); 0 if not known.
      compile_seconds: of one program, the mean: plans count programs.
      beyond_grid: as flops_per_second, of runs beyond the grid; empty until one has finished.
    """

    device: str
    flops_per_second: dict[float, float]
    peak_flops_per_second: float
    compile_seconds: float
    beyond_grid: dict[float, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.flops_per_second:
            raise ValueError("flops_per_second is empty: at least one speed is needed.")
        for work, speed in [*self.flops_per_second.items(), *self.beyond_grid.items()]:
            if not (0 < work < math.inf and 0 < speed < math.inf):
                raise ValueError(
                    f"a step of {work} FLOPs at {speed} FLOP/s; both must be positive."
                )

    def seconds(self, point: Point) -> float:
        """Training time of a point on one worker, without compilation."""
        return point.flops["matmul_full"] / self.speed(point.flops_per_step)

    def job_seconds(self, planned_job: PlannedJob) -> float:
        """Training time of a job on one worker, without compilation."""
        share = planned_job.n_steps / planned_job.points[0].spec.train.schedule.n_steps
        return share * sum(self.seconds(point) for point in planned_job.points)

    def speed(self, flops_per_step: float, *, is_beyond_grid: bool = False) -> float:
        """FLOP/s of one worker at so much work per step; ends of what was measured are kept."""
        of_grid = self.flops_per_second
        known = sorted((self.beyond_grid or of_grid if is_beyond_grid else of_grid).items())
        x = math.log(flops_per_step)
        xs = [math.log(work) for work, _ in known]
        ys = [math.log(speed) for _, speed in known]
        if x <= xs[0]:
            return math.exp(ys[0])
        for i in range(1, len(xs)):
            if x <= xs[i]:
                weight = (x - xs[i - 1]) / (xs[i] - xs[i - 1])
                return math.exp(ys[i - 1] * (1 - weight) + ys[i] * weight)
        return math.exp(ys[-1])


def relative_seconds(flops: float) -> float:
    """Of a run, up to a factor, where no speed is known: large runs reach more FLOP/s."""
    return flops**0.8


def trained(ledger: Ledger, points: Sequence[Point]) -> list[tuple[Point, Result | Trunk]]:
    """The records of grid points that are finished, and of their trunks, each with a point of its
    shape."""
    of_cluster = {point.cluster_id: point for point in points if point.role == "grid"}
    found: list[tuple[Point, Result | Trunk]] = [
        (next(of_cluster[name] for name in trunk.clusters if name in of_cluster), trunk)
        for trunk in ledger.trunks(of_cluster).values()
    ]
    for point in points:
        record = ledger.read_result(point.id)
        if record is not None and point.role == "grid":
            found.append((point, record))
    return found


def learn(ledger: Ledger, points: Sequence[Point]) -> Calibration | None:
    """What `trained` jobs of the points say of the machine that trained them."""
    found = trained(ledger, points)
    if not (speeds := _speeds(found)):
        return None
    costs = [record.costs for _, record in found]
    return Calibration(
        device=found[-1][1].provenance.device,
        flops_per_second=speeds,
        peak_flops_per_second=max(cost.peak_flops_per_second for cost in costs),
        # Most found their program compiled; one may have waited for a busy machine.
        compile_seconds=sum(cost.compile_seconds for cost in costs)
        / len({point.flops_per_step for point, _ in found}),
    )


def learn_beyond_grid(ledger: Ledger, points: Sequence[Point]) -> dict[float, float]:
    """FLOPs per step -> FLOP/s of those of the points that lie beyond the grid and are finished."""
    records = [(point, ledger.read_result(point.id)) for point in points if point.role != "grid"]
    return _speeds([(point, record) for point, record in records if record is not None])


def _speeds(found: Sequence[tuple[Point, Result | Trunk]]) -> dict[float, float]:
    """FLOPs per step -> FLOP/s, where it was measured for long enough."""
    flops: dict[float, float] = {}
    seconds: dict[float, float] = {}
    for point, record in found:
        work, took = point.flops_per_step, record.costs.train_seconds
        seconds[work] = seconds.get(work, 0.0) + took
        flops[work] = flops.get(work, 0.0) + took * record.costs.flops_per_second
    return {w: flops[w] / s for w, s in seconds.items() if s >= MIN_SECONDS and flops[w] > 0}


def load(results: Path, n_devices: int = 1) -> Calibration | None:
    """The calibration of this host for meshes of so many devices, or None."""
    return _read(results).get(_host(n_devices))


def load_all(results: Path) -> dict[str, Calibration]:
    """The calibrations of all hosts that share the folder, this one's first; raises Damaged."""
    everything, host = _read(results), platform.node()
    return {name: everything[name] for name in sorted(everything, key=lambda n: (n != host, n))}


def _host(n_devices: int) -> str:
    return platform.node() + (f", {n_devices} devices" if n_devices > 1 else "")


def store(results: Path, calibration: Calibration, n_devices: int = 1) -> None:
    """Merges measured speeds into the file; newer measurements of the same work win."""
    everything = _read(results)
    host = _host(n_devices)
    old = everything.get(host, calibration)
    merged = dataclasses.replace(
        calibration,
        flops_per_second=_by_work(old.flops_per_second) | _by_work(calibration.flops_per_second),
        beyond_grid=_by_work(old.beyond_grid) | _by_work(calibration.beyond_grid),
    )
    Storage(results).replace(_FILE, checked_json.encode(everything | {host: merged}))


def _by_work(speeds: dict[float, float]) -> dict[float, float]:
    """Speeds by work to seven digits: one network has one key."""
    return {float(f"{work:.6e}"): speed for work, speed in speeds.items()}


def _read(results: Path) -> dict[str, Calibration]:
    kind = dict[str, Calibration]
    way_out = "Delete it; `isoflop calibrate` writes it."
    return checked_json.read(Storage(results), _FILE, kind, way_out=way_out) or {}
