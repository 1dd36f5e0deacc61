# SPDX-License-Identifier: Apache-2.0
"""Which files are read: patterns, and folders in which `datasets` saved."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from model.data.list_files import list_splits
from model.data.prepare import prepare
from model.data.source import TextFiles


def listed(*paths: Path | str) -> list[str]:
    source = TextFiles(paths=tuple(map(str, paths)), validation_fraction=0.5)
    return [file.name for file in list_splits(source, Counter())[0]]


def test_a_pattern_names_the_files_that_match_it_in_order(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "c.md", "deep/d.txt", "deep/.hidden.txt", "x[1].txt", "x1.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert listed(tmp_path / "*.txt") == ["a.txt", "b.txt", "x1.txt", "x[1].txt"]
    assert listed(tmp_path / "**" / "*.txt") == [
        *("a.txt", "b.txt", "d.txt", "x1.txt", "x[1].txt"),
    ]
    assert listed(tmp_path / "*", tmp_path / "deep") == [
        *("a.txt", "b.txt", "c.md", "x1.txt", "x[1].txt", "d.txt"),
    ]
    assert listed(tmp_path / "x[1].txt") == ["x[1].txt"]  # A file of that name is that file.
    with pytest.raises(ValueError, match="no files under"):
        listed(tmp_path / "*.json")


def save(folder: Path, shards: list[list[str]], **state: Any) -> None:
    """As `Dataset.save_to_disk` of datasets 5.2 does."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05d}-of-{len(shards):05d}.arrow" for i in range(len(shards))]
    for name, texts in zip(names, shards, strict=True):
        table = pa.table({"text": texts})
        with pa.ipc.new_stream(folder / name, table.schema) as writer:
            writer.write_table(table)
    files = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "0"}
    (folder / "state.json").write_text(json.dumps({**files, **state}))
    (folder / "dataset_info.json").write_text('{"features": {}}')


def test_a_saved_dataset_is_its_shards_in_order(tmp_path: Path) -> None:
    shards = [[f"text {i} of {k}" for i in range(9)] for k in range(3)]
    save(tmp_path / "train", shards[:2])
    save(tmp_path / "test", shards[2:])
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    source = TextFiles(paths=(str(tmp_path / "train"),), validation_paths=(str(tmp_path / "test"),))
    manifest = prepare(source, tmp_path / "out")
    assert (manifest.n_train_documents, manifest.n_validation_documents) == (18, 9)
    assert "Text of 3 arrow files." in manifest.notes
    with pytest.raises(ValueError, match="the splits of a dataset, a folder each: name one in"):
        listed(tmp_path)


def test_a_saved_dataset_that_is_not_as_it_says_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "order", [["a"]], _indices_data_files=[{"filename": "indices.arrow"}])
    save(tmp_path / "lost", [["a"], ["b"]])
    (tmp_path / "lost" / "data-00001-of-00002.arrow").unlink()
    save(tmp_path / "bad", [["a"]], _data_files=None)
    for name, message in (
        ("order", r"another order than its files: save it again behind flatten_indices\(\)"),
        ("lost", r"lacks its files \['data-00001-of-00002\.arrow'\]"),
        ("bad", r"bad/state\.json' names no data files"),
    ):
        with pytest.raises(ValueError, match=message):
            listed(tmp_path / name)


def test_a_state_of_ones_own_is_a_file_like_another(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"text": "a"}')
    assert listed(tmp_path) == ["state.json"]
