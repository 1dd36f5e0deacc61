# SPDX-License-Identifier: Apache-2.0
"""A dilated causal convolution (model/network/mixers/convolution.py): sizes, weights, FLOPs."""

from dataclasses import dataclass
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

if TYPE_CHECKING:
    from model.network.config import ModelConfig
    from model.network.execution import Execution


class Convolving(LayerConfig, frozen=True, kw_only=True):
    """What convolutions have in common: taps at positions before, hidden units, a projection.

    Attributes:
      d_hidden: H, hidden units.
    """

    d_hidden: int

    @property
    def steps_back(self) -> tuple[int, ...]:
        """Of each of C taps, from one's own position to the one that it takes in."""
        raise NotImplementedError

    @property
    def reach(self) -> int:
        """Positions before its own that an output depends on."""
        return max(self.steps_back)

    def weights(self, net: "ModelConfig") -> dict[str, Weight]:
        C, D, H, gain = len(self.steps_back), net.d_model, self.d_hidden, net.hidden_init_gain
        weights = {
            "taps_cdh": matrix("cdh", (C, D, H), gain, n_lead=1, n_added=C),
            "output_hd": matrix("hd", (H, D), net.branch_init_gain),
        }
        if net.use_bias:
            weights |= {
                "hidden_bias": vector("h", (H,), 0.0),
                "output_bias": vector("d", (D,), 0.0),
            }
        return weights

    def activation_width(self, net: "ModelConfig") -> int:
        """Every tap's input, hidden units out and in, output."""
        return (len(self.steps_back) + 1) * net.d_model + 2 * self.d_hidden

    def check(self, net: "ModelConfig", execution: "Execution") -> None:
        refuse_split_positions(execution, "which the taps of a convolution reach across")


class ConvolutionConfig(Convolving, frozen=True, kw_only=True, tag="convolution"):
    """A causal convolution over positions, GELU, and a projection to the width of the stream.

    Attributes:
      d_hidden: H, hidden units.
      taps: C, positions that one unit takes in.
      dilation: positions from one of them to the next.
    """

    implementation: ClassVar[str] = "model.network.mixers.convolution:Convolution"

    d_hidden: int
    taps: int
    dilation: int

    def __post_init__(self) -> None:
        check_whole(self, "d_hidden taps dilation")

    @property
    def steps_back(self) -> tuple[int, ...]:
        return tuple(range((self.taps - 1) * self.dilation, -1, -self.dilation))

    def columns(self) -> dict[str, int | float | str]:
        return {"d_hidden": self.d_hidden, "taps": self.taps}


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvolutionRule:
    """Width -> d_hidden = hidden_ratio d_model, rounded to a multiple of hidden_multiple.

    Dilations of 1, 2, 4, ... are a pattern of blocks, each with its own. Other fields as in
    ConvolutionConfig.
    """

    hidden_ratio: float
    hidden_multiple: int
    taps: int
    dilation: int

    def __post_init__(self) -> None:
        check_real(self, "hidden_ratio")
        check_whole(self, "hidden_multiple taps dilation")

    def config(self, *, d_model: int, n_layers: int) -> ConvolutionConfig:
        """Of a network of this width."""
        d_hidden = rounded_width(self.hidden_ratio, self.hidden_multiple, d_model)
        return ConvolutionConfig(d_hidden=d_hidden, taps=self.taps, dilation=self.dilation)
