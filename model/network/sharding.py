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
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from model.network.config import ModelConfig

if TYPE_CHECKING:
    import jax

AXES = ("run", "data", "fsdp", "tensor")
Dims = tuple[str | tuple[str, ...] | None, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Array -> mesh axes of its dimensions; the letters behind a name are its dimensions
    (layers.py).

    ``act``: activations; ``inside``: queries, keys and values within the attention, where every
    device needs all positions.
    """

    embed_vd: Dims
    position_td: Dims
    head_dv: Dims
    vector_d: Dims
    vector_k: Dims
    attn_q_dgqk: Dims
    attn_kv_dgk: Dims
    attn_o_gqkd: Dims
    attn_q_bias_gqk: Dims
    attn_kv_bias_gk: Dims
    mlp_in_df: Dims
    mlp_in_bias_f: Dims
    mlp_out_fd: Dims
    tokens_bt: Dims
    act_btd: Dims
    act_btgqk: Dims
    act_btgk: Dims
    act_btf: Dims
    inside_btgqk: Dims
    inside_btgk: Dims
    logits_btv: Dims

    @property
    def position_axes(self) -> frozenset[str]:
        """Axes that split the positions of a batch."""
        return _axes(self.act_btd)

    @property
    def unit_axes(self) -> frozenset[str]:
        """Axes that split heads and hidden units, and not what they are computed from."""
        return _axes(self.act_btf) - _axes(self.act_btd)


def _axes(dims: Dims) -> frozenset[str]:
    names = ((axes,) if isinstance(axes, str) else axes or () for axes in dims)
    return frozenset(itertools.chain.from_iterable(names))


BATCH = ("data", "fsdp")

FSDP_TENSOR = Layout(
    embed_vd=("tensor", "fsdp"),
    position_td=(None, "fsdp"),
    head_dv=("fsdp", "tensor"),
    vector_d=(None,),
    vector_k=(None,),
    attn_q_dgqk=("fsdp", "tensor", None, None),
    attn_kv_dgk=("fsdp", "tensor", None),
    attn_o_gqkd=("tensor", None, None, "fsdp"),
    attn_q_bias_gqk=("tensor", None, None),
    attn_kv_bias_gk=("tensor", None),
    mlp_in_df=("fsdp", "tensor"),
    mlp_in_bias_f=("tensor",),
    mlp_out_fd=("tensor", "fsdp"),
    tokens_bt=(BATCH, None),
    act_btd=(BATCH, None, None),
    act_btgqk=(BATCH, None, "tensor", None, None),
    act_btgk=(BATCH, None, "tensor", None),
    act_btf=(BATCH, None, "tensor"),
    inside_btgqk=(BATCH, None, "tensor", None, None),
    inside_btgk=(BATCH, None, "tensor", None),
    logits_btv=(BATCH, None, "tensor"),
)

ALL = ("fsdp", "tensor")

FSDP_CONTEXT = Layout(
    embed_vd=(None, ALL),
    position_td=(None, ALL),
    head_dv=(ALL, None),
    vector_d=(None,),
    vector_k=(None,),
    attn_q_dgqk=(ALL, None, None, None),
    attn_kv_dgk=(ALL, None, None),
    attn_o_gqkd=(None, None, None, ALL),
    attn_q_bias_gqk=(None, None, None),
    attn_kv_bias_gk=(None, None),
    mlp_in_df=(ALL, None),
    mlp_in_bias_f=(None,),
    mlp_out_fd=(None, ALL),
    tokens_bt=(BATCH, None),
    act_btd=(BATCH, "tensor", None),
    act_btgqk=(BATCH, "tensor", None, None, None),
    act_btgk=(BATCH, "tensor", None, None),
    act_btf=(BATCH, "tensor", None),
    inside_btgqk=(BATCH, None, "tensor", None, None),
    inside_btgk=(BATCH, None, "tensor", None),
    logits_btv=(BATCH, "tensor", None),
)

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
    letters = {
        "b": ("batch_size", batch_size),
        "t": ("seq_len", config.seq_len),
        "d": ("d_model", config.d_model),
        "g": ("n_kv_heads", config.n_kv_heads),
        "q": ("queries per kv head", config.queries_per_kv_head),
        "k": ("d_head", config.d_head),
        "f": ("d_ff", config.d_ff),
        "v": ("vocab_size", config.vocab_size),
    }
    for field in fields(layout):
        dims = field.name.rsplit("_", 1)[1]
        for letter, axes in zip(dims, getattr(layout, field.name), strict=True):
            names = (axes,) if isinstance(axes, str) else (axes or ())
            n_parts = math.prod(sizes[name] for name in names)
            what, size = letters[letter]
            if size % n_parts:
                raise ValueError(
                    f"mesh axes {names} split {field.name} into {n_parts}, which does not divide "
                    f"{what}={size}. Choose a mesh whose axes divide it."
                )
