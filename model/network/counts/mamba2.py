# SPDX-License-Identifier: Apache-2.0
"""Mamba-2 (model/network/mixers/mamba2.py): its sizes, weights and FLOPs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from model.field_checks import check_real, check_whole
from model.network.counts.layer import (
    Weight,
    matrix,
    rounded_width,
    vector,
)
from model.network.counts.linear_recurrence import RecurrenceConfig, decays, taps

if TYPE_CHECKING:
    from model.network.config import ModelConfig


class Mamba2Config(RecurrenceConfig, frozen=True, kw_only=True, tag="mamba2"):
    """A state space model whose state decays by one number for each head and position.

    Attributes:
      n_heads: a multiple of ``n_groups``.
      n_groups: G, each with one B and one C for all of its heads.
      d_head: P, width of a head's input and output.
      d_state: K, numbers of the state for each of them.
      taps: C, positions that the short convolution takes in.
    """

    implementation: ClassVar[str] = "model.network.mixers.mamba2:Mamba2"
    erases = "nothing"

    n_heads: int
    n_groups: int
    d_head: int
    d_state: int
    taps: int

    def __post_init__(self) -> None:
        check_whole(self, "n_heads n_groups d_head d_state taps")
        if self.n_heads % self.n_groups:
            raise ValueError(
                f"n_heads={self.n_heads} is not a multiple of n_groups={self.n_groups}."
            )

    @property
    def heads_per_group(self) -> int:
        return self.n_heads // self.n_groups

    def weights(self, net: "ModelConfig") -> dict[str, Weight]:
        """The maps into the layer are one matrix in the paper: z, x, B, C, dt."""
        D, G, Q, P, K = net.d_model, self.n_groups, self.heads_per_group, self.d_head, self.d_state
        gain = net.hidden_init_gain
        inner: dict[str, tuple[str, tuple[int, ...]]] = {
            "x": ("gqp", (G, Q, P)),
            "b": ("gk", (G, K)),
            "c": ("gk", (G, K)),
        }
        weights = {
            f"{name}_d{letters}": matrix(f"d{letters}", (D, *shape), gain)
            for name, (letters, shape) in {"z": inner["x"], **inner, "dt": ("gq", (G, Q))}.items()
        }
        for name, (letters, shape) in inner.items():
            weights[f"{name}_taps"] = taps(letters, shape, self.taps)
            weights[f"{name}_taps_bias"] = vector(letters, shape, 0.0)
        weights |= decays(G, Q)
        weights["skip"] = vector("gq", (G, Q), 1.0)
        weights["gain"] = vector("gqp", (G, Q, P), 1.0)
        weights["output_gqpd"] = matrix("gqpd", (G, Q, P, D), net.branch_init_gain, n_in=3)
        if net.use_bias:
            for name, (letters, shape) in {"z": inner["x"], **inner}.items():
                weights[f"{name}_bias"] = vector(letters, shape, 0.0)
            weights["output_bias"] = vector("d", (D,), 0.0)
        return weights

    @property
    def heads(self) -> tuple[int, int, int, int]:
        return self.n_groups, self.n_heads, self.d_state, self.d_head

    def activation_width(self, net: "ModelConfig") -> int:
        """Input; z, x, B, C, dt; output of the heads; output."""
        into = 2 * self.n_heads * self.d_head + 2 * self.n_groups * self.d_state + self.n_heads
        return 2 * net.d_model + into + self.n_heads * self.d_head

    def columns(self) -> dict[str, int | float | str]:
        return {"n_heads": self.n_heads, "d_state": self.d_state}


@dataclass(frozen=True, kw_only=True, slots=True)
class Mamba2Rule:
    """Width -> heads of width near head_width, expand d_model wide together: n_heads = expand
    d_model / head_width, rounded down to a multiple of n_groups. Other fields as in Mamba2Config.

    The paper has expand=2, head_width=64, d_state=128, n_groups=1, taps=4.
    """

    expand: float
    head_width: int
    n_groups: int
    d_state: int
    taps: int

    def __post_init__(self) -> None:
        check_real(self, "expand")
        check_whole(self, "head_width n_groups d_state taps")

    def config(self, *, d_model: int, n_layers: int) -> Mamba2Config:
        """Of a network of this width."""
        width = self.expand * d_model
        n_heads = max(1, int(width / self.head_width) // self.n_groups) * self.n_groups
        return Mamba2Config(
            n_heads=n_heads,
            n_groups=self.n_groups,
            d_head=rounded_width(self.expand / n_heads, 1, d_model),
            d_state=self.d_state,
            taps=self.taps,
        )
