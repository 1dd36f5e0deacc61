# SPDX-License-Identifier: Apache-2.0
"""The STUDY that a command names."""

import dataclasses
import importlib
import os
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import Any

from experiments import studies
from experiments.cli.opening.python_file import run_file
from experiments.ledger.ledger import Ledger
from experiments.plan.point import to_json
from experiments.study.from_json import study_from_json
from experiments.study.study import Study
from model.data.manifest import Manifest
from model.data.source import (
    HuggingFaceDataset,
    Mixture,
    Source,
    TextFiles,
    TokenArrays,
    source_from_dict,
    with_tokenizer,
)
from model.data.tokenizer import FileTokenizer


def study_names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(studies.__path__))


def load_study(name: str, results: Path | None = None) -> Study:
    """The STUDY of a module in experiments/studies, of a Python file, or of a folder of results.

    Raises:
      ValueError: if there is none, the file is wrong, or the folder does not tell all of it.
    """
    if name in study_names():
        module = importlib.import_module(f"experiments.studies.{name}")
        return _study_of(module, name)
    if name.endswith(".py") and Path(name).is_file():
        return _of_file(Path(name))
    if name.endswith(".py"):
        raise ValueError(
            f"there is no file {name!r}. Give the path of a Python file that defines STUDY; "
            "`isoflop init FILE.py` writes one."
        )
    if results is not None and (found := _of_folder(results, name)) is not None:
        return found
    raise ValueError(
        f"unknown study {name!r}: known are {', '.join(study_names())} and what has results; or "
        "give the path of a Python file that defines STUDY."
    )


def _of_folder(results: Path, name: str) -> Study | None:
    """What was asked last of a study with results, whatever file and changes it came from."""
    if Path(name).name != name or not (results / name / "study.json").is_file():
        return None
    ledger = Ledger(results, name)
    try:
        text = ledger.study_json()
        data = source_from_dict(Manifest.read(ledger.manifest).source)
        study = study_from_json(text, data)
        if not ledger.is_study(to_json(study)):
            raise ValueError("it has a value that only its file can make")
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{ledger.folder} does not tell its study ({error}): name the file that it is from."
        ) from None
    return study


def _of_file(path: Path) -> Study:
    """Its data lie where they do as seen from the file.

    Raises:
      ValueError: with the line of the file that is wrong.
    """
    study = _study_of(run_file(path, "STUDY"), str(path))
    axes = tuple(
        dataclasses.replace(axis, values=tuple(_seen(path, value) for value in axis.values))
        for axis in study.axes
    )
    return dataclasses.replace(study, data=_seen_data(path, study.data), axes=axes)


def _seen(path: Path, value: Any) -> Any:
    """A tokenizer or data, as seen from the file; anything else as it is."""
    if isinstance(value, FileTokenizer) and value.path is not None:
        (seen,) = _seen_from(path, (value.path,))
        return dataclasses.replace(value, path=seen)
    return _seen_data(path, value) if isinstance(value, Source) else value


def _seen_data(path: Path, data: Source) -> Source:
    if isinstance(data, Mixture):
        seen_parts: Any = [(part, _seen_data(path, part.source)) for part in data.parts]
        parts = tuple(dataclasses.replace(part, source=source) for part, source in seen_parts)
        data = dataclasses.replace(data, parts=parts)
    data = with_tokenizer(data, _seen(path, getattr(data, "tokenizer", None)))
    if isinstance(data, HuggingFaceDataset):
        (seen,) = _seen_from(path, (data.path,))
        return dataclasses.replace(data, path=seen) if Path(seen).is_dir() else data
    if not isinstance(data, TextFiles | TokenArrays):
        return data
    held_out = data.validation_paths
    return dataclasses.replace(
        data,
        paths=_seen_from(path, data.paths),
        validation_paths=None if held_out is None else _seen_from(path, held_out),
    )


def _seen_from(path: Path, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(os.path.normpath(path.parent / name) for name in names)


def _study_of(module: ModuleType, name: str) -> Study:
    study = getattr(module, "STUDY", None)
    if not isinstance(study, Study):
        raise ValueError(f"{name}: defines no STUDY of type experiments.study.study.Study.")
    return study
