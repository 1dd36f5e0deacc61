# SPDX-License-Identifier: Apache-2.0
"""What mixers of a linear recurrence (model/network/mixers/linear_recurrence.py) have in common:
their chunks and FLOPs, and the first values of their vectors.
"""

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from model.network.counts.layer import LayerConfig, Weight, refuse_split_positions, vector

if TYPE_CHECKING:
    from model.network.config import ModelConfig
    from model.network.execution import Execution

# Products over the pairs of a chunk grow with its length, products with the state do not, and a
# state is kept for each chunk. Forward and backward, with 4 heads of 32 and 1024 positions on two
# busy cores, one round: chunks of 16, 32, 64, 128 took 5.8, 6.2, 6.8, 9.5 us a token without
# erasing, 23, 15, 26, 62 with the key, 24, 17, 24, 73 with another.
LONGEST_CHUNK = 32
# Arrays of scores over the pairs of a chunk: readings; erasing and its inverse; both by another.
N_SCORES = {"nothing": 1, "key": 3, "other": 5}


class RecurrenceConfig(LayerConfig, frozen=True, kw_only=True):
    """A mixer that computes the recurrence: heads with a state of d_key by d_value each.

    Attributes:
      erases: see recurrence_flops.
    """

    erases: ClassVar[Literal["nothing", "key", "other"]]

    @property
    def heads(self) -> tuple[int, int, int, int]:
        """n_groups, n_heads, d_key, d_value, as recurrence_flops has them."""
        raise NotImplementedError

    def context_flops(self, net: "ModelConfig", *, is_causal: bool) -> int:
        n_groups, n_heads, d_key, d_value = self.heads
        return recurrence_flops(
            net.n_positions,
            n_groups=n_groups,
            n_heads=n_heads,
            d_key=d_key,
            d_value=d_value,
            erases=self.erases,
            is_causal=is_causal,
        )

    def scores_per_token(self, net: "ModelConfig") -> int:
        return N_SCORES[self.erases] * self.heads[1] * chunk_length(net.n_positions)

    def check(self, net: "ModelConfig", execution: "Execution") -> None:
        refuse_split_positions(execution, "which it reads one after the other")


def chunk_length(length: int) -> int:
    """Positions of one chunk: as few chunks as can be, of one length; the last is filled up."""
    n_chunks = -(-length // LONGEST_CHUNK)
    return -(-length // n_chunks)


def power_of_two(size: int) -> int:
    """The first that is not below it."""
    return 1 << (size - 1).bit_length()


def recurrence_flops(
    length: int,
    *,
    n_groups: int,
    n_heads: int,
    d_key: int,
    d_value: int,
    erases: Literal["nothing", "key", "other"],
    is_causal: bool,
) -> int:
    """Forward FLOPs per token of all products of a linear recurrence, computed in chunks.

    Args:
      length: T, of which a chunk is filled up where its length does not divide it.
      n_groups: heads of which each has keys and readings of its own.
      n_heads: heads in all.
      erases: "nothing": no a b^T; "key": b is the key; "other": b is its own.
      is_causal: whether pairs of positions that the order hides are left out.
    """
    n, H, K, P = chunk_length(length), n_heads, d_key, d_value
    # Over the pairs of a chunk: scores, and what is read by them.
    pairs = n_groups * K + H * P
    state, inverse = 2 * H * K * P, 0
    if erases != "nothing":
        pairs += H * K + H * (P + K)
        state += H * K * P
        # Of halves of 2, 4, ..., two products each.
        whole = power_of_two(n)
        inverse = 2 * H * whole * max(0, whole * whole - 4) // 3
    if erases == "other":
        pairs += 2 * H * K + 2 * H * P
        state += H * K * P
    in_pairs = (2 * n * n * pairs + inverse) // (2 if is_causal else 1)
    n_chunks = -(-length // n)
    return -(-n_chunks * (in_pairs + 2 * n * state) // length)


def taps(letters: str, shape: tuple[int, ...], n_taps: int) -> Weight:
    """A causal convolution of every channel for itself over the last positions, with the variance
    of torch.nn.Conv1d's uniform start, 1 / (3 n_taps)."""
    std = 1 / math.sqrt(3 * n_taps)
    return Weight(axes=f"c{letters}", shape=(n_taps, *shape), role="vector", std=std)


def decays(n_groups: int, n_per_group: int) -> dict[str, Weight]:
    """Of w = exp(-exp(log_a) softplus(x W_dt + dt_bias)): the two vectors of all heads.

    As Mamba-2 begins (Dao & Gu 2024, arXiv:2405.21060; its code, modules/mamba2.py): exp(log_a)
    uniform over 1 to 16, and softplus(dt_bias) log-uniform over 0.001 to 0.1. Where it draws both,
    here the first lies evenly over the heads, and the second by steps of the golden ratio, so that
    few heads have all combinations, too.
    """
    H = n_groups * n_per_group
    rates = [1 + 15 * (head + 0.5) / H for head in range(H)]
    places = [((head + 0.5) * (math.sqrt(5) - 1) / 2) % 1 for head in range(H)]
    steps = [1e-3 * 100**place for place in places]
    return {
        "log_a": vector("gq", (n_groups, n_per_group), tuple(map(math.log, rates))),
        "dt_bias": vector(
            "gq", (n_groups, n_per_group), tuple(math.log(math.expm1(step)) for step in steps)
        ),
    }
