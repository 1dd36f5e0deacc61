# SPDX-License-Identifier: Apache-2.0
"""Text becomes the same tokens wherever it lies, and bad files are named in one line."""

import errno
import gzip
import hashlib
import json
import lzma
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from model.data.manifest import Manifest
from model.data.prepare import prepare, reader_of
from model.data.source import PepsText, StdlibText, TextFiles
from model.data.splits import is_validation
from model.data.text import StdlibReader
from model.data.tokens.token_files import TokenWriter

TEXTS = [f"text {i} é".encode() for i in range(12)]


def text_files(*paths: Path, **fields: object) -> TextFiles:
    return TextFiles(**{"paths": tuple(map(str, paths)), "validation_fraction": 0.4, **fields})


def split_documents(folder: Path, split: str) -> list[bytes]:
    return np.load(folder / f"{split}.npy").tobytes().split(b"\0")[:-1]


def documents(source: TextFiles, folder: Path) -> list[bytes]:
    prepare(source, folder)
    return sorted(split_documents(folder, "train") + split_documents(folder, "validation"))


def test_no_document_lies_in_both_splits(prepared: tuple[Manifest, Path]) -> None:
    manifest, folder = prepared
    train, validation = (split_documents(folder, split) for split in ("train", "validation"))
    assert not set(train) & set(validation)
    assert len(train) + len(validation) == manifest.n_documents == 220
    assert len(set(train) | set(validation)) == 200
    assert (len(train), len(validation)) == (
        manifest.n_train_documents,
        manifest.n_validation_documents,
    )


def test_documents_split_by_hash_in_the_fraction_asked() -> None:
    # Binomial: 20000 documents at 0.3, 5 standard deviations are 324.
    n = sum(is_validation(str(i).encode(), 0.3) for i in range(20_000))
    assert abs(n - 6000) < 324


def test_manifest_counts_bytes_and_tokens(prepared: tuple[Manifest, Path]) -> None:
    manifest, folder = prepared
    sizes = {split: len(np.load(folder / f"{split}.npy")) for split in ("train", "validation")}
    assert sizes == {"train": manifest.n_train_tokens, "validation": manifest.n_validation_tokens}
    assert manifest.n_bytes == sum(sizes.values()) - 220
    assert manifest.bytes_per_token == 1.0
    assert "token 0 ends each document" in manifest.notes[0]
    assert any("see those before them, unless" in note for note in manifest.notes)


@pytest.mark.parametrize("name", ["a.txt", "A.TXT", "a.md.gz", "a.txt.xz", "a.jsonl", "a.jsonl.gz"])
def test_every_format_holds_the_same_documents(name: str, tmp_path: Path) -> None:
    lines = [json.dumps({"id": i, "text": text.decode()}) for i, text in enumerate(TEXTS)]
    content = "\n\n".join(lines).encode() if ".jsonl" in name else b"\0".join(TEXTS)
    opener = {"gz": gzip.open, "xz": lzma.open}.get(name.split(".")[-1], open)
    with opener(tmp_path / name, "wb") as file:
        file.write(content)
    assert documents(text_files(tmp_path / name), tmp_path / "out") == sorted(TEXTS)


def test_documents_longer_than_a_read_stay_whole(tmp_path: Path) -> None:
    texts = [bytes([97 + i]) * (2**20 - 1 + i) for i in range(6)]
    (tmp_path / "a.txt").write_bytes(b"\0".join(texts))
    assert (
        documents(text_files(tmp_path / "a.txt", validation_fraction=0.5), tmp_path / "o") == texts
    )


