# SPDX-License-Identifier: Apache-2.0
"""Which runs begin alike, where they part, and what it saves; worked out by hand."""

from dataclasses import replace

import pytest

from experiments.plan.arrange import arrange
from experiments.plan.jobs import job_id, read, trunk_id
from experiments.plan.plan import plan
from experiments.plan.trunks import Saving, beyond_horizon, grow, saving
from experiments.study.study import Ladder

MESH = (1, 1, 1, 1)


@pytest.fixture
def points(branched, manifest):
    return list(plan(branched, manifest).points)


def of_size(points, d_model, seed=0):
    return [p for p in points if (p.spec.model.d_model, p.seed) == (d_model, seed)]


def test_points_of_a_size_and_seed_share_a_trunk_and_no_others(points):
    trees = grow(points)
    assert len(trees) == 2 * 2
    for tree in trees:
        assert len({(p.spec.model.d_model, p.seed) for p in tree.points}) == 1
        assert [p.budget for p in tree.points] == [1e11, 2e11, 4e11]
        assert len({p.cluster_id for p in tree.points}) == 1
    assert len({p.cluster_id for p in points}) == 4
    assert len({p.id for p in points}) == len(points) == 12


def test_a_branch_leaves_where_its_own_decay_begins(points):
    for tree in grow(points):
        for point, step in zip(tree.points, tree.leaves_at, strict=True):
            n_steps = point.spec.train.schedule.n_steps
            assert n_steps - step == round(0.2 * n_steps)
        a, b, c = tree.leaves_at
        assert tree.segments == ((0, a), (a, b), (b, c))


def test_a_doubling_series_of_three_saves_two_fifths_of_four_fifths(points):
    # Tokens D, 2D, 4D with a decay of a fifth: a trunk of 0.8 x 4D, decays of 0.2 x 7D, of 7D.
    expected = 1 - (0.8 * 4 + 0.2 * 7) / 7
    less = saving(grow(points))
    assert less.share == pytest.approx(expected, abs=2e-3)
    assert less.attributed == sum(p.flops[p.convention] for p in points)


@pytest.mark.parametrize(
    ("ratio", "n", "low", "high"),
    [(2, 3, 0.34, 0.45), (2, 5, 0.34, 0.45), (3.16, 4, 0.24, 0.28), (3.16, 5, 0.24, 0.28)],
)
def test_the_saving_of_a_series_of_budgets_is_that_of_the_arithmetic(
    branched, manifest, ratio, n, low, high
):
    budgets = tuple(1e11 * ratio**k for k in range(n))
    sizes = Ladder(d_models=(16,), tokens_per_param=(1.0, 1e6))
    points = plan(replace(branched, budgets=budgets, sizes=sizes, max_epochs=99.0), manifest).points
    assert len(points) == 2 * n
    tokens = [ratio**k for k in range(n)]
    expected = 1 - (0.8 * tokens[-1] + 0.2 * sum(tokens)) / sum(tokens)
    assert saving(grow(points)).share == pytest.approx(expected, abs=2e-3)
    assert low <= expected <= high


def test_points_without_a_plateau_are_their_own_cluster(study, manifest, changed):
    cosine = changed(study, "recipe.optimizer.warmup_fraction", 0.0)
    cosine = changed(cosine, "recipe.optimizer.decay_fraction", 1.0)
    points = plan(cosine, manifest).points
    assert [p.cluster_id for p in points] == [p.id for p in points]
    assert saving(grow(points)) == Saving(
        attributed=pytest.approx(sum(p.flops[p.convention] for p in points)),
        spent=pytest.approx(sum(p.flops[p.convention] for p in points)),
    )


REFUSED = [
    ({"decay_fraction": 1.0, "warmup_fraction": 0.0}, 20.0, "there is nothing to share"),
    ({}, None, "on a trunk it cannot depend on the length"),
]


