# SPDX-License-Identifier: Apache-2.0
"""The same texts are the same documents, whatever they lie in; what is not known is refused."""

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.data.formats.documents import documents
from model.data.formats.pieces import FORMATS, READERS, format_of
from model.data.source import TextFiles
from model.data.text_sources import TEXT_FORMATS

TEXTS = [
    "one\nline\r\nafter another",
    'a "quoted", and\ta tab',
    "\N{SNOWMAN} \N{GRINNING FACE} é",
    " spaces ",
    "<|endoftext|",
    "x" * 5000,
]


def source_of(file: Path, **fields: Any) -> TextFiles:
    return TextFiles(**{"paths": (str(file),), "validation_fraction": 0.5, **fields})


def read(file: Path, **fields: Any) -> list[str]:
    return [text.decode() for text in documents(file, source_of(file, **fields))]


def objects() -> list[dict[str, Any]]:
    return [{"id": i, "text": text} for i, text in enumerate(TEXTS)]


def separated(delimiter: str) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerows([["id", "text"], *([i, text] for i, text in enumerate(TEXTS))])
    return out.getvalue().encode()


def arrow(make: Callable[[Any, pa.Schema], Any]) -> bytes:
    table = pa.table({"id": list(range(len(TEXTS))), "text": TEXTS})
    sink = pa.BufferOutputStream()
    with make(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return sink.getvalue().to_pybytes()


def parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": list(range(len(TEXTS))), "text": TEXTS}), sink, row_group_size=2)
    return sink.getvalue().to_pybytes()


def written() -> dict[str, bytes]:
    """By name the file's content, each in its format's own way."""
    lines = "\n".join(map(json.dumps, objects())).encode()
    return {
        "nul.txt": "\0".join(TEXTS).encode(),
        "a.md": "\0".join([*TEXTS, ""]).encode(),
        "a.jsonl": lines,
        "a.ndjson": lines.replace(b"\n", b"\r\n\r\n") + b"\r\n",
        "c4.json": lines,
        "array.json": json.dumps(objects()).encode(),
        "indented.json": json.dumps(objects(), indent=2, ensure_ascii=False).encode(),
        "a.csv": separated(","),
        "a.tsv": separated("\t"),
        "a.parquet": parquet(),
        "stream.arrow": arrow(pa.ipc.new_stream),
        "file.arrow": arrow(pa.ipc.new_file),
    }


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}


@pytest.mark.parametrize("compressed", COMPRESS)
def test_the_same_texts_are_the_same_documents_in_every_format(
    tmp_path: Path, compressed: str
) -> None:
    for name, content in written().items():
        file = tmp_path / (name + compressed)
        file.write_bytes(COMPRESS[compressed](content))
        assert read(file) == TEXTS, name


def test_every_format_is_written_above_and_has_its_endings() -> None:
    assert {FORMATS[Path(name).suffix] for name in written()} == set(READERS) == set(TEXT_FORMATS)


def test_a_format_that_the_source_says_goes_before_the_ending(tmp_path: Path) -> None:
    lines = '{"text": "a"}\n{"text": "b"}'
    for name in ("dump", "a.txt"):
        (tmp_path / name).write_text(lines)
        assert read(tmp_path / name, format="jsonl") == ["a", "b"]
    assert read(tmp_path / "dump", format="text") == [lines]
    assert read(tmp_path / "a.txt") == [lines]


@pytest.mark.parametrize("name", ["a.log", "a.json.zip", "a.gz", "README", "a.txt.lz4", "a.html"])
def test_an_ending_that_is_not_known_is_never_taken_for_text(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("text")
    with pytest.raises(ValueError, match="which tells no format: known are") as caught:
        format_of(tmp_path / name, source_of(tmp_path / name))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


# The beginning of a text is a text, and of a cell a cell.
CUT = [
    (name, compressed)
    for name in written()
    for compressed in COMPRESS
    if compressed or FORMATS[Path(name).suffix] not in ("text", "csv")
]


@pytest.mark.parametrize(("name", "compressed"), CUT)
def test_a_file_that_was_cut_short_is_refused_by_its_name(
    tmp_path: Path, name: str, compressed: str
) -> None:
    content = COMPRESS[compressed](written()[name])
    file = tmp_path / (name + compressed)
    file.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(ValueError, match="data file") as caught:
        read(file)
    assert repr(str(file)) in str(caught.value)
    assert "\n" not in str(caught.value)
