# SPDX-License-Identifier: Apache-2.0
"""Bytes that a step must move between devices, in closed form for a layout (network/sharding.py).

A collective over n devices of an array of V bytes (the whole of what the n devices hold or get)
moves, per device: all-gather and reduce-scatter V (n-1)/n; all-reduce 2 V (n-1)/n, being the one
after the other; all-to-all of a local part v: v (n-1)/n. "How to scale your model"
(jax-ml.github.io/scaling-book), chapters on sharding and on training. Scalars are left out: losses,
norms of gradients.

An LSTM is told of only in part: its recurrent weights, whole over "fsdp", are counted as gathered
there, and the state that it gathers over "tensor" at every position is left out. So are, over
"tensor", the gradients by all but one tap of a convolution, and by all but one of RWKV-7's inputs.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from model.network.config import ModelConfig
from model.network.counts.total import all_weights, hidden_weights
from model.network.execution import Execution
from model.network.sharding import AXES, LAYOUTS

DTYPE_BYTES = {"bfloat16": 2, "float32": 4}
KINDS = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all")


@dataclass(frozen=True, kw_only=True, slots=True)
class Transfer:
    """One use of a collective.

    Attributes:
      what: in words.
      kind: one of KINDS.
      axes: mesh axes whose devices take part.
      array_bytes: V of the module's formulas (of an all-to-all: v).
      count: per step.
    """

    what: str
    kind: str
    axes: tuple[str, ...]
    array_bytes: float
    count: int

    def moved(self, mesh: dict[str, int]) -> float:
        """Bytes per device and step."""
        n = math.prod(mesh[axis] for axis in self.axes)
        twice = 2 if self.kind == "all-reduce" else 1
        return twice * self.count * self.array_bytes * (n - 1) / n


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What a step's traffic and time follow from; ``execution`` has nothing left open."""

    model: ModelConfig
    batch_size: int
    compute_dtype: str
    is_causal: bool
    mesh_shape: tuple[int, ...]
    execution: Execution

    @property
    def mesh(self) -> dict[str, int]:
        return dict(zip(AXES, self.mesh_shape, strict=True))

    @property
    def dtype_bytes(self) -> int:
        return DTYPE_BYTES[self.compute_dtype]

    @property
    def weight_axes(self) -> tuple[str, ...]:
        """Axes over which a weight is gathered before it is used."""
        return ("fsdp",) if self.execution.layout == "fsdp_tensor" else ("fsdp", "tensor")

    @property
    def weight_parts(self) -> int:
        """Parts of a weight that are never gathered: heads, hidden units, vocabulary."""
        return self.mesh["tensor"] if self.execution.layout == "fsdp_tensor" else 1

    @property
    def local_tokens(self) -> int:
        """Tokens of one microbatch whose rows a device works on; positions whole."""
        rows = self.batch_size // (self.mesh["data"] * self.mesh["fsdp"])
        return rows // self.execution.n_microbatches * self.model.seq_len


def transfers(step: Step) -> list[Transfer]:
    """Everything that a step must move, as the layout says and the program asks for it."""
    found = [*_blocks(step), *_embedding(step), *_head(step), *_vectors(step)]
    split = _tensor if step.execution.layout == "fsdp_tensor" else _context
    found += split(step)
    return [transfer for transfer in found if transfer.moved(step.mesh) > 0]


def by_kind(step: Step) -> dict[str, float]:
    """Bytes per device and step of every kind."""
    total = dict.fromkeys(KINDS, 0.0)
    for transfer in transfers(step):
        total[transfer.kind] += transfer.moved(step.mesh)
    return total


def _vector_params(model: ModelConfig) -> int:
    """Gains and biases, of the blocks and of the last norm."""
    return sum(n * weight.size for _, weight, n in all_weights(model) if weight.is_vector)


def _blocks(step: Step) -> Iterator[Transfer]:
    """ZeRO-3 (Rajbhandari et al. 2019, arXiv:1910.02054, sec. 5.3), once per microbatch.

    Weights W, in the compute dtype, are gathered for the forward pass and again for the backward
    pass, which is also where remat uses them; float32 gradients are reduce-scattered over "fsdp",
    and what is left, W / n_fsdp, is all-reduced over "data".
    """
    n_weights, n = hidden_weights(step.model) / step.weight_parts, step.execution.n_microbatches
    gathered = n_weights * step.dtype_bytes
    yield _gather("weights of the blocks, forward and backward", step, gathered, 2 * n)
    yield from _reduce("gradients of the blocks", step, 4 * n_weights, n)


def _gather(what: str, step: Step, array_bytes: float, count: int) -> Transfer:
    return Transfer(
        what=what, kind="all-gather", axes=step.weight_axes, array_bytes=array_bytes, count=count
    )


