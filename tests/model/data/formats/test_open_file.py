# SPDX-License-Identifier: Apache-2.0
"""Bytes as others compressed them, and text as others encoded it, to the byte that is wrong."""

from pathlib import Path

import pytest

from model.data.formats import open_file
from model.data.formats.open_file import decoded, ending

# printf 'made by the command zstd' | zstd; printf 'one ' | zstd; printf 'two' | zstd
FRAMES = {
    "made by the command zstd": "28b52ffd0458c100006d61646520627920746865"
    "20636f6d6d616e64207a7374642f1e1a15",
    "one two": "28b52ffd04582100006f6e652029923fd728b52ffd045819000074776f8b44f4ec",
}
TEXT = "né à \N{SNOWMAN}\n" * 5


@pytest.mark.parametrize("text", FRAMES)
def test_what_the_command_zstd_wrote_is_read_whole(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt.zst").write_bytes(bytes.fromhex(FRAMES[text]))
    assert "".join(decoded(tmp_path / "a.txt.zst", "utf-8")) == text


@pytest.mark.parametrize("block", [1, 2, 3, 5, 2**20])
@pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "utf-8-sig", "utf-16", "utf-32", "gb18030"])
def test_every_encoding_gives_the_text_without_its_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, block: int
) -> None:
    monkeypatch.setattr(open_file, "BLOCK_BYTES", block)
    (tmp_path / "a.txt").write_bytes(TEXT.encode(encoding))
    assert "".join(decoded(tmp_path / "a.txt", encoding)) == TEXT


def test_a_mark_of_utf_8_is_dropped_where_no_encoding_was_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(TEXT.encode("utf-8-sig"))
    assert "".join(decoded(tmp_path / "a.txt", "utf-8")) == TEXT


WRONG = [
    ("utf-8", b"caf\xe9 and more", 3),
    ("utf-8", b"\xef\xbb\xbfcaf\xe9 and more", 6),
    ("utf-8", "né".encode() * 7 + b"\xff", 21),
    ("utf-8", "né".encode()[:-1], 1),
    ("utf-8", "\N{SNOWMAN}".encode() * 3 + b"\xe2\x98x", 9),
    ("cp1252", b"plain \x81", 6),
    ("utf-16-le", "ab".encode("utf-16-le")[:3], 2),
    ("utf-16", "ab".encode("utf-16")[:5], 4),
    ("ascii", b"caf\xe9", 3),
]


@pytest.mark.parametrize("block", [1, 2, 4, 7, 2**20])
@pytest.mark.parametrize(("encoding", "content", "byte"), WRONG)
def test_the_byte_that_is_wrong_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    encoding: str,
    content: bytes,
    byte: int,
    block: int,
) -> None:
    monkeypatch.setattr(open_file, "BLOCK_BYTES", block)
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ValueError, match=rf"is not {encoding.upper()} \(byte {byte}\)"):
        list(decoded(tmp_path / "a.txt", encoding))


def test_utf_16_without_its_mark_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"plain")
    with pytest.raises(ValueError, match=r"a\.txt' is not UTF-16 \(UTF-16 stream does not start"):
        list(decoded(tmp_path / "a.txt", "utf-16"))


@pytest.mark.parametrize(
    ("name", "found"),
    [("a.TXT", ".txt"), ("a.json.GZ", ".json"), ("a.tar.xz", ".tar"), ("a.gz", ""), ("a", "")],
)
def test_the_ending_is_that_of_the_format(name: str, found: str) -> None:
    assert ending(Path(name)) == found
