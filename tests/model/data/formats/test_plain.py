# SPDX-License-Identifier: Apache-2.0
"""Plain text parts where the source says, however its blocks fall."""

import re
from pathlib import Path

import pytest

from model.data.formats import open_file
from model.data.formats.documents import documents
from model.data.source import TextFiles

STORIES = "\n<|endoftext|>\r\n".join(["one.", "two\nlines.", "<|endof", "", "four\r\n\r\n"])
CASES = {
    "a mark": (STORIES + "\n<|endoftext|>\n", "<|endoftext|>"),
    "a mark inside lines": ("one<|endoftext|>two<|endoftext|>", "<|endoftext|>"),
    "one that repeats itself": ("aabaaabaab\naab", "aab"),
    "lines": ("one\ntwo\r\n\n  three\nfour", "\n"),
    "lines that end as those of Windows": ("one\r\ntwo\r\n", "\r\n"),
    "none in the text": ("\none\n", "<|endoftext|>"),
}


def read(file: Path, separator: str | None) -> list[str]:
    source = TextFiles(paths=(str(file),), validation_fraction=0.5, document_separator=separator)
    return [text.decode() for text in documents(file, source)]


@pytest.mark.parametrize("block", [1, 2, 3, 7, 13, 2**20])
@pytest.mark.parametrize("name", CASES)
def test_documents_lie_between_separators(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, block: int
) -> None:
    monkeypatch.setattr(open_file, "BLOCK_BYTES", block)
    text, separator = CASES[name]
    (tmp_path / "a.txt").write_bytes(text.encode())
    expected = [part.strip("\r\n") for part in re.split(re.escape(separator), text)]
    if not expected[-1]:
        del expected[-1]
    assert read(tmp_path / "a.txt", separator) == expected


def test_nul_bytes_end_documents_and_no_byte_around_them_is_lost(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\na\r\n\0\n\0\0b\n\0")
    for separator in (None, "\0"):
        assert read(tmp_path / "a.txt", separator) == ["\na\r\n", "\n", "", "b\n"]
    assert read(tmp_path / "a.txt", "\n") == ["", "a", *[""] * 3, "b", ""]


@pytest.mark.parametrize("mark", ["<|endoftext|>", "<|end_of_text|>"])
def test_a_mark_that_nobody_named_is_refused_until_it_is(tmp_path: Path, mark: str) -> None:
    (tmp_path / "a.txt").write_text(f"one\n{mark}\ntwo\n")
    with pytest.raises(ValueError, match=r"set document_separator of the source to '<\|") as caught:
        read(tmp_path / "a.txt", None)
    assert repr(mark) in str(caught.value)
    assert read(tmp_path / "a.txt", mark) == ["one", "two"]
    assert read(tmp_path / "a.txt", "\0") == [f"one\n{mark}\ntwo\n"]
