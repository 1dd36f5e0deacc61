# SPDX-License-Identifier: Apache-2.0
"""Where answers go that are asked for as files."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from experiments.files.storage import replace_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """A file for the answer as JSON and a folder for figures, where they are wanted."""

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

    def write(self, answer: str | dict[str, Any], console: Console) -> None:
        """The answer, as JSON text or to become it."""
        if self.out is None:
            return
        if not isinstance(answer, str):
            answer = json.dumps(answer, allow_nan=False, sort_keys=True)
        replace_text(self.out, answer)
        console.print(str(self.out))

    def save(self, figure: Figure, name: str, console: Console) -> None:
        """A figure as PNG and SVG; the folder must be given."""
        from scaling.plots.style import save

        assert self.figures is not None
        for path in save(figure, self.figures / name):
            console.print(str(path))
