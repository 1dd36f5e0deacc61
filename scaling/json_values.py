# SPDX-License-Identifier: Apache-2.0
"""Results as plain JSON values, and back."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import numpy as np

from scaling.intervals import Interval
from scaling.tables.arrays import Array
from scaling.tables.runs import COLUMNS, Runs
from scaling.tables.units import NATS


def encode(value: Any) -> Any:
    """Plain JSON values of a result: NaN and infinities become null, enumerations their names."""
    if isinstance(value, Enum):
        return value.name
    if is_dataclass(value):
        return {f.name: encode(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, np.ndarray):
        is_plain = value.dtype.kind in "biuU" or (
            value.dtype.kind == "f" and bool(np.isfinite(value).all())
        )
        return value.tolist() if is_plain else [encode(x) for x in value.tolist()]
    if isinstance(value, Mapping):
        return {str(k): encode(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [encode(x) for x in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def number(value: float | None) -> float:
    return math.nan if value is None else value


def floats(values: list[Any]) -> Array:
    return np.array([number(v) for v in values], float)


def interval(body: Mapping[str, Any]) -> Interval:
    return Interval(lower=number(body["lower"]), upper=number(body["upper"]))


def plain(kind: type, body: Mapping[str, Any]) -> Any:
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in body.items()})


def runs_of(body: Mapping[str, Any]) -> Runs:
    """Runs from what `encode` made of them."""

    def column(values: list[Any]) -> Array:
        is_text = any(isinstance(v, str) for v in values)
        return np.array(values, str) if is_text else floats(values)

    known: dict[str, Any] = {name: column(body[name]) for name in COLUMNS}
    known |= {name: body[name] for name in ("params_convention", "flops_convention")}
    known |= {"notes": tuple(body.get("notes", ())), "loss_unit": body.get("loss_unit", NATS)}
    return Runs(**known, extra={name: column(values) for name, values in body["extra"].items()})
