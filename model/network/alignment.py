# SPDX-License-Identifier: Apache-2.0
"""Which tokens of a source a decoder looks at."""

from typing import Any

from flax import nnx
from jaxtyping import Array, Float, Int

from model.network.stack import unstacked
from model.network.transformer import Transformer


def alignment(network: Transformer, tokens: Int[Array, "B T"]) -> Float[Array, "B T_own T_memory"]:
    """How much each position of the decoder attends to each token of the source, by the last block
    that reads it; a mean over heads. Rows add up to 1.

    Raises:
      ValueError: if no block reads a source.
    """
    x, context, _ = network.begin(tokens)
    context = context._replace(shared=network.shared_values(x))
    graphdef, stacked = network.split_blocks()
    found: Any = None
    for state in unstacked(stacked):
        for block in nnx.merge(graphdef, state):
            if block.mixer.config.reads_source:
                found = block.mixer.alignment(block.mixer_norm(x), context)
            x, context, _ = block(x, context)
    if found is None:
        raise ValueError("the network has no encoder: no block reads a source.")
    return found
