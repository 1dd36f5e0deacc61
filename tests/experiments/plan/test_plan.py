# SPDX-License-Identifier: Apache-2.0
import dataclasses
import hashlib
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.plan.plan import plan, with_axes
from experiments.plan.point import to_json
from experiments.study.overrides import override
from experiments.study.recipes import TINY_BYTES, TINY_BYTES_MUON
from experiments.study.study import Axis, Ladder, LogSpaced, Study
from model.training.config import EvalConfig, MuonConfig

ANOTHER_PROCESS = """
import hashlib, sys
from pathlib import Path
from experiments.plan.plan import plan
from experiments.plan.point import to_json
from experiments.studies.quickstart import STUDY
from model.data.manifest import Manifest
points = plan(STUDY, Manifest.read(Path(sys.argv[1]))).points
print(hashlib.sha256("".join(map(to_json, points)).encode()).hexdigest())
"""


def by_width(study, manifest, budget):
    return {
        p.spec.model.d_model: p
        for p in plan(study, manifest).points
        if p.budget == budget and p.seed == 0
    }


def test_the_same_study_gives_the_same_bytes(study, manifest):
    first, second = plan(study, manifest), plan(study, manifest)
    assert [to_json(p) for p in first.points] == [to_json(p) for p in second.points]
    assert first.refused == second.refused


def test_another_process_with_another_hash_seed_plans_the_same_bytes(tmp_path, make_manifest):
    path = tmp_path / "manifest.json"
    make_manifest().write(path)
    digests = set()
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", ANOTHER_PROCESS, str(path)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).parents[3],
        )
        digests.add(done.stdout)
    from experiments.studies.quickstart import STUDY

    here = "".join(map(to_json, plan(STUDY, make_manifest()).points))
    assert digests == {hashlib.sha256(here.encode()).hexdigest() + "\n"}


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
    with pytest.raises(ValueError, match=r"budget 4e\+11: no size can be trained.*more than 1 %"):
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


def test_a_ladder_keeps_the_sizes_within_its_tokens_per_parameter(study, manifest):
    everything = dataclasses.replace(
        study, sizes=Ladder(d_models=(16, 32, 64), tokens_per_param=(1e-3, 1e5))
    )
    ratio = {
        (p.budget, p.spec.model.d_model): p.budget
        / (p.flops["matmul_full"] / p.n_tokens)
        / p.params.total
        for p in plan(everything, manifest).points
    }
    low, high = 10.0, 100.0
    some = dataclasses.replace(
        study, sizes=Ladder(d_models=(16, 32, 64), tokens_per_param=(low, high))
    )
    planned = {(p.budget, p.spec.model.d_model) for p in plan(some, manifest).points}
    assert planned == {key for key, r in ratio.items() if low <= r <= high}
    assert 0 < len(planned) < len(ratio)


