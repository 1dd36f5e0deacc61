# SPDX-License-Identifier: Apache-2.0
"""An image as patches (model/network/patches.py): its sizes and weights."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from model.field_checks import check_choice, check_whole
from model.network.counts.layer import Weight, vector

if TYPE_CHECKING:
    from model.network.config import ModelConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class PatchConfig:
    """An image in square patches, of which each is a position of the blocks (ViT, Dosovitskiy et
    al. 2020, arXiv:2010.11929, sec. 3.1).

    Attributes:
      height, width: of the image in pixels. channels: values of a pixel.
      levels: of a value; a window is the values, 0 to levels - 1, behind the id of the class.
      side: of a patch in pixels, which divides both.
      pool: what the head multiplies: "token", the output of one more position before the patches;
        "mean", of all.
    """

    height: int
    width: int
    channels: int
    levels: int
    side: int
    pool: Literal["token", "mean"]

    def __post_init__(self) -> None:
        check_whole(self, "height width channels side")
        check_whole(self, "levels", low=2)
        check_choice(self, "pool", ("token", "mean"))
        if self.height % self.side or self.width % self.side:
            raise ValueError(
                f"side={self.side}: must divide an image of {self.height} x {self.width} pixels."
            )

    @property
    def n_values(self) -> int:
        """Of an image: the tokens of a window."""
        return self.height * self.width * self.channels

    @property
    def n_patches(self) -> int:
        return self.height * self.width // self.side**2

    @property
    def n_positions(self) -> int:
        """That the blocks see."""
        return self.n_patches + (self.pool == "token")

    def weights(self, net: "ModelConfig") -> dict[str, Weight]:
        """Of the embedding, by name: what it gives is about as large as a table of tokens does."""
        n_in, D, std = self.side**2 * self.channels, net.d_model, net.embedding_init_std
        patches = Weight(
            axes="cd", shape=(n_in, D), role="input", std=std / math.sqrt(n_in), n_in=1
        )
        weights = {"patches_cd": patches}
        if net.use_bias:
            weights["patches_bias"] = vector("d", (D,), 0.0, "input")
        if self.pool == "token":
            weights["class_td"] = Weight(axes="td", shape=(1, D), role="input", std=std, n_in=1)
        return weights
