# SPDX-License-Identifier: Apache-2.0
"""From images in files to token files and their manifest: one record for each image."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt

from model.data.manifest import Manifest
from model.data.source import ImageFiles, source_to_dict
from model.data.splits import is_validation
from model.data.tokens.token_files import (
    SPLITS,
    TokenWriter,
    fingerprint,
    token_dtype,
    token_path,
)

DIGITS = Path(__file__).parent / "images" / "digits.npz"


class Images(NamedTuple):
    """Images of one size.

    Attributes:
      values: of the pixels, 0 to the source's levels - 1; channels last.
      labels: the number of each image's class.
      classes: their names.
      notes: sentences on what they are.
    """

    values: UInt[np.ndarray, "n height width channels"]
    labels: Int[np.ndarray, " n"]
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def list_image_files(source: ImageFiles) -> list[Path]:
    """Every file that is read."""
    return [DIGITS]


def read_images(source: ImageFiles) -> Images:
    """All images of a source, in the order of its files.

    Raises:
      ValueError: one line, if a file cannot be read as the source says, or images differ in size.
    """
    with np.load(DIGITS, allow_pickle=False) as arrays:
        values, labels = arrays["images"][..., None], arrays["labels"]
    notes = ("Handwritten digits of E. Alpaydin and C. Kaynak (1998), CC BY 4.0.",)
    return Images(values, labels.astype(np.int64), tuple("0123456789"), notes)


def prepare_images(source: ImageFiles, folder: str | os.PathLike[str]) -> Manifest:
    """Writes train.npy and validation.npy into `folder`, and describes them.

    Images are held out by the hash of their values: copies of an image lie in one split.

    Raises:
      ValueError: as `read_images`, or if a split has no image, or training none of a class.
      OSError: if the folder cannot be written.
    """
    images = read_images(source)
    n, n_values = len(images.values), images.values[0].size
    records = np.empty((n, 1 + n_values), np.int64)
    records[:, 0] = source.levels + images.labels * source.labelled
    records[:, 1:] = images.values.reshape(n, n_values)
    fraction = source.validation_fraction
    held_out = np.array([is_validation(one.tobytes(), fraction) for one in images.values])
    _check_split(source, images, held_out)
    vocab_size = source.levels + (len(images.classes) if source.labelled else 1)
    digests = {}
    Path(folder).mkdir(parents=True, exist_ok=True)
    for split, rows in zip(SPLITS, (records[~held_out], records[held_out]), strict=True):
        writer = TokenWriter(token_path(Path(folder), split), token_dtype(vocab_size))
        writer.append(rows.astype(token_dtype(vocab_size)).tobytes())
        writer.finish()
        digests[split] = writer.sha256
    n_held_out = int(held_out.sum())
    height, width, channels = images.values.shape[1:]
    shape = f"{height} x {width} pixels" + f" of {channels} channels" * (channels > 1)
    begins = "the id of its class" if source.labelled else f"the id {source.levels}"
    return Manifest(
        kind=source.kind,
        fingerprint=fingerprint(
            vocab_size=vocab_size,
            separator=source.levels,
            order=source.order,
            sha256_by_split=digests,
        ),
        vocab_size=vocab_size,
        n_documents=n,
        n_train_documents=n - n_held_out,
        n_validation_documents=n_held_out,
        n_bytes=None,
        n_train_tokens=(n - n_held_out) * n_values,
        n_validation_tokens=n_held_out * n_values,
        bytes_per_token=None,
        entropy_nats=None,
        window_multiple=n_values,
        notes=(
            f"Images of {shape}, one in each window, begun by {begins}; tokens are values of "
            f"pixels, of {source.levels} levels.",
            f"{len(images.classes)} classes: {', '.join(images.classes)}.",
            *images.notes,
        ),
        source=source_to_dict(source),
    )


def _check_split(source: ImageFiles, images: Images, held_out: np.ndarray) -> None:
    fraction, n = source.validation_fraction, len(held_out)
    if not 0 < held_out.sum() < n:
        split = "validation" if not held_out.any() else "train"
        raise ValueError(
            f"no {split} data: {n} images, of which a fraction of {fraction:g} by hash is for "
            "validation. Give more images or change validation_fraction."
        )
    trained = np.bincount(images.labels[~held_out], minlength=len(images.classes))
    if missing := [name for name, k in zip(images.classes, trained, strict=True) if not k]:
        raise ValueError(
            f"training has no image of class {', '.join(missing)}: {n} images, of which a fraction "
            f"of {fraction:g} by hash is for validation. Give more of it or change "
            "validation_fraction."
        )
