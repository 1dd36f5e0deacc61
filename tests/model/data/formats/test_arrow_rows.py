# SPDX-License-Identifier: Apache-2.0
"""Columns of Parquet and Arrow, written by pyarrow, and the row of what is wrong."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.data.formats.documents import documents
from model.data.source import TextFiles

NESTED = [
    {"text": "outer", "meta": {"text": "inner", "more": {"text": "innermost"}}},
    {"text": "é", "meta": {"text": "", "more": {"text": "x\0y"}}},
]


def write(file: Path, table: pa.Table) -> None:
    if file.suffix == ".parquet":
        pq.write_table(table, file)
    else:
        with pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)


def read(file: Path, field: str = "text") -> list[str]:
    source = TextFiles(paths=(str(file),), validation_fraction=0.5, text_field=field)
    return [text.decode() for text in documents(file, source)]


@pytest.fixture(params=["a.parquet", "a.arrow"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / request.param


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("text", ["outer", "é"]),
        ("meta.text", ["inner", ""]),
        ("meta.more.text", ["innermost", "x", "y"]),
    ],
)
def test_a_column_in_a_struct_is_named_by_its_path(
    file: Path, field: str, expected: list[str]
) -> None:
    write(file, pa.Table.from_pylist(NESTED))
    assert read(file, field) == expected


TYPES = [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())]


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_texts_of_every_type_are_read(file: Path, kind: pa.DataType) -> None:
    texts = [f"text {i % 5} é" for i in range(1000)]
    write(file, pa.table({"text": pa.array(texts).cast(kind)}))
    assert read(file) == texts


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"body": ["a"], "n": [1]}, "text", r"no column of texts 'text' \(found body \(string\), n \("),
    ({"text": [1, 2]}, "text", r"no column of texts 'text' \(found text \(int64\)\)"),
    ({"text": [["a"]]}, "text", r"found text \(list<"),
    (
        {"meta": [{"a": "b"}]},
        "meta.text",
        r"no column of texts 'meta.text' \(found meta.a \(string",
    ),
    ({"meta": [{"a": "b"}]}, "meta", "no column of texts 'meta'"),
    ({"text": ["a"] * 99 + [None]}, "text", "row 100 of data file .* has no text in column 'text'"),
    ({"meta": [{"a": "b"}, None]}, "meta.a", "row 2 of data file .* has no text in column 'meta.a"),
    ({"text": [b"a", b"caf\xe9"]}, "text", r"row 2 of data file .* is not UTF-8 \(byte 3\)"),
]


@pytest.mark.parametrize(("columns", "field", "message"), BAD)
def test_what_is_wrong_is_one_line_with_its_place(
    file: Path, columns: dict[str, Any], field: str, message: str
) -> None:
    write(file, pa.table(columns))
    with pytest.raises(ValueError, match=message) as caught:
        read(file, field)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"PAR1", b"ARROW1\0\0 no", b"text\n" * 9])
def test_what_is_no_such_file_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"data file .* cannot be read: ") as caught:
        read(file)
    assert "\n" not in str(caught.value)
