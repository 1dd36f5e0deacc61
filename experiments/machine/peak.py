# SPDX-License-Identifier: Apache-2.0
"""Peak FLOP/s of the devices of this process, and the share of it that a run reaches (MFU)."""

import functools
import time
from dataclasses import dataclass

from model.hardware import lookup

CPU_SIZE, ACCELERATOR_SIZE = 1024, 8192
SECONDS = 0.3


@dataclass(frozen=True, kw_only=True, slots=True)
class Peak:
    """FLOP/s of dense matrix products, of all devices of a run together.

    Attributes:
      flops_per_second: 0 where nobody asked.
      source: "table: ..." with the datasheet, or "measured: ..." with what was timed.
    """

    flops_per_second: float
    source: str


NO_PEAK = Peak(flops_per_second=0.0, source="")


@functools.cache
def device_peak(dtype: str, n_devices: int) -> Peak:
    """The peak of ``n_devices`` like the first one here: from the table, else measured.

    Args:
      dtype: of the products, "bfloat16" or "float32" (at precision "highest").
    """
    import jax

    device = jax.devices()[0]
    known = lookup(device.device_kind)
    if known is not None:
        source = f"table: {device.device_kind} {dtype}, {known.source}"
        return Peak(flops_per_second=known.peak(dtype) * n_devices, source=source)
    size = CPU_SIZE if device.platform == "cpu" else ACCELERATOR_SIZE
    # All at once: devices of a CPU share its cores.
    n_here = min(n_devices, jax.local_device_count())
    return Peak(
        flops_per_second=measure(dtype, size, n_here) * n_devices / n_here,
        source=f"measured: {dtype} {size}^3 matmul",
    )


def measure(dtype: str, size: int, n_devices: int = 1, seconds: float = SECONDS) -> float:
    """Best FLOP/s of square products, one on each of so many devices at once, sharing the machine
    with whoever is there."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import AxisType, NamedSharding, PartitionSpec

    devices = jax.local_devices()[:n_devices]
    mesh = jax.make_mesh((n_devices,), ("device",), (AxisType.Auto,), devices=devices)
    shape = (n_devices, size, size)
    a = jax.device_put(jnp.ones(shape, dtype), NamedSharding(mesh, PartitionSpec("device")))
    product = jax.jit(lambda a: jnp.matmul(a, a, precision="highest"))
    product(a).block_until_ready()
    best, began = 0.0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        start = time.perf_counter()
        product(a).block_until_ready()
        best = max(best, 2 * n_devices * size**3 / (time.perf_counter() - start))
    return best
