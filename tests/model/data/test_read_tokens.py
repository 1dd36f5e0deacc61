# SPDX-License-Identifier: Apache-2.0
"""Files of no study are read as a source reads its own."""

from pathlib import Path

import numpy as np
import pytest

from model.data.read_tokens import read_ids, read_texts
from model.data.source import PepsText, Source, StdlibText, TextFiles, TokenArrays, Zipf

TOKENS = TokenArrays(
    paths=("not here",), vocab_size=300, separator=7, validation_fraction=0.1, bytes_per_token=None
)
ZIPF = Zipf(alpha=0.5, epsilon=0.1, base=8, n_digits=2, n_answers=1, language_seed=0)
TEXT = TextFiles(paths=("not here",), validation_fraction=0.1, text_field="said")


@pytest.mark.parametrize(
    "source",
    [PepsText(validation_fraction=0.5), StdlibText(validation_fraction=0.5), TEXT],
    ids=str,
)
def test_text_is_its_documents_without_empty_ones(tmp_path: Path, source: Source) -> None:
    (tmp_path / "a.txt").write_bytes("ä\0\0b".encode())
    for path in (tmp_path, tmp_path / "a.txt"):
        assert read_texts(source, str(path)) == ["ä".encode(), b"b"]


def test_lines_of_json_have_the_field_of_the_source_or_one_that_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"said": "x", "meta": {"by": "z"}}\n{"said": "y", "meta": {"by": "z"}}\n')
    assert read_texts(TEXT, str(path)) == [b"x", b"y"]
    peps = PepsText(validation_fraction=0.5)
    assert read_texts(peps, str(path), "meta.by") == [b"z", b"z"]
    with pytest.raises(ValueError, match="'text'"):
        read_texts(peps, str(path))


def test_a_single_document_is_not_cut_as_to_be_split(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a line\n" * 9000)
    assert read_texts(TEXT, str(path)) == [path.read_bytes()]


def test_held_out_files_of_the_source_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"text")
    source = TextFiles(paths=("not here",), validation_paths=("nor here",))
    assert read_texts(source, str(path)) == [b"text"]


@pytest.mark.parametrize(("source", "end"), [(TOKENS, 7), (ZIPF, 8)], ids=["tokens", "zipf"])
def test_token_ids_are_taken_as_they_are(tmp_path: Path, source: Source, end: int) -> None:
    path, ids = tmp_path / "a.npy", [1, 2, end, 3, end]
    np.save(path, np.array(ids))
    assert read_texts(source, str(path)) is None
    assert read_ids(source, str(path)).tolist() == ids


@pytest.mark.parametrize(("source", "most"), [(TOKENS, 299), (ZIPF, 8)], ids=["tokens", "zipf"])
def test_a_token_that_the_vocabulary_lacks_is_refused(
    tmp_path: Path, source: Source, most: int
) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.array([1, most, most + 1]))
    with pytest.raises(ValueError, match=f"token {most + 1} at position 2"):
        read_ids(source, str(path))
