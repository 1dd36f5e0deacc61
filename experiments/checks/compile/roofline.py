# SPDX-License-Identifier: Apache-2.0
"""The least time that a step can take on a device: arithmetic, memory and links at their peaks.

Williams et al. 2009 (doi:10.1145/1498765.1498785); for training, "How to scale your model"
(jax-ml.github.io/scaling-book), chapter "Rooflines". Real steps take longer than either end of the
range given here: no program runs at a peak all the time.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from experiments.checks.compile.collectives import Step, transfers
from model.network.config import ModelConfig
from model.network.counts.total import count_params, flops_per_token, hidden_weights

ASSUMPTIONS = (
    "products at the peak of the device, softmax, norms and the optimiser's arithmetic free; "
    "attention in blocks (all kernels but xla) skips masked ones, plain XLA does not",
    "memory: weights read or written in each pass, every activation between two products once "
    "written and once read per pass, the update of parameters and moments; caches hold nothing",
    "links: bytes by formula over the links of the dimensions that a mesh axis spans, both "
    "directions of a ring at once; no latency",
    "range: from all three overlapped (the largest) to none (the sum); no evaluation, no data, no "
    "compilation",
)
# Read a parameter, its gradient and two moments, write all but the gradient: float32.
_UPDATE_BYTES = 28


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """What one device reaches at most; None where it is not known, and then left out.

    Attributes:
      flops_per_second: of products in the compute dtype.
      memory_bytes_per_second: of its memory.
      link_bytes_per_second: of one link, one direction.
      links: mesh axis -> links that a collective over it uses.
      source: of ``flops_per_second``.
    """

    flops_per_second: float
    memory_bytes_per_second: float | None
    link_bytes_per_second: float | None
    links: Mapping[str, float]
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """Seconds of a step by what takes them; 0 for what is not known."""

    compute_seconds: float
    memory_seconds: float
    link_seconds: float

    @property
    def bound_by(self) -> str:
        """The largest of the three."""
        seconds = {
            "compute": self.compute_seconds,
            "memory": self.memory_seconds,
            "links": self.link_seconds,
        }
        return max(seconds, key=lambda name: seconds[name])

    @property
    def overlapped_seconds(self) -> float:
        return max(self.compute_seconds, self.memory_seconds, self.link_seconds)

    @property
    def serial_seconds(self) -> float:
        return self.compute_seconds + self.memory_seconds + self.link_seconds


def estimate(step: Step, rates: Rates) -> Estimate:
    """The roofline of one step."""
    memory, links = rates.memory_bytes_per_second, rates.link_bytes_per_second
    return Estimate(
        compute_seconds=step_flops(step) / math.prod(step.mesh_shape) / rates.flops_per_second,
        memory_seconds=memory_bytes(step) / memory if memory else 0.0,
        link_seconds=_link_seconds(step, links, rates.links) if links else 0.0,
    )


def step_flops(step: Step) -> float:
    """FLOPs that a step executes on all devices, with what remat computes again."""
    model, remat = step.model, step.execution.remat
    is_flash = step.is_causal and step.execution.attention != "xla"
    causal = flops_per_token(model, "matmul_causal")
    full = flops_per_token(model, "matmul_full")
    training = causal if is_flash else full
    context = 2 * (full - causal) // (2 if is_flash else 1)
    head = 6 * model.d_model * model.vocab_size
    again = {"none": 0, "dots": context / 3, "block": (training - head) / 3}[remat]
    return (training + again) * step.batch_size * model.seq_len


def memory_bytes(step: Step) -> float:
    """Bytes that a device reads and writes in its memory per step, caches aside."""
    model, execution = step.model, step.execution
    n_tokens = step.local_tokens * execution.n_microbatches / step.mesh["tensor"]
    n_passes = 3 + (execution.remat == "block")
    state_parts = step.mesh["fsdp"] * step.mesh["tensor"]
    weights = hidden_weights(model) + model.d_model * model.vocab_size
    return (
        _UPDATE_BYTES * count_params(model).total / state_parts
        + execution.n_microbatches * n_passes * weights / step.weight_parts * step.dtype_bytes
        + n_passes * n_tokens * _activation_widths(model) * step.dtype_bytes
        # Float32 logits: written and read by the softmax, and by its gradient.
        + 4 * 4 * n_tokens * model.vocab_size
        + _score_bytes(step, n_passes) * n_tokens
    )


def _activation_widths(model: ModelConfig) -> int:
    """Numbers per token that products of all blocks take in and give out."""
    return model.n_repeats * sum(layer.activation_width(model) for layer in model.layers)


def _score_bytes(step: Step, n_passes: int) -> float:
    """Per token: float32 scores and weights in the compute dtype, where they are stored at all."""
    if step.execution.attention != "xla":
        return 0.0
    model = step.model
    scores = model.n_repeats * sum(layer.scores_per_token(model) for layer in model.layers)
    return n_passes * scores * 2 * (4 + step.dtype_bytes)


def _link_seconds(step: Step, link_bytes_per_second: float, links: Mapping[str, float]) -> float:
    """One collective after the other, each over the links of its axes."""
    seconds = 0.0
    for transfer in transfers(step):
        n_links = sum(links[axis] for axis in transfer.axes if step.mesh[axis] > 1)
        seconds += transfer.moved(step.mesh) / (n_links * link_bytes_per_second)
    return seconds
