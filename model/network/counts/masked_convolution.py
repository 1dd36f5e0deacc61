# SPDX-License-Identifier: Apache-2.0
"""A masked convolution over images (model/network/mixers/masked_convolution.py): sizes, weights."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from model.field_checks import check_choice, check_real, check_whole
from model.network.counts.convolution import Convolving
from model.network.counts.layer import rounded_width

Mask = Literal["A", "B"]


class MaskedConvolutionConfig(Convolving, frozen=True, kw_only=True, tag="masked_convolution"):
    """A two-dimensional convolution over the pixels before one's own, GELU, and a projection to the
    width of the stream (van den Oord et al. 2016, arXiv:1601.06759, sec. 3.4).

    Attributes:
      d_hidden: H, hidden units.
      kernel: of so many columns, odd, and half as many rows above its own.
      width: positions in a row of the image: its pixels, each of which is as many as it has
        channels.
      mask: "A" takes in pixels before one's own, as the first layer must; "B" takes in what layers
        have made at these, and at one's own.
    """

    implementation: ClassVar[str] = "model.network.mixers.masked_convolution:MaskedConvolution"

    d_hidden: int
    kernel: int
    width: int
    mask: Mask

    def __post_init__(self) -> None:
        check_whole(self, "d_hidden kernel width")
        check_choice(self, "mask", ("A", "B"))
        if self.kernel % 2 == 0 or not 3 <= self.kernel <= 2 * self.width - 1:
            raise ValueError(
                f"kernel={self.kernel}: must be odd, from 3 to {2 * self.width - 1}, as rows of "
                f"{self.width} positions have no more beside one of them."
            )

    @property
    def offsets(self) -> tuple[tuple[int, int], ...]:
        """(rows, columns) of each tap from one's own pixel, in the order of the pixels."""
        half = self.kernel // 2
        above = [(-up, right) for up in range(half, 0, -1) for right in range(-half, half + 1)]
        return (*above, *((0, -left) for left in range(half, -(self.mask == "B"), -1)))

    @property
    def steps_back(self) -> tuple[int, ...]:
        """A pixel is the input of the position behind its own, which predicts the next one."""
        shift = self.mask == "A"
        return tuple(-(down * self.width + right + shift) for down, right in self.offsets)

    def columns(self) -> dict[str, int | float | str]:
        return {"d_hidden": self.d_hidden, "kernel": self.kernel}


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedConvolutionRule:
    """Width -> d_hidden = hidden_ratio d_model, rounded to a multiple of hidden_multiple.

    A network begins with a block of mask "A", and the others have "B". Other fields as in
    MaskedConvolutionConfig.
    """

    hidden_ratio: float
    hidden_multiple: int
    kernel: int
    width: int
    mask: Mask

    def __post_init__(self) -> None:
        check_real(self, "hidden_ratio")
        check_whole(self, "hidden_multiple kernel width")

    def config(self, *, d_model: int, n_layers: int) -> MaskedConvolutionConfig:
        """Of a network of this width."""
        d_hidden = rounded_width(self.hidden_ratio, self.hidden_multiple, d_model)
        return MaskedConvolutionConfig(
            d_hidden=d_hidden, kernel=self.kernel, width=self.width, mask=self.mask
        )
