# SPDX-License-Identifier: Apache-2.0
"""Columns as a pandas DataFrame, for those who have pandas: this project does without it."""

import importlib
from collections.abc import Mapping
from typing import Any

from scaling.tables.arrays import Array


def dataframe(columns: Mapping[str, Array | list[Any]]) -> Any:
    """Raises ImportError with the way out where pandas is not installed."""
    try:
        return importlib.import_module("pandas").DataFrame(dict(columns))
    except ModuleNotFoundError:
        raise ImportError(
            "to_dataframe() needs pandas, which is not installed: pip install pandas"
        ) from None
