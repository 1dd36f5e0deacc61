# SPDX-License-Identifier: Apache-2.0
"""How a network is computed, not what. Standard library only.

Every choice here gives the same numbers in exact arithmetic; in float32 the last bits differ. So
they are recorded with a run and are no part of its id.
"""

from dataclasses import dataclass
from typing import Literal

from model.ranges import check_choice, check_whole
from model.sharding import LAYOUTS

ATTENTIONS = ("xla", "cudnn", "splash")
LAYERS = ("unrolled", "scanned")
# In the order of what they keep: everything, products with weights, the input of each block.
REMATS = ("none", "dots", "block")


@dataclass(frozen=True, kw_only=True, slots=True)
class Execution:
    """Kernels, memory and dispatch; "auto" and 0 leave a choice to the program that runs.

    Attributes:
      layout: what the mesh axis "tensor" splits (model/sharding.py): heads and hidden units, or
        positions ("fsdp_context"), for sequences too long for one device.
      attention: "xla", "cudnn" (flash attention, NVIDIA) or "splash" (flash attention, TPU).
      layers: a scan over stacked layers compiles once per layer kind; unrolled runs faster.
      remat: what a block keeps for its backward pass: "none" of it is computed again, "dots"
        keeps products with weights, "block" keeps its input only.
      n_microbatches: parts of a batch whose gradients are summed before the update.
      n_loss_chunks: parts of a batch whose logits exist at a time.
      steps_per_dispatch: most steps per call of the compiled program.
    """

    layout: Literal["fsdp_tensor", "fsdp_context"] = "fsdp_tensor"
    attention: Literal["auto", "xla", "cudnn", "splash"] = "auto"
    layers: Literal["auto", "unrolled", "scanned"] = "auto"
    remat: Literal["auto", "none", "dots", "block"] = "auto"
    n_microbatches: int = 0
    n_loss_chunks: int = 0
    steps_per_dispatch: int = 32

    def __post_init__(self) -> None:
        check_choice(self, "layout", tuple(LAYOUTS))
        check_choice(self, "attention", ("auto", *ATTENTIONS))
        check_choice(self, "layers", ("auto", *LAYERS))
        check_choice(self, "remat", ("auto", *REMATS))
        check_whole(self, "n_microbatches n_loss_chunks", low=0)
        check_whole(self, "steps_per_dispatch")


# What every platform computes, everything resolved.
PLAIN = Execution(
    attention="xla", layers="unrolled", remat="none", n_microbatches=1, n_loss_chunks=1
)
