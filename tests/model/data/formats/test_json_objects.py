# SPDX-License-Identifier: Apache-2.0
"""Objects of JSON, in lines or in one array, and the place of what is wrong."""

import json
import tracemalloc
from pathlib import Path

import pytest

from model.data.formats import open_file
from model.data.formats.documents import documents
from model.data.source import TextFiles


def read(file: Path, content: str, field: str = "text") -> list[str]:
    file.write_text(content, encoding="utf-8")
    source = TextFiles(paths=(str(file),), validation_fraction=0.5, text_field=field)
    return [text.decode() for text in documents(file, source)]


ARRAYS = {
    "none": [],
    "one": [{"text": "[{,]}"}],
    "nested": [{"text": "a", "b": [{"text": "no"}]}, {"b": {}, "text": '"\\\\"'}, {"text": ""}],
    "many": [{"n": i, "text": f"é{i}" * (i % 7)} for i in range(300)],
    "long": [{"text": "x" * 3000}, {"text": "y"}, {"text": "\\" * 3000}],
}


@pytest.mark.parametrize("block", [1, 7, 64, 2**20])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_is_read_element_by_element_however_its_blocks_fall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, indent: int | None, block: int
) -> None:
    monkeypatch.setattr(open_file, "BLOCK_BYTES", block)
    content = f"\ufeff \n{json.dumps(ARRAYS[name], indent=indent, ensure_ascii=False)}\n "
    assert read(tmp_path / "a.json", content) == [one["text"] for one in ARRAYS[name]]


def test_an_array_is_not_held_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first element comes before its end has been read, which is wrong."""
    monkeypatch.setattr(open_file, "BLOCK_BYTES", 64)
    file = tmp_path / "a.json"
    file.write_text('[{"text": "first"}, ' + '{"text": "more"}, ' * 100 + "oops]")
    source = TextFiles(paths=(str(file),), validation_fraction=0.5)
    assert next(documents(file, source)) == b"first"
    with pytest.raises(ValueError, match=r"element 102 of data file .* is no JSON"):
        list(documents(file, source))


def test_a_fault_is_found_without_reading_on(tmp_path: Path) -> None:
    file, size = tmp_path / "a.json", 20_000_000
    file.write_text('[{"text": oops}, ' + '{"text": "more"}, ' * (size // 18))
    source = TextFiles(paths=(str(file),), validation_fraction=0.5)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="element 1 of"):
            list(documents(file, source))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < size / 2


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
@pytest.mark.parametrize(
    ("field", "expected"),
    [("text", "outer"), ("meta.text", "inner"), ("meta.more.text", "innermost"), ("a.b", "dotted")],
)
def test_a_nested_field_is_named_by_its_path(
    tmp_path: Path, name: str, field: str, expected: str
) -> None:
    values = {
        "text": "outer",
        "meta": {"text": "inner", "more": {"text": "innermost"}},
        "a.b": "dotted",
        "a": {"b": "not this"},
    }
    assert read(tmp_path / name, json.dumps(values), field) == [expected]


BAD = [
    ("a.json", '[{"text": "a"}, {"txt": "b"}]', r"element 2 of .*field 'text' \(found \['txt'\]"),
    ("a.json", '[{"text": "a"}, ["text"]]', r"element 2 of .* \(found list\)"),
    ("a.json", '["text"]', r"element 1 of .* \(found str\)"),
    ("a.json", '[{"text": "a"}, {"text": null}]', "element 2 of .* has no text"),
    ("a.json", '[{"text": "a"}, {"text": oops}]' + " " * 99, "element 2 of .* is no JSON: Expect"),
    ("a.json", '[{"text": "a"}', "element 2 of .* is no JSON"),
    ("a.json", '[{"text": "a', "element 1 of .* is no JSON: Unterminated string"),
    ("a.json", '[{"text": "a"}] [', "goes on behind its array of 1 elements"),
    ("a.json", '{"text": "a"}\n{"txt": "b"}', "line 2 of .*field 'text'"),
    ("a.json", '{\n"text": "a"}', "line 1 of .* is no JSON"),
    ("a.json", "[" * 100_000, "element 1 of .* is no JSON"),
    ("a.jsonl", '{"text": {"a": 1}}', "line 1 of .* has no text in field 'text'"),
    ("a.jsonl", '\ufeff{"text": "a"}\n\n{"text": "b"', "line 3 of .* is no JSON"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD)
def test_what_is_wrong_is_one_line_with_its_place(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path / name, content)
    assert "\n" not in str(caught.value)
