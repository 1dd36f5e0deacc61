# SPDX-License-Identifier: Apache-2.0
"""A study from the JSON that its folder holds. No file is run for it."""

import dataclasses
import types
from typing import Any, Union, get_args, get_origin, get_type_hints

from experiments.files import strict_json
from experiments.study.study import Axis, Study
from model.data.source import Source
from model.network.counts.kinds import LayerRule, rules


def study_from_json(text: str | bytes, data: Source) -> Study:
    """The study that was written as this text.

    Args:
      data: its source, whose kind the text does not tell.

    Raises:
      ValueError: for what is no study, or has a value that only its file can make.
    """
    fields = strict_json.loads(text)
    if not isinstance(fields, dict) or "data" not in fields:
        raise ValueError("it is no study")
    hints = get_type_hints(Study)
    of_fields = {name: value for name, value in fields.items() if name != "data"}
    made = {name: _made(hints.get(name, Any), value) for name, value in of_fields.items()}
    return Study(**made, data=data)


def _made(kind: Any, value: Any) -> Any:
    """A value of a type, from JSON: of several dataclasses the one with just these fields, of which
    those with a default may be missing: they came later.
    """
    if isinstance(value, list):
        return tuple(
            _made(each, item) for each, item in zip(_elements(kind, value), value, strict=True)
        )
    if not isinstance(value, dict):
        return value
    able = [one for one in _dataclasses(kind) if _required(one) <= {*value} <= _fields(one)]
    if len(able) != 1:
        raise ValueError(f"an object with the fields {', '.join(value)} is nothing that is known")
    hints = get_type_hints(able[0])
    if able[0] is Axis:
        hints |= {"values": types.GenericAlias(tuple, (_kind_at(Study, value["field"]), ...))}
    return able[0](**{name: _made(hints[name], item) for name, item in value.items()})


def _fields(kind: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def _required(kind: Any) -> set[str]:
    fields = dataclasses.fields(kind)
    return {field.name for field in fields if field.default is dataclasses.MISSING}


def _options(kind: Any) -> tuple[Any, ...]:
    """The types that a type may be."""
    if kind is LayerRule:
        return tuple(rules())
    if get_origin(kind) in (Union, types.UnionType):
        return tuple(option for each in get_args(kind) for option in _options(each))
    return (kind,)


def _dataclasses(kind: Any) -> list[Any]:
    return [option for option in _options(kind) if dataclasses.is_dataclass(option)]


def _elements(kind: Any, values: list[Any]) -> list[Any]:
    """The type of each element of a list of a type."""
    for option in _options(kind):
        if get_origin(option) is tuple:
            of = get_args(option)
            return [of[0]] * len(values) if of[-1] is Ellipsis else list(of)
    return [Any] * len(values)


def _kind_at(kind: Any, path: str) -> Any:
    """The type of the field at a dotted path; elements of a list by their number."""
    for name in path.split("."):
        if name.isdigit():
            kind = _elements(kind, [None])[0]
        else:
            hints = [get_type_hints(option) for option in _dataclasses(kind)]
            kind = next((each[name] for each in hints if name in each), Any)
    return kind
