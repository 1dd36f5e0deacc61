# SPDX-License-Identifier: Apache-2.0
"""A slice of TPUs that need not be here, by the name that its makers give it: "v5e:16x16"."""

import math
import re
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """One generation of TPU.

    Attributes:
      device_kind: as JAX reports its devices.
      n_dimensions: of its torus.
      devices_per_chip: as JAX counts them.
      wraps_at: a dimension whose length is a multiple of this is a ring.
    """

    device_kind: str
    n_dimensions: int
    devices_per_chip: int
    wraps_at: int


# Rings: "How to scale your model" (jax-ml.github.io/scaling-book/tpus), "TPU networking".
FAMILIES = {
    "v5e": Family(device_kind="TPU v5 lite", n_dimensions=2, devices_per_chip=1, wraps_at=16),
    "v5p": Family(device_kind="TPU v5", n_dimensions=3, devices_per_chip=1, wraps_at=4),
    "v6e": Family(device_kind="TPU v6 lite", n_dimensions=2, devices_per_chip=1, wraps_at=16),
    "tpu7x": Family(device_kind="TPU7x", n_dimensions=3, devices_per_chip=2, wraps_at=4),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Topology:
    """A slice: chips in a grid.

    Attributes:
      name: as libtpu takes it.
      family: the generation.
      shape: chips along each dimension.
    """

    name: str
    family: Family
    shape: tuple[int, ...]

    @property
    def n_devices(self) -> int:
        return math.prod(self.shape) * self.family.devices_per_chip


def parse_topology(text: str) -> Topology:
    """The topology of a name like "v5e:4x4" or "v5p:8x8x8".

    Raises:
      ValueError: if it is none.
    """
    name, _, grid = text.partition(":")
    family = FAMILIES.get(name)
    if family is None or not re.fullmatch(r"[1-9]\d{0,3}(x[1-9]\d{0,3}){1,2}", grid):
        raise ValueError(
            f"--topology {text}: say a generation ({', '.join(FAMILIES)}) and chips in a grid, "
            "for instance v5e:16x16 or v5p:8x8x8."
        )
    shape = tuple(int(length) for length in grid.split("x"))
    if len(shape) != family.n_dimensions:
        raise ValueError(
            f"--topology {text}: chips of {name} lie in {family.n_dimensions} dimensions, "
            f"for instance {name}:{'x'.join('4' * family.n_dimensions)}."
        )
    return Topology(name=text, family=family, shape=shape)
