# SPDX-License-Identifier: Apache-2.0
"""The points of a plan, as much of them as tells which they are: ten thousand in half a second."""

import msgspec

from experiments.files.checked_json import Damaged, text_of
from experiments.ledger.ledger import Ledger
from experiments.plan.point import shown_seeds
from experiments.study.study import Label


class _Model(msgspec.Struct):
    d_model: int


class _Schedule(msgspec.Struct):
    n_steps: int


class _Train(msgspec.Struct):
    schedule: _Schedule
    init_seed: int
    data_seed: int


class _Spec(msgspec.Struct):
    model: _Model
    train: _Train


class Asked(msgspec.Struct, frozen=True):
    """The part of a point (experiments/plan/point.py) that tells which one it is."""

    id: str
    role: str
    budget: float
    convention: str
    axes: dict[str, Label]
    n_tokens: int
    flops: dict[str, float]
    cluster_id: str
    spec: _Spec

    @property
    def d_model(self) -> int:
        return self.spec.model.d_model

    @property
    def seeds(self) -> str:
        return shown_seeds(self.spec.train.init_seed, self.spec.train.data_seed)

    @property
    def n_steps(self) -> int:
        return self.spec.train.schedule.n_steps


def read_asked(ledger: Ledger) -> list[Asked]:
    """The points of the plan, without a check of their ids (that is the doctor's).

    Raises:
      Damaged: if a line is not what was written.
    """
    lines = [text_of(line) or b"" for line in ledger.plan_lines()]
    try:
        return [msgspec.json.decode(line, type=Asked) for line in lines]
    except msgspec.MsgspecError:
        name = ledger.storage.name("plan.jsonl")
        raise Damaged(f"{name} is damaged. Delete it and run `isoflop run` again.") from None


def asked_points(ledger: Ledger, study_name: str) -> list[Asked]:
    """The points of the plan; raises ValueError if there is none."""
    asked = read_asked(ledger)
    if not asked:
        raise ValueError(f"{ledger.folder} has no plan. `isoflop run {study_name}` makes one.")
    return asked
