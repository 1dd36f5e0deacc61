# SPDX-License-Identifier: Apache-2.0
"""Images in files: what becomes of them, and what is refused in a line."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.data.corpus import open_corpus
from model.data.images.files import DIGITS, read_images
from model.data.prepare import prepare
from model.data.source import Digits, ImageArrays, ImageFolder, source_from_dict

ALL = Digits(validation_fraction=0.2, labelled=True)


def test_the_digits_are_all_there_once_and_split_by_what_they_are(tmp_path: Path) -> None:
    manifest = prepare(ALL, tmp_path)
    corpus = open_corpus(manifest, tmp_path)
    n_train, n_held = manifest.n_train_documents, manifest.n_validation_documents
    assert (n_train, n_held) == (1463, 334)
    assert manifest.n_train_tokens == n_train * 64
    assert corpus.n_windows(64) == n_train
    trained = corpus.train_windows(0, n_train, seq_len=64, seed=3)
    held = corpus.validation_windows(n_held * 64, 64, 0)
    with np.load(DIGITS) as arrays:
        known = np.concatenate(
            [17 + arrays["labels"][:, None].astype(int), arrays["images"].reshape(-1, 64)], axis=1
        )
    found = np.concatenate([trained, held])
    assert sorted(map(tuple, found)) == sorted(map(tuple, known))
    assert manifest.vocab_size == found.max() + 1 == 27
    assert source_from_dict(manifest.source) == ALL
    plain = prepare(Digits(validation_fraction=0.2, labelled=False), tmp_path / "plain")
    assert plain.vocab_size == 18
    assert plain.fingerprint != manifest.fingerprint
    (first, *_) = open_corpus(plain, tmp_path / "plain").train_windows(0, 1, seq_len=64, seed=3)
    np.testing.assert_array_equal(first, [17, *trained[0, 1:]])


def test_other_windows_and_more_than_there_is_are_refused(tmp_path: Path) -> None:
    corpus = open_corpus(prepare(ALL, tmp_path), tmp_path)
    with pytest.raises(ValueError, match=r"seq_len=32: source 'digits' has images of 64 values"):
        corpus.n_windows(32)
    with pytest.raises(ValueError, match="needs 335 windows"):
        corpus.validation_windows(335 * 64, 64, 0)


def test_a_class_that_is_held_out_whole_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"training has no image of class 0, 2, 3, 6, 7, 9: .*Give more"
    ):
        prepare(Digits(validation_fraction=0.998, labelled=True), tmp_path)


def grey(levels: int) -> ImageFolder:
    """Of the current folder's "all"."""
    return ImageFolder(
        path="all", channels=1, levels=levels, validation_fraction=0.3, labelled=True
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Files of twelve images of 3 x 2 pixels in two folders, of which these are the values."""
    values = np.random.default_rng(0).integers(0, 256, (12, 2, 3), np.uint8)
    monkeypatch.chdir(tmp_path)
    for i, one in enumerate(values):
        path = Path("all") / ("cat" if i < 6 else "dog") / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(one).save(path)
    return values


def test_a_folder_of_each_class_becomes_records(folder: np.ndarray) -> None:
    found = read_images(grey(16))
    assert found.classes == ("cat", "dog")
    assert found.labels.tolist() == [0] * 6 + [1] * 6
    np.testing.assert_array_equal(found.values[..., 0], folder // 16)
    in_colour = read_images(replace(grey(256), channels=3))
    np.testing.assert_array_equal(in_colour.values, np.repeat(folder[..., None], 3, axis=-1))
    manifest = prepare(grey(16), "tokens")
    assert (manifest.vocab_size, manifest.window_multiple) == (18, 6)
    corpus = open_corpus(manifest, "tokens")
    records = corpus.train_windows(0, corpus.n_windows(6), seq_len=6, seed=0)
    known = np.concatenate(
        [16 + found.labels[:, None], found.values.reshape(12, 6).astype(int)], axis=1
    )
    assert {*map(tuple, records.tolist())} < {*map(tuple, known.tolist())}


def test_an_npz_file_says_what_a_folder_does(folder: np.ndarray) -> None:
    np.savez("all.npz", images=folder, labels=np.repeat([0, 1], 6))
    source = ImageArrays(path="all.npz", levels=256, validation_fraction=0.3, labelled=True)
    found, like = read_images(source), read_images(grey(256))
    np.testing.assert_array_equal(found.values, like.values)
    np.testing.assert_array_equal(found.labels, like.labels)
    assert prepare(source, "one").fingerprint == prepare(grey(256), "other").fingerprint


def damage(what: str) -> None:
    """The folder, with something wrong in it."""
    file = Path("all/dog/07.png")
    match what:
        case "size":
            Image.new("L", (2, 3)).save(file)
        case "cut":
            file.write_bytes(file.read_bytes()[:-30])
        case "text":
            file.write_text("no image")
        case "nothing":
            Path("all").rename("gone")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("size", r"07\.png' has 2 x 3 pixels, the first one 3 x 2: all must be of one size"),
        ("cut", r"07\.png' cannot be read: .*Repair it or take it out"),
        ("text", r"07\.png' cannot be read: .*Repair it or take it out"),
        ("nothing", r"path 'all' of source 'image_folder' has no folder with files in it"),
    ],
)
def test_a_folder_that_is_not_right_is_refused_in_a_line(
    folder: np.ndarray, what: str, words: str
) -> None:
    damage(what)
    with pytest.raises(ValueError, match=words) as error:
        prepare(grey(16), "tokens")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": np.zeros((2, 3, 3), int)}, "cannot be read: labels is not a file in the"),
        ({"images": np.zeros((2, 3)), "labels": np.zeros(2, int)}, r"has images float64\[2, 3\]"),
        ({"images": np.full((2, 3, 3), 9), "labels": np.zeros(2, int)}, "has values 9 to 9: lev"),
        ({"images": np.zeros((2, 3, 3), int), "labels": np.array([0, -1])}, "has labels -1 to 0"),
        ({"images": np.array([None, 1]), "labels": np.zeros(2, int)}, "cannot be read: Object arr"),
    ],
)
def test_arrays_that_are_not_right_are_refused_in_a_line(
    tmp_path: Path, arrays: dict[str, np.ndarray], words: str
) -> None:
    path = str(tmp_path / "one.npz")
    np.savez(path, **arrays)
    source = ImageArrays(path=path, levels=4, validation_fraction=0.3, labelled=True)
    with pytest.raises(ValueError, match=words) as error:
        prepare(source, tmp_path)
    assert "\n" not in str(error.value)
