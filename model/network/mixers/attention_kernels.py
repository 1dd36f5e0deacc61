# SPDX-License-Identifier: Apache-2.0
"""softmax(q k^T / sqrt(K) + mask) v by name: plain XLA, in blocks, cuDNN's or the TPU's kernel.

All but the first never store the T x T scores (Dao et al. 2022, arXiv:2205.14135). The last two run
on each device's own batch rows and heads, so the positions must lie whole on every device.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import jax
from jax.experimental.pallas.ops.tpu.splash_attention import (
    splash_attention_kernel,
    splash_attention_mask,
)
from jaxtyping import Array, Float

from model.network.config import ModelConfig
from model.network.context import PLAIN_CONTEXT, Context
from model.network.counts.attention import AttentionConfig
from model.network.execution import LOCAL_ATTENTION, Attention
from model.network.mixers.blocked_attention import BLOCKS, MIN_BLOCKS, block_size, blocked_attention
from model.network.mixers.plain_attention import plain_attention

Kernel = Callable[[Array, Array, Array, Context, int | None], Array]


@dataclass(frozen=True, kw_only=True, slots=True)
class Where:
    """What a kernel would run on, and how.

    Attributes:
      platform: "cpu", "gpu" or "tpu".
      compute_capability: of a GPU as JAX has it: NVIDIA's "9.0", AMD's "gfx942"; "" elsewhere.
      compute_dtype: of queries, keys and values.
      n_runs: runs that are packed (model/training/program.py).
    """

    platform: str
    compute_capability: str
    compute_dtype: str
    n_runs: int

    def __str__(self) -> str:
        return f"a {self.platform} {self.compute_capability}".rstrip()

    @property
    def cuda(self) -> tuple[int, ...]:
        """The compute capability of an NVIDIA GPU as numbers; (0,) elsewhere."""
        is_cuda = re.fullmatch(r"\d+\.\d+", self.compute_capability)
        return tuple(map(int, self.compute_capability.split("."))) if is_cuda else (0,)


def choose_kernel(config: ModelConfig, where: Where) -> Attention:
    """The fastest kernel that takes this network there; "xla" where nothing attends."""
    if not any(isinstance(layer, AttentionConfig) for layer in config.layers):
        return "xla"
    fast: tuple[Attention, ...] = ("blocked",) if where.platform == "cpu" else ("cudnn", "splash")
    return next((name for name in fast if not _objection(name, config, where)), "xla")


def check_kernel(name: str, config: ModelConfig, where: Where) -> None:
    """Raises ValueError if the kernel does not take this network there."""
    if objection := _objection(name, config, where):
        raise ValueError(f"attention={name!r} {objection}. Say attention='auto', or 'xla'.")


def _objection(name: str, config: ModelConfig, where: Where) -> str:
    if name in LOCAL_ATTENTION and config.separator is not None:
        return "cannot keep documents apart (documents_apart)"
    if name != "xla" and config.encoder is not None:
        return "cannot attend to a source"
    if name == "blocked" and block_size(config.n_positions) is None:
        return (
            f"needs {MIN_BLOCKS} or more blocks of {' or '.join(map(str, reversed(BLOCKS)))} "
            f"positions, here are {config.n_positions}"
        )
    if name == "cudnn":
        # As jax._src.cudnn.fused_attention_stablehlo.check_is_flash_attention (jax 0.10.2).
        if where.cuda < (8, 0) or where.compute_dtype != "bfloat16":
            return (
                "needs an NVIDIA GPU of compute capability 8.0 or more and bfloat16, here are "
                f"{where} and {where.compute_dtype}"
            )
        widest = 256 if where.cuda >= (9, 0) else 128
        for layer in config.layers:
            if isinstance(layer, AttentionConfig) and (layer.d_head % 8 or layer.d_head > widest):
                return (
                    f"needs d_head to be a multiple of 8 up to {widest} on {where}, "
                    f"d_head={layer.d_head}"
                )
    if name == "splash":
        if where.platform != "tpu":
            return f"needs a TPU, here is {where}"
        if config.seq_len % 128:
            return f"needs seq_len to be a multiple of 128, seq_len={config.seq_len}"
        if where.n_runs > 1:  # Its kernel cannot be mapped over runs (jax 0.10.2).
            return f"takes one run at a time, here is a pack of {where.n_runs}"
    return ""


def attention_kernel(name: str) -> Kernel:
    """(q [B T G Q K], k [B T G K], v [B T G K], context, window) -> [B T G Q K]; see the module.

    Of a window (AttentionConfig) the context must be causal.
    """
    return {
        "xla": plain_attention,
        "blocked": blocked_attention,
        "cudnn": cudnn_attention,
        "splash": splash_attention,
    }[name]


def cudnn_attention(
    q: Float[Array, "B T G Q K"],
    k: Float[Array, "B T G K"],
    v: Float[Array, "B T G K"],
    context: Context = PLAIN_CONTEXT,
    window: int | None = None,
) -> Float[Array, "B T G Q K"]:
    """cuDNN's flash attention, through ``jax.nn.dot_product_attention``."""
    _refuse_segments("cudnn", context)

    def local(q: Array, k: Array, v: Array) -> Array:
        B, T, G, Q, K = q.shape
        mixed = jax.nn.dot_product_attention(
            q.reshape(B, T, G * Q, K),
            k,
            v,
            is_causal=context.is_causal,
            local_window_size=None if window is None else (window - 1, 0),
            implementation="cudnn",
        )
        return mixed.reshape(q.shape)

    return _per_device(local, q, k, v)


