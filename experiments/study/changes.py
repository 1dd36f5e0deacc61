# SPDX-License-Identifier: Apache-2.0
"""A nested configuration with some of its fields changed. Fields are named by their path."""

import dataclasses
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

Node = TypeVar("Node")
# (path, new value, type of the field, its value now) to the value that the field gets.
Convert = Callable[[str, Any, Any, Any], Any]


def changed(
    node: Node, changes: Iterable[tuple[str, Any]], convert: Convert = lambda path, new, *_: new
) -> Node:
    """The configuration with every (path, value) applied, such as ("optimizer.beta1", 0.8);
    an element of a list of nodes by its number: "shape.blocks.0.mixer.head_width".

    All at once: they are checked together, in any order.

    Raises:
      ValueError: one line, if a field does not exist, is given twice, or its value is refused.
    """
    return _changed(node, _tree(changes), "", convert)


def _tree(changes: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Nested values by the parts of their paths."""
    tree: dict[str, Any] = {}
    for path, value in changes:
        *parents, name = path.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ValueError(f"{path}: {parent} is set to {node!r} already.")
        if name in node:
            raise ValueError(f"{path}: given twice. Give each field once.")
        node[name] = value
    return tree


def _changed(node: Any, changes: Mapping[str, Any], prefix: str, convert: Convert) -> Any:
    known = _children(node)
    values = {}
    for name, change in changes.items():
        path = prefix + name
        if name not in known:
            within = [f"{prefix}{key}.{name}" for key in known if name in _children(known[key])]
            meant = f" Did you mean {' or '.join(within)}?" * bool(within)
            raise ValueError(
                f"{path}: {type(node).__name__} has no field {name!r}; it has {', '.join(known)}."
                + meant
            )
        current = known[name]
        inner = _children(current)
        is_whole = dataclasses.is_dataclass(change) or isinstance(change, tuple)
        if dataclasses.is_dataclass(current) and not isinstance(change, dict) and not is_whole:
            first = next(iter(inner))
            raise ValueError(f"{path}: set one of its fields, for instance {path}.{first}.")
        if not inner and isinstance(change, dict):
            raise ValueError(f"{path} has no fields; it is {current!r}.")
        if isinstance(change, dict):
            values[name] = _changed(current, change, f"{path}.", convert)
        else:
            kind = typing.get_type_hints(type(node)).get(name)
            values[name] = convert(path, change, kind, current)
    if isinstance(node, tuple):
        return tuple((known | values).values())
    return dataclasses.replace(node, **values)


def leaves(node: Any, prefix: str = "") -> dict[str, Any]:
    """Every value of a nested configuration by its path."""
    found: dict[str, Any] = {}
    for name, value in _children(node).items():
        path = prefix + name
        found |= leaves(value, f"{path}.") if _children(value) else {path: value}
    return found


def _children(node: Any) -> dict[str, Any]:
    """By name the fields of a node, by number the nodes of a list; nothing of a plain value."""
    if dataclasses.is_dataclass(node):
        return {field.name: getattr(node, field.name) for field in dataclasses.fields(node)}
    if isinstance(node, tuple) and all(map(dataclasses.is_dataclass, node)):
        return {str(place): element for place, element in enumerate(node)}
    return {}
