# SPDX-License-Identifier: Apache-2.0
"""A configuration that cannot be trained is refused in one line that names the field."""

import copy
import math
from dataclasses import fields, replace

import pytest

from model.training.config import (
    ADAMW,
    ROLES,
    EvalConfig,
    MuonConfig,
    ScheduleConfig,
    TrainConfig,
    groups,
)

SCHEDULE = ScheduleConfig(
    n_steps=20, warmup_steps=3, decay_steps=12, decay="linear", final_fraction=0.0
)
MUON = MuonConfig(momentum=0.95, nesterov=True, ns_steps=5, scale="rms")
EVALUATION = EvalConfig(n_tokens=700, curve_tokens=100, n_points=2, seed=3)

BY_TOKENS = {"n_tokens": None, "curve_tokens": None}


@pytest.mark.parametrize(
    ("part", "change", "named"),
    [
        ("optimizer", {"beta1": 1.0}, "beta1=1.0"),
        ("optimizer", {"beta2": -0.1}, "beta2=-0.1"),
        ("optimizer", {"beta2": math.nan}, "beta2=nan"),
        ("optimizer", {"clip_norm": 0.0}, "clip_norm=0.0"),
        ("optimizer", {"clip_norm": math.nan}, "clip_norm=nan"),
        ("group", {"learning_rate": -1e-3}, "learning_rate=-0.001"),
        ("group", {"learning_rate": math.inf}, "learning_rate=inf"),
        ("group", {"weight_decay": math.nan}, "weight_decay=nan"),
        ("group", {"eps": -1e-8}, "eps=-1e-08"),
        ("optimizer", {"algorithm": "sgd"}, "algorithm='sgd'"),
        ("optimizer", {"algorithm": "muon"}, "algorithm='muon' needs its constants"),
        ("optimizer", {"muon": MUON}, "algorithm='adamw' needs null here"),
        ("muon", {"momentum": 1.0}, "momentum=1.0"),
        ("muon", {"momentum": math.nan}, "momentum=nan"),
        ("muon", {"nesterov": 1}, "nesterov=1"),
        ("muon", {"ns_steps": 0}, "ns_steps=0"),
        ("muon", {"ns_steps": 101}, "ns_steps=101"),
        ("muon", {"scale": "width"}, "scale='width'"),
        ("schedule", {"decay": "square"}, "decay='square'"),
        ("schedule", {"final_fraction": 1.1}, "final_fraction=1.1"),
        ("schedule", {"final_fraction": math.nan}, "final_fraction=nan"),
        ("schedule", {"n_steps": 0, "warmup_steps": 0, "decay_steps": 0}, "n_steps=0"),
        ("schedule", {"warmup_steps": -1}, "warmup_steps=-1"),
        ("schedule", {"decay_steps": -1}, "decay_steps=-1"),
        ("schedule", {"warmup_steps": 9}, "warmup_steps=9 and decay_steps=12"),
        ("evaluation", {"curve_tokens": 0}, "curve_tokens=0"),
        ("evaluation", {"curve_tokens": 701}, "n_tokens=700"),
        ("evaluation", {"n_points": 0}, "n_points=0"),
        ("evaluation", {"n_bytes": 700}, "curve_tokens, n_bytes, n_tokens: give n_tokens and"),
        ("evaluation", {"n_tokens": None, "curve_tokens": None}, "evaluation gives no size"),
        ("evaluation", {**BY_TOKENS, "n_bytes": 9, "curve_bytes": 10}, "curve_bytes=10"),
        ("evaluation", {**BY_TOKENS, "n_bytes": 0, "curve_bytes": 0}, "n_bytes=0"),
        ("train", {"batch_size": 0}, "batch_size=0"),
        ("train", {"compute_dtype": "float16"}, "compute_dtype='float16'"),
        ("train", {"z_loss_weight": -1.0}, "z_loss_weight=-1.0"),
        ("train", {"z_loss_weight": math.nan}, "z_loss_weight=nan"),
    ],
)
def test_an_illegal_value_is_refused_in_one_line_that_names_it(
    train_config: TrainConfig, part: str, change: dict, named: str
) -> None:
    optimizer = train_config.optimizer
    parts = {"train": train_config, "optimizer": optimizer, "group": optimizer.hidden}
    parts |= {"schedule": SCHEDULE, "evaluation": EVALUATION, "muon": MUON}
    # Not by replace: the type checks of the tests would refuse some values before the class does.
    changed = copy.copy(parts[part])
    for name, value in change.items():
        object.__setattr__(changed, name, value)
    with pytest.raises(ValueError) as refused:  # noqa: PT011 (the message is read below)
        changed.__post_init__()
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("n_steps", "n_points", "steps"),
    [
        (20, 2, (10, 20)),
        (20, 3, (7, 14, 20)),
        (20, 1, (20,)),
        (3, 10, (1, 2, 3)),
        (1, 5, (1,)),
        (7, 7, (1, 2, 3, 4, 5, 6, 7)),
    ],
)
def test_curve_points_are_evenly_spaced_and_the_last_lies_at_the_end(
    train_config: TrainConfig, n_steps: int, n_points: int, steps: tuple
) -> None:
    schedule = ScheduleConfig(
        n_steps=n_steps, warmup_steps=0, decay_steps=0, decay="linear", final_fraction=0.0
    )
    evaluation = replace(EVALUATION, n_points=n_points)
    assert replace(train_config, schedule=schedule, evaluation=evaluation).eval_steps == steps


def test_every_role_has_the_group_of_its_name(train_config: TrainConfig) -> None:
    optimizer = train_config.optimizer
    assert groups(optimizer) == {role: getattr(optimizer, role) for role in ROLES}
    assert {field.name for field in fields(optimizer)} >= set(ROLES)


def test_what_is_compiled_for_is_all_of_muon_but_its_momentum(train_config: TrainConfig) -> None:
    with_muon = replace(train_config.optimizer, algorithm="muon", muon=MUON)
    assert with_muon.compiled == ("muon", True, 5, "rms")
    assert replace(with_muon, muon=replace(MUON, momentum=0.5)).compiled == with_muon.compiled
    assert train_config.optimizer.compiled == ADAMW
    assert hash(with_muon.compiled) != hash(ADAMW)
