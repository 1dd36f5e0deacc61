# SPDX-License-Identifier: Apache-2.0
"""Dense channel mixers (model/network/channel_mixers/mlp.py): sizes, weights and FLOPs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from model.field_checks import check_choice, check_real, check_whole
from model.network.counts.layer import LayerConfig, Weight, matrix, rounded_width, vector

if TYPE_CHECKING:
    from model.network.config import ModelConfig


class GELUConfig(LayerConfig, frozen=True, kw_only=True, tag="gelu"):
    """Up, GELU, down.

    Attributes:
      d_ff: F, hidden width.
    """

    implementation: ClassVar[str] = "model.network.channel_mixers.mlp:GELU"
    inputs: ClassVar[tuple[str, ...]] = ("up",)

    d_ff: int

    def __post_init__(self) -> None:
        check_whole(self, "d_ff")

    def weights(self, net: "ModelConfig") -> dict[str, Weight]:
        D, F = net.d_model, self.d_ff
        weights = {f"{name}_df": matrix("df", (D, F), net.hidden_init_gain) for name in self.inputs}
        weights["down_fd"] = matrix("fd", (F, D), net.branch_init_gain)
        if net.use_bias:
            weights |= {f"{name}_bias": vector("f", (F,), 0.0) for name in self.inputs}
            weights["down_bias"] = vector("d", (D,), 0.0)
        return weights

    @property
    def sees_both_sides(self) -> bool:
        return True

    def activation_width(self, net: "ModelConfig") -> int:
        return 2 * net.d_model + (1 + len(self.inputs)) * self.d_ff

    def columns(self) -> dict[str, int | float | str]:
        return {"d_ff": self.d_ff}


class SwiGLUConfig(GELUConfig, frozen=True, kw_only=True, tag="swiglu"):
    """Up, times the SiLU of a gate, down (Shazeer 2020, arXiv:2002.05202, eq. 6)."""

    implementation: ClassVar[str] = "model.network.channel_mixers.mlp:SwiGLU"
    inputs: ClassVar[tuple[str, ...]] = ("gate", "up")


@dataclass(frozen=True, kw_only=True, slots=True)
class MLPRule:
    """Width -> d_ff = ff_ratio d_model, rounded to a multiple of ff_multiple.

    Attributes:
      activation: "swiglu" or "gelu".
    """

    activation: Literal["swiglu", "gelu"]
    ff_ratio: float
    ff_multiple: int

    def __post_init__(self) -> None:
        check_choice(self, "activation", ("swiglu", "gelu"))
        check_real(self, "ff_ratio")
        check_whole(self, "ff_multiple")

    def config(self, *, d_model: int, n_layers: int) -> GELUConfig:
        """Of a network of this width."""
        kind = SwiGLUConfig if self.activation == "swiglu" else GELUConfig
        return kind(d_ff=rounded_width(self.ff_ratio, self.ff_multiple, d_model))
