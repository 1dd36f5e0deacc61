# SPDX-License-Identifier: Apache-2.0
import dataclasses
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.plan.plan import plan
from experiments.plan.point import to_json
from experiments.study.study import Axis
from model.training.config import EvalConfig

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


def test_the_same_study_gives_the_same_bytes(study, manifest):
    first, second = plan(study, manifest), plan(study, manifest)
    assert [to_json(p) for p in first.points] == [to_json(p) for p in second.points]
    assert first.refused == second.refused


def test_what_is_kept_of_a_run_is_no_part_of_it(study, manifest):
    plans = [plan(dataclasses.replace(study, keep=keep), manifest) for keep in ("none", "final")]
    assert plans[0] == plans[1] == plan(study, manifest)


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


def test_axes_and_seeds_multiply(study, manifest):
    axes = (
        Axis(field="recipe.optimizer.learning_rate", values=(0.5, 1.0, 2.0)),
        Axis(field="recipe.optimizer.z_loss_weight", values=(0.0, 1e-4)),
    )
    points = plan(dataclasses.replace(study, axes=axes), manifest).points
    plain = plan(study, manifest).points
    assert len(points) == len(plain) * 3 * 2
    assert len({p.id for p in points}) == len(points)
    for point in points:
        rate = 0.01 / (point.spec.model.d_model / 64) * point.axes["recipe.optimizer.learning_rate"]
        assert point.spec.train.optimizer.hidden.learning_rate == pytest.approx(rate)
        assert point.spec.train.z_loss_weight == point.axes["recipe.optimizer.z_loss_weight"]


def test_seeds_may_differ_by_budget(study, manifest):
    points = plan(dataclasses.replace(study, seeds=((0, 1, 2), (7,))), manifest).points
    assert {p.seed for p in points if p.budget == 1e11} == {0, 1, 2}
    assert {p.seed for p in points if p.budget == 4e11} == {7}
    for point in points:
        assert (point.spec.train.init_seed, point.spec.train.data_seed) == (point.seed, point.seed)


def test_data_seeds_are_crossed_with_those_of_the_initialisation(study, manifest):
    crossed = dataclasses.replace(study, seeds=(0, 1), data_seeds=(7, 8, 9))
    points = plan(crossed, manifest).points
    assert len(points) == 3 * len(plan(study, manifest).points)
    assert len({p.id for p in points}) == len(points)
    specs = {(p.budget, p.spec.model.d_model): [] for p in points}
    for p in points:
        seeds = p.spec.train.init_seed, p.spec.train.data_seed
        specs[p.budget, p.spec.model.d_model].append(seeds)
        assert p.seeds == f"{seeds[0]}/{seeds[1]}"
    every = [(i, d) for i in (0, 1) for d in (7, 8, 9)]
    assert all(found == every for found in specs.values())


def test_a_data_seed_that_is_given_twice_is_refused(study):
    with pytest.raises(ValueError, match=r"data_seeds=\(3, 3\): need distinct whole numbers"):
        dataclasses.replace(study, data_seeds=(3, 3))


def test_two_points_that_are_the_same_run_are_refused(study, manifest):
    close = dataclasses.replace(study, budgets=(1e11, 1.00001e11))
    with pytest.raises(ValueError, match="resolve to the same run"):
        plan(close, manifest)
    twice = Axis(field="recipe.optimizer.learning_rate", values=(1.0, 1.0 + 1e-12))
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


def test_documents_apart_are_told_by_the_separator_of_the_data(study, make_manifest):
    apart = dataclasses.replace(study, documents_apart=True)
    tokenizer = {"sha256": "0" * 64, "separator": "<end>", "separator_id": 7}
    for changes, separator in (({}, 0), ({"tokenizer": tokenizer}, 7)):
        manifest = make_manifest(**changes)
        (together, *_), (point, *_) = (plan(one, manifest).points for one in (study, apart))
        assert together.spec.model.separator is None
        assert point.spec.model.separator == separator
        assert point.id != together.id
        assert (point.n_tokens, point.flops) == (together.n_tokens, together.flops)
    axis = Axis(field="documents_apart", values=(False, True))
    both = plan(dataclasses.replace(study, axes=(axis,)), make_manifest()).points
    assert {point.spec.model.separator for point in both} == {None, 0}


def test_documents_must_have_the_bytes_that_are_asked(study, make_manifest):
    def asked(n_asked, **changes):
        evaluation = EvalConfig(n_bytes=n_asked, curve_bytes=1, n_points=4, seed=0)
        return plan(dataclasses.replace(study, evaluation=evaluation), make_manifest(**changes))

    longer = {"n_validation_tokens": 1000, "bytes_per_token": 2.5}
    assert asked(2500, **longer).points[0].spec.train.evaluation.n_bytes == 2500
    with pytest.raises(ValueError, match="the validation documents have 2500 bytes"):
        asked(2501, **longer)
    with pytest.raises(ValueError, match=r"does not give all .* back byte for byte"):
        asked(1, bytes_per_token=None)
    with pytest.raises(ValueError, match="does not say which bytes its tokens stand for"):
        asked(1, n_bytes=None)
