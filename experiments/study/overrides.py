# SPDX-License-Identifier: Apache-2.0
"""Fields of a study set on the command line: ``budgets=1e11,3e11 recipe.optimizer.decay=cosine``.

Values are checked against the type of the field; nothing is evaluated.
"""

from typing import Any, Literal, get_args, get_origin

import msgspec

from experiments.files import strict_json
from experiments.study.changes import changed
from experiments.study.study import Study
from model.field_checks import one_line


def override(study: Study, assignments: list[str]) -> Study:
    """The study with every ``path=value`` applied.

    Raises:
      ValueError: one line naming the field, if it does not exist or the value is not legal.
    """
    try:
        return changed(study, map(_pair, assignments), _parsed)
    except ValueError as error:
        raise ValueError(one_line(str(error))) from None


def _pair(assignment: str) -> tuple[str, str]:
    path, equals, text = assignment.partition("=")
    if not equals:
        raise ValueError(f"{assignment!r}: overrides look like field=value.")
    return path, text


def _parsed(path: str, text: str, kind: Any, current: Any) -> Any:
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
        legal = f"must be {', '.join(map(str, get_args(kind)))}"
        # The words of msgspec, without its place in the value.
        why = legal if get_origin(kind) is Literal else str(error).partition(" - at `$")[0]
        now = f"It is now {path}={_written(current)}"
        lists = f"; an empty list is written {path}=, lists in a list [[0,1],[2]]" * is_list
        raise ValueError(f"{path}={text}: {why.replace('`', '')}. {now}{lists}.") from None


def _written(value: Any, *, is_within: bool = False) -> str:
    """A value as an override gives it: texts as they are, lists of no lists without brackets, else
    JSON."""
    if isinstance(value, tuple):
        text = ",".join(_written(one, is_within=True) for one in value)
        has_brackets = is_within or any(isinstance(one, tuple) for one in value)
        return f"[{text}]" if has_brackets else text
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}".replace("e+", "e")
    if isinstance(value, str) and not is_within:
        return value
    return msgspec.json.encode(value).decode()
