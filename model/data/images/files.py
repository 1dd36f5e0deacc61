# SPDX-License-Identifier: Apache-2.0
"""From images in files to token files and their manifest: one record for each image."""

import os
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt

from model.data.manifest import Manifest
from model.data.source import Digits, ImageArrays, ImageFiles, ImageFolder, source_to_dict
from model.data.splits import is_validation
from model.data.tokens.token_files import (
    SPLITS,
    TokenWriter,
    fingerprint,
    token_dtype,
    token_path,
)

MAX_CLASSES = 2**16
DIGITS = Path(__file__).with_name("digits.npz")


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
    """Every file that is read; raises ValueError if there is none."""
    if isinstance(source, Digits):
        return [DIGITS]
    if isinstance(source, ImageArrays):
        return [Path(source.path)]
    return [file for _, files in _by_class(source) for file in files]


def read_images(source: ImageFiles) -> Images:
    """All images of a source, in the order of its files.

    Raises:
      ValueError: one line, if a file cannot be read as the source says, or images differ in size.
    """
    if isinstance(source, ImageFolder):
        return _read_folder(source)
    (file,) = list_image_files(source)
    values, labels = _read_arrays(file, source.levels)
    if isinstance(source, Digits):
        notes: tuple[str, ...] = ("Digits of E. Alpaydin and C. Kaynak (1998), CC BY 4.0.",)
    else:
        notes = ()
    return Images(values, labels, tuple(map(str, range(labels.max() + 1))), notes)


def _read_arrays(
    file: Path, levels: int
) -> tuple[UInt[np.ndarray, "n height width channels"], Int[np.ndarray, " n"]]:
    where = f"image file {os.fspath(file)!r}"
    try:
        with np.load(file, allow_pickle=False) as arrays:
            images, labels = arrays["images"], arrays["labels"]
    except (OSError, ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0].strip("'.\"")
        raise ValueError(
            f"{where} cannot be read: {reason}. It must be an .npz file of images and labels."
        ) from error
    are_whole = all(np.issubdtype(one.dtype, np.integer) for one in (images, labels))
    if not are_whole or images.ndim not in (3, 4) or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{where} has images {images.dtype}{[*images.shape]} and labels "
            f"{labels.dtype}{[*labels.shape]}: they must be whole numbers, [n, height, width] or "
            "[n, height, width, channels], and [n]."
        )
    if not images.size or images.min() < 0 or images.max() >= levels:
        found = f"{images.min()} to {images.max()}" if images.size else "none"
        raise ValueError(f"{where} has values {found}: levels={levels} asks for 0 to {levels - 1}.")
    if labels.min() < 0 or labels.max() > MAX_CLASSES:
        raise ValueError(
            f"{where} has labels {labels.min()} to {labels.max()}: classes are 0 to {MAX_CLASSES}."
        )
    values = images.astype(np.uint8).reshape(*images.shape[:3], -1)
    return values, labels.astype(np.int64)


def _by_class(source: ImageFolder) -> list[tuple[str, list[Path]]]:
    """The name of each class with its files, sorted; hidden files are left out."""
    root = Path(source.path)
    folders = sorted(one for one in root.iterdir() if one.is_dir()) if root.is_dir() else []
    found = [
        (one.name, sorted(file for file in one.iterdir() if not file.name.startswith(".")))
        for one in folders
        if not one.name.startswith(".")
    ]
    if not any(files for _, files in found):
        raise ValueError(
            f"path {source.path!r} of source 'image_folder' has no folder with files in it: it "
            "must be a folder with one of each class, which holds its images."
        )
    return found


def _read_folder(source: ImageFolder) -> Images:
    values: list[np.ndarray] = []
    labels: list[int] = []
    classes = _by_class(source)
    for label, (_, files) in enumerate(classes):
        for file in files:
            values.append(_read_file(file, source))
            labels.append(label)
            if values[-1].shape != values[0].shape:
                first, other = (f"{w} x {h}" for h, w, _ in (values[0].shape, values[-1].shape))
                raise ValueError(
                    f"image file {os.fspath(file)!r} has {other} pixels, the first one {first}: "
                    "all must be of one size. Resize them."
                )
    names = tuple(name for name, _ in classes)
    return Images(np.stack(values), np.array(labels), names, ())


def _read_file(file: Path, source: ImageFolder) -> UInt[np.ndarray, "height width channels"]:
    from PIL import Image

    try:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("L" if source.channels == 1 else "RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0].rstrip(".")
        raise ValueError(
            f"image file {os.fspath(file)!r} cannot be read: {reason}. Repair it or take it out."
        ) from error
    quantised = pixels.astype(np.uint16) * source.levels // 256
    return quantised.astype(np.uint8).reshape(*pixels.shape[:2], -1)


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
