# SPDX-License-Identifier: Apache-2.0
import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.plan.plan import plan
from experiments.study.study import Ladder


def test_every_point_spends_its_budget_within_one_per_cent(study, manifest):
    for convention in ("matmul_full", "matmul_causal", "6n_total", "6n_non_embedding"):
        for point in plan(dataclasses.replace(study, flops=convention), manifest).points:
            assert point.convention == convention
            assert point.flops[convention] == pytest.approx(point.budget, rel=0.01)
            model, train = point.spec.model, point.spec.train
            n_tokens = train.schedule.n_steps * train.batch_size * model.seq_len
            assert point.n_tokens == n_tokens
            assert point.flops["6n_total"] == 6 * point.params.total * n_tokens


def test_a_budget_that_cannot_be_met_within_one_per_cent_is_refused_with_its_reason(
    study, manifest, changed
):
    coarse = changed(study, "recipe.batch.multiple", 6000)
    coarse = dataclasses.replace(coarse, budgets=(4e11,))
    with pytest.raises(ValueError, match=r"budget 4e11: no size can be trained.*more than 1 %"):
        plan(coarse, manifest)
    coarse = changed(study, "recipe.batch.multiple", 256)
    planned = plan(dataclasses.replace(coarse, budgets=(4e11,)), manifest)
    kept = {p.spec.model.d_model for p in planned.points}
    refused = {r.d_model for r in planned.refused}
    assert refused
    assert kept
    assert kept.isdisjoint(refused)
    assert kept | refused == {16, 32, 64}
    for refusal in planned.refused:
        assert refusal.budget == 4e11
        assert f"d_model {refusal.d_model}" in refusal.reason
        assert "Raise the budget to at least" in refusal.reason


def test_more_epochs_than_allowed_are_refused(study, make_manifest):
    n_tokens = max(p.n_tokens for p in plan(study, make_manifest()).points)
    small = make_manifest(n_train_tokens=n_tokens - 1)
    planned = plan(study, small)
    assert [r for r in planned.refused if "above max_epochs=1" in r.reason]
    allowed = plan(dataclasses.replace(study, max_epochs=1.5), small)
    assert [r.reason for r in allowed.refused] == ["fewer than 1 token per parameter."]
    assert max(p.epochs for p in allowed.points) == pytest.approx(n_tokens / (n_tokens - 1))
    assert all(p.epochs is None for p in plan(study, make_manifest(n_train_tokens=None)).points)


def test_a_budget_too_small_for_one_batch_says_which_budget_would_do(study, manifest):
    tiny = dataclasses.replace(
        study, budgets=(1e7,), sizes=Ladder(d_models=(16,), tokens_per_param=(1e-9, 1e9))
    )
    with pytest.raises(ValueError, match="Raise the budget to at least") as error:
        plan(tiny, manifest)
    enough = float(str(error.value).split("at least ")[1].split(",")[0])
    assert plan(dataclasses.replace(tiny, budgets=(1.01 * enough,)), manifest).points


def test_a_mesh_must_divide_the_batch_and_the_model(study, manifest):
    planned = plan(dataclasses.replace(study, mesh=(1, 2, 1, 1)), manifest)
    kept = {p.spec.train.batch_size % 2 for p in planned.points}
    assert kept == {0}
    assert any("batch_size" in r.reason for r in planned.refused)
    with pytest.raises(ValueError, match=r"mesh \(1, 1, 1, 7\)"):
        plan(dataclasses.replace(study, mesh=(1, 1, 1, 7)), manifest)


def test_whole_numbers_where_floats_belong_plan_the_same_runs(tmp_path):
    """In a process of its own: here every argument of `model` is checked by beartype."""
    script = f"""
import dataclasses, sys
sys.path[:0] = {[str(Path(__file__).parents[i]) for i in (1, 2)]!r}
from conftest import describe
from experiments.plan.plan import plan
from experiments.plan.point import point_from_json, to_json
from experiments.study.study import Axis
from experiments.studies.quickstart import STUDY
change = dataclasses.replace
def points(budget, theta, factor):
    recipe = STUDY.recipe.with_(shape__blocks__0__mixer__rope_theta=theta)
    study = change(STUDY, budgets=(budget,), seeds=(0,), recipe=recipe,
                   axes=(Axis(field="recipe.optimizer.learning_rate", values=(factor,)),))
    return plan(study, describe(STUDY.data)).points
whole = points(10**11, 10000, 1)
assert list(map(to_json, whole)) == list(map(to_json, points(1e11, 1e4, 1.0)))
assert all(point_from_json(to_json(p)) == p for p in whole)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
