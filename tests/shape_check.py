# SPDX-License-Identifier: Apache-2.0
"""The checker of array shapes in the signatures of `scaling`, and of nothing else there.

A count may be an int where a float is declared, and numpy's scalars stand for arrays without axes:
only what jaxtyping declares is passed on to beartype.
"""

from collections.abc import Callable
from typing import Any

from beartype import beartype


def shapes(function: Callable[..., Any]) -> Callable[..., Any]:
    hints = function.__annotations__
    function.__annotations__ = {name: h for name, h in hints.items() if "jaxtyping" in str(h)}
    return beartype(function)
