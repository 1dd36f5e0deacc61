# SPDX-License-Identifier: Apache-2.0
"""PixelCNN's masked convolution (van den Oord et al. 2016, arXiv:1601.06759, sec. 3.4)."""

from typing import cast

import jax.numpy as jnp
from jaxtyping import Array, Bool

from model.network.context import Context
from model.network.counts.masked_convolution import MaskedConvolutionConfig
from model.network.mixers.convolution import Convolution


class MaskedConvolution(Convolution):
    """The same over an image: position t is at row t // width and column t mod width, and a tap at
    pixels above or on the left of its own; beyond the edges of the image are zeros.

    As in torch.nn.Conv2d, whose kernel is zero where the mask is. Position t predicts pixel t from
    those before it, and pixel t is the input of position t + 1: mask "A" takes in pixels, from
    there; mask "B" takes in what is known at a pixel's own position, of the pixels before it.
    """

    def is_inside(self, context: Context, length: int) -> Bool[Array, "#B T C"] | None:
        sizes = cast(MaskedConvolutionConfig, self.config)
        positions = context.positions
        if positions is None:
            positions = jnp.arange(length)[None]
        down, right = (jnp.asarray(each)[None, None] for each in zip(*sizes.offsets, strict=True))
        row, column = (
            positions[..., None] // sizes.width,
            positions[..., None] % sizes.width + right,
        )
        return (row + down >= 0) & (column >= 0) & (column < sizes.width)
