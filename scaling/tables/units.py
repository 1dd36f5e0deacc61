# SPDX-License-Identifier: Apache-2.0
"""Columns of other people's tables, with the unit they are in: "params_M:M" -> (column, 1e6)."""

from collections.abc import Collection, Container, Mapping, Sequence
from difflib import get_close_matches
from math import inf, isfinite
from typing import Any

_COUNTS = {"K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}
# One petaflop/s-day is 1e15 * 86400 FLOPs (Kaplan et al. 2020, sec. 1.3).
_FLOPS = _COUNTS | {"P": 1e15, "E": 1e18, "Z": 1e21, "Y": 1e24, "PF-days": 8.64e19}
# A loss stays in its unit: ``loss_unit`` tells which that is.
_LOSSES = {"nats": 1.0, "bits": 1.0}
NATS, BITS = "nats per token", "bits per byte"
NATS_HIDDEN, NATS_TARGET = "nats per masked token", "nats per target token"
# Of images: a dimension is a value of a pixel.
NATS_PIXEL, BITS_PER_DIM = "nats per pixel", "bits per dimension"
NATS_IMAGE = "nats per image"
# What our own tables say in a column "loss_per", and in "loss_kind" of a loss that is a bound.
_PER = {
    "token": NATS,
    "masked token": NATS_HIDDEN,
    "target token": NATS_TARGET,
    "pixel": NATS_PIXEL,
    "image": NATS_IMAGE,
}
BOUND = "upper bound"
UNITS = {
    "n_params": _COUNTS,
    "n_tokens": _COUNTS,
    "flops": _FLOPS,
    "budget": _FLOPS,
    "loss_nats": _LOSSES,
    "run_id": {},
    "cluster_id": {},
    "status": {},
}


def column_and_factor(field: str, given: str, header: Container[str]) -> tuple[str, float]:
    """The column that a mapping names and what its numbers are multiplied by.

    A name alone means the unit of the field: parameters, tokens, FLOPs, nats per token. With
    ":unit" behind it K, M, B or G, T multiply counts; P, E, Z, Y and PF-days FLOPs as well;
    "bits" says that a loss is in bits per byte, and so it stays; any number multiplies by itself
    ("steps:524288"). A column whose own name ends like that is taken as it is named.

    Raises:
      ValueError: for a unit that the field does not have.
    """
    if given in header or ":" not in given:
        return given, 1.0
    column, unit = given.rsplit(":", 1)
    legal = UNITS.get(field, _COUNTS)
    if unit in legal:
        return column, legal[unit]
    factor = _factor(unit) if legal else 0.0
    if not 0.0 < factor < inf:
        known = f"{', '.join(legal)}, or a positive number" if legal else "none"
        raise ValueError(f"{field}={given}: unknown unit {unit!r}; units of {field} are: {known}")
    return column, factor


def _factor(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def loss_unit(given: str, columns: Mapping[str, Sequence[Any]]) -> str:
    """The unit of the losses in a column that is named so: of "loss_nats" what a column "loss_per"
    says.

    Raises:
      ValueError: if that says several.
    """
    if given not in columns and given.endswith(":bits"):
        return BITS
    told = sorted({str(cell) for cell in columns.get("loss_per", ())} & {*_PER})
    if not given.startswith("loss_nats") or not told:
        return NATS
    if len(told) > 1:
        raise ValueError(
            f"losses are nats per {' and nats per '.join(told)}, which do not compare: choose one "
            f"of them, --where 'loss_per={told[0]}'"
        )
    return _PER[told[0]]


def bits_words(loss_unit: str) -> str:
    """What nats of this unit are told in beside it."""
    return BITS_PER_DIM if loss_unit.startswith(NATS_PIXEL) else BITS


def loss_words(loss_unit: str, token: str) -> str:
    """The unit of a loss where tokens are called so: nats per byte."""
    return loss_unit.replace("token", token)


def count(value: float, _position: float = 0) -> str:
    """A count with k, M, B, T, three digits: 24k, 1.52M; also a formatter of an axis."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9995:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def power(value: float, digits: int = 3) -> str:
    """A number of FLOPs, spelled the same everywhere: 2.5e10."""
    if not isfinite(value) or (-1000 < value < 1000 and not 0 < value < 1):
        return f"{value:.{digits}g}"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def check_fields(names: Collection[str], header: Container[str]) -> None:
    """Raises ValueError for names that look like a field misspelt, of which there is no other.

    Other names are legal: columns that a law of its own reads (d_model, unique_tokens, ...).

    Args:
      names: that a mapping gives a column; header: columns that the table has by itself.
    """
    for name in names:
        close = get_close_matches(name, UNITS, n=1, cutoff=0.8)
        if name not in UNITS and close and close[0] not in names and close[0] not in header:
            raise ValueError(f"columns names {name}; did you mean {close[0]}?")
        if name not in UNITS and not name.isidentifier():
            raise ValueError(f"columns names {name!r}; fields are {', '.join(UNITS)}")
