# SPDX-License-Identifier: Apache-2.0
import contextlib
import errno
import json
import os
import subprocess
import sys

import pytest

from experiments.files import storage
from experiments.files.storage import Storage, replace_text

WRITE_A_HUNDRED = """
import json, sys
from pathlib import Path
from experiments.files.storage import Storage
place, letter = Storage(Path(sys.argv[1])), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
print(json.dumps([place.create(f"{i}.json", letter.encode() * 10_000) for i in range(100)]))
"""


@pytest.fixture
def place(tmp_path):
    return Storage(tmp_path)


def test_a_file_is_created_once_and_whole(place, tmp_path):
    assert place.create("deep/file.json", b"first")
    assert not place.create("deep/file.json", b"second")
    assert place.read("deep/file.json") == b"first"
    place.replace("deep/file.json", b"third")
    assert place.read("deep/file.json") == b"third"
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["file.json"]
    assert place.names("deep") == ["file.json"]
    assert place.read("deep/other.json") is None
    assert place.names("shallow") == []


def test_a_file_is_moved_if_it_is_there(place):
    place.move("a", "b")
    place.create("a", b"1")
    place.move("a", "b")
    assert (place.read("a"), place.read("b")) == (None, b"1")


def test_of_two_writers_one_wins_and_its_text_stays(tmp_path):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITE_A_HUNDRED, str(tmp_path), letter],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for letter in "ab"
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    won = [json.loads(writer.communicate(timeout=30)[0]) for writer in writers]
    for i, (a, b) in enumerate(zip(*won, strict=True)):
        assert a != b
        assert (tmp_path / f"{i}.json").read_text() == ("a" if a else "b") * 10_000
    assert len(list(tmp_path.iterdir())) == 100


def test_a_failed_write_leaves_the_old_file_and_nothing_else(place, tmp_path, monkeypatch):
    path = tmp_path / "table.csv"
    replace_text(path, "old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace_text(path, "new")
    with pytest.raises(OSError, match="No space"):
        place.create("result.json", b"new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


def test_a_file_in_parts_has_its_name_once_it_is_whole(place, tmp_path):
    with place.writing("deep/a") as write:
        write(b"one ")
        assert place.read("deep/a") is None
        write(b"two")
    assert place.read("deep/a") == b"one two"
    with contextlib.suppress(KeyboardInterrupt), place.writing("deep/a") as write:
        write(b"three")
        raise KeyboardInterrupt
    assert place.read("deep/a") == b"one two"
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a"]


def test_a_file_is_digested(place):
    place.replace("a", b"abc")
    # FIPS 180-2, appendix B.1.
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert (place.sha256("a"), place.sha256("b")) == (expected, None)


def test_a_disk_that_takes_a_part_of_a_write_is_asked_again(place, monkeypatch):
    write = os.write
    monkeypatch.setattr(storage.os, "write", lambda file, data: write(file, data[:3]))
    place.replace("a", b"0123456789")
    assert place.read("a") == b"0123456789"


def test_a_link_whose_answer_was_lost_counts_as_ours(place, monkeypatch):
    link = os.link

    def link_and_lose_the_answer(a, b):
        link(a, b)
        raise FileExistsError(17, "File exists")

    monkeypatch.setattr(storage.os, "link", link_and_lose_the_answer)
    assert place.create("a", b"ours")


@pytest.mark.parametrize("name", ["ENOSYS", "ENOTSUP", "EPERM"])
def test_a_file_system_without_links_is_named_with_a_way_out(place, monkeypatch, name):
    def link(a, b):
        raise OSError(getattr(errno, name), "as FAT and gcsfuse say", a, None, b)

    monkeypatch.setattr(storage.os, "link", link)
    with pytest.raises(
        ValueError, match=r"has no hard links \(as FAT.*Keep results on a local disk"
    ):
        place.create("a", b"x")
    assert place.names("") == []


def test_a_folder_that_cannot_be_written_is_named_by_the_file_that_was_meant(place, monkeypatch):
    def open_(file, *_):
        raise PermissionError(errno.EACCES, "Permission denied", str(file))

    monkeypatch.setattr(storage.os, "open", open_)
    with pytest.raises(PermissionError) as caught:
        place.replace("a", b"x")
    assert caught.value.filename == place.name("a")


def test_the_age_of_a_file_is_told_by_the_clock_of_the_place(place, tmp_path, monkeypatch):
    place.touch("hb/000001")
    assert place.age_seconds("hb/000002") is None
    assert 0 <= place.age_seconds("hb/000001") < 5
    then = os.stat(tmp_path / "hb/000001").st_mtime - 100
    os.utime(tmp_path / "hb/000001", (then, then))
    monkeypatch.setattr(storage.time, "time", lambda: 0.0)  # Ours is wrong by decades.
    assert 100 <= place.age_seconds("hb/000001") < 105
    place.touch("hb/000001")
    assert 0 <= place.age_seconds("hb/000001") < 5
