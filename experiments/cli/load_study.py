# SPDX-License-Identifier: Apache-2.0
"""The STUDY that a command names."""

import importlib
import importlib.util
import pkgutil
from pathlib import Path

from experiments import studies
from experiments.study.study import Study


def study_names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(studies.__path__))


def load_study(name: str) -> Study:
    """The STUDY of a module in experiments/studies, or of a Python file.

    Raises:
      ValueError: if there is none.
    """
    if name in study_names():
        module = importlib.import_module(f"experiments.studies.{name}")
    elif name.endswith(".py") and Path(name).is_file():
        spec = importlib.util.spec_from_file_location("study_file", name)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        except Exception as error:
            raise ValueError(f"{name}: {type(error).__name__}: {error}") from None
    else:
        raise ValueError(
            f"unknown study {name!r}: known are {', '.join(study_names())}, or give the path of a "
            "Python file that defines STUDY."
        )
    study = getattr(module, "STUDY", None)
    if not isinstance(study, Study):
        raise ValueError(f"{name}: defines no STUDY of type experiments.study.study.Study.")
    return study