@pytest.mark.parametrize(("rules", "horizon", "words"), REFUSED)
def test_a_plan_without_common_trunks_is_refused_with_the_reason(
    branched, manifest, changed, rules, horizon, words
):
    other = changed(branched, "recipe.horizon_tokens_per_param", horizon)
    for name, value in rules.items():
        other = changed(other, f"recipe.optimizer.{name}", value)
    with pytest.raises(ValueError, match=rf"^trunks=True: at d_model 16 .*{words}"):
        plan(other, manifest)
    assert plan(changed(other, "trunks", False), manifest).points


def test_the_refusal_names_what_depends_on_the_length(branched, manifest, changed):
    other = changed(branched, "recipe.horizon_tokens_per_param", None)
    with pytest.raises(ValueError, match=r"train\.schedule\.warmup_steps is \d+ at 1e11"):
        plan(other, manifest)
    other = changed(other, "recipe.optimizer.warmup_fraction", 0.0)
    with pytest.raises(ValueError, match=r"train\.optimizer\.input\.weight_decay is "):
        plan(other, manifest)
    other = changed(other, "recipe.batch.exponent", 0.9)
    with pytest.raises(ValueError, match=r"train\.batch_size is \d+ at 1e11 FLOPs and \d+ at"):
        plan(other, manifest)


def test_a_warm_up_of_the_horizon_that_leaves_no_room_is_refused(branched, manifest, changed):
    other = changed(branched, "recipe.horizon_tokens_per_param", 1e5)
    with pytest.raises(ValueError, match=r"a warm-up of \d+ steps and a decay of \d+ do not fit"):
        plan(other, manifest)


def test_a_horizon_makes_what_a_size_shares_the_same_for_all_lengths(points, branched):
    for point in points:
        train, n_params = point.spec.train, point.params.total
        horizon = 20 * n_params / (train.batch_size * branched.seq_len)
        assert train.schedule.warmup_steps == round(0.01 * horizon)
        hidden = train.optimizer.hidden
        timescale = 1 / (hidden.learning_rate * hidden.weight_decay)
        # completep keeps rate x decay; the vector group has no decay.
        assert timescale == pytest.approx(0.5 * horizon, rel=1e-6)
    sizes = {p.spec.train.batch_size for p in of_size(points, 16)}
    assert len(sizes) == 1


def test_jobs_come_parents_first_and_each_step_is_trained_once(points):
    planned_jobs = arrange(points, MESH, trunks=True)
    seen = set()
    for planned_job in planned_jobs:
        assert planned_job.job.parent is None or planned_job.job.parent in seen
        seen.add(planned_job.job.id)
    spent = sum(planned_job.flops["matmul_full"] for planned_job in planned_jobs)
    assert spent == pytest.approx(saving(grow(points)).spent)
    results = [point for planned_job in planned_jobs for point in planned_job.job.results]
    assert sorted(results) == sorted(p.id for p in points)
    for planned_job in planned_jobs:
        assert read(planned_job.job, {p.id: p for p in points}.__getitem__) == planned_job


def test_only_the_trunks_that_missing_points_need_are_asked_for(points):
    tree = grow(of_size(points, 32))[0]
    last = tree.points[-1]
    ids = [trunk_id([last], step) for step in tree.leaves_at]

    def asked(wanted, there=()):
        planned_jobs = arrange(
            points, MESH, trunks=True, wanted={p.id for p in wanted}, has_trunk=there.__contains__
        )
        return [planned_job.job.id for planned_job in planned_jobs]

    assert asked(tree.points[:1]) == [ids[0], tree.points[0].id]
    assert asked([last]) == [*ids, last.id]
    assert asked([last], ids[:2]) == [ids[2], last.id]
    assert asked([last], ids[2:]) == [last.id]
    assert asked([last, tree.points[1]], ids[2:]) == [*ids[:2], last.id, tree.points[1].id]


def test_a_single_point_of_a_trunk_is_trained_alone(points):
    (one,) = of_size(points, 16)[:1]
    (planned_job,) = arrange([one], MESH, trunks=True)
    assert (planned_job.job.kind, planned_job.job.id, planned_job.job.parent) == (
        "solo",
        one.id,
        None,
    )