def test_tokens_do_not_depend_on_place_or_order_of_creation(tmp_path: Path) -> None:
    names = ["b/c.txt", "b.txt", "a.txt", "b/a/x.txt", "c.txt", "d.txt", "e.txt"]
    for root, order in (("one", names), ("two", names[::-1])):
        for name in order:
            (tmp_path / root / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / root / name).write_text(name)
        prepare(text_files(tmp_path / root), tmp_path / f"{root}_out")
    for split in ("train.npy", "validation.npy"):
        one, two = (tmp_path / f"{root}_out" / split for root in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
    assert split_documents(tmp_path / "one_out", "train") == [
        name.encode() for name in sorted(names) if not is_validation(name.encode(), 0.4)
    ]


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    (tmp_path / "in" / ".git").mkdir(parents=True)
    (tmp_path / "in" / ".hidden").write_text("x")
    (tmp_path / "in" / "a.txt").write_bytes(b"\0\0".join(TEXTS))
    os.symlink(tmp_path, tmp_path / "in" / "loop")
    os.mkfifo(tmp_path / "in" / "pipe")
    notes = prepare(text_files(tmp_path / "in"), tmp_path / "out").notes
    assert {note for note in notes if note.startswith("Left out")} == {
        "Left out: 2 hidden files and folders.",
        "Left out: 1 links to folders.",
        "Left out: 1 entries that are not files.",
        f"Left out: {len(TEXTS) - 1} empty documents.",
    }


def test_an_empty_file_is_left_out_whatever_its_format(tmp_path: Path) -> None:
    empty = ["a.txt", "a.txt.gz", "a.jsonl.zst", "a.json", "a.csv.xz", "a.parquet", "a.arrow.bz2"]
    for name in empty:
        (tmp_path / name).touch()
    (tmp_path / "b.txt").write_bytes(b"\0".join(TEXTS))
    source = text_files(tmp_path)
    assert documents(source, tmp_path.with_name("out")) == sorted(TEXTS)
    assert f"Left out: {len(empty)} empty files." in prepare(source, tmp_path / "o").notes


def test_the_split_is_by_the_text_alone(tmp_path: Path) -> None:
    """Whatever it lies in, and however that is encoded: the tokens are the same to the last bit."""
    text = "\n".join(text.decode() for text in TEXTS)
    lines = "\n".join(json.dumps({"text": text.decode()}) for text in TEXTS)
    contents = {
        "a.txt": (b"\0".join(TEXTS), {}),
        "b.md": (text.encode("utf-8-sig"), {"document_separator": "\n"}),
        "c.txt": (text.encode("cp1252"), {"document_separator": "\n", "encoding": "cp1252"}),
        "d.txt": (text.encode("utf-16"), {"document_separator": "\n", "encoding": "utf-16"}),
        "e.json": (lines.encode(), {}),
        "f.csv": (f"text\n{text}".encode(), {}),
    }
    prints = set()
    for name, (content, fields) in contents.items():
        (tmp_path / name).write_bytes(content)
        manifest = prepare(text_files(tmp_path / name, **fields), tmp_path / f"{name} out")
        assert manifest.n_documents == len(TEXTS)
        prints.add(manifest.fingerprint)
    assert len(prints) == 1


@pytest.mark.parametrize(
    ("files", "fields", "said"),
    [
        ({"a.txt": "one", "b.md": "two"}, {}, "each file, or what NULs part it into."),
        ({"a.txt": "one\ntwo"}, {"document_separator": "\n"}, "each line."),
        ({"a.txt": "1--2--3"}, {"document_separator": "--"}, "what '--' parts."),
        ({"a.jsonl": '{"text": "one"}\n'}, {}, "each row of a table or list."),
        (
            {"a.txt": "one", "b.csv": "text\ntwo\nthree"},
            {},
            "each file, or what NULs part it into and each row of a table or list.",
        ),
    ],
    ids=["files", "lines", "separator", "rows", "both"],
)
def test_what_became_a_document_is_told(tmp_path: Path, files, fields, said) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    reader = reader_of(text_files(tmp_path, **fields))
    for file in reader.files:
        assert list(reader.documents(file))
    assert f"Documents: {said}" in reader.notes()


def test_few_documents_for_validation_are_worth_a_word(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\0".join(TEXTS))
    notes = " ".join(prepare(text_files(tmp_path / "a.txt"), tmp_path / "out").notes)
    n = len(split_documents(tmp_path / "out", "validation"))
    assert f"Only {n} document{'s are' if n > 1 else ' is'} held out: " in notes
    (tmp_path / "a.txt").write_bytes(b"\0".join(b"%d" % i for i in range(90)))
    assert "Only" not in " ".join(prepare(text_files(tmp_path / "a.txt"), tmp_path / "out").notes)


def test_where_none_is_held_out_the_least_share_that_holds_one_out_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\0".join(TEXTS))
    with pytest.raises(ValueError, match="no validation data: ") as caught:
        prepare(text_files(tmp_path / "a.txt", validation_fraction=1e-6), tmp_path / "out")
    said = re.search(r"validation_fraction \(([0-9.e-]+) or more\)", str(caught.value))
    least = float(said[1])
    held_out = prepare(text_files(tmp_path / "a.txt", validation_fraction=least), tmp_path / "out")
    assert "Only 1 document is held out: documents may differ much." in held_out.notes
    assert len(split_documents(tmp_path / "out", "validation")) == 1
    assert not any(is_validation(text, 0.9 * least) for text in TEXTS)


def test_all_files_that_cannot_be_read_are_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    bad = {"b.txt": b"caf\xe9", "d.zip": b"PK", "f.txt": "\u00e9".encode("utf-16")}
    for name, content in {"a.md": b"one", "c.md": b"two", "e.md": b"three", **bad}.items():
        (tmp_path / "in" / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"in/b\.txt' is not UTF-8") as caught:
        prepare(text_files(tmp_path / "in"), tmp_path / "out")
    said = str(caught.value)
    assert f"Likewise 2 others of the 6: '{tmp_path}/in/d.zip', '{tmp_path}/in/f.txt'." in said


def test_files_of_their_own_are_held_out_whole_and_in_order(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    for name in ("b.txt", "a.txt"):
        (tmp_path / "train" / name).write_bytes(b"\0".join([name.encode(), *TEXTS[:4]]))
    (tmp_path / "valid.txt").write_bytes(b"\0".join(TEXTS[3:6]))
    source = TextFiles(
        paths=(str(tmp_path / "train"),), validation_paths=(str(tmp_path / "valid.txt"),)
    )
    manifest = prepare(source, tmp_path / "out")
    assert split_documents(tmp_path / "out", "validation") == TEXTS[3:6]
    trained = [b"a.txt", *TEXTS[:4], b"b.txt", *TEXTS[:4]]
    assert split_documents(tmp_path / "out", "train") == trained
    assert "2 training documents are validation documents, too, word for word." in manifest.notes
    assert "Text of 3 text files." in manifest.notes


def test_a_single_document_to_train_on_and_one_to_validate_are_not_cut(tmp_path: Path) -> None:
    train, valid = b"one line\n" * 900, b"another\n" * 90
    (tmp_path / "train.txt").write_bytes(train)
    (tmp_path / "valid.txt").write_bytes(valid)
    paths = {"paths": (str(tmp_path / "train.txt"),)}
    source = TextFiles(**paths, validation_paths=(str(tmp_path / "valid.txt"),))
    prepare(source, tmp_path / "out")
    assert split_documents(tmp_path / "out", "train") == [train]
    assert split_documents(tmp_path / "out", "validation") == [valid]


def test_files_of_their_own_without_text_are_named_by_their_field(tmp_path: Path) -> None:
    (tmp_path / "full.txt").write_text("text")
    (tmp_path / "empty.txt").write_text("")
    full, empty = ((str(tmp_path / name),) for name in ("full.txt", "empty.txt"))
    for paths, held_out, message in (
        (full, empty, "no validation data: validation_paths hold nothing"),
        (empty, full, "no train data: paths hold nothing"),
        (full, full, "comes 2 times"),
    ):
        with pytest.raises(ValueError, match=message):
            prepare(TextFiles(paths=paths, validation_paths=held_out), tmp_path / "out")


BAD_FILES = [
    ("a.zip", b"PK", r"a\.zip' has the ending '\.zip', which tells no format: known are \.txt "),
    ("a.tar.gz", gzip.compress(b"x", mtime=0), r"the ending '\.tar'"),
    ("a", b"text", r"a' has no ending, .* set format of the source \(text, jsonl"),
    ("a.txt.gz", b"not gzip", "cannot be read: Not a gzipped file"),
    (
        "a.txt.gz",
        gzip.compress(b"x" * 1000, mtime=0)[:-10],
        "cannot be read: Compressed file ended",
    ),
    ("a.txt.xz", b"not xz", "cannot be read: Input format not supported"),
    ("a.txt", b"ok\0caf\xe9", r"is not UTF-8 \(byte 6\).*encoding="),
    ("a.jsonl", b'{"text": "a"}\n{"body": "b"}\n', r"line 2 of .* field 'text' \(found \['body'\]"),
    ("a.jsonl", b'{"text": 3}', "line 1 of .* has no text in field 'text'"),
    ("a.jsonl", b'\n\n["text"]', r"line 3 of .* \(found list\)"),
    ("a.jsonl", b'{"text": "a"', "line 1 of .* is no JSON"),
    ("a.jsonl", b'{"text": "\xff"}', r"is not UTF-8 \(byte 10\)"),
    ("a.jsonl", b"[" * 100_000, "line 1 of .* is no JSON"),
    ("a.jsonl", b'{"text": "\\ud800"}', "line 1 of .* half a surrogate pair"),
    ("a.html", b"<p>text</p>", r"the ending '\.html'"),
    ("a.parquet", b"PAR1", r"a\.parquet' cannot be read: Parquet file size is 4 bytes"),
    ("a.csv", b"text\na,b\n", "line 2 of .* has 2 cells"),
    ("a.txt", b"a<|endoftext|>b", "set document_separator"),
    ("a.txt", b"", "no train data: 0 documents"),
    ("a.txt", b"one", "data: 1 document"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
def test_bad_file_is_refused_in_one_line(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        prepare(text_files(tmp_path / name), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "out").rglob("*"))


def test_bad_paths_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "empty").mkdir()
    for paths, message in (
        ([tmp_path / "none"], "none' cannot be read: No such file"),
        ([tmp_path / "empty"], "no files under"),
        ([tmp_path, tmp_path / "a.txt"], "comes 2 times"),
    ):
        with pytest.raises(ValueError, match=message):
            prepare(text_files(*paths), tmp_path / "out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "a.txt").chmod(0)
    with pytest.raises(ValueError, match="cannot be read: Permission denied"):
        prepare(text_files(tmp_path / "a.txt"), tmp_path / "out")


TEXTS_OF_ONE_DOCUMENT = {
    "lines": "".join(f"{i}: so it goes, \N{SNOWMAN}.\n" for i in range(9000)),
    "no lines": "x" + "\N{GRINNING FACE}" * 30_001,
    "one long line among others": "short\n" * 5000 + "x" * 100_000 + "\n" + "y\n" * 9000,
}


@pytest.mark.parametrize("name", TEXTS_OF_ONE_DOCUMENT)
def test_one_document_is_cut_into_blocks_that_are_text_and_all_of_it(
    tmp_path: Path, name: str
) -> None:
    text = TEXTS_OF_ONE_DOCUMENT[name]
    (tmp_path / "a.txt").write_text(text)
    reader = reader_of(text_files(tmp_path / "a.txt"))
    (whole,) = reader.documents(tmp_path / "a.txt")
    assert whole.decode() == text
    blocks = list(reader.blocks(tmp_path / "a.txt") or ())
    assert b"".join(blocks).decode() == text
    assert 100 < len(blocks) <= 201
    assert max(map(len, blocks)) <= 2 * len(text.encode()) / 200 + 1
    for block in blocks:
        block.decode()
    if name == "lines":
        assert all(block.endswith(b"\n") for block in blocks)
    said = f"Documents: parts of the only file, cut at ends of lines ({len(blocks)}) to be split."
    assert said in reader.notes()


def test_a_separator_that_is_not_there_is_not_made_up_for(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("line\n" * 9000)
    source = text_files(tmp_path / "a.txt", document_separator="<|end|>")
    with pytest.raises(ValueError, match=r"data: 1 document, .* document_separator parts a file"):
        prepare(source, tmp_path / "out")


def test_two_documents_are_left_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a\n" * 2000 + b"\0" + b"b\n" * 2000)
    reader = reader_of(text_files(tmp_path / "a.txt"))
    assert reader.blocks(tmp_path / "a.txt") is None
    assert list(map(len, reader.documents(tmp_path / "a.txt"))) == [4000, 4000]
    assert reader.notes() == [
        "Text of 1 text files.",
        "Documents: each file, or what NULs part it into.",
    ]


def test_the_text_that_comes_with_the_package_is_the_published_one(tmp_path: Path) -> None:
    source = PepsText(validation_fraction=0.05)
    reader = reader_of(source)
    (file,) = reader.files
    documents = list(reader.documents(file))
    assert (len(documents), sum(map(len, documents))) == (703, 13_859_054 - 702)
    digest = hashlib.sha256(b"\0".join(documents)).hexdigest()
    assert digest == "878046a6682cd6c8b5b80f4459ef42489d53232af72db169ad1994cb55e0993a"
    manifest = prepare(source, tmp_path)
    assert (manifest.n_documents, manifest.n_bytes) == (703, 13_859_054 - 702)
    # What runs of the quickstart are known by: with another they would all be trained again.
    assert manifest.fingerprint == (
        "07d971c1da5e9e23b53fa1cd75abf25cd08266ce66ca5bb563276f2ce00b345a"
    )


def test_stdlib_is_deterministic_and_names_its_python(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    source = StdlibText(validation_fraction=0.05)
    first = prepare(source, tmp_path / "a", lambda done, total, _: calls.append((done, total)))
    assert prepare(source, tmp_path / "b") == first
    for split in ("train.npy", "validation.npy"):
        assert (tmp_path / "a" / split).read_bytes() == (tmp_path / "b" / split).read_bytes()
    n_files = len(set(calls))  # Within a long file a call may come again.
    assert calls == sorted(calls)
    assert {*calls} == {(i, n_files) for i in range(1, n_files + 1)}
    assert first.n_bytes is not None
    assert first.n_bytes > 8e6
    # A distribution may ship its Python without the test packages, and the note then says that.
    note = next(note for note in first.notes if "standard library" in note.lower())
    assert f"Python {platform.python_version()}, w" in note
    assert ("with its test packages" in note) != ("whose test packages are not installed" in note)


def test_stdlib_leaves_out_packages_and_undecodable_files(tmp_path: Path) -> None:
    contents = {
        "a.py": b"a",
        "b/c.py": b"c",
        "latin.py": b"caf\xe9",
        "b/data.txt": b"no",
        "site-packages/x.py": b"no",
        "b/dist-packages/x.py": b"no",
        "_sysconfigdata__linux.py": b"no",
        "config-3.11-x86/python-config.py": b"no",
    }
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    reader = StdlibReader(StdlibText(validation_fraction=0.5), root=str(tmp_path))
    assert [d for file in reader.files for d in reader.documents(file)] == [b"a", b"c"]
    notes = " ".join(reader.notes())
    assert "test packages are not installed" in notes
    assert "1 files that are not UTF-8" in notes
    assert "2 files generated by the build" in notes


def test_missing_stdlib_says_what_else_to_use(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="TextFiles"):
        StdlibReader(StdlibText(validation_fraction=0.5), root=str(tmp_path))


def test_failed_prepare_leaves_the_old_tokens(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\0".join(TEXTS))
    prepare(text_files(tmp_path / "a.txt"), tmp_path / "out")
    old = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    (tmp_path / "a.txt").write_bytes(b"\0".join(TEXTS) + b"\0\xff")
    with pytest.raises(ValueError, match="UTF-8"):
        prepare(text_files(tmp_path / "a.txt"), tmp_path / "out")
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == old


def test_full_disk_is_an_operating_system_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_bytes(b"\0".join(TEXTS))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(TokenWriter, "append", full)
    with pytest.raises(OSError, match="No space left") as caught:
        prepare(text_files(tmp_path / "a.txt"), tmp_path / "out")
    assert caught.value.errno == errno.ENOSPC
    assert not list((tmp_path / "out").iterdir())


def test_killed_prepare_leaves_nothing_that_looks_done(tmp_path: Path) -> None:
    for i, text in enumerate(TEXTS):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{i}.txt").write_bytes(text)
    code = (
        "import os, signal, sys\n"
        "from model.data.prepare import prepare\n"
        "from model.data.source import TextFiles\n"
        "source = TextFiles(paths=(sys.argv[1],), validation_fraction=0.4)\n"
        "kill = lambda done, total, _: done == total and os.kill(os.getpid(), signal.SIGKILL)\n"
        "prepare(source, sys.argv[2], kill)\n"
    )
    folder = tmp_path / "out"
    command = [sys.executable, "-c", code, str(tmp_path / "in"), str(folder)]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    left = [p.name for p in folder.iterdir()]
    assert len(left) == 1
    assert re.fullmatch(r"\.prepare-[0-9a-f]+", left[0])
    assert documents(text_files(tmp_path / "in"), folder) == sorted(TEXTS)
    shutil.rmtree(folder)
