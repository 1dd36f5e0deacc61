# SPDX-License-Identifier: Apache-2.0
"""No document is longer than the source allows, and none needs its whole file in memory."""

import itertools
import json
import tracemalloc
from pathlib import Path

import pytest

from model.data.formats import lines, open_file
from model.data.formats.documents import blocks, documents, only_document_bytes
from model.data.source import TextFiles


def source_of(file: Path, **fields: object) -> TextFiles:
    return TextFiles(**{"paths": (str(file),), "validation_fraction": 0.5, **fields})


LONG = "".join(f"line {i} is long\n" for i in range(50)) + "\N{GRINNING FACE}" * 99 + "\nend"
CONTENTS = {
    "a.txt": f"short\0{LONG}",
    "a.jsonl": "\n".join(json.dumps({"text": text}) for text in ("short", LONG)),
    "a.json": json.dumps([{"text": "short"}, {"text": LONG}]),
    "a.csv": f'text\nshort\n"{LONG}"\n',
}


@pytest.mark.parametrize("name", CONTENTS)
def test_a_document_that_is_too_long_is_refused_with_its_row(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(CONTENTS[name])
    size = len(LONG.encode())
    fits = source_of(tmp_path / name, max_document_bytes=size)
    assert [text.decode() for text in documents(tmp_path / name, fits)] == ["short", LONG]
    row = 54 if name == "a.csv" else 2  # Of CSV the last line of the row: 52 lines are its own.
    said = rf"row {row} of data file '.*{name}' is a document of more than {size - 1} bytes: raise"
    with pytest.raises(ValueError, match=said):
        list(documents(tmp_path / name, source_of(tmp_path / name, max_document_bytes=size - 1)))


@pytest.mark.parametrize("block", [1, 100, 2**20])
@pytest.mark.parametrize("limit", [17, 64, 501])
@pytest.mark.parametrize("name", CONTENTS)
def test_or_it_is_cut_at_ends_of_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, limit: int, block: int
) -> None:
    monkeypatch.setattr(open_file, "BLOCK_BYTES", block)
    (tmp_path / name).write_text(CONTENTS[name])
    source = source_of(tmp_path / name, max_document_bytes=limit, cut_long_documents=True)
    short, *parts = [text.decode() for text in documents(tmp_path / name, source)]
    assert (short, "".join(parts)) == ("short", LONG)
    sizes = [len(part.encode()) for part in parts]
    assert max(sizes) <= limit
    assert all(part.endswith(("\n", "\N{GRINNING FACE}")) for part in parts[:-1])
    assert all(a + b > limit for a, b in itertools.pairwise(sizes))  # None was cut needlessly.


def test_a_line_of_sixty_megabytes_is_a_document_like_another(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "' + "x" * 60_000_000 + '"}\n')
    assert list(map(len, documents(file, source_of(file)))) == [60_000_000]


def test_a_line_that_could_fill_the_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MAX_ROW_CHARACTERS", 10_000)
    monkeypatch.setattr(open_file, "BLOCK_BYTES", 1000)
    (tmp_path / "a.jsonl").write_text('\n{"more": "' + "x" * 20_000 + '", "text": "a"}')
    source = source_of(tmp_path / "a.jsonl", max_document_bytes=1250)
    with pytest.raises(ValueError, match=r"line 2 of data file .* has more than 10000 characters"):
        list(documents(tmp_path / "a.jsonl", source))


@pytest.mark.parametrize("name", ["a.txt", "lines.txt", "a.jsonl", "a.json", "a.csv", "a.txt.zst"])
def test_a_file_is_never_held_whole(tmp_path: Path, name: str) -> None:
    texts = [f"document {i}, " * 200 for i in range(6000)]
    size = sum(map(len, texts))
    file, fields = tmp_path / name, {}
    match name:
        case "a.txt":
            file.write_text("\0".join(texts))
        case "lines.txt":
            file.write_text("\n".join(texts))
            fields = {"document_separator": "\n"}
        case "a.jsonl":
            file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        case "a.json":
            file.write_text(json.dumps([{"text": text} for text in texts]))
        case "a.csv":
            file.write_text("\n".join(["text", *(f'"{text}"' for text in texts)]))
        case "a.txt.zst":
            import pyarrow as pa

            with pa.CompressedOutputStream(str(file), "zstd") as stream:
                stream.write("\0".join(texts).encode())
    source = source_of(file, **fields)
    assert sum(map(len, documents(file, source))) == size  # Imports are not its memory.
    tracemalloc.start()
    try:
        sum(map(len, documents(file, source)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < size / 2


def test_an_only_document_is_cut_without_being_held(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("so it goes\n" * 2_000_000)
    source = source_of(file, max_document_bytes=16)
    tracemalloc.start()
    try:
        size = only_document_bytes(file, source)
        assert size == 22_000_000
        assert sum(map(len, blocks(file, source, size))) == size
        assert tracemalloc.get_traced_memory()[1] < size / 2
    finally:
        tracemalloc.stop()


def test_the_blocks_of_an_only_document_are_those_of_its_text_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.txt"
    file.write_text(LONG * 90)
    size, found = len((LONG * 90).encode()), []
    for block in (100, 1000, 2**20):
        monkeypatch.setattr(open_file, "BLOCK_BYTES", block)
        found.append(list(blocks(file, source_of(file), size)))
    assert found[0] == found[1] == found[2]
    assert b"".join(found[0]).decode() == LONG * 90


@pytest.mark.parametrize(
    ("content", "size"),
    [(b"abc", 3), (b"abc\0", 3), (b"\0abc\0\0", 3), (b"a\0b", None), (b"\0\0", None), (b"", None)],
)
def test_one_document_is_told_from_more(tmp_path: Path, content: bytes, size: int | None) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    assert only_document_bytes(tmp_path / "a.txt", source_of(tmp_path / "a.txt")) == size
