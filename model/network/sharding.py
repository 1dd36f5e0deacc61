# SPDX-License-Identifier: Apache-2.0
"""The mesh, and which mesh axes split which dimension of which array. One table, one file.

Axes, always all four (size 1 is a size, one device is a mesh of ones):
``run``: independent runs packed side by side, no communication; ``data``: replicas of the
parameters; ``fsdp``: parameters split over their model dimension, the batch too (ZeRO-3,
Rajbhandari et al. 2019, arXiv:1910.02054); ``tensor``: within a layer, as one of two layouts
says: heads and hidden units (Shoeybi et al. 2019, arXiv:1909.08053), or positions, exchanged for
heads around the attention (Jacobs et al. 2023, arXiv:2309.14509).

The table holds plain names, so that a plan can check divisibility without JAX.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from model.network.config import ModelConfig
from model.network.counts.layer import Weight
from model.network.counts.total import all_weights

if TYPE_CHECKING:
    import jax

AXES = ("run", "data", "fsdp", "tensor")
MeshAxes = str | tuple[str, ...] | None
Dims = tuple[MeshAxes, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Layout:
    """Letter of a dimension (layers.py) -> mesh axes that split it; others are whole everywhere.

    Attributes:
      matrices: of weights that products contract, embeddings and heads.
      vectors: of gains and biases.
      activations: between the layers and within most of them.
      inside: of activations within a layer where every device needs all positions of its sequences.
    """

    matrices: Mapping[str, MeshAxes]
    vectors: Mapping[str, MeshAxes]
    activations: Mapping[str, MeshAxes]
    inside: Mapping[str, MeshAxes]

    def weight(self, weight: Weight) -> Dims:
        """Of the dimensions of an array of parameters."""
        return _dims(self.vectors if weight.is_vector else self.matrices, weight.axes)

    def act(self, letters: str) -> Dims:
        """Of the dimensions of an activation: ``act("btd")``."""
        return _dims(self.activations, letters)

    def whole(self, letters: str) -> Dims:
        """Of the dimensions of one whose positions are whole."""
        return _dims(self.inside, letters)

    @property
    def position_axes(self) -> frozenset[str]:
        """Axes that split the positions of a batch."""
        return frozenset(itertools.chain(*map(axis_names, self.act("btd"))))

    @property
    def unit_axes(self) -> frozenset[str]:
        """Axes that split heads and hidden units, and not what they are computed from."""
        every = itertools.chain(*map(axis_names, self.activations.values()))
        return frozenset(every) - self.position_axes


def _dims(table: Mapping[str, MeshAxes], letters: str) -> Dims:
    """Of an array's dimensions; a mesh axis splits the first that asks for it."""
    dims: list[MeshAxes] = []
    taken: set[str] = set()
    for letter in letters:
        axes = table.get(letter)
        dims.append(axes if taken.isdisjoint(axis_names(axes)) else None)
        taken |= {*axis_names(axes)}
    return tuple(dims)


def axis_names(axes: MeshAxes) -> tuple[str, ...]:
    """The mesh axes that split one dimension."""
    return (axes,) if isinstance(axes, str) else axes or ()


BATCH = ("data", "fsdp")
_UNITS: Mapping[str, MeshAxes] = dict.fromkeys("gfvhe", "tensor")

FSDP_TENSOR = Layout(
    matrices={"d": "fsdp", **_UNITS},
    vectors=_UNITS,
    activations={"b": BATCH, **_UNITS},
    inside={"b": BATCH, **_UNITS},
)

FSDP_CONTEXT = Layout(
    matrices={"d": ("fsdp", "tensor")},
    vectors={},
    activations={"b": BATCH, "t": "tensor"},
    inside={"b": BATCH, "g": "tensor"},
)

# What the sizes of dimensions that are split are called.
SIZES = {
    "b": "batch_size",
    "t": "seq_len",
    "d": "d_model",
    "g": "n_kv_heads",
    "f": "d_ff",
    "v": "vocab_size",
    "e": "n_experts",
    "h": "d_state or d_hidden",
}
LAYOUTS = {"fsdp_tensor": FSDP_TENSOR, "fsdp_context": FSDP_CONTEXT}


def make_mesh(
    shape: tuple[int, ...], devices: Sequence["jax.Device"] | None = None
) -> "jax.sharding.Mesh":
    """A mesh with explicit axes over the first ``prod(shape)`` devices.

    Args:
      shape: sizes of AXES.
      devices: None means those that are here; else, for instance, those of a topology that is not.

    Raises:
      ValueError: if there are fewer devices than the mesh needs.
    """
    import jax

    is_here = devices is None
    devices = jax.devices() if devices is None else devices
    n_devices = math.prod(shape)
    if n_devices > len(devices):
        raise ValueError(
            f"mesh {dict(zip(AXES, shape, strict=True))} needs {n_devices} devices, there are "
            f"{len(devices)}. Make the product of the mesh at most that."
        )
    if is_here and jax.process_count() > 1 and n_devices < len(devices):
        raise ValueError(
            f"mesh {dict(zip(AXES, shape, strict=True))} uses {n_devices} devices of "
            f"{len(devices)}. Several processes that train one run must use all of theirs."
        )
    explicit = (jax.sharding.AxisType.Explicit,) * len(AXES)
    return jax.make_mesh(shape, AXES, axis_types=explicit, devices=devices[:n_devices])


def open_sums(axes: frozenset[str]) -> frozenset[str]:
    """``axes``, over which a sum may stay open: each device keeps its own part until the parts of
    several products are added, and they are reduced once.

    Empty where the axis "run" is manual (program.py): XLA leaves no sum open there (jax 0.10.2).
    """
    import jax

    return frozenset() if jax.sharding.get_abstract_mesh().manual_axes else axes


def check_divisible(
    config: ModelConfig,
    shape: tuple[int, ...],
    *,
    batch_size: int,
    layout: Layout = FSDP_TENSOR,
    n_runs: int | None = None,
) -> None:
    """Raises ValueError, naming the array, if the mesh does not divide the model or the batch.

    Args:
      n_runs: runs that are packed; None where that is not known yet.
    """
    sizes = dict(zip(AXES, shape, strict=True))
    if n_runs is not None and n_runs % sizes["run"]:
        raise ValueError(
            f"mesh axis run={sizes['run']} does not divide the {n_runs} runs of the pack. Choose a "
            "mesh whose axis run divides them, or pack a multiple of it."
        )
    for array, letter, size, axes in _split_dimensions(config, layout, batch_size):
        names = axis_names(axes)
        n_parts = math.prod(sizes[name] for name in names)
        if size % n_parts:
            raise ValueError(
                f"mesh axes {names} split {array} into {n_parts}, which does not divide "
                f"{SIZES[letter]}={size}. Choose a mesh whose axes divide it."
            )


def _split_dimensions(
    config: ModelConfig, layout: Layout, batch_size: int
) -> Iterator[tuple[str, str, int, MeshAxes]]:
    """(array, letter and size of a dimension, mesh axes that split it), of weights and
    activations."""
    sizes = {"b": {batch_size}, "t": {config.seq_len}}
    for path, weight, _ in all_weights(config):
        for letter, size, axes in zip(
            weight.axes, weight.shape, layout.weight(weight), strict=True
        ):
            sizes.setdefault(letter, set()).add(size)
            yield path, letter, size, axes
    for table in (layout.activations, layout.inside):
        for letter, axes in table.items():
            yield from (("activations", letter, size, axes) for size in sizes.get(letter, ()))
