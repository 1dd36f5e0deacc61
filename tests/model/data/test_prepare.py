# SPDX-License-Identifier: Apache-2.0
"""Preparing goes on after a kill, counts copies, and drops what it is told to."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from model.data import splits
from model.data.overlap import overlap
from model.data.prepare import prepare
from model.data.source import TextFiles
from model.data.text import TextFilesReader
from model.data.tokenizer import TrainedBPE
from model.data.tokens.encoding import ByteEncoding, FileEncoding

COMMON = "granted to everyone, for any purpose, without a fee and without any warranty; "


def written(folder: Path, n: int = 60) -> TextFiles:
    folder.mkdir()
    for i in range(n):
        (folder / f"{i:02d}.txt").write_text(f"document {i}: " + f"so it goes {i} on. " * (i % 7))
    return TextFiles(paths=(str(folder),), validation_fraction=0.3)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Killed(BaseException):
    pass


@pytest.fixture
def kill(monkeypatch):
    """From now on the reader of a source dies at its so many-th file."""

    def at(n: int) -> None:
        read, seen = TextFilesReader.documents, []

        def documents(self, file):
            seen.append(file)
            if len(seen) == n:
                raise Killed
            yield from read(self, file)

        monkeypatch.setattr(TextFilesReader, "documents", documents)

    monkeypatch.setattr(splits, "_BATCH_BYTES", 200)
    monkeypatch.setattr(splits, "KEPT_BYTES", 500)
    return at


@pytest.mark.parametrize("tokenizer", [None, TrainedBPE(vocab_size=300)])
def test_a_killed_call_goes_on_and_ends_with_the_same_bytes(
    tmp_path, kill, monkeypatch, tokenizer
) -> None:
    if tokenizer is not None:
        pytest.importorskip("tokenizers")
    source = written(tmp_path / "in")
    source = TextFiles(paths=source.paths, validation_fraction=0.3, tokenizer=tokenizer)
    whole = prepare(source, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(TextFilesReader, "documents", TextFilesReader.documents)
        kill(40 if tokenizer is None else 100)  # To train a vocabulary takes 60.
        with pytest.raises(Killed):
            prepare(source, tmp_path / "out")
    monkeypatch.undo()
    (left,) = (tmp_path / "out").iterdir()
    n_kept = json.loads((left / "kept.json").read_text())["n_documents"]
    assert 20 < n_kept < 40
    encoded = []
    kind = ByteEncoding if tokenizer is None else FileEncoding
    encode = kind.encode
    monkeypatch.setattr(
        kind, "encode", lambda self, texts: (encoded.extend(texts), encode(self, texts))[1]
    )
    again = prepare(source, tmp_path / "out")
    assert len(encoded) == whole.n_documents - n_kept, "the others were kept"
    assert again == whole
    assert files(tmp_path / "out") == files(tmp_path / "whole")


@pytest.mark.parametrize("damage", ["documents", "tokens", "fewer"])
def test_what_a_killed_call_kept_and_is_damaged_is_made_anew(
    tmp_path, kill, monkeypatch, damage
) -> None:
    source = written(tmp_path / "in")
    whole = prepare(source, tmp_path / "whole")
    kill(40)
    with pytest.raises(Killed):
        prepare(source, tmp_path / "out")
    monkeypatch.undo()
    (left,) = (tmp_path / "out").iterdir()
    kept = json.loads((left / "kept.json").read_text())
    if damage == "documents":  # The tokens are whole, but of others.
        content = (left / "train.npy").read_bytes()
        content = content[:300] + b"x" + content[301:]
        (left / "train.npy").write_bytes(content)
        n_kept = kept["train"][0]
        kept["train"][1] = hashlib.sha256(content[128 : 128 + n_kept]).hexdigest()
        kept["text"] = "0" * 64
    elif damage == "fewer":
        kept["n_documents"] = 1000
    else:
        path = left / "train.npy"
        path.write_bytes(path.read_bytes()[:300] + b"x" + path.read_bytes()[301:])
    (left / "kept.json").write_text(json.dumps(kept))
    assert prepare(source, tmp_path / "out") == whole
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_copies_are_counted_and_dropped_where_that_is_asked(tmp_path) -> None:
    source = written(tmp_path / "in")
    held_out = {
        i
        for i in range(60)
        if splits.is_validation((tmp_path / f"in/{i:02d}.txt").read_bytes(), 0.3)
    }
    for i in range(10):
        (tmp_path / "in" / f"copy{i}.txt").write_bytes((tmp_path / f"in/{i:02d}.txt").read_bytes())
    whole = prepare(source, tmp_path / "whole")
    n_copies = len(set(range(10)) - held_out)
    assert 0 < n_copies < 10
    notes = " ".join(whole.notes)
    assert f"{n_copies} training documents are copies of others." in notes
    assert f"{10 - n_copies} validation documents are copies of others." in notes
    dropping = TextFiles(paths=source.paths, validation_fraction=0.3, drop="duplicates")
    dropped = prepare(dropping, tmp_path / "dropped")
    assert dropped.n_train_documents == whole.n_train_documents - n_copies
    assert dropped.n_validation_documents == whole.n_validation_documents
    assert dropped.fingerprint != whole.fingerprint
    assert f"Dropped: {n_copies} training documents, copies of others." in dropped.notes


def test_no_string_of_what_is_held_out_is_left_where_overlap_is_dropped(tmp_path) -> None:
    source = written(tmp_path / "in")
    for i in range(0, 60, 3):
        path = tmp_path / "in" / f"{i:02d}.txt"
        path.write_text(COMMON + path.read_text())

    def share(**fields: object) -> tuple[float, int]:
        folder = tmp_path / str(fields)
        manifest = prepare(TextFiles(paths=source.paths, validation_fraction=0.3, **fields), folder)
        train, validation = (np.load(folder / f"{s}.npy") for s in ("train", "validation"))
        return overlap(train, validation), manifest.n_train_documents

    before, n_before = share()
    after, n_after = share(drop="overlap")
    texts = [path.read_bytes() for path in (tmp_path / "in").iterdir()]
    n_common = sum(
        COMMON.encode() in text and not splits.is_validation(text, 0.3) for text in texts
    )
    assert before > 0.1
    assert after == 0.0
    assert n_after == n_before - n_common
