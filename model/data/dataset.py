# SPDX-License-Identifier: Apache-2.0
"""Documents of a dataset that `datasets` reads, row by row."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from model.data.formats.open_file import reading
from model.data.source import BYTE_SEPARATOR, HuggingFaceDataset
from model.data.text import Reader

_NUL = bytes([BYTE_SEPARATOR])


class DatasetReader(Reader):
    """The splits of a dataset; a split stands for a file.

    Raises:
      ValueError: for a name of the hub without revision.
    """

    def __init__(self, source: HuggingFaceDataset):
        self._source, self._is_local = source, Path(source.path).is_dir()
        if not self._is_local and source.revision is None:
            raise ValueError(
                f"dataset {source.path!r} is no folder here, and has no revision: name the commit "
                "of the hub that is meant (revision=), or correct the path."
            )
        self.files = [Path(source.split)]
        self.validation_files = [Path(source.validation_split)] if source.validation_split else []

    def documents(self, file: Path) -> Iterator[bytes]:
        source = self._source
        for row, values in enumerate(self._rows(str(file)), 1):
            text: Any = values
            for name in source.text_field.split("."):
                text = text.get(name) if isinstance(text, dict) else None
            if not isinstance(text, str):
                raise ValueError(
                    f"row {row} of split {str(file)!r} of dataset {source.path!r} has no text in "
                    f"{source.text_field!r} (it has {', '.join(values)}): set text_field of the "
                    "source, or drop the row."
                )
            yield from (one for one in text.encode().split(_NUL) if one or not text)

    def _rows(self, split: str) -> Iterator[dict[str, Any]]:
        source = self._source
        try:
            import datasets
        except ImportError as error:
            raise ValueError(
                "HuggingFaceDataset needs the package `datasets`: pip install 'isoflop[text]'."
            ) from error
        try:
            yield from datasets.load_dataset(
                source.path, source.name, split=split, revision=source.revision, streaming=True
            )
        except Exception as error:  # The library, and what it stands on, raise of every kind.
            reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
            raise ValueError(f"dataset {source.path!r} cannot be read: {reason}") from error

    def stamps(self) -> list[object]:
        """Of a folder its digest; of the hub the revision says it."""
        return [self._digest()] if self._is_local else []

    def notes(self) -> list[str]:
        source = self._source
        what = f"digest {self._digest()}" if self._is_local else f"revision {source.revision}"
        splits = " and ".join(map(str, (*self.files, *self.validation_files)))
        return [f"Dataset {source.path}, {what}: {splits}."]

    def _digest(self) -> str:
        """sha256 of the names and contents of all files of the folder."""
        root, found = Path(self._source.path), hashlib.sha256()
        for file in sorted(path for path in root.rglob("*") if path.is_file()):
            found.update(os.fsencode(file.relative_to(root)) + _NUL)
            with reading(file), file.open("rb") as stream:
                found.update(hashlib.file_digest(stream, "sha256").digest())
        return found.hexdigest()
