# SPDX-License-Identifier: Apache-2.0
"""One process: where a training step spends its time, from XLA's own profile, on one core.

  python -m experiments.benchmarks.parts SETTING

Each operation of the compiled program counts with the least time it took in any step, so that what
else the machine does is left out; the sum is therefore a little less than a step takes.
"""

import argparse
import collections
import json
import os
import re
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp

from experiments.benchmarks import networks
from experiments.benchmarks.networks import Setting
from experiments.worker import start_jax
from model.execution import Execution
from model.training.optimizer import hyper_arrays
from model.training.step import compile_program

N_STEPS = 8
_DEFINITION = re.compile(r"\s*(?:ROOT )?%?([\w.\-]+) = (\S+) ([\w\-]+)\(")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("setting", choices=networks.SETTINGS)
    options = parser.parse_args()
    start_jax([min(os.sched_getaffinity(0))], None)
    setting = networks.SETTINGS[options.setting]
    print(json.dumps({"setting": setting.name, "ms": measure(setting)}), flush=True)


def measure(setting: Setting) -> dict[str, float]:
    """Milliseconds per step by part, largest first."""
    train = networks.train_config(setting.batch_size, setting.dtype)
    execution = Execution(steps_per_dispatch=N_STEPS)
    program = compile_program(setting.model, train, (1, 1, 1, 1), execution)
    with jax.set_mesh(program.mesh):
        hyper = hyper_arrays(train)
        compiled = program.lowered(hyper).compile()
        state = program.init(jax.random.key(0), hyper)
        batches = program.put(jnp.zeros(program.batch_shape, jnp.int32))
        state, *_ = compiled(state, hyper, batches, jnp.int32(1))
        with tempfile.TemporaryDirectory() as folder:
            with jax.profiler.trace(folder):
                jax.block_until_ready(compiled(state, hyper, batches, jnp.int32(N_STEPS)))
            durations = _durations(folder)
    return by_part(durations, compiled.as_text() or "", N_STEPS)


def _durations(folder: str) -> dict[str, list[float]]:
    """Nanoseconds of each execution of each operation of the profile."""
    found = collections.defaultdict(list)
    for path in Path(folder).rglob("*.xplane.pb"):
        for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
            for event in (event for line in plane.lines for event in line.events):
                name = dict(event.stats).get("hlo_op")
                if isinstance(name, str):
                    found[name].append(event.duration_ns)
    return found


def by_part(durations: dict[str, list[float]], hlo: str, n_steps: int) -> dict[str, float]:
    """Milliseconds per step of each part; operations outside the steps are left out."""
    parts = _parts(hlo)
    total: dict[str, float] = collections.defaultdict(float)
    for name, times in durations.items():
        # A loop's time is that of its body.
        if len(times) >= n_steps and not name.startswith("while"):
            part = parts.get(name, "optimizer and the rest")
            total[part] += min(times) * (len(times) // n_steps) / 1e6
    return {part: round(total[part], 3) for part in sorted(total, key=lambda p: -total[p])}


def _parts(hlo: str) -> dict[str, str]:
    """Part of the step of every operation, by where JAX says it comes from."""
    found: dict[str, str] = {}
    for line in hlo.splitlines():
        if match := _DEFINITION.match(line):
            origin = re.search(r'op_name="([^"]*)"', line)
            found.setdefault(match[1], _part(match[3], origin[1] if origin else ""))
    return found


def _part(operation: str, origin: str) -> str:
    is_product = operation == "dot" or "dot_general" in origin
    if is_product and re.search("bgl[km],", origin):
        return "products of attention"
    if "jvp" not in origin:
        return "products, others" if is_product else "optimizer and the rest"
    half = "backward" if "transpose(jvp" in origin else "forward"
    return f"products with weights, {half}" if is_product else f"element by element, {half}"


if __name__ == "__main__":
    main()
