# SPDX-License-Identifier: Apache-2.0
"""How a network is computed, not what. Standard library only.

Every choice here gives the same numbers in exact arithmetic; in float32 the last bits differ. So
they are recorded with a run and are no part of its id.
"""

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from model.field_checks import check_choice, check_whole, shown
from model.network.sharding import LAYOUTS

# Of a device's memory; the rest is for evaluation, fragments and the next chunk of tokens.
USABLE = 0.9
# Float32 logits that may exist at a time on one device.
LOGITS_BYTES = 2**28
Attention = Literal["auto", "xla", "blocked", "cudnn", "splash"]
# Kernels that are given the rows and heads of one device alone.
LOCAL_ATTENTION = ("cudnn", "splash")
Layers = Literal["auto", "unrolled", "scanned"]
Remat = Literal["auto", "none", "dots", "block"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Execution:
    """Kernels, memory and dispatch; "auto" and 0 leave a choice to the program that runs.

    Attributes:
      layout: what the mesh axis "tensor" splits (sharding.py): heads and hidden units, or
        positions ("fsdp_context"), for sequences too long for one device.
      attention: "xla"; without stored scores "blocked" (CPU), "cudnn" (NVIDIA), "splash" (TPU).
      layers: a scan over stacked layers compiles once per layer kind; unrolled runs faster.
      remat: what a block keeps for its backward pass: "none" of it is computed again, "dots"
        keeps products with weights, "block" keeps its input only.
      n_microbatches: parts of a batch whose gradients are summed before the update.
      n_loss_chunks: parts of a batch whose logits exist at a time.
      steps_per_dispatch: most steps per call of the compiled program; fewer where they would
        take longer than a few seconds (training/clock.py).
    """

    layout: Literal["fsdp_tensor", "fsdp_context"] = "fsdp_tensor"
    attention: Attention = "auto"
    layers: Layers = "auto"
    remat: Remat = "auto"
    n_microbatches: int = 0
    n_loss_chunks: int = 0
    steps_per_dispatch: int = 32

    def __post_init__(self) -> None:
        check_choice(self, "layout", tuple(LAYOUTS))
        check_choice(self, "attention", get_args(Attention))
        check_choice(self, "layers", get_args(Layers))
        check_choice(self, "remat", get_args(Remat))
        check_whole(self, "n_microbatches n_loss_chunks", low=0)
        check_whole(self, "steps_per_dispatch")

    @property
    def attends_locally(self) -> bool:
        """Whether the kernel is one of LOCAL_ATTENTION."""
        return self.attention in LOCAL_ATTENTION

    def to_text(self) -> str:
        """field=value, comma separated: for a command line and for the record of a run."""
        return ",".join(f"{field.name}={getattr(self, field.name)}" for field in fields(self))

    @staticmethod
    def from_text(text: str) -> "Execution":
        """What ``to_text`` wrote; fields that are not named have their default.

        Raises:
          ValueError: if a field does not exist or its value is not legal.
        """
        values: dict[str, Any] = {}
        known = {field.name for field in fields(Execution)}
        for part in filter(None, text.split(",")):
            name, equals, value = part.partition("=")
            if not equals or name not in known:
                raise ValueError(f"execution {shown(part)}: known are {', '.join(sorted(known))}.")
            values[name] = int(value) if value.isdecimal() else value
        return Execution(**values)


AUTO = Execution()
# What every platform computes, everything resolved.
PLAIN = Execution(
    attention="xla", layers="unrolled", remat="none", n_microbatches=1, n_loss_chunks=1
)
