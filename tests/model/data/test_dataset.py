# SPDX-License-Identifier: Apache-2.0
"""Datasets: a local folder of Parquet is the offline case; the files are pyarrow's own."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.data.prepare import prepare
from model.data.source import HuggingFaceDataset, TextFiles

datasets = pytest.importorskip("datasets")

TEXTS = [f"document {i}: " + "so it goes on. " * (i % 5) + "é" for i in range(60)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for name, texts in (("train", TEXTS), ("test", ["held out", "as it is"] * 3)):
        rows = {"body": texts, "meta": [{"text": text.upper()} for text in texts]}
        pq.write_table(pa.table(rows), root / f"{name}-00000-of-00001.parquet")
    return root


def tokens(where: Path) -> list[np.ndarray]:
    return [np.load(where / f"{split}.npy") for split in ("train", "validation")]


def test_a_local_folder_is_as_its_files_read_by_ourselves(folder, tmp_path) -> None:
    source = HuggingFaceDataset(
        path=str(folder), split="train", text_field="body", validation_fraction=0.3
    )
    found = prepare(source, tmp_path / "a")
    files = TextFiles(
        paths=(str(folder / "train-00000-of-00001.parquet"),),
        text_field="body",
        validation_fraction=0.3,
    )
    assert found.fingerprint == prepare(files, tmp_path / "b").fingerprint
    assert found.n_documents == len(TEXTS)


def test_a_split_is_held_out_as_it_is_and_fields_are_nested(folder, tmp_path) -> None:
    source = HuggingFaceDataset(
        path=str(folder), split="train", text_field="meta.text", validation_split="test"
    )
    prepare(source, tmp_path / "a")
    train, validation = (one.tobytes() for one in tokens(tmp_path / "a"))
    assert validation == b"HELD OUT\0AS IT IS\0" * 3
    assert train == b"".join(text.upper().encode() + b"\0" for text in TEXTS)


def test_a_folder_is_known_by_its_digest(folder, tmp_path) -> None:
    shutil.copytree(folder, tmp_path / "copy")

    def digest(path: Path) -> str:
        source = HuggingFaceDataset(
            path=str(path), split="train", text_field="body", validation_split="test"
        )
        (note,) = [n for n in prepare(source, tmp_path / "out").notes if "digest" in n]
        return note.split("digest ")[1]

    assert digest(folder) == digest(tmp_path / "copy")
    rows = {"body": [*TEXTS[:-1], "another"], "meta": [{"text": ""}] * 60}
    pq.write_table(pa.table(rows), tmp_path / "copy" / "train-00000-of-00001.parquet")
    assert digest(folder) != digest(tmp_path / "copy")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"path": "some/name"}, "dataset 'some/name' is no folder here, and has no revision"),
        ({"split": "nothing"}, "cannot be read: .*nothing"),
        (
            {"text_field": "nothing"},
            r"row 1 of split 'train' .* in 'nothing' \(it has body, meta\)",
        ),
        ({"validation_fraction": None}, "is None and validation_split is None: give one of them"),
        (
            {"validation_fraction": None, "validation_split": "train"},
            "it must be another split than the one trained on",
        ),
        ({"revision": ""}, "revision of source 'dataset' is ''"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(folder, tmp_path, fields, message) -> None:
    given = {
        "path": str(folder),
        "split": "train",
        "text_field": "body",
        "validation_fraction": 0.3,
    }
    with pytest.raises(ValueError, match=message) as caught:
        prepare(HuggingFaceDataset(**given | fields), tmp_path / "out")
    assert "\n" not in str(caught.value)
