# SPDX-License-Identifier: Apache-2.0
"""Files of no study are read as a source reads its own."""

from pathlib import Path

import numpy as np
import pytest

from model.data.encoding import ByteEncoding
from model.data.read_tokens import read_tokens
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
def test_text_is_bytes_and_each_document_is_ended(tmp_path: Path, source: Source) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("ä\0\0b".encode())
    tokens = read_tokens(source, str(path), ByteEncoding())
    assert tokens.dtype == np.uint8
    assert tokens.tobytes() == "ä\0b\0".encode()


def test_lines_of_json_have_the_field_of_the_source(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"said": "x"}\n{"said": "y"}\n')
    assert read_tokens(TEXT, str(path), ByteEncoding()).tobytes() == b"x\0y\0"


def test_a_single_document_is_not_cut_as_to_be_split(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a line\n" * 9000)
    assert read_tokens(TEXT, str(path), ByteEncoding()).tobytes() == path.read_bytes() + b"\0"


def test_held_out_files_of_the_source_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"text")
    source = TextFiles(paths=("not here",), validation_paths=("nor here",))
    assert read_tokens(source, str(path), ByteEncoding()).tobytes() == b"text\0"


@pytest.mark.parametrize(("source", "end"), [(TOKENS, 7), (ZIPF, 8)], ids=["tokens", "zipf"])
def test_token_ids_are_taken_as_they_are(tmp_path: Path, source: Source, end: int) -> None:
    path, ids = tmp_path / "a.npy", [1, 2, end, 3, end]
    np.save(path, np.array(ids))
    assert read_tokens(source, str(path), ByteEncoding()).tolist() == ids


@pytest.mark.parametrize(("source", "most"), [(TOKENS, 299), (ZIPF, 8)], ids=["tokens", "zipf"])
def test_a_token_that_the_vocabulary_lacks_is_refused(
    tmp_path: Path, source: Source, most: int
) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.array([1, most, most + 1]))
    with pytest.raises(ValueError, match=f"token {most + 1} at position 2"):
        read_tokens(source, str(path), ByteEncoding())