def test_trees_of_one_shape_are_packed_and_their_trunks_with_them(points):
    planned_jobs = arrange(points, MESH, trunks=True, pack_size=lambda point: 2)
    assert [len(planned_job.points) for planned_job in planned_jobs] == [2] * len(planned_jobs)
    assert {planned_job.job.kind for planned_job in planned_jobs} == {"trunk", "branch"}
    for planned_job in planned_jobs:
        assert [point.seed for point in planned_job.points] == [0, 1]
        if planned_job.job.kind == "branch":
            assert planned_job.job.id == job_id([point.id for point in planned_job.points])
    solo = arrange(points, MESH, trunks=True)
    total = sum(planned_job.flops["matmul_full"] for planned_job in solo)
    assert sum(planned_job.flops["matmul_full"] for planned_job in planned_jobs) == pytest.approx(
        total
    )
    assert len(planned_jobs) == len(solo) / 2


def test_a_trunk_that_is_not_its_members_is_refused(points):
    trunk = arrange(points, MESH, trunks=True)[0].job
    other = {point.id: points[-1] for point in points}
    with pytest.raises(ValueError, match="is not the trunk of its members"):
        read(trunk, other.__getitem__)


def test_runs_that_do_not_fill_the_mesh_s_places_are_refused(points):
    mesh = (2, 1, 1, 1)
    planned_jobs = arrange(points, mesh, trunks=True, pack_size=lambda point: 2)
    assert {len(planned_job.points) for planned_job in planned_jobs} == {2}
    odd = [point for point in points if point.seed == 0]
    with pytest.raises(ValueError, match=r"1 runs of one shape \(d_model 16\) do not fill the 2"):
        arrange(odd, mesh, pack_size=lambda point: 2)


def test_a_study_that_grows_keeps_what_a_single_point_could_share(points, study, manifest):
    first, _, last = of_size(points, 16)
    (solo,) = arrange([first], MESH, trunks=True)
    trunk, branch = arrange([first], MESH, trunks=True, keeps_trunks=True)
    assert (solo.job.kind, trunk.job.kind, branch.job.kind) == ("solo", "trunk", "branch")
    assert (solo.job.id, solo.points) == (branch.job.id, branch.points)
    assert branch.job.parent == trunk.job.id
    assert trunk.n_steps + branch.n_steps == solo.n_steps
    # A longer one that comes later begins where the first one left.
    later = arrange(
        [first, last],
        MESH,
        trunks=True,
        keeps_trunks=True,
        wanted={last.id},
        has_trunk={trunk.job.id}.__contains__,
    )
    assert [planned_job.job.kind for planned_job in later] == ["trunk", "branch"]
    assert later[0].job.parent == trunk.job.id
    assert later[0].job.steps[0] == trunk.job.steps[1]
    # Without a plateau there is nothing to keep.
    (cosine,) = arrange(plan(study, manifest).points[:1], MESH, trunks=True, keeps_trunks=True)
    assert cosine.job.kind == "solo"


def test_runs_with_the_decay_of_a_horizon_far_below_them_are_counted(points, branched):
    ratios = sorted(point.n_tokens / point.params.total for point in points)
    low = ratios[0]
    n_far = sum(ratio > 3 * low for ratio in ratios)
    assert 0 < n_far < len(ratios)
    recipe = branched.recipe.with_(horizon_tokens_per_param=low)
    line = beyond_horizon(points, recipe)
    assert line.startswith(f"{n_far} of {len(ratios)} runs are longer than 3 times ")
    assert line.endswith(f"let sizes.tokens_per_param end at {3 * low:.3g}.")
    near = [point for point in points if point.n_tokens / point.params.total <= 3 * low]
    for of, how in (
        (near, {}),
        (points, {"horizon_tokens_per_param": None}),
        (points, {"optimizer__weight_decay_falls": True}),
    ):
        assert beyond_horizon(of, recipe.with_(**how)) == ""


def test_a_decay_that_falls_is_the_same_for_runs_of_all_lengths_without_a_horizon(
    branched, manifest, changed
):
    other = changed(branched, "recipe.horizon_tokens_per_param", None)
    other = changed(other, "recipe.optimizer.warmup_fraction", 0.0)
    other = changed(other, "recipe.optimizer.weight_decay_falls", True)
    assert len(grow(plan(other, manifest).points)) == 2 * 2
