# SPDX-License-Identifier: Apache-2.0
"""RWKV-7 (model/network/mixers/rwkv7.py, channel_mixers/rwkv7.py): sizes, weights and FLOPs.

First values are those of the released code (RWKV-LM, RWKV-v7 of January 2025, of Peng et al. 2025,
arXiv:2503.14456): there some exponents change over the depth; here every layer has those of the
first. Matrices have the network's own gains.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from model.field_checks import check_real, check_whole
from model.network.counts.layer import (
    LayerConfig,
    Weight,
    matrix,
    refuse_split_positions,
    rounded_width,
    vector,
)
from model.network.counts.linear_recurrence import RecurrenceConfig

if TYPE_CHECKING:
    from model.network.config import ModelConfig
    from model.network.execution import Execution

# What is mixed of a position and the one before it: 1 - (channel / D)^power.
POWERS = {"r": 0.2, "w": 0.9, "k": 0.9, "v": 0.4, "a": 0.9, "g": 0.2}


class RWKV7Config(RecurrenceConfig, frozen=True, kw_only=True, tag="rwkv7"):
    """The time mix: a state that decays, and is erased, channel by channel.

    Attributes:
      n_heads, d_head: G and K.
      rank_decay, rank_rate, rank_value, rank_gate: of the products of two matrices that give the
        decay w, the rate a of erasing, the share of the first layer's value, and the gate.
    """

    implementation: ClassVar[str] = "model.network.mixers.rwkv7:RWKV7"
    erases = "other"

    n_heads: int
    d_head: int
    rank_decay: int
    rank_rate: int
    rank_value: int
    rank_gate: int

    def __post_init__(self) -> None:
        check_whole(self, "n_heads d_head rank_decay rank_rate rank_value rank_gate")

    @property
    def ranks(self) -> dict[str, int]:
        return {
            "w": self.rank_decay,
            "a": self.rank_rate,
            "share": self.rank_value,
            "g": self.rank_gate,
        }

    def weights(self, net: "ModelConfig") -> dict[str, Weight]:
        D, G, K = net.d_model, self.n_heads, self.d_head

        def channels(of: float | Callable[[int], float]) -> Weight:
            values = tuple(map(of, range(G * K))) if callable(of) else of
            return vector("gk", (G, K), values)

        weights = {f"{name}_mix": shift(D, power) for name, power in POWERS.items()}
        for name in ("r", "k", "v"):
            weights[f"{name}_dgk"] = matrix("dgk", (D, G, K), net.hidden_init_gain)
        for name, rank in self.ranks.items():
            # The product begins with zero; the second is 0.1 times a matrix of orthogonal rows.
            down, up = matrix("dl", (D, rank), 0.0), matrix("lgk", (rank, G, K), 1.0)
            weights[f"{name}_down_dl"] = down
            weights[f"{name}_up_lgk"] = replace(up, std=0.1 / math.sqrt(max(rank, G * K)))
        last = max(1, G * K - 1)
        weights["w_base"] = channels(lambda channel: -6.5 + 5 * (channel / last) ** 0.85)
        weights |= {"a_base": channels(0.0), "share_base": channels(1.0)}
        weights |= {"erased": channels(0.85), "replaced": channels(1.0), "bonus": channels(0.0)}
        weights |= {"norm_gain": channels(1.0), "norm_bias": channels(0.0)}
        weights["output_gkd"] = matrix("gkd", (G, K, D), net.branch_init_gain, n_in=2)
        if net.use_bias:
            weights |= {f"{name}_bias": channels(0.0) for name in ("r", "k", "v")}
            weights["output_bias"] = vector("d", (D,), 0.0)
        return weights

    @property
    def heads(self) -> tuple[int, int, int, int]:
        return self.n_heads, self.n_heads, self.d_head, self.d_head

    def activation_width(self, net: "ModelConfig") -> int:
        """Seven inputs; what they give; output of the heads; output."""
        inner = self.n_heads * self.d_head
        return 8 * net.d_model + 2 * sum(self.ranks.values()) + 8 * inner

    def columns(self) -> dict[str, int | float | str]:
        return {"n_heads": self.n_heads}


class RWKV7ChannelConfig(LayerConfig, frozen=True, kw_only=True, tag="rwkv7_channel"):
    """The channel mix: up, the square of a ReLU, down, of a position and the one before it.

    Attributes:
      d_ff: F, hidden width.
    """

    implementation: ClassVar[str] = "model.network.channel_mixers.rwkv7:RWKV7Channel"

    d_ff: int

    def __post_init__(self) -> None:
        check_whole(self, "d_ff")

    def weights(self, net: "ModelConfig") -> dict[str, Weight]:
        D, F = net.d_model, self.d_ff
        weights = {
            "mix": shift(D, 1.0),
            "up_df": matrix("df", (D, F), net.hidden_init_gain),
            "down_fd": matrix("fd", (F, D), net.branch_init_gain),
        }
        if net.use_bias:
            weights |= {"up_bias": vector("f", (F,), 0.0), "down_bias": vector("d", (D,), 0.0)}
        return weights

    def activation_width(self, net: "ModelConfig") -> int:
        return 2 * net.d_model + 2 * self.d_ff

    def check(self, net: "ModelConfig", execution: "Execution") -> None:
        refuse_split_positions(execution, "of which it reads two at a time")

    def columns(self) -> dict[str, int | float | str]:
        return {"d_ff": self.d_ff}


def shift(width: int, power: float) -> Weight:
    """The share of the position before, channel by channel."""
    return vector("d", (width,), tuple(1 - (channel / width) ** power for channel in range(width)))


@dataclass(frozen=True, kw_only=True, slots=True)
class RWKV7Rule:
    """Width D -> n_heads = D / head_width, d_head = D / n_heads; ranks of the released code, 1.8
    sqrt(D), 1.8 sqrt(D), 1.3 sqrt(D) and 0.6 D^0.8, each rounded to a multiple of rank_multiple.

    The paper has head_width=64, rank_multiple=32.
    """

    head_width: int
    rank_multiple: int

    def __post_init__(self) -> None:
        check_whole(self, "head_width rank_multiple")

    def config(self, *, d_model: int, n_layers: int) -> RWKV7Config:
        """Of a network of this width."""
        n_heads = max(1, d_model // self.head_width)

        def rank(of: float) -> int:
            return rounded_width(of, self.rank_multiple, 1)

        return RWKV7Config(
            n_heads=n_heads,
            d_head=rounded_width(1 / n_heads, 1, d_model),
            rank_decay=rank(1.8 * math.sqrt(d_model)),
            rank_rate=rank(1.8 * math.sqrt(d_model)),
            rank_value=rank(1.3 * math.sqrt(d_model)),
            rank_gate=rank(0.6 * d_model**0.8),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class RWKV7ChannelRule:
    """Width -> d_ff = ff_ratio d_model, rounded to a multiple of ff_multiple; the paper has 4."""

    ff_ratio: float
    ff_multiple: int

    def __post_init__(self) -> None:
        check_real(self, "ff_ratio")
        check_whole(self, "ff_multiple")

    def config(self, *, d_model: int, n_layers: int) -> RWKV7ChannelConfig:
        """Of a network of this width."""
        return RWKV7ChannelConfig(d_ff=rounded_width(self.ff_ratio, self.ff_multiple, d_model))
