# SPDX-License-Identifier: Apache-2.0
"""Fields of a study set on the command line: ``budgets=1e11,3e11 recipe.optimizer.decay=cosine``.

Values are checked against the type of the field; nothing is evaluated.
"""

import dataclasses
import typing
from typing import Any

import msgspec

from experiments.files import strict_json
from experiments.study.study import Study
from model.field_checks import one_line


def override(study: Study, assignments: list[str]) -> Study:
    """The study with every ``path=value`` applied.

    Raises:
      ValueError: one line naming the field, if it does not exist or the value is not legal.
    """
    try:
        return _changed(study, _tree(assignments), "")
    except ValueError as error:
        raise ValueError(one_line(str(error))) from None


def _tree(assignments: list[str]) -> dict[str, Any]:
    """Nested texts by the parts of their paths."""
    changes: dict[str, Any] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise ValueError(f"{assignment!r}: overrides look like field=value.")
        *parents, name = path.split(".")
        node = changes
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ValueError(f"{path}: {parent} is set to {node!r} already.")
        if name in node:
            raise ValueError(f"{path}: given twice. Give each field once.")
        node[name] = text
    return changes


def _changed(node: Any, changes: dict[str, Any], prefix: str) -> Any:
    """The node with all its changes at once: they are checked together, in any order."""
    known = [f.name for f in dataclasses.fields(node)]
    values = {}
    for name, change in changes.items():
        path, current = prefix + name, getattr(node, name, None)
        if name not in known:
            raise ValueError(
                f"{path}: {type(node).__name__} has no field {name!r}; it has {', '.join(known)}."
            )
        is_node = dataclasses.is_dataclass(current)
        if is_node and not isinstance(change, dict):
            raise ValueError(
                f"{path}: set one of its fields, for instance {path}.{_first(current)}=."
            )
        if not is_node and isinstance(change, dict):
            raise ValueError(f"{path} has no fields; it is {current!r}.")
        if is_node:
            values[name] = _changed(current, change, f"{path}.")
        else:
            kind = typing.get_type_hints(type(node))[name]
            values[name] = _parsed(change, kind, current, path)
    return dataclasses.replace(node, **values)


def _first(node: Any) -> str:
    return dataclasses.fields(node)[0].name


def _parsed(text: str, kind: Any, current: Any, path: str) -> Any:
    is_list = isinstance(current, tuple)
    if kind is str:
        return text
    if kind is bool:
        text = text.lower()  # True as Python has it, true as JSON.
    try:
        # Strictly JSON: Python would also read NaN, Infinity, and 1e999 as infinity.
        value = strict_json.loads(f"[{text}]" if is_list and not text.startswith("[") else text)
    except ValueError:
        value = text.split(",") if is_list else text
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, ValueError, TypeError) as error:
        raise ValueError(f"{path}={text}: {error}. It is now {current!r}.") from None
