# SPDX-License-Identifier: Apache-2.0
"""Sources of images. Standard library only: study files and planning import this.

An image is a record of ids, row by row and channels last, after one id that begins it: where the
source is `labelled` that of its class, else one for all. A window holds one image: its T targets
are the T values of the image, so that nats per token are nats per value of a pixel.
"""

from dataclasses import dataclass
from typing import ClassVar

from model.data.source_checks import check_fraction, check_int, check_paths, check_real, check_that

MAX_LEVELS = 256
MAX_SIDE = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class MarkovMesh:
    """Images of known entropy and Bayes error: a Markov mesh (Abend, Harley & Kanal 1965, IEEE
    Trans. Inf. Theory 11), whose pixels each follow from one that was before.

    A pixel has the level of its parent, but with probability epsilon any level, each as likely. The
    parent of the first row is the class of the image, one of as many as there are levels; that of
    the first column is the pixel above; that of any other is the pixel above where the one between
    both, above on the left, has a level of the lower half, else the pixel on the left. See
    `model.data.synthetic.mesh`.

    Args:
      height, width: in pixels.
      levels: L, of a pixel: the ids 0 to L - 1.
      epsilon: probability that a pixel is drawn anew, 0 < x < 1.
      labelled: whether an image is begun by the id of its class, L + class, or by the id L.
    """

    kind: ClassVar[str] = "mesh"
    height: int
    width: int
    levels: int
    epsilon: float
    labelled: bool

    def __post_init__(self) -> None:
        check_int(self.kind, "height", self.height, 1, MAX_SIDE)
        check_int(self.kind, "width", self.width, 1, MAX_SIDE)
        check_int(self.kind, "levels", self.levels, 2, MAX_LEVELS)
        check_real(self.kind, "epsilon", self.epsilon, 0.0, 1.0)
        check_that(self, "labelled", isinstance(self.labelled, bool), "True or False")

    @property
    def n_pixels(self) -> int:
        """Values of an image, all targets of a window."""
        return self.height * self.width

    @property
    def vocab_size(self) -> int:
        """Levels, and what begins an image."""
        return self.levels + (self.levels if self.labelled else 1)

    @property
    def separator(self) -> int:
        """The first id that begins an image."""
        return self.levels


@dataclass(frozen=True, kw_only=True, slots=True)
class _Files:
    """What images in files have in common.

    Args:
      validation_fraction: share of the images held out, 0 < x < 1, chosen by their hash.
      labelled: see MarkovMesh.
    """

    kind: ClassVar[str]
    order: ClassVar[str] = "shuffled"
    validation_fraction: float
    labelled: bool

    def __post_init__(self) -> None:
        check_fraction(self.kind, self.validation_fraction)
        check_that(self, "labelled", isinstance(self.labelled, bool), "True or False")


@dataclass(frozen=True, kw_only=True, slots=True)
class Digits(_Files):
    """1797 handwritten digits of 8 x 8 pixels of 17 levels, which come with the package (Alpaydin &
    Kaynak 1998; model/data/images/README.md)."""

    kind: ClassVar[str] = "digits"
    levels: ClassVar[int] = 17


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFolder(_Files):
    """A folder of each class, named by it, with image files of one size (PNG, JPEG, and others that
    Pillow reads).

    Args:
      path: of the folder that holds them.
      channels: 1: grey; 3: red, green, blue. Images of another kind are converted.
      levels: of a value, 2 to 256: a byte v becomes floor(v levels / 256).
    """

    kind: ClassVar[str] = "image_folder"
    path: str
    channels: int
    levels: int

    def __post_init__(self) -> None:
        _Files.__post_init__(self)
        check_paths(self.kind, "path", (self.path,))
        check_that(self, "channels", self.channels in (1, 3), "1 or 3")
        check_int(self.kind, "levels", self.levels, 2, MAX_LEVELS)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageArrays(_Files):
    """An .npz file with `images`, whole numbers [n, height, width] or [n, height, width, channels],
    and `labels` [n], the numbers of their classes.

    Args:
      path: of the file.
      levels: of a value, 2 to 256: values lie in [0, levels).
    """

    kind: ClassVar[str] = "image_arrays"
    path: str
    levels: int

    def __post_init__(self) -> None:
        _Files.__post_init__(self)
        check_paths(self.kind, "path", (self.path,))
        check_int(self.kind, "levels", self.levels, 2, MAX_LEVELS)
