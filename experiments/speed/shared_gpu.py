# SPDX-License-Identifier: Apache-2.0
"""How many worker processes share one accelerator best, measured, and kept beside the packs.

Runs of different shapes cannot be packed. Where one pack does not fill a device, processes side by
side may, each with its share of the memory. As a program this is one of those processes: it reads a
point and a number of runs, compiles, says "ready", waits for a line, and says its speed.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.machine.jax_setup import cache_folder, start_jax
from experiments.plan.point import Point, point_from_json, to_json
from experiments.speed.pack_sizes import PackSpeeds, known_speeds, search, shape_key, store

KEY = "processes side by side"  # Beside the shapes in results/packs.json.
MOST = 8
SECONDS = 3.0
COMMAND = (sys.executable, "-P", "-m", "experiments.speed.shared_gpu")


def best_number(results: Path, device: str) -> int | None:
    """Processes that share a device of this kind best; None if not measured."""
    found = known_speeds(results, device, KEY)
    return found.best if found else None


Shape = tuple[Point, PackSpeeds]  # One of its points, and the speeds of its packs.


def measured(points: Sequence[Point], results: Path, device: str) -> list[Shape]:
    """The shapes of these points whose packs were measured, in the order of the points."""
    found: dict[str, Shape] = {}
    for point in points:
        if (speeds := known_speeds(results, device, shape_key(point))) is not None:
            found.setdefault(shape_key(point), (point, speeds))
    return list(found.values())


def probe(
    shapes: Sequence[Shape], results: Path, device: str, shares: Sequence[Mapping[str, str]]
) -> int:
    """Measures 1, 2, 4, ... processes, as long as twice as many gain; keeps and returns the best.

    Args:
      shapes: to be trained; several processes are given different ones as far as there are.
      shares: environment of each of 1, 2, 4, ... processes on the device.
    """

    def measure_number(n: int) -> float | None:
        chosen = [shapes[i * len(shapes) // n] for i in range(n)]
        return measure(chosen, shares[n.bit_length() - 1])

    found = search(measure_number, max_runs=2 ** (len(shares) - 1))
    if found is None:
        return 1
    store(results, device, KEY, found)
    return found.best


def measure(
    chosen: Sequence[Shape], environment: Mapping[str, str], command: Sequence[str] = COMMAND
) -> float | None:
    """Sum over processes, all at once, of the speed of each over that of its pack alone.

    Args:
      chosen: the shape of each process, which trains the best pack of it.

    Returns:
      None where memory does not hold them all.
    """
    processes = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=dict(environment),
        )
        for _ in chosen
    ]
    try:
        for process, (point, speeds) in zip(processes, chosen, strict=True):
            _tell(process, json.dumps({"point": to_json(point), "n_runs": speeds.best}))
        if any(_said(process, "ready") is None for process in processes):
            return None
        for process in processes:
            _tell(process, "go")
        said = [_said(process, "speed") for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    total = 0.0
    for word, (_, speeds) in zip(said, chosen, strict=True):
        if word is None:
            return None
        total += float(word) / speeds.run_steps_per_second[speeds.best]
    return total


def _tell(process: subprocess.Popen, line: str) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # What it has said, or not, is judged.
        process.stdin.write(line + "\n")
        process.stdin.flush()


def _said(process: subprocess.Popen, word: str) -> str | None:
    """What follows a word on the first line that begins with it; None if there is none."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(word):
            return line.removeprefix(word).strip()
    return None


def main() -> None:
    asked = json.loads(sys.stdin.readline())
    spec = point_from_json(asked["point"]).spec
    start_jax([], cache_folder())
    from experiments.speed.measure_pack import measure

    def ready() -> None:
        print("ready", flush=True)
        sys.stdin.readline()

    speed = measure(spec.model, spec.train, asked["n_runs"], seconds=SECONDS, on_ready=ready)
    if speed is not None:
        print(f"speed {speed}", flush=True)


if __name__ == "__main__":
    main()