def _reduce(what: str, step: Step, array_bytes: float, count: int) -> Iterator[Transfer]:
    axes = step.weight_axes
    n_parts = math.prod(step.mesh[axis] for axis in axes)
    yield Transfer(
        what=what, kind="reduce-scatter", axes=axes, array_bytes=array_bytes, count=count
    )
    yield _all_reduce(f"{what}, over replicas", ("data",), array_bytes / n_parts, count)


def _all_reduce(what: str, axes: tuple[str, ...], array_bytes: float, count: int) -> Transfer:
    return Transfer(what=what, kind="all-reduce", axes=axes, array_bytes=array_bytes, count=count)


def _embedding(step: Step) -> Iterator[Transfer]:
    """The float32 table V D, gathered whole on every device; its gradient is all-reduced whole.

    Once per step, for the table does not change between microbatches; the gradient once for each
    of them. (Learned positions likewise.)
    """
    model = step.model
    rows = model.vocab_size + model.learned_positions * model.seq_len
    table = 4 * rows * model.d_model
    axes, n = ("data", *step.weight_axes), step.execution.n_microbatches
    yield Transfer(
        what="embedding table",
        kind="all-gather",
        axes=("fsdp", "tensor"),
        array_bytes=table,
        count=1,
    )
    yield _all_reduce("gradient of the embedding table", axes, table, n)


def _head(step: Step) -> Iterator[Transfer]:
    """The head D V, gathered once per step; its float32 gradient, reduced once per microbatch."""
    model, execution = step.model, step.execution
    n_weights = model.d_model * model.vocab_size / step.weight_parts
    yield _gather("head", step, n_weights * step.dtype_bytes, 1)
    yield from _reduce("gradient of the head", step, 4 * n_weights, execution.n_microbatches)


def _vectors(step: Step) -> Iterator[Transfer]:
    """Gains and biases are whole everywhere; their float32 gradients are all-reduced."""
    axes, n_bytes = ("data", *step.weight_axes), 4 * _vector_params(step.model)
    yield _all_reduce("gradients of gains and biases", axes, n_bytes, step.execution.n_microbatches)


def _tensor(step: Step) -> Iterator[Transfer]:
    """Tensor parallelism (Shoeybi et al. 2019, arXiv:1909.08053, sec. 3), per layer and microbatch.

    Forward, the output of the mixer and of the channel mixer [B, L, D] are all-reduced; backward,
    the gradients of their inputs are, those by queries, keys and values (gate and up) added up
    first. Remat of whole blocks reduces the mixer's output again. Around a split vocabulary:
    maximum, sum of exponentials and the target's logit of every token in float32, then the gradient
    [B, L, D] of the head's input.

    A mixture of experts is taken for one such layer. Left out of it: its router, gathered over
    "tensor" too; gradients of the weights of the chosen; a shared expert's output and the gradient
    of its input, reduced for themselves.
    """
    model, execution = step.model, step.execution
    activation = step.local_tokens * model.d_model * step.dtype_bytes
    n_again = model.n_layers * (execution.remat == "block")
    axes, n = ("tensor",), execution.n_microbatches
    n_split = _split_layers(model)
    yield _all_reduce("outputs of mixers", axes, activation, n * (n_split + n_again))
    yield _all_reduce("gradients of inputs of mixers", axes, activation, n * n_split)
    yield _all_reduce("gradient of the head's input", axes, activation, n)
    yield _all_reduce("softmax over a split vocabulary", axes, 3 * 4 * step.local_tokens, n)


def _context(step: Step) -> Iterator[Transfer]:
    """Positions exchanged for heads around the attention (Jacobs et al. 2023, arXiv:2309.14509).

    Per layer and microbatch: queries, keys and values to whole positions, the output back; the
    same once more for their gradients, and for remat of whole blocks.
    """
    model, execution = step.model, step.execution
    width = sum(layer.exchanged_width(model) for layer in model.layers)
    local = step.local_tokens / step.mesh["tensor"] * width * step.dtype_bytes
    n_passes = 2 + (execution.remat == "block")
    yield Transfer(
        what="positions for heads, and back",
        kind="all-to-all",
        axes=("tensor",),
        array_bytes=local,
        count=execution.n_microbatches * model.n_repeats * n_passes,
    )


def _split_layers(model: ModelConfig) -> int:
    """Mixers and channel mixers whose units "tensor" splits: a matrix contracts them."""
    split = LAYOUTS["fsdp_tensor"].matrices
    return model.n_repeats * sum(
        any(
            split.get(letter) == "tensor"
            for weight in layer.weights(model).values()
            for letter in weight.input_axes
        )
        for layer in model.layers
    )
