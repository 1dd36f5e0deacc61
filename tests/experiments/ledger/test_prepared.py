# SPDX-License-Identifier: Apache-2.0
"""Data are prepared once for all studies, and each study has all of its own."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from experiments.ledger.ledger import Ledger
from experiments.ledger.prepared import prepare_study
from model.data.corpus import open_corpora
from model.data.manifest import Manifest
from model.data.source import Mixture, Part, TextFiles
from model.data.tokenizer import TrainedBPE
from model.data.tokens.encoding import open_encoding


@pytest.fixture
def source(tmp_path: Path) -> TextFiles:
    folder = tmp_path / "texts"
    folder.mkdir()
    for i in range(60):
        (folder / f"{i}.txt").write_text(f"document {i}: " + "so it goes on and on. " * (i % 5 + 1))
    return TextFiles(paths=(str(folder),), validation_fraction=0.3)


def prepared(tmp_path: Path, name: str, *sources: object) -> tuple[Manifest, list[str]]:
    """The manifest of a study, and what was said."""
    said: list[str] = []
    ledger = Ledger(tmp_path / "results", name)
    manifest = prepare_study(ledger, sources, said.append)
    assert Manifest.read(ledger.manifest) == manifest
    open_corpora(manifest, ledger.data)
    return manifest, said


def test_a_second_study_reads_nothing_and_shares_the_files(tmp_path, source) -> None:
    first, said = prepared(tmp_path, "one", source)
    assert [line.startswith("reading text data into") for line in said] == [True]
    assert prepared(tmp_path, "two", source) == (first, [])
    one, two = (tmp_path / "results" / name / "data" / "train.npy" for name in ("one", "two"))
    assert os.path.samefile(one, two)
    assert len(os.listdir(tmp_path / "results" / ".data")) == 2, "a folder and its lock"


def test_without_links_the_files_are_copied(tmp_path, source, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "no links here")

    monkeypatch.setattr("experiments.ledger.prepared.os.link", refuse)
    prepared(tmp_path, "one", source)
    path = tmp_path / "results" / "one" / "data" / "train.npy"
    assert path.stat().st_nlink == 1
    assert sorted(os.listdir(path.parent)) == ["train.npy", "validation.npy"]


@pytest.mark.parametrize("damage", ["text", "tokens", "half"])
def test_what_changed_or_is_damaged_is_prepared_again(tmp_path, source, damage) -> None:
    first, _ = prepared(tmp_path, "one", source)
    path = tmp_path / "results" / "one" / "data" / "train.npy"
    if damage == "text":
        (tmp_path / "texts" / "7.txt").write_text("another text")
    elif damage == "tokens":
        path.write_bytes(path.read_bytes()[:-1] + b"x")  # The study's and the shared one.
    else:
        (store,) = (tmp_path / "results" / ".data").glob("*/manifest.json")
        store.unlink()
    second, said = prepared(tmp_path, "two", source)
    assert len(said) == 1
    assert (second.fingerprint == first.fingerprint) is (damage != "text")
    assert prepared(tmp_path, "one", source)[0] == second, "which mends the first study"


def test_a_mixture_and_its_variants_read_each_part_once(tmp_path, source) -> None:
    pytest.importorskip("tokenizers")
    (tmp_path / "more").mkdir()
    for i in range(40):
        (tmp_path / "more" / f"{i}.txt").write_text(f"more of {i} " * 9)
    other = TextFiles(paths=(str(tmp_path / "more"),), validation_fraction=0.3)
    parts = (Part(name="a", source=source, weight=1.0), Part(name="b", source=other, weight=3.0))
    mixture = Mixture(parts=parts, tokenizer=TrainedBPE(vocab_size=300))
    even = dataclasses.replace(mixture, parts=(dataclasses.replace(parts[0], weight=3.0), parts[1]))
    manifest, said = prepared(tmp_path, "one", mixture, even)
    assert len([line for line in said if line.startswith("reading")]) == 2
    assert len([line for line in said if line.startswith("training a vocabulary of 300")]) == 1
    assert [one.source["kind"] for one in manifest.variants] == ["mixture"]
    assert manifest.variants[0].fingerprint != manifest.fingerprint
    ledger = Ledger(tmp_path / "results", "one")
    assert {one.name for one in ledger.data.iterdir()} == {
        one.fingerprint[:16] for one in manifest.parts
    }
    encoding = open_encoding(manifest, ledger.data)
    assert encoding.vocab_size == manifest.vocab_size == 300
    corpora = open_corpora(manifest, ledger.data)
    windows = corpora[manifest.fingerprint].train_windows(0, 64, seq_len=8, seed=0)
    text = encoding.decode(np.unique(windows, axis=0)[:, :8].ravel().tolist())
    assert b"so it goes" in text
    assert b"more of" in text
    assert prepared(tmp_path, "two", even)[1] == []