def test_log_spaced_sizes_are_the_nearest_widths_to_equal_steps_of_the_range(study, manifest):
    def ratios(points):
        """Asked tokens per parameter by budget and width."""
        return {
            (p.budget, p.spec.model.d_model): p.budget
            / (p.flops["matmul_full"] / p.n_tokens)
            / p.params.total
            for p in points
        }

    # Where heads of 16 divide the width.
    legal = tuple(d for d in range(8, 168, 8) if d % (2 * max(d // 16, 2)) == 0)
    every = Ladder(d_models=legal, tokens_per_param=(1e-3, 1e5))
    ratio = ratios(plan(dataclasses.replace(study, sizes=every), manifest).points)
    spaced = dataclasses.replace(study, sizes=LogSpaced(n_sizes=5, tokens_per_param=(2.0, 200.0)))
    chosen = plan(spaced, manifest).points
    for budget in study.budgets:
        here = {d: math.log(r) for (b, d), r in ratio.items() if b == budget}
        nearest = {
            min(here, key=lambda d, target=target: abs(here[d] - target))
            for target in [math.log(2.0) + i * math.log(100.0) / 4 for i in range(5)]
        }
        assert {p.spec.model.d_model for p in chosen if p.budget == budget} == nearest
        assert len(nearest) == 5
    narrow = LogSpaced(n_sizes=9, tokens_per_param=(20.0, 25.0))
    with pytest.raises(ValueError, match="fall on only"):
        plan(dataclasses.replace(study, sizes=narrow), manifest)


def test_axes_and_seeds_multiply(study, manifest):
    axes = (
        Axis(field="optimizer.learning_rate", values=(0.5, 1.0, 2.0)),
        Axis(field="optimizer.z_loss_weight", values=(0.0, 1e-4)),
    )
    points = plan(dataclasses.replace(study, axes=axes), manifest).points
    plain = plan(study, manifest).points
    assert len(points) == len(plain) * 3 * 2
    assert len({p.id for p in points}) == len(points)
    for point in points:
        rate = 0.01 / (point.spec.model.d_model / 64) * point.axes["optimizer.learning_rate"]
        assert point.spec.train.optimizer.hidden.learning_rate == pytest.approx(rate)
        assert point.spec.train.z_loss_weight == point.axes["optimizer.z_loss_weight"]


def test_an_axis_without_such_a_field_names_the_fields_there_are(study, manifest):
    with pytest.raises(ValueError, match=r"axis 'optimizer\.speed'.*learning_rate"):
        with_axes(study.recipe, {"optimizer.speed": 1.0})
    with pytest.raises(ValueError, match=r"'optimizer\.beta1\.x'"):
        with_axes(study.recipe, {"optimizer.beta1.x": 1.0})


def test_seeds_may_differ_by_budget(study, manifest):
    points = plan(dataclasses.replace(study, seeds=((0, 1, 2), (7,))), manifest).points
    assert {p.seed for p in points if p.budget == 1e11} == {0, 1, 2}
    assert {p.seed for p in points if p.budget == 4e11} == {7}
    for point in points:
        assert (point.spec.train.init_seed, point.spec.train.data_seed) == (point.seed, point.seed)


BAD_STUDIES = (
    ({"name": "a/b"}, "name='a/b'"),
    ({"name": ""}, "name=''"),
    ({"budgets": ()}, "budgets"),
    ({"budgets": (2e11, 1e11)}, "ascending"),
    ({"budgets": (1e11, 1e11)}, "each once"),
    ({"budgets": (-1.0, 1e11)}, "positive"),
    ({"budgets": (1e11, math.inf)}, "finite"),
    ({"budgets": (math.nan,)}, "finite"),
    ({"flops": "6nd"}, "flops='6nd'"),
    ({"seeds": ()}, "seeds"),
    ({"seeds": (0, 0)}, "distinct"),
    ({"seeds": (-1,)}, ">= 0"),
    ({"seeds": ((0,),)}, "each of the 2 budgets"),
    ({"seeds": (0, (1,))}, "seeds"),
    ({"seeds": ((0,), 1)}, "seeds"),
    ({"forecast_budgets": (2e11,)}, "above the largest budget"),
    ({"forecast_budgets": (math.nan,)}, "forecast_budgets"),
    ({"forecast_budgets": (math.inf,)}, "forecast_budgets"),
    ({"max_epochs": 0.0}, "max_epochs"),
    ({"max_epochs": math.nan}, "max_epochs"),
    ({"seq_len": 0}, "seq_len"),
    ({"mesh": (1, 0, 1, 1)}, "mesh"),
)


@pytest.mark.parametrize(("changes", "words"), BAD_STUDIES, ids=lambda x: str(x))
def test_a_study_that_makes_no_sense_is_refused_in_one_line(study, changes, words):
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the words are checked below)
        dataclasses.replace(study, **changes)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_more_epochs_than_allowed_are_refused(study, make_manifest):
    n_tokens = max(p.n_tokens for p in plan(study, make_manifest()).points)
    small = make_manifest(n_train_tokens=n_tokens - 1)
    planned = plan(study, small)
    assert [r for r in planned.refused if "above max_epochs=1" in r.reason]
    allowed = plan(dataclasses.replace(study, max_epochs=1.5), small)
    assert not allowed.refused
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


def test_a_ladder_without_a_size_in_range_is_refused(study, manifest):
    far = Ladder(d_models=(16,), tokens_per_param=(1e-3, 2e-3))
    with pytest.raises(ValueError, match="no size of the ladder has"):
        plan(dataclasses.replace(study, sizes=far), manifest)


def test_heads_that_do_not_divide_the_width_are_refused(study, manifest, changed):
    odd = changed(study, "sizes.d_models", (32, 56))
    with pytest.raises(ValueError, match=r"3 heads .*do not divide d_model=56"):
        plan(odd, manifest)  # 56 // 16 = 3 heads.


def test_a_mesh_must_divide_the_batch_and_the_model(study, manifest):
    planned = plan(dataclasses.replace(study, mesh=(1, 2, 1, 1)), manifest)
    kept = {p.spec.train.batch_size % 2 for p in planned.points}
    assert kept == {0}
    assert any("batch_size" in r.reason for r in planned.refused)
    with pytest.raises(ValueError, match=r"mesh \(1, 1, 1, 7\)"):
        plan(dataclasses.replace(study, mesh=(1, 1, 1, 7)), manifest)


def test_two_points_that_are_the_same_run_are_refused(study, manifest):
    close = dataclasses.replace(study, budgets=(1e11, 1.00001e11))
    with pytest.raises(ValueError, match="resolve to the same run"):
        plan(close, manifest)
    twice = Axis(field="optimizer.learning_rate", values=(1.0, 1.0))
    with pytest.raises(ValueError, match="name each axis value once"):
        plan(dataclasses.replace(study, axes=(twice,)), manifest)


def test_windows_and_validation_must_fit_the_data(study, make_manifest):
    with pytest.raises(ValueError, match="multiple of 7"):
        plan(study, make_manifest(window_multiple=7))
    with pytest.raises(ValueError, match=r"evaluation\.n_tokens=4096.*4095"):
        plan(study, make_manifest(n_validation_tokens=4095))
    large = EvalConfig(n_tokens=3_000_000, curve_tokens=1024, n_points=4, seed=0)
    with pytest.raises(ValueError, match="validation_fraction"):
        plan(dataclasses.replace(study, evaluation=large), make_manifest())


def test_shapes_follow_the_recipe(study, manifest):
    # 8/3 of the width in multiples of 16; heads of 16, at least two; two layers.
    expected = {16: (2, 8, 48), 32: (2, 16, 96), 64: (4, 16, 176)}
    for d_model, point in by_width(study, manifest, 1e11).items():
        model = point.spec.model
        assert (model.n_heads, model.d_head, model.d_ff) == expected[d_model]
        assert (model.n_layers, model.n_kv_heads) == (2, model.n_heads)


def test_depth_follows_the_width_between_its_bounds(study, manifest, changed):
    deep = changed(study, "recipe.shape.width_per_layer", 10.0)
    deep = changed(deep, "recipe.shape.max_layers", 5)
    deep = changed(deep, "sizes.tokens_per_param", (0.1, 1000.0))
    layers = {p.spec.model.d_model: p.spec.model.n_layers for p in plan(deep, manifest).points}
    assert layers == {16: 2, 32: 3, 64: 5}  # round(1.6) = 2, round(3.2) = 3, round(6.4) = 6 > 5.


def test_rates_schedule_and_moments_follow_the_rules(study, manifest):
    """CompleteP, table 1, by hand: base width 64, depth 2, hidden rate 0.01."""
    for budget in study.budgets:
        for d_model, point in by_width(study, manifest, budget).items():
            train, model = point.spec.train, point.spec.model
            m = d_model / 64
            steps = train.schedule.n_steps
            rates = {role: getattr(train.optimizer, role) for role in ("input", "hidden", "vector")}
            assert rates["hidden"].learning_rate == pytest.approx(0.01 / m)
            assert rates["input"].learning_rate == pytest.approx(0.02)
            assert rates["vector"].learning_rate == pytest.approx(0.01)
            # 1 / (rate x decay) is half of the run, in steps, at every width and rate.
            for role in ("input", "hidden"):
                timescale = 1 / (rates[role].learning_rate * rates[role].weight_decay)
                assert timescale == pytest.approx(0.5 * steps)
            assert rates["vector"].weight_decay == 0.0
            assert rates["hidden"].eps == pytest.approx(1e-8 / m)
            assert model.residual_multiplier == pytest.approx(math.sqrt(0.5))
            assert model.logit_multiplier == pytest.approx(0.3 / m)
            assert train.schedule.warmup_steps == round(0.15 * steps)
            assert train.schedule.warmup_steps + train.schedule.decay_steps in (steps - 1, steps)
            tokens = train.batch_size * 128
            assert train.optimizer.beta2 ** (7000 / tokens) == pytest.approx(0.5)
            asked = point.budget / (point.flops["matmul_full"] / point.n_tokens)
            assert train.batch_size == max(1, round(512 * math.sqrt(asked / 8e5) / 128))


def test_doubling_the_depth_halves_residual_branches_and_epsilon(study, manifest, changed):
    shallow = by_width(study, manifest, 4e11)[64].spec
    deep_study = changed(study, "recipe.shape.max_layers", 4)
    deep_study = changed(deep_study, "recipe.shape.min_layers", 4)
    deep = by_width(deep_study, manifest, 4e11)[64].spec
    assert deep.model.residual_multiplier == pytest.approx(shallow.model.residual_multiplier / 2)
    for role, ratio in (("hidden", 0.5), ("vector", 0.5), ("input", 1.0), ("output", 1.0)):
        ours, theirs = (getattr(s.train.optimizer, role) for s in (deep, shallow))
        assert ours.eps == pytest.approx(ratio * theirs.eps)
        assert ours.learning_rate == pytest.approx(theirs.learning_rate)


def test_study_files_say_what_they_ask():
    from experiments.studies.quickstart import STUDY

    assert isinstance(STUDY, Study)
    assert STUDY.budgets[-1] / STUDY.budgets[0] >= 30


def test_whole_numbers_where_floats_belong_plan_the_same_runs(tmp_path):
    """In a process of its own: here every argument of `model` is checked by beartype."""
    script = f"""
import dataclasses, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from conftest import describe
from experiments.plan.plan import plan
from experiments.plan.point import point_from_json, to_json
from experiments.study.study import Axis
from experiments.studies.quickstart import STUDY
change = dataclasses.replace
def points(budget, theta, factor):
    shape = change(STUDY.recipe.shape, rope_theta=theta)
    study = change(STUDY, budgets=(budget,), seeds=(0,), recipe=change(STUDY.recipe, shape=shape),
                   axes=(Axis(field="optimizer.learning_rate", values=(factor,)),))
    return plan(study, describe(STUDY.data)).points
whole = points(10**11, 10000, 1)
assert list(map(to_json, whole)) == list(map(to_json, points(1e11, 1e4, 1.0)))
assert all(point_from_json(to_json(p)) == p for p in whole)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


MUON = MuonConfig(momentum=0.95, nesterov=True, ns_steps=5, scale="spectral")


def with_optimizer(study, **changes):
    rule = dataclasses.replace(study.recipe.optimizer, **changes)
    return dataclasses.replace(study, recipe=dataclasses.replace(study.recipe, optimizer=rule))


def test_a_recipe_with_muon_has_its_constants_in_every_run_and_one_hidden_rate(study, manifest):
    plain = {p.budget: p for p in plan(study, manifest).points}
    for point in plan(with_optimizer(study, algorithm="muon", muon=MUON), manifest).points:
        optimizer = point.spec.train.optimizer
        assert (optimizer.algorithm, optimizer.muon) == ("muon", MUON)
        assert optimizer.hidden.learning_rate == pytest.approx(0.01)  # At every width.
        steps = point.spec.train.schedule.n_steps
        decay = optimizer.hidden.learning_rate * optimizer.hidden.weight_decay
        assert 1 / decay == pytest.approx(0.5 * steps)
        assert optimizer.input == dataclasses.replace(
            plain[point.budget].spec.train.optimizer.input,
            weight_decay=optimizer.input.weight_decay,
            eps=optimizer.input.eps,
        )


def test_muons_constants_of_a_recipe_with_adamw_are_in_no_run(study, manifest):
    ready = plan(with_optimizer(study, muon=MUON), manifest)
    assert ready.points == plan(study, manifest).points


def test_muon_without_constants_is_refused_in_one_line(study):
    with pytest.raises(ValueError, match=r"^algorithm='muon' needs its constants.*$"):
        with_optimizer(study, algorithm="muon")


def test_the_algorithm_and_its_constants_can_be_set_and_swept(study, manifest):
    constants = '{"momentum":0.9,"nesterov":false,"ns_steps":5,"scale":"rms"}'
    given = ["recipe.optimizer.algorithm=muon", f"recipe.optimizer.muon={constants}"]
    axis = Axis(field="optimizer.muon.momentum", values=(0.9, 0.95))
    swept = dataclasses.replace(override(study, given), axes=(axis,))
    found = {p.spec.train.optimizer.muon.momentum for p in plan(swept, manifest).points}
    assert found == {0.9, 0.95}


@pytest.mark.parametrize("decay", ["linear", "cosine", "one_minus_sqrt"])
def test_every_run_has_the_decay_of_the_recipe(study, manifest, decay):
    chosen = with_optimizer(study, decay=decay, final_fraction=0.1, decay_fraction=0.2)
    for point in plan(chosen, manifest).points:
        schedule = point.spec.train.schedule
        assert (schedule.decay, schedule.final_fraction) == (decay, 0.1)
        assert schedule.decay_steps == round(0.2 * schedule.n_steps)


def test_in_the_standard_parameterisation_only_the_head_follows_the_width(study, manifest, changed):
    standard = changed(study, "recipe.parameterization", "standard")
    standard = changed(standard, "recipe.shape.tie_embeddings", False)
    for d_model, point in by_width(standard, manifest, 1e11).items():
        model, optimizer = point.spec.model, point.spec.train.optimizer
        assert optimizer.hidden.learning_rate == 0.01
        assert {optimizer.hidden.eps, optimizer.input.eps, optimizer.vector.eps} == {1e-8}
        assert (model.residual_multiplier, model.logit_multiplier) == (2**-0.5, 0.3)
        assert model.output_init_std == pytest.approx(math.sqrt(64 / d_model))
        assert (model.embedding_init_std, model.hidden_init_gain) == (0.5, 1.0)


def test_a_wrong_choice_in_a_recipe_is_refused_in_one_line(study):
    for field, value in (
        ("recipe.parameterization", "mup"),
        ("recipe.optimizer.algorithm", "sgd"),
        ("recipe.optimizer.decay", "step"),
        ("recipe.optimizer.final_fraction", "1.5"),
    ):
        with pytest.raises(ValueError, match=f"^[^\n]*{field.rsplit('.')[-1]}={value}") as error:
            override(study, [f"{field}={value}"])
        assert "\n" not in str(error.value)


def test_the_recipe_with_muon_differs_from_tiny_bytes_in_its_hidden_group_only(study, manifest):
    tiny, muon = (
        plan(dataclasses.replace(study, recipe=recipe), manifest).points
        for recipe in (TINY_BYTES, TINY_BYTES_MUON)
    )
    assert len(muon) == len(tiny)
    for one, other in zip(tiny, muon, strict=True):
        optimizer = one.spec.train.optimizer
        hidden = other.spec.train.optimizer.hidden
        assert hidden.learning_rate == 0.04
        same = dataclasses.replace(
            optimizer, algorithm="muon", muon=TINY_BYTES_MUON.optimizer.muon, hidden=hidden
        )
        assert other.spec.train == dataclasses.replace(one.spec.train, optimizer=same)
        assert other.spec.model == one.spec.model
