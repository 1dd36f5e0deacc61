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
        raise ValueError(f"{path}={text}: {why.replace('`', '')}. It is now {current!r}.") from None
