# SPDX-License-Identifier: Apache-2.0
"""One point of a grid: a run with every number resolved, and its stable id. No JAX."""

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

import msgspec

from experiments.files import strict_json
from experiments.study.study import Label
from model.field_checks import HUGE, check_choice, check_real, check_whole, is_real, one_line, shown
from model.network.config import ModelConfig
from model.network.counts.total import FLOP_CONVENTIONS, FlopConvention, ParamCounts
from model.training.config import TrainConfig

# Raised by one when the same Spec starts to mean another computation. Part of every id.
SEMANTICS = 3


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

    def __post_init__(self) -> None:
        check_whole(self, "semantics")
        if not re.fullmatch("[0-9a-f]{64}", self.data_fingerprint):
            raise ValueError(
                f"data_fingerprint={shown(self.data_fingerprint)}: must be 64 hexadecimal digits."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A Spec and what the study calls it.

    Attributes:
      id: hash of the spec.
      spec: see there.
      role: "grid" points are fitted; "forecast" points are predicted first and never fitted.
      budget: FLOPs asked, in ``convention``; grouping uses it.
      convention: FLOP convention of the budget.
      axes: values of the study's axes.
      n_tokens: trained.
      epochs: passes over the training tokens, of a mixture over those of the part that is repeated
        most; None where they are unlimited.
      params: parameters.
      flops: achieved, under every convention.
      cluster_id: points that share noise have the same one (experiments/plan/trunks.py).
      smallest_batch: sequences per step that the recipe's rule gives at least.
    """

    id: str
    spec: Spec
    role: str
    budget: float
    convention: FlopConvention
    axes: dict[str, Label]
    n_tokens: int
    epochs: float | None
    params: ParamCounts
    flops: dict[str, float]
    cluster_id: str
    smallest_batch: int

    @property
    def seed(self) -> int:
        """Of the initialisation."""
        return self.spec.train.init_seed

    @property
    def seeds(self) -> str:
        return shown_seeds(self.spec.train.init_seed, self.spec.train.data_seed)

    @property
    def flops_per_step(self) -> float:
        """FLOPs of a training step ("matmul_full")."""
        return self.flops["matmul_full"] / self.spec.train.schedule.n_steps

    def __post_init__(self) -> None:
        check_id(self.id)
        check_id(self.cluster_id, "cluster_id")
        check_choice(self, "role", ("grid", "forecast"))
        check_choice(self, "convention", FLOP_CONVENTIONS)
        check_real(self, "budget")
        if self.epochs is not None:
            check_real(self, "epochs")
        check_whole(self, "n_tokens", high=2**63)
        check_whole(self, "smallest_batch")
        check_whole(self.params, "total non_embedding active", high=2**63)
        if set(self.flops) != set(FLOP_CONVENTIONS):
            raise ValueError(f"flops={shown(self.flops)}: needs {', '.join(FLOP_CONVENTIONS)}.")
        for key, value in self.flops.items():
            if not is_real(value) or not 0 < value < HUGE:
                raise ValueError(f"flops.{shown(key)}={value}: must be a finite number.")
        for key, label in self.axes.items():
            if label == "" or (is_real(label) and not abs(label) <= HUGE):
                raise ValueError(f"axes.{shown(key)}={label}: must be a finite number or a word.")


def shown_seeds(init_seed: int, data_seed: int) -> str:
    """Both for people: initialisation/data order, or one number where they are equal."""
    return str(init_seed) if init_seed == data_seed else f"{init_seed}/{data_seed}"


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
    """First 16 hex digits of sha256 over the canonical JSON, floats at 8 significant digits.

    A field that has its default is left out: one that is added later, with a default that means
    what was before, changes no id.
    """
    canonical = json.dumps(_canonical(spec), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _canonical(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.8g}")
    if isinstance(value, msgspec.Struct):
        return _canonical(msgspec.to_builtins(value))  # Without defaults: see LayerConfig.
    if dataclasses.is_dataclass(value):
        fields = [(f.name, getattr(value, f.name), f.default) for f in dataclasses.fields(value)]
        return {name: _canonical(item) for name, item, default in fields if item != default}
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    return value


def to_json(value: object) -> str:
    """A dataclass as JSON text."""
    return msgspec.json.encode(value).decode()


def point_from_json(text: str | bytes) -> Point:
    """The Point that ``to_json`` wrote.

    Raises:
      ValueError: one line, if the text is not a Point, strictly read, or its id is not the hash
        of its spec.
    """
    try:
        point = strict_json.decode(text, Point)
    except ValueError as error:
        raise ValueError(f"not a point of a plan: {one_line(str(error))}") from None
    return checked(point)


def checked(point: Point) -> Point:
    """The point, if its id is the hash of its spec; raises ValueError."""
    if spec_id(point.spec) != point.id:
        raise ValueError(f"id {point.id} is not the hash of its spec: the file was changed.")
    return point


def check_id(name: str, field: str = "id") -> str:
    """The id of a point or a job, if it can be a folder's name everywhere.

    Raises:
      ValueError: if it is not 1 to 64 of [a-z0-9-].
    """
    if not is_id(name):
        raise ValueError(
            f"{field} {shown(name)}: must be 1 to 64 of the characters a-z, 0-9 and '-'."
        )
    return name


def is_id(name: str) -> bool:
    """Whether ``check_id`` takes it."""
    return isinstance(name, str) and re.fullmatch("[a-z0-9-]{1,64}", name) is not None
