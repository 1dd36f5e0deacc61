# SPDX-License-Identifier: Apache-2.0
"""What a Python file of a user defines, and its mistakes in one line."""

import dataclasses
import importlib.util
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType


def run_file(path: Path, name: str) -> ModuleType:
    """The module of a file that is to define `name`; it may import files beside it.

    Raises:
      ValueError: with the line of the file that is wrong.
    """
    spec = importlib.util.spec_from_file_location(f"{name.lower()}_file", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # The last place that is looked at: a glob.py beside the file is not Python's.
    folder = str(path.parent.absolute())
    sys.path.append(folder)
    try:
        spec.loader.exec_module(module)
    except ValueError as error:
        raise ValueError(f"{_where(path, error)}: {error}") from None
    except SystemExit as error:
        raise ValueError(
            f"{_where(path, error)}: the file ends Python ({error!r}); it is to define {name} only."
        ) from None
    except Exception as error:
        told = f"{type(error).__name__}: {error}{_fields(module, error)}"
        raise ValueError(f"{_where(path, error)}: {told}") from None
    finally:
        sys.path.remove(folder)
    return module


def _fields(module: ModuleType, error: Exception) -> str:
    """What may be given to a class of the file's that was given something else; else empty."""
    found = re.match(r"(\w+)\.__init__\(\) got an unexpected keyword argument", str(error))
    kind = vars(module).get(found[1]) if found else None
    if not dataclasses.is_dataclass(kind):
        return ""
    return f"; its fields are {', '.join(field.name for field in dataclasses.fields(kind))}."


def _where(path: Path, error: BaseException) -> str:
    """The file, and the line of it that was last at work."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == path.absolute()]
    return f"{path}, line {lines[-1]}" if lines else str(path)
