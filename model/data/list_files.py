# SPDX-License-Identifier: Apache-2.0
"""Which files a source reads, and the line that names one which cannot be read."""

import contextlib
import lzma
import os
import stat
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from model.data.source import TextFiles, TokenArrays


def list_splits(
    source: TextFiles | TokenArrays, left_out: Counter[str]
) -> tuple[list[Path], list[Path]]:
    """The files of `paths` and those of `validation_paths`, in the order given, folders recursively
    by sorted relative path.

    Hidden entries, links to folders and special files inside folders are counted in `left_out`.

    Raises:
      ValueError: if a path is missing or unreadable, a file comes twice, or there is none.
    """
    files = _list(source.paths, left_out)
    held_out = _list(source.validation_paths, left_out) if source.validation_paths else []
    for file, times in Counter(map(os.path.realpath, [*files, *held_out])).items():
        if times > 1:
            raise ValueError(f"data file {file!r} comes {times} times: name each file once.")
    return files, held_out


def _list(paths: Sequence[str], left_out: Counter[str]) -> list[Path]:
    files: list[Path] = []
    for path in map(Path, paths):
        with reading(path):
            is_folder = stat.S_ISDIR(path.stat().st_mode)
            files += _walk(path, left_out) if is_folder else [path]
    if not files:
        raise ValueError(f"no files under {', '.join(map(repr, paths))}: correct the data paths.")
    return files


def _walk(root: Path, left_out: Counter[str]) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise error

    files = []
    for folder, subfolders, names in os.walk(root, onerror=refuse):
        links = [d for d in subfolders if os.path.islink(os.path.join(folder, d))]
        visible = [d for d in subfolders if not d.startswith(".") and d not in links]
        left_out["links to folders"] += len(links)
        left_out["hidden files and folders"] += len(subfolders) - len(visible) - len(links)
        subfolders[:] = visible
        for name in names:
            file = Path(folder, name)
            if name.startswith("."):
                left_out["hidden files and folders"] += 1
            elif not file.is_file():
                left_out["entries that are not files"] += 1
            else:
                files.append(file)
    return sorted(files, key=lambda file: file.relative_to(root).as_posix())


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raises ValueError, naming the file, for what the system or a decompressor refuses."""
    try:
        yield
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"data file {os.fspath(path)!r} cannot be read: {reason}. "
            "Correct the paths of the data source, or the file."
        ) from error
