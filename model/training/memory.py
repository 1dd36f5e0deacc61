# SPDX-License-Identifier: Apache-2.0
"""What is left open in an Execution, chosen: kernels by platform, the rest by memory."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import jax

from model.network.config import ModelConfig
from model.network.execution import LOGITS_BYTES, USABLE, Execution, Remat
from model.network.mixers.attention_kernels import Where, check_kernel, choose_kernel
from model.network.sharding import AXES, BATCH, LAYOUTS, MeshAxes, axis_names
from model.training.config import TrainConfig
from model.training.processes import broadcast

# In the order of what they keep: everything, products with weights, the input of each block.
REMATS: tuple[Remat, ...] = ("none", "dots", "block")
# Up to this depth unrolled layers compile in seconds, and they run faster.
MAX_UNROLLED = 12


@runtime_checkable
class MemoryAnalysis(Protocol):
    """What a compiled program's ``memory_analysis`` says, in bytes per device."""

    argument_size_in_bytes: int
    output_size_in_bytes: int
    alias_size_in_bytes: int
    temp_size_in_bytes: int


class TooLarge(ValueError):
    """No way to compute a run or a pack fits into the memory of a device."""


def candidates(
    execution: Execution,
    model: ModelConfig,
    train: TrainConfig,
    mesh: jax.sharding.Mesh,
    n_runs: int = 1,
) -> Iterator[Execution]:
    """Complete settings, cheapest per step first: more remat, then more parts of a batch.

    Raises:
      ValueError: if a kernel or a number of parts that was asked for does not fit the run.
    """
    device = mesh.devices.flat[0]
    where = Where(
        platform=device.platform,
        compute_capability=getattr(device, "compute_capability", ""),
        compute_dtype=train.compute_dtype,
        n_runs=n_runs,
    )
    if execution.attention == "auto":
        execution = replace(execution, attention=choose_kernel(model, where))
    check_kernel(execution.attention, model, where)
    for net in filter(None, (model, model.encoder_net)):
        for layer in net.layers:
            layer.check(net, execution)
    _check_pack(execution, model, mesh, n_runs)
    if execution.layers == "auto":
        is_shallow = model.n_layers <= MAX_UNROLLED
        execution = replace(execution, layers="unrolled" if is_shallow else "scanned")
    remats = REMATS if execution.remat == "auto" else (execution.remat,)
    parts = _microbatches(execution, train, mesh)
    for n, remat in [(parts[0], remat) for remat in remats] + [(n, remats[-1]) for n in parts[1:]]:
        n_chunks = _loss_chunks(execution, model, train.batch_size // n, mesh)
        yield replace(execution, remat=remat, n_microbatches=n, n_loss_chunks=n_chunks)


def _check_pack(
    execution: Execution, model: ModelConfig, mesh: jax.sharding.Mesh, n_runs: int
) -> None:
    """Raises ValueError for a pack that XLA's partitioner ends the process over (jax 0.10.2)."""
    is_local = any(layer.is_local(execution) for layer in model.every_layer)
    n_devices = math.prod(mesh.shape[axis] for axis in AXES[1:])
    if n_runs > 1 and is_local and n_devices > 1:
        raise ValueError(
            f"a pack of {n_runs} runs with {n_devices} devices for each: a flash kernel and a "
            "mixture of experts take one device for each run. Say mesh=N,1,1,1, attention='xla', "
            "or pack no runs."
        )


def _microbatches(
    execution: Execution, train: TrainConfig, mesh: jax.sharding.Mesh
) -> tuple[int, ...]:
    rows = train.batch_size // _n_shards(mesh, BATCH)
    legal = tuple(n for n in range(1, rows + 1) if rows % n == 0)
    if not execution.n_microbatches:
        return legal
    if execution.n_microbatches not in legal:
        raise ValueError(
            f"n_microbatches={execution.n_microbatches} does not divide the {rows} sequences of a "
            f"batch of {train.batch_size} on each part of the mesh. Choose one of {legal}."
        )
    return (execution.n_microbatches,)


def _loss_chunks(
    execution: Execution, model: ModelConfig, batch_size: int, mesh: jax.sharding.Mesh
) -> int:
    if not execution.n_loss_chunks:
        return loss_chunks(model, batch_size, mesh, execution.layout)
    positions = model.n_positions // _n_shards(mesh, LAYOUTS[execution.layout].act("t")[0])
    if positions % execution.n_loss_chunks:
        raise ValueError(
            f"n_loss_chunks={execution.n_loss_chunks} does not divide the {positions} positions of "
            "a sequence on each part of the mesh. Choose a divisor, or 0 to leave it open."
        )
    return execution.n_loss_chunks


def loss_chunks(model: ModelConfig, batch_size: int, mesh: jax.sharding.Mesh, layout: str) -> int:
    """The fewest parts of the positions whose logits stay within LOGITS_BYTES per device.

    Of each run of a pack: it is computed as it would be alone, and the compiled program says what
    all of them need.
    """
    dims = LAYOUTS[layout].act("btv")
    batch, length, vocab = (
        size // _n_shards(mesh, axes)
        for size, axes in zip((batch_size, model.n_positions, model.vocab_size), dims, strict=True)
    )
    wanted = 4 * batch * length * vocab / LOGITS_BYTES
    return next(n for n in range(1, length + 1) if length % n == 0 and n >= min(wanted, length))


def _n_shards(mesh: jax.sharding.Mesh, axes: MeshAxes) -> int:
    return math.prod(mesh.shape[name] for name in axis_names(axes))


def limit_bytes(mesh: jax.sharding.Mesh) -> int | None:
    """What a program may use on one device; None where the device does not say.

    Of several processes each sees its own devices only, and all must choose the same program: it
    is process 0's that counts.
    """
    devices = mesh.local_devices
    try:
        stats = (devices[0].memory_stats() if devices else None) or {}
    except RuntimeError:
        return None  # A device that is described, not here.
    limit = int(USABLE * stats["bytes_limit"]) if "bytes_limit" in stats else None
    return json.loads(broadcast(json.dumps(limit)))


def needed_bytes(lowered: jax.stages.Lowered) -> float:
    """Bytes per device that the compiled program needs; infinite if it did not compile for lack."""
    try:
        analysis = lowered.compile().memory_analysis()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return math.inf
    return program_bytes(analysis)


def program_bytes(analysis: MemoryAnalysis | None) -> float:
    """Arguments, results and temporaries of a ``memory_analysis``, what is donated once."""
    assert analysis is not None, "this backend does not analyse memory"
    return float(
        analysis.argument_size_in_bytes
        + analysis.output_size_in_bytes
        - analysis.alias_size_in_bytes
        + analysis.temp_size_in_bytes
    )


def local_bytes(tree: Any) -> int:
    """Bytes per device of abstract arrays with shardings."""
    leaves = jax.tree.leaves(tree)
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves
    )


def refusal(
    model: ModelConfig, train: TrainConfig, last: Execution, need: float, limit: int, n_runs: int
) -> str:
    """Says that nothing fits."""
    most = "more than it has" if math.isinf(need) else f"{need / 2**30:.1f} GiB"
    pack, way_out = "", "Split the run over more devices (mesh)."
    if n_runs > 1:
        pack, way_out = f", a pack of {n_runs} runs", "Pack fewer, or split them over more devices."
    return (
        f"d_model={model.d_model}, n_layers={model.n_layers}, batch_size={train.batch_size}{pack}: "
        f"a device needs {most} of {limit / 2**30:.1f} GiB usable even with remat={last.remat!r} "
        f"and n_microbatches={last.n_microbatches}. {way_out}"
    )
