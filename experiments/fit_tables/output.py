# SPDX-License-Identifier: Apache-2.0
"""Where answers go: the terminal, files, another program."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from experiments.files.storage import replace_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """Where one answer goes.

    Attributes:
      console: for a person.
      program: for the answer as one JSON object; None where none is asked for.
      out, figures: a file for that object and a folder for figures, where they are wanted.
    """

    console: Console
    program: Console | None = None
    out: Path | None = None
    figures: Path | None = None

    def prepare(self) -> None:
        """Makes the folders, before anything is fitted.

        Raises:
          ValueError: if the file is a folder. OSError: if a folder cannot be made or written.
        """
        if self.out is not None and self.out.is_dir():
            raise ValueError(f"--out {self.out}: is a folder. Name a file in it.")
        for folder in (self.out and self.out.parent, self.figures):
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
                if not os.access(folder, os.W_OK):
                    raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    def write(self, answer: Mapping[str, Any]) -> None:
        """The answer as one JSON object, to wherever it is wanted."""
        text = json.dumps(answer, allow_nan=False, sort_keys=True)
        if self.out is not None:
            replace_text(self.out, text)
            self.console.print(str(self.out))
        if self.program is not None:
            self.program.print(text)

    def save(self, figure: Figure, name: str) -> None:
        """A figure as PNG and SVG; the folder must be given."""
        from scaling.plots.style import save

        assert self.figures is not None
        for path in save(figure, self.figures / name):
            self.console.print(str(path))


def write_columns(to: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Columns of one length as a CSV file, numbers with all their digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    rows = zip(*columns.values(), strict=True)
    writer.writerows([repr(float(c)) if isinstance(c, float) else c for c in row] for row in rows)
    to.parent.mkdir(parents=True, exist_ok=True)
    replace_text(to, text.getvalue())
