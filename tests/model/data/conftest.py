# SPDX-License-Identifier: Apache-2.0
"""A small folder of text, prepared once, and a small language."""

from pathlib import Path

import pytest

from model.data.corpus import Corpus, open_corpus
from model.data.manifest import Manifest
from model.data.prepare import prepare
from model.data.source import TextFiles, Zipf


def document(i: int) -> bytes:
    """A document that names itself in every line, so that any part of it tells its origin."""
    return "".join(f"<{i:03d}.{line:02d}>é\n" for line in range(3 + i % 5)).encode()


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Path]:
    """200 documents in two files, and each tenth again in a third: (manifest, token folder)."""
    texts, tokens = tmp_path_factory.mktemp("texts"), tmp_path_factory.mktemp("tokens")
    (texts / "a.txt").write_bytes(b"\0".join(document(i) for i in range(120)))
    (texts / "b.txt").write_bytes(b"\0".join(document(i) for i in range(120, 200)) + b"\0")
    (texts / "again.txt").write_bytes(b"\0".join(document(i) for i in range(0, 200, 10)))
    source = TextFiles(paths=(str(texts),), validation_fraction=0.3)
    return prepare(source, tokens), tokens


@pytest.fixture(scope="session")
def text_corpus(prepared: tuple[Manifest, Path]) -> Corpus:
    return open_corpus(*prepared)


@pytest.fixture(scope="session")
def zipf_corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    source = Zipf(alpha=0.5, epsilon=0.1, base=4, n_digits=2, n_answers=1, language_seed=0)
    folder = tmp_path_factory.mktemp("zipf")
    return open_corpus(prepare(source, folder), folder)
