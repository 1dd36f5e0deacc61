# SPDX-License-Identifier: Apache-2.0
"""Token arrays become documents by their separator; anything but 1-D integers is refused."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.data.prepare import prepare
from model.data.source import TokenArrays
from model.data.tokens import token_arrays
from model.data.tokens.token_files import fingerprint, token_dtype

SEPARATOR = 999


def token_arrays_source(*paths: Path, **fields: Any) -> TokenArrays:
    known = {"vocab_size": 1000, "separator": SEPARATOR, "bytes_per_token": 3.5}
    return TokenArrays(
        **{"paths": tuple(map(str, paths)), "validation_fraction": 0.4, **known, **fields}
    )


def documents() -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 990, size=rng.integers(1, 30)).tolist() for _ in range(40)]


def joined(documents: list[list[int]]) -> np.ndarray:
    return np.array([token for document in documents for token in [*document, SEPARATOR]])


def read_back(folder: Path) -> list[list[int]]:
    tokens = np.concatenate([np.load(folder / f"{s}.npy") for s in ("train", "validation")])
    assert tokens.dtype == np.uint16
    ends = np.flatnonzero(tokens == SEPARATOR)
    starts = [0, *(ends[:-1] + 1)]
    return [tokens[a:b].tolist() for a, b in zip(starts, ends, strict=True)]


@pytest.mark.parametrize("dtype", ["<i8", ">i4", "<u2", ">u2"])
def test_documents_survive_whatever_the_integer_type(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_arrays, "_BLOCK_TOKENS", 7)
    np.save(tmp_path / "a.npy", joined(documents()).astype(dtype))
    manifest = prepare(token_arrays_source(tmp_path / "a.npy"), tmp_path / "out")
    assert sorted(read_back(tmp_path / "out")) == sorted(documents())
    assert (manifest.n_documents, manifest.n_bytes) == (40, None)
    assert (manifest.vocab_size, manifest.bytes_per_token) == (1000, 3.5)
    again = prepare(token_arrays_source(tmp_path / "a.npy"), tmp_path / "out")
    assert again.fingerprint == manifest.fingerprint


def test_separator_and_vocabulary_enter_the_fingerprint(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", joined(documents()))
    one = prepare(token_arrays_source(tmp_path / "a.npy"), tmp_path / "out")
    two = prepare(token_arrays_source(tmp_path / "a.npy", vocab_size=1001), tmp_path / "out")
    assert one.fingerprint != two.fingerprint
    halves = {"train": "a", "validation": "b"}
    rules = [
        (9, 1, "shuffled", halves),
        (9, 2, "shuffled", halves),
        (8, 1, "shuffled", halves),
        (9, 1, "files", halves),
        (9, 1, "shuffled", {**halves, "train": "c"}),
    ]
    prints = {
        fingerprint(vocab_size=v, separator=s, order=o, sha256_by_split=h) for v, s, o, h in rules
    }
    assert len(prints) == 5


def test_missing_last_separator_is_added_and_said(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", joined(documents())[:-1])
    manifest = prepare(token_arrays_source(tmp_path / "a.npy"), tmp_path / "out")
    assert sorted(read_back(tmp_path / "out")) == sorted(documents())
    assert any(note.startswith("1 files did not end") for note in manifest.notes)


def test_arrays_of_their_own_are_held_out(tmp_path: Path) -> None:
    paths = [tmp_path / "train.npy", tmp_path / "val.npy"]
    np.save(paths[0], joined(documents()[:30]))
    np.save(paths[1], joined(documents()[30:]))
    source = token_arrays_source(
        paths[0], validation_fraction=None, validation_paths=(str(paths[1]),)
    )
    manifest = prepare(source, tmp_path / "out")
    for path, split in zip(paths, ("train", "validation"), strict=True):
        assert (np.load(tmp_path / "out" / f"{split}.npy") == np.load(path)).all()
    assert (manifest.n_train_documents, manifest.n_validation_documents) == (30, 10)


def write_pickled(path: Path) -> None:
    np.save(path, np.array([1, "a", None], dtype=object), allow_pickle=True)


BAD_ARRAYS: list[tuple[Callable[[Path], Any], dict[str, Any], str]] = [
    (lambda p: np.save(p, np.ones(5)), {}, r"holds float64 of shape \(5,\).* 1-D array of int"),
    (lambda p: np.save(p, np.ones(5, bool)), {}, "holds bool"),
    (lambda p: np.save(p, np.ones((5, 2), int)), {}, r"shape \(5, 2\)"),
    (write_pickled, {}, "cannot be read: Array can't be memory-mapped: Python objects"),
    (lambda p: p.write_bytes(pickle.dumps([1, 2])), {}, "cannot be read: the magic string"),
    (lambda p: p.write_bytes(b""), {}, "cannot be read"),
    (lambda p: np.save(p, np.array([], int)), {}, r"never holds separator|cannot be read"),
    (lambda p: np.save(p, joined(documents())[:0:-1] * 0), {}, "never holds separator 999"),
    (lambda p: np.save(p, np.array([1, 1000, 999])), {}, "token 1000 at position 1.*vocab_size"),
    (lambda p: np.save(p, np.array([1, 2, -1, 999])), {}, r"token -1 at position 2.*\[0, 1000\)"),
    (lambda p: np.save(p, np.array([999, 999])), {}, "no train data: 0 documents"),
]


@pytest.mark.parametrize(("write", "fields", "message"), BAD_ARRAYS)
def test_bad_array_is_refused_in_one_line(
    write: Callable, fields: dict, message: str, tmp_path: Path
) -> None:
    write(tmp_path / "a.npy")
    with pytest.raises(ValueError, match=message) as caught:
        prepare(token_arrays_source(tmp_path / "a.npy", **fields), tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_unknown_extension_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.ones(3, int))
    with pytest.raises(ValueError, match=r"ending '\.npz': \.npy and \.bin are"):
        prepare(token_arrays_source(tmp_path), tmp_path / "out")


@pytest.mark.parametrize(
    ("vocab_size", "name"), [(256, "<u1"), (257, "<u2"), (65536, "<u2"), (65537, "<u4")]
)
def test_tokens_take_the_smallest_type_that_holds_them(vocab_size: int, name: str) -> None:
    assert token_dtype(vocab_size) == np.dtype(name)
