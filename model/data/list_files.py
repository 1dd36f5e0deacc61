# SPDX-License-Identifier: Apache-2.0
"""Which files a source reads."""

import glob
import json
import os
import stat
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from model.data.formats.open_file import reading
from model.data.source import TextFiles, TokenArrays


def list_splits(
    source: TextFiles | TokenArrays, left_out: Counter[str]
) -> tuple[list[Path], list[Path]]:
    """The files of `paths` and those of `validation_paths`, in the order given.

    Of a folder all files, recursively, by sorted relative path; of one in which `datasets` saved a
    dataset its Arrow files. Of a pattern ("texts/**/*.txt") the files that match it, sorted.
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
    for name in paths:
        path = Path(name)
        if glob.has_magic(name) and not path.exists():
            matches = map(Path, sorted(glob.glob(name, recursive=True)))
            files += [match for match in matches if match.is_file()]
            continue
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
        for name in _shards(Path(folder), names):
            file = Path(folder, name)
            if name.startswith("."):
                left_out["hidden files and folders"] += 1
            elif not file.is_file():
                left_out["entries that are not files"] += 1
            else:
                files.append(file)
    return sorted(files, key=lambda file: file.relative_to(root).as_posix())


def _shards(folder: Path, names: list[str]) -> list[str]:
    """The names of files in a folder; where a dataset was saved there, those of its shards.

    Raises:
      ValueError: for a dataset of several splits, of rows in another order, or without a shard.
    """
    if "dataset_dict.json" in names:
        raise ValueError(
            f"{os.fspath(folder)!r} holds the splits of a dataset, a folder each: name one "
            "in paths, another in validation_paths."
        )
    if not {"dataset_info.json", "state.json"} <= set(names):
        return names
    try:
        state = json.loads((folder / "state.json").read_bytes())
        shards = [shard["filename"] for shard in state["_data_files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{os.fspath(folder / 'state.json')!r} names no data files: save the dataset again."
        ) from error
    if state.get("_indices_data_files"):
        raise ValueError(
            f"the dataset in {os.fspath(folder)!r} has its rows in another order than its files: "
            "save it again behind flatten_indices()."
        )
    if missing := sorted(set(shards) - set(names)):
        raise ValueError(f"the dataset in {os.fspath(folder)!r} lacks its files {missing}.")
    return shards
