# SPDX-License-Identifier: Apache-2.0
"""What a command was told, as the record that the rest of the project takes."""

import argparse
import dataclasses
from typing import Any, TypeVar

Record = TypeVar("Record")


def from_options(kind: type[Record], options: argparse.Namespace, **others: Any) -> Record:
    """A dataclass whose fields are the options of the same names, but for those given here.

    Lists, as of options that may be repeated, become tuples.
    """
    assert dataclasses.is_dataclass(kind)
    names = {field.name for field in dataclasses.fields(kind)} - set(others)
    told = {name: getattr(options, name) for name in names}
    told = {name: tuple(v) if isinstance(v, list) else v for name, v in told.items()}
    return kind(**told, **others)