def splash_attention(
    q: Float[Array, "B T G Q K"],
    k: Float[Array, "B T G K"],
    v: Float[Array, "B T G K"],
    context: Context = PLAIN_CONTEXT,
    window: int | None = None,
) -> Float[Array, "B T G Q K"]:
    """JAX's flash attention for TPUs; interpreted where the devices are CPUs."""
    _refuse_segments("splash", context)
    is_cpu = jax.sharding.get_abstract_mesh().abstract_device.platform == "cpu"

    def local(q: Array, k: Array, v: Array) -> Array:
        B, T, G, Q, K = q.shape
        heads = (q / math.sqrt(K)).transpose(0, 2, 3, 1, 4).reshape(B, G * Q, T, K)
        k, v = k.transpose(0, 2, 1, 3), v.transpose(0, 2, 1, 3)
        shape, masks = (T, T), splash_attention_mask
        mask: masks.Mask = masks.CausalMask(shape) if context.is_causal else masks.FullMask(shape)
        if window is not None:
            mask = masks.LocalMask(shape, (window - 1, 0), offset=0)
        kernel = _splash(mask, G * Q, interpret=is_cpu)
        mixed = jax.vmap(kernel)(heads, k, v)
        return mixed.reshape(B, G, Q, T, K).transpose(0, 3, 1, 2, 4)

    return _per_device(local, q, k, v)


def _refuse_segments(name: str, context: Context) -> None:
    if context.segments is not None:
        raise ValueError(f"attention={name!r} takes no segments. Say attention='xla'.")


def _splash(mask: splash_attention_mask.Mask, n_heads: int, *, interpret: bool) -> Callable:
    block = math.gcd(mask.shape[0], 512)
    sizes = splash_attention_kernel.BlockSizes(
        block_q=block,
        block_kv=block,
        block_q_dkv=block,
        block_kv_dkv=block,
        block_q_dq=block,
        block_kv_dq=block,
    )
    return splash_attention_kernel.make_splash_mha(
        splash_attention_mask.MultiHeadMask([mask] * n_heads),
        head_shards=1,
        q_seq_shards=1,
        block_sizes=sizes,
        interpret=interpret,
    )


def _per_device(local: Callable, q: Array, k: Array, v: Array) -> Array:
    specs = tuple(jax.typeof(x).sharding.spec for x in (q, k, v))
    # Kernels do not say how their results vary over the mesh: as the queries do.
    mapped = jax.shard_map(local, in_specs=specs, out_specs=specs[0], check_vma=False)
    return mapped(q, k, v)
