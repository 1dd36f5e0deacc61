# SPDX-License-Identifier: Apache-2.0
"""How a safetensors file begins (https://huggingface.co/docs/safetensors)."""

import itertools
import json
import math
from collections.abc import Iterable, Mapping


def header(tensors: Iterable[tuple[str, tuple[int, ...]]], metadata: Mapping[str, str]) -> bytes:
    """What stands before the numbers: float32, tensor after tensor in this order.

    The library's own writer wants all of them in memory; ours come one by one.

    Args:
      tensors: (name, shape) of each.
      metadata: words about the file.
    """
    tensors = list(tensors)
    ends = itertools.accumulate((4 * math.prod(shape) for _, shape in tensors), initial=0)
    entries = {
        name: {"dtype": "F32", "shape": shape, "data_offsets": offsets}
        for (name, shape), offsets in zip(tensors, itertools.pairwise(ends), strict=True)
    }
    text = json.dumps({"__metadata__": dict(metadata)} | entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # The numbers begin at a multiple of eight bytes.
    return len(text).to_bytes(8, "little") + text
