# SPDX-License-Identifier: Apache-2.0
"""How many runs share a device of this machine: in one program, and in processes of their own."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from experiments.executors.local_devices import has_accelerator, share_of, visible_gpus
from experiments.executors.local_idle import IdleWorkers
from experiments.plan.jobs import PlannedJob
from experiments.plan.point import Point, to_json
from experiments.speed import calibration, shared_gpu
from experiments.speed.pack_sizes import best_pack, shape_key


def asked_pack(pack: int, mesh: tuple[int, ...]) -> Callable[[Point], int]:
    """So many runs, whatever their shape.

    Raises:
      ValueError: if they do not fit the mesh.
    """
    n_places = mesh[0]
    if pack < 1 or pack % n_places:
        raise ValueError(
            f"--pack {pack}: must be a multiple of the {n_places} places of the mesh's axis "
            "run, at least 1."
        )
    return lambda point: pack


def best_packs(
    results: Path,
    mesh: tuple[int, ...],
    points: Sequence[Point],
    missing: Sequence[Point],
    console: Console,
    idle: IdleWorkers | None,
) -> Callable[[Point], int]:
    """Runs of a point's shape that train best together here, as was measured.

    On a CPU nothing is measured: one process per core is the pack there. What the mesh's axis
    "run" has places for trains together in any case.

    Args:
      results: folder of all studies, where measurements are.
      points: whose shapes are measured where one of the missing ones needs it.
    """
    n_places = mesh[0]
    if not has_accelerator():
        return lambda point: n_places
    shapes = Counter(shape_key(point) for point in missing)
    several = [point for point in missing if shapes[shape_key(point)] > 1]
    if any(_best_pack(results, point) is None for point in several):
        console.print("measuring how many runs of a shape train best together ...")
        if idle is not None:
            idle.close()  # They hold the device's memory.
        _measure(results, mesh, points)
    return lambda point: max(_best_pack(results, point) or 1, n_places)


def _best_pack(results: Path, point: Point) -> int | None:
    known = calibration.load(results)
    return None if known is None else best_pack(results, known.device, point)


def _measure(results: Path, mesh: tuple[int, ...], points: Sequence[Point]) -> None:
    """In a process of its own: JAX must not wake the device in this one."""
    command = [sys.executable, "-P", "-m", "experiments.speed.calibrate", "--results", str(results)]
    subprocess.run(
        [*command, "--mesh", ",".join(map(str, mesh))],
        input="\n".join(to_json(point) for point in points),
        text=True,
        check=True,
        capture_output=True,
    )


def workers_per_device(
    results: Path, planned_jobs: Sequence[PlannedJob], console: Console, idle: IdleWorkers | None
) -> int:
    """Workers that share a GPU: as many as was measured to be best for runs of several shapes.

    One on a CPU or a TPU, and before anything was measured.
    """
    gpus = visible_gpus() if has_accelerator() else []
    if not gpus or (known := calibration.load(results)) is None:
        return 1
    if (best := shared_gpu.best_number(results, known.device)) is not None:
        return best
    firsts = [planned_job.points[0] for planned_job in planned_jobs]
    shapes = shared_gpu.measured(firsts, results, known.device)
    if len(shapes) < 2:
        return 1
    console.print("measuring how many processes share a GPU best ...")
    if idle is not None:
        idle.close()  # They hold the device's memory.
    numbers = [2**i for i in range(shared_gpu.MOST.bit_length())]
    shares = [os.environ | share_of(gpus[0], n) for n in numbers]
    return shared_gpu.probe(shapes, results, known.device, shares)
