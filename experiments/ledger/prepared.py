# SPDX-License-Identifier: Apache-2.0
"""Prepared data, shared by all studies of a results folder: each source is read once per tokenizer.

  results/.data/<key>/{train.npy, validation.npy, tokenizer.json, manifest.json}
  results/STUDY/data/                                   the same files, linked

The key is of the source, its tokenizer and the files that it reads, with their sizes and times. A
folder gets its name when all is in it. Every study has links of its own, so that its folder holds
all of its data, and results/.data may be deleted at any time.
"""

import dataclasses
import hashlib
import itertools
import json
import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.files.hold import hold
from experiments.files.storage import replace_text
from experiments.ledger.ledger import Ledger
from model.data.corpus import open_corpus
from model.data.manifest import Manifest
from model.data.mixture import mixed
from model.data.prepare import Progress, prepare, source_key, training_texts
from model.data.source import Language, Mixture, Source, TextSource, with_tokenizer
from model.data.tokenizer import SEPARATOR, HuggingFaceTokenizer, TrainedBPE
from model.data.tokens.encoding import TOKENIZER_FILE, open_encoding, train_bpe
from model.data.tokens.token_files import SPLITS

_MANIFEST = "manifest.json"

Tell = Callable[[str], None]


def prepare_study(
    ledger: Ledger, sources: Sequence[Source], tell: Tell, progress: Progress | None = None
) -> Manifest:
    """The manifest of a study's data, whose token files then lie in the study's folder.

    Args:
      sources: the data of its settings, each once.
      tell: told what is being read. progress: see `prepare`.

    Raises:
      ValueError: if data cannot be read as a source says, or do not suffice for it.
    """
    store = _Store(ledger.results / ".data", tell, progress)
    first, *others = map(store.manifest, sources)
    manifest = dataclasses.replace(first, variants=tuple(others))
    is_alone = not (first.parts or others)
    for fingerprint, folder in store.folders.items():
        _link(folder, ledger.data if is_alone else ledger.data / fingerprint[:16])
    manifest.write(ledger.manifest)
    return manifest


class _Store:
    """The shared folder.

    Attributes:
      folders: by fingerprint, where the token files lie that were asked for.
    """

    def __init__(self, root: Path, tell: Tell, progress: Progress | None):
        self._root, self._tell, self._progress = root, tell, progress
        self.folders: dict[str, Path] = {}

    def manifest(self, source: Source) -> Manifest:
        if isinstance(source, Mixture):
            tokenizer = source.tokenizer
            if isinstance(tokenizer, TrainedBPE):
                tokenizer = self._trained(source, tokenizer)
            parts = [with_tokenizer(part.source, tokenizer) for part in source.parts]
            return mixed(source, [self.manifest(part) for part in parts])
        if isinstance(source, Language):
            return prepare(source, self._root)
        key = source_key(source)
        folder = self._root / key
        with hold(self._root / f"{key}.lock"):  # Of several processes one prepares.
            manifest = _sound(folder)
            if manifest is None:
                self._tell(f"reading {source.kind} data into {folder} ...")
                shutil.rmtree(folder, ignore_errors=True)
                # Of a killed call what it prepared is here, and goes on.
                staging = self._root / f".prepare-{key}"
                prepare(source, staging, self._progress).write(staging / _MANIFEST)
                os.replace(staging, folder)
                manifest = Manifest.read(folder / _MANIFEST)
        self.folders[manifest.fingerprint] = folder
        return manifest

    def _trained(self, source: Mixture, tokenizer: TrainedBPE) -> HuggingFaceTokenizer:
        """Of all parts, kept beside their tokens."""
        sources = [part.source for part in source.parts if isinstance(part.source, TextSource)]
        key = _digest([tokenizer.vocab_size, *map(source_key, sources)])
        path = self._root / f"{key}.json"
        with hold(self._root / f"{key}.lock"):
            if not path.exists():
                self._tell(f"training a vocabulary of {tokenizer.vocab_size} tokens ...")
                texts = itertools.chain.from_iterable(map(training_texts, sources))
                replace_text(path, train_bpe(tokenizer, texts))
        return HuggingFaceTokenizer(path=str(path), separator=SEPARATOR)


def _sound(folder: Path) -> Manifest | None:
    """What lies in a folder of the store; None if it is missing, or is not what was written."""
    try:
        manifest = Manifest.read(folder / _MANIFEST)
        open_corpus(manifest, folder)
        open_encoding(manifest, folder)
    except ValueError:
        return None
    return manifest


def _digest(values: object) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:32]


def _link(folder: Path, to: Path) -> None:
    """Links the token files of the store into a study's folder; where the file system has no links,
    copies them."""
    to.mkdir(parents=True, exist_ok=True)
    for name in (*(f"{split}.npy" for split in SPLITS), TOKENIZER_FILE):
        if not (folder / name).exists():
            (to / name).unlink(missing_ok=True)  # Of what lay there before.
            continue
        temporary = to / f".{name}.{secrets.token_hex(4)}.tmp"
        try:
            os.link(folder / name, temporary)
        except OSError:
            shutil.copyfile(folder / name, temporary)
        os.replace(temporary, to / name)
