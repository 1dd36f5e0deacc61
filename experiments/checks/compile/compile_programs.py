# SPDX-License-Identifier: Apache-2.0
"""A process that compiles programs, for devices that are here or for a topology that is not.

  python -m experiments.checks.compile.compile_programs < request.json

Says what happens in lines of JSON on standard output; the compiler's warnings go to standard
error. For a topology it needs jax[tpu] (make .venv-tpu/.ready), but no TPU.
"""

import math
import os
import re
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

import jax
import msgspec
import numpy as np
from jax.errors import JaxRuntimeError
from jax.sharding import Mesh
from jax.stages import Lowered

from experiments.checks.compile import hlo
from experiments.checks.compile.messages import (
    Compiled,
    Compiling,
    Devices,
    Event,
    ProgramToCompile,
    Refused,
    Request,
    Unfit,
)
from experiments.machine.jax_setup import cache_folder, start_jax
from experiments.machine.peak import CPU_SIZE, measure
from model.hardware import lookup
from model.network.execution import USABLE, Execution
from model.network.sharding import AXES, make_mesh
from model.training import memory
from model.training.compile_program import compile_program
from model.training.optimizers.optimizer import hyper_arrays

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def main() -> None:
    request = msgspec.json.decode(sys.stdin.read(), type=Request)
    if request.topology is None:
        start_jax([], cache_folder(), request.n_threads, math.prod(request.mesh))
    try:
        for event in answers(request):
            _say(event)
    except ValueError as error:
        _say(Refused(reason=str(error)))


def _say(event: Event) -> None:
    print(msgspec.json.encode(event).decode(), flush=True)


def answers(request: Request) -> Iterator[Event]:
    """The devices, then events of every setting of every program.

    Raises:
      ValueError: if the devices cannot be had, or cannot be laid out as the mesh says.
    """
    devices = topology_devices(request.topology) if request.topology else None
    mesh = _mesh(request.mesh, devices)
    device = describe(mesh, request.wraps_at)
    yield device
    execution = Execution.from_text(request.execution)
    for key, program in request.programs.items():
        run = Run(key=key, program=program, mesh=mesh, devices=devices)
        yield from run.attempts(execution, device.memory_bytes)


def topology_devices(name: str) -> tuple[jax.Device, ...]:
    """Devices that exist for the compiler only.

    Raises:
      ValueError: if libtpu knows no such slice.
    """
    # Without these libtpu asks the cloud what machine this is, and waits for an answer.
    os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost"}
    os.environ |= {"TPU_WORKER_ID": "0"}
    from jax.experimental import topologies

    try:
        return tuple(topologies.get_topology_desc(platform="tpu", topology_name=name).devices)
    except JaxRuntimeError as error:
        raise ValueError(f"--topology {name}: libtpu refuses it: {_one_line(error)}") from None


def _mesh(shape: tuple[int, ...], devices: tuple[jax.Device, ...] | None) -> Mesh:
    try:
        return make_mesh(shape, devices)
    except NotImplementedError as error:
        raise ValueError(
            f"mesh={shape}: its axes must be products of the dimensions of the slice. "
            f"{_one_line(error)}"
        ) from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]


def describe(mesh: Mesh, wraps_at: int) -> Devices:
    """What is known of the devices of a mesh: kind, memory, links of each axis, measured peaks."""
    device = mesh.devices.flat[0]
    known = lookup(device.device_kind)
    links = {}
    if hasattr(device, "coords") and wraps_at:
        links = {axis: _links(mesh, axis, wraps_at) for axis in AXES}
    elif known is not None:
        links = dict.fromkeys(AXES, known.n_links)
    return Devices(
        kind=device.device_kind,
        platform=device.platform,
        n_devices=mesh.size,
        memory_bytes=_memory_bytes(device, mesh.size),
        links=links,
        measured={} if known else _measured(mesh.size),
        versions=_versions(),
    )


def _versions() -> dict[str, str]:
    """Of what compiles, as far as it is installed."""
    names = ("jax", "jaxlib", "libtpu")
    installed = {name for found in metadata.distributions() if (name := found.name) in names}
    return {name: metadata.version(name) for name in names if name in installed}


