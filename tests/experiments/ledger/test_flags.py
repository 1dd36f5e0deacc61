# SPDX-License-Identifier: Apache-2.0
"""Planted curves: each flag is raised by a run that has it, and by no healthy one."""

import dataclasses
import math

import numpy as np
import pytest

from experiments.ledger.flags import FLAGS, flags, has_spike, is_plateau
from experiments.plan.plan import plan
from model.training.config import ScheduleConfig
from model.training.outcome import CurvePoint

N_REPORTS = 40


def reports(seed=0, loss_noise=0.03, norm_noise=0.3):
    """A power law, and norms of single steps with a heavy tail, as small batches have."""
    rng = np.random.default_rng(seed)
    steps = 32 * np.arange(1, N_REPORTS + 1)
    losses = 1.2 + 6.0 * steps**-0.4 + loss_noise * rng.standard_normal(N_REPORTS)
    norms = 0.5 * np.exp(norm_noise * rng.standard_t(5, N_REPORTS))
    return [
        {"step": int(step), "loss_nats": float(loss), "grad_norm": float(norm)}
        for step, loss, norm in zip(steps, losses, norms, strict=True)
    ]


def curve(fall_per_doubling, n_steps=1200, n_points=6):
    return [
        CurvePoint(
            step=n_steps * i // n_points,
            n_tokens=i,
            loss_nats=3.0 - fall_per_doubling * math.log2(i / n_points),
        )
        for i in range(1, n_points + 1)
    ]


LINEAR = ScheduleConfig(
    n_steps=1200, warmup_steps=100, decay_steps=1100, decay="linear", final_fraction=0.0
)


@pytest.fixture
def raised(points):
    """The flags of a run that is healthy but for what is given."""

    def raised(rows=None, losses=None, schedule=LINEAR, batch=4):
        train = dataclasses.replace(points[0].spec.train, schedule=schedule, batch_size=batch)
        spec = dataclasses.replace(points[0].spec, train=train)
        point = dataclasses.replace(points[0], spec=spec, smallest_batch=2)
        return flags(point, curve(0.2) if losses is None else losses, rows or reports())

    return raised


def test_healthy_runs_raise_no_flag(raised):
    """But for one in a hundred whose gradients have so heavy a tail."""
    found = [raised(rows=reports(seed)) for seed in range(300)]
    assert sum(flagged != () for flagged in found) <= 3


@pytest.mark.parametrize("at", [9, 20, N_REPORTS - 1])
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("loss_nats", lambda loss: loss + 1.2),
        ("grad_norm", lambda norm: 60 * norm),
        ("grad_norm", lambda norm: None),  # Infinite.
    ],
)
def test_a_spike_of_the_loss_or_of_a_gradient_is_flagged_wherever_it_is(raised, at, name, change):
    rows = reports()
    rows[at][name] = change(rows[at][name])
    assert raised(rows=rows) == ("spike",)


def test_a_jump_that_stays_is_a_spike_and_a_step_down_is_none(raised):
    up, down = reports(), reports()
    for above, below in zip(up[25:], down[25:], strict=True):
        above["loss_nats"] += 0.6
        below["loss_nats"] -= 0.6
    assert raised(rows=up) == ("spike",)
    assert raised(rows=down) == ()


def test_what_is_large_for_a_quiet_run_and_small_in_itself_is_no_spike():
    rows = reports(loss_noise=1e-4, norm_noise=1e-4)
    rows[30]["loss_nats"] *= 1.01
    rows[30]["grad_norm"] *= 5
    assert not has_spike(rows, "loss_nats")
    assert not has_spike(rows, "grad_norm")


def test_too_few_reports_and_those_of_a_diverged_run_raise_no_spike():
    rows = reports()
    rows[5]["loss_nats"] += 3
    assert has_spike(rows, "loss_nats")
    assert not has_spike(rows[:11], "loss_nats")
    dead = [{"step": 2000, "loss_nats": None, "grad_norm": None}]
    assert not has_spike(reports() + dead, "grad_norm")


def test_a_loss_that_hardly_falls_while_the_rate_is_high_is_a_plateau(raised):
    assert raised(losses=curve(0.0)) == ("plateau",)
    assert raised(losses=curve(-0.1)) == ("plateau",)  # Rises.
    assert raised(losses=curve(0.01)) == ("plateau",)  # 0.3 % of it.
    assert raised(losses=curve(0.02)) == ()


def test_what_the_loss_does_while_the_rate_is_low_is_no_plateau():
    """Of six points the third is the last one at a high rate."""
    falling = curve(0.3)
    flat = [dataclasses.replace(p, loss_nats=falling[2].loss_nats) for p in falling[3:]]
    assert not is_plateau(LINEAR, falling[:3] + flat)
    stuck = [dataclasses.replace(p, loss_nats=4.0) for p in falling[:3]]
    assert is_plateau(LINEAR, stuck + falling[3:])


@pytest.mark.parametrize("n_points", [0, 1, 2])
def test_a_curve_of_too_few_points_is_no_plateau(n_points):
    assert not is_plateau(LINEAR, curve(0.0)[:n_points][-1:])


@pytest.mark.parametrize(
    ("changes", "is_flagged"),
    [
        ({"decay": "cosine", "final_fraction": 0.1}, True),
        ({"final_fraction": 0.01}, False),
        ({"decay": "one_minus_sqrt", "decay_steps": 119}, True),
        ({"decay": "one_minus_sqrt", "decay_steps": 120}, False),
        ({"decay_steps": 0}, True),
    ],
)
def test_a_rate_that_ends_high_or_falls_late_is_undercooled(raised, changes, is_flagged):
    found = raised(schedule=dataclasses.replace(LINEAR, **changes))
    assert found == (("undercooled",) if is_flagged else ())


def test_the_smallest_batch_of_the_rule_is_flagged_and_all_flags_have_their_order(raised):
    assert raised(batch=2) == ("batch_at_bound",)
    rows = reports()
    rows[9]["grad_norm"] = None
    late = dataclasses.replace(LINEAR, decay_steps=0)
    assert raised(rows=rows, losses=curve(0.0), schedule=late, batch=2) == FLAGS


def test_a_point_knows_the_smallest_batch_of_its_recipe(study, manifest):
    several = dataclasses.replace(study, recipe=study.recipe.with_(batch__multiple=3))
    assert {point.smallest_batch for point in plan(several, manifest).points} == {3}
