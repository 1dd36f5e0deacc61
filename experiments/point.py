# SPDX-License-Identifier: Apache-2.0
"""One point of a grid: a run with every number resolved, and its stable id. No JAX."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

import msgspec

from model.config import ModelConfig
from model.counts.total import FlopConvention, ParamCounts
from model.training.config import TrainConfig

# Raised by one when the same Spec starts to mean another computation. Part of every id.
SEMANTICS = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Spec:
    """All that moves the loss of a run, and nothing else; its hash is the run's id.

    Budget, study, recipe and convention names are not in it; host, device and mesh are recorded
    with the result.
    """

    model: ModelConfig
    train: TrainConfig
    data_fingerprint: str
    semantics: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A Spec and what the study calls it.

    Attributes:
      id: hash of the spec.
      spec: see there.
      role: "grid" points are fitted; "forecast" points are predicted first and never fitted.
      budget: FLOPs asked, in ``convention``; grouping uses it.
      convention: FLOP convention of the budget.
      seed: of initialisation and data order.
      axes: values of the study's axes.
      n_tokens: trained.
      epochs: passes over the training tokens; None where they are unlimited.
      params: parameters.
      flops: achieved, under every convention.
      cluster_id: points that share noise have the same one; here every run has its own.
    """

    id: str
    spec: Spec
    role: str
    budget: float
    convention: FlopConvention
    seed: int
    axes: dict[str, float]
    n_tokens: int
    epochs: float | None
    params: ParamCounts
    flops: dict[str, float]
    cluster_id: str


def typed(spec: Spec) -> Spec:
    """The spec as it is read back from disk: 10000 in a field of floats becomes 10000.0.

    Without it a study that writes a rate as 1 would plan a run whose file has another hash.

    Raises:
      ValueError: if a field does not have its type.
    """
    try:
        return msgspec.convert(msgspec.to_builtins(spec), Spec)
    except msgspec.ValidationError as error:
        raise ValueError(f"the study resolves to a run with a wrong type: {error}.") from None


def spec_id(spec: Spec) -> str:
    """First 16 hex digits of sha256 over the canonical JSON, floats at 8 significant digits."""
    canonical = json.dumps(
        _rounded(dataclasses.asdict(spec)), sort_keys=True, separators=(",", ":"), allow_nan=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.8g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value


def to_json(value: Any) -> str:
    """A dataclass as JSON text."""
    return msgspec.json.encode(value).decode()


def point_from_json(text: str | bytes) -> Point:
    """The Point that ``to_json`` wrote.

    Raises:
      ValueError: if the text is not a Point, or its id is not the hash of its spec.
    """
    try:
        point = msgspec.json.decode(text, type=Point)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a point of a plan: {error}") from None
    if spec_id(point.spec) != point.id:
        raise ValueError(f"id {point.id} is not the hash of its spec: the file was changed.")
    return point