def _links(mesh: Mesh, axis: str, wraps_at: int) -> int:
    """Links that a collective along a mesh axis may use: two for a ring, one for a line.

    An axis that spans a whole dimension of the slice closes to a ring where that one does.
    """
    index = AXES.index(axis)
    line = np.moveaxis(mesh.devices, index, -1).reshape(-1, mesh.devices.shape[index])[0]
    lengths = np.array([d.coords for d in mesh.devices.flat]).max(axis=0) + 1
    spanned = [len(set(places)) for places in np.array([d.coords for d in line]).T]
    return sum(
        2 if n == length and n % wraps_at == 0 else 1
        for n, length in zip(spanned, lengths, strict=True)
        if n > 1
    )


def _memory_bytes(device: jax.Device, n_devices: int) -> float:
    """Of one device: as it says itself, else by the table, else its share of the host's."""
    known = lookup(device.device_kind)
    try:
        stats = device.memory_stats() or {}
    except (RuntimeError, NotImplementedError):
        stats = {}
    if "bytes_limit" in stats:
        return float(stats["bytes_limit"])
    if known is not None:
        return known.memory_bytes
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / n_devices


def _measured(n_devices: int) -> dict[str, float]:
    """Of one, all at work at once: devices of a CPU share its cores."""
    return {
        dtype: measure(dtype, CPU_SIZE, n_devices) / n_devices for dtype in ("float32", "bfloat16")
    }


@dataclass(frozen=True, kw_only=True)
class Run:
    """One program to be compiled for one mesh."""

    key: str
    program: ProgramToCompile
    mesh: Mesh
    devices: tuple[jax.Device, ...] | None

    def attempts(self, execution: Execution, limit: float) -> Iterator[Event]:
        """Compiles what ``execution`` leaves open from the fastest to the leanest, until one fits.

        Args:
          limit: bytes of a device; a run uses USABLE of them.
        """
        model, train = self.program.model, self.program.train
        try:
            for candidate in memory.candidates(execution, model, train, self.mesh):
                yield Compiling(key=self.key, execution=candidate.to_text())
                result = self._compiled(candidate)
                yield result
                if 0 < result.needed_bytes <= USABLE * limit:
                    return
        except ValueError as error:
            yield Unfit(key=self.key, reason=str(error))

    def _compiled(self, execution: Execution) -> Compiled:
        """Bytes of training and of evaluation, whichever needs more, collectives of the training
        step, and what it took to compile them."""
        began = time.perf_counter()
        model, train, shape = self.program.model, self.program.train, self.mesh.devices.shape
        program = compile_program(model, train, shape, execution, self.devices)
        hyper = hyper_arrays(train)
        state = program.abstract_state(hyper)
        state_bytes = memory.local_bytes(state)
        needed, collectives, says = _analysed(program.lowered(hyper), state_bytes)
        if not says:
            n_windows = -(-train.evaluation.sizes[0] // model.seq_len)
            lowered = program.lowered_evaluation(hyper, n_windows)
            moments = memory.local_bytes(state.opt_state)
            evaluated, _, says = _analysed(lowered, state_bytes - moments)
            needed = max(needed, moments + evaluated) if evaluated else 0.0
        peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return Compiled(
            key=self.key,
            execution=execution.to_text(),
            needed_bytes=needed,
            collectives=collectives,
            compiler_says=says,
            state_bytes=state_bytes,
            seconds=time.perf_counter() - began,
            host_memory_bytes=1024 * peak_kib,
        )


def _analysed(lowered: Lowered, state_bytes: int) -> tuple[float, dict[str, float], str]:
    """Bytes of a device, collectives, and what the compiler said where it gave up."""
    try:
        compiled = lowered.compile()
    except JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return exhausted_bytes(str(error), state_bytes), {}, _one_line(error)
    moved = hlo.by_kind(hlo.collectives(compiled.as_text() or ""))
    return memory.program_bytes(compiled.memory_analysis()), moved, ""


def exhausted_bytes(message: str, state_bytes: int) -> float:
    """Bytes that a program would need, from the error of a compiler that gave up; 0 if not said.

    "... required for HLO temporaries (314.95G) exceeds available HBM (15.75G)" leaves out what is
    there before and after; "Used 17.10G of 15.75G hbm" does not.
    """
    if match := re.search(r"Used ([\d.]+)([KMGT]?) of", message):
        return float(match[1]) * _UNITS[match[2]]
    if match := re.search(r"temporaries \(([\d.]+)([KMGT]?)\)", message):
        return float(match[1]) * _UNITS[match[2]] + state_bytes
    return 0.0


if __name__ == "__main__":
    main()
