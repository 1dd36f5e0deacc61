# SPDX-License-Identifier: Apache-2.0
"""Cells of a column, and the line of what is wrong."""

import csv
from pathlib import Path

import pytest

from model.data.formats.documents import documents
from model.data.source import TextFiles


def read(file: Path, content: str, **fields: str) -> list[str]:
    file.write_bytes(content.encode(fields.get("encoding", "utf-8")))
    source = TextFiles(paths=(str(file),), validation_fraction=0.5, **fields)
    return [text.decode() for text in documents(file, source)]


def test_cells_may_hold_lines_quotes_and_nothing(tmp_path: Path) -> None:
    content = '\ufeffid,text\r\n1,plain\r\n2,"a ""b"",\nc"\r\n\r\n3,\r\n'
    assert read(tmp_path / "a.csv", content) == ["plain", 'a "b",\nc', ""]


def test_a_cell_may_be_longer_than_python_reads_by_default(tmp_path: Path) -> None:
    csv.field_size_limit(131_072)  # Of the process: another test may have raised it.
    long = "x" * 200_000
    assert read(tmp_path / "a.csv", f"text\n{long}\n") == [long]


def test_the_column_and_the_encoding_are_those_of_the_source(tmp_path: Path) -> None:
    content = "text\tbody.text\nno\tcafé\n"
    assert read(tmp_path / "a.tsv", content, text_field="body.text", encoding="cp1252") == ["café"]


BAD = [
    ("id,txt\n1,a\n", r"has 0 columns 'text' \(found \['id', 'txt'\]\): set text_field"),
    ("text,text\na,b\n", "has 2 columns 'text'"),
    ("\n", "has 0 columns 'text'"),
    ("id,text\n1,a\n2\n", "line 3 of .* has 1 cells, the first line has 2"),
    ("id,text\n1,a,b\n", "line 2 of .* has 3 cells"),
    ('id,text\n1,"a\nb\n', "line 3 of .* cannot be read: unexpected end of data"),
    ('id,text\n1,"a"b\n', "line 2 of .* cannot be read: ',' expected after '\"'"),
]


@pytest.mark.parametrize(("content", "message"), BAD)
def test_what_is_wrong_is_one_line_with_its_place(
    tmp_path: Path, content: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path / "a.csv", content)
    assert "\n" not in str(caught.value)
