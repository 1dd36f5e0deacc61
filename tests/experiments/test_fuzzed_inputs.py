# SPDX-License-Identifier: Apache-2.0
"""Specs, ids and overrides that are wrong by the thousand: one line each, and nothing else."""

import dataclasses
import json
from pathlib import Path

import fuzzing
import pytest

from experiments.cli import main
from experiments.files.checked_json import encode, text_of, with_checksum
from experiments.ledger.forecasts import Predicted, read_forecast, read_forecasts
from experiments.ledger.ledger import Damaged, check_id
from experiments.plan.plan import plan
from experiments.plan.point import point_from_json, spec_id, to_json
from experiments.speed import calibration
from experiments.study.overrides import override
from experiments.study.study import LogSpaced, Study
from experiments.worker import _ids
from model.training.config import MuonConfig


def is_one_line(error: BaseException, most: int = 400) -> bool:
    text = str(error)
    return text.isprintable() and 0 < len(text) <= most


def with_muon(point):
    muon = MuonConfig(momentum=0.95, nesterov=True, ns_steps=5, scale="spectral")
    optimizer = dataclasses.replace(point.spec.train.optimizer, algorithm="muon", muon=muon)
    train = dataclasses.replace(point.spec.train, optimizer=optimizer)
    spec = dataclasses.replace(point.spec, train=train)
    return dataclasses.replace(point, spec=spec, id=spec_id(spec))


@pytest.fixture
def trees(points):
    """Points as JSON objects, one of them of a study with an axis, one with Muon."""
    varied = dataclasses.replace(points[0], axes={"recipe.optimizer.learning_rate": 1.0})
    return [json.loads(to_json(point)) for point in (*points[::3], varied, with_muon(points[0]))]


def refuse_specs(n: int, trees, seed: int) -> None:
    for text, words in fuzzing.wrong_specs(n, trees, seed):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 (the words are checked below)
            point_from_json(text)
        assert is_one_line(caught.value), text
        assert any(word in str(caught.value) for word in words), (words, str(caught.value), text)


def test_every_wrong_spec_is_refused_in_one_line_that_names_the_field(trees):
    refuse_specs(2000, trees, seed=0)


@pytest.mark.slow(reason="twenty thousand inputs")
def test_twenty_thousand_wrong_specs_are_refused(trees, record_property):
    refuse_specs(20_000, trees, seed=1)
    record_property("wrong_specs_refused", 20_000)


def test_the_fuzzer_knows_every_field_and_its_untouched_points_are_read(trees):
    for tree in trees:
        assert {path[-1] for path in fuzzing.paths(tree)} <= fuzzing.KINDS.keys()
        assert fuzzing.rehashed(tree) == tree
        backwards = json.dumps(dict(reversed(tree.items())), indent=3)
        assert point_from_json(backwards) == point_from_json(json.dumps(tree))


def test_a_wrong_spec_on_disk_is_damaged_by_name(ledger, points, trees):
    ledger.write_plan("{}", points)
    path = ledger.folder / "runs" / points[0].id / "spec.json"
    for text, _ in fuzzing.wrong_specs(200, trees, seed=2):
        if isinstance(text, bytes) or not text.isascii():
            continue  # Only text can have a checksum.
        for data in (with_checksum(text), text.encode()):
            path.write_bytes(data)
            with pytest.raises(Damaged, match=r"spec\.json.*isoflop run"):
                ledger.read_point(points[0].id)


def outcome(make):
    """What a function gives, or the ValueError that it raised."""
    try:
        return make()
    except ValueError as error:
        return error


def refuse_or_plan(n: int, study: Study, manifest, seed: int) -> None:
    n_planned = 0
    for assignments in fuzzing.overrides(n, study, seed):
        changed = outcome(lambda assignments=assignments: override(study, assignments))
        if isinstance(changed, ValueError):
            names = [part for text in assignments for part in text.partition("=")[0].split(".")]
            assert is_one_line(changed), assignments
            assert any(name in str(changed) for name in (*names, "field=value")), str(changed)
            continue
        planned = outcome(lambda changed=changed: plan(changed, manifest))
        if isinstance(planned, ValueError):
            assert is_one_line(planned, most=600), assignments
            continue
        n_planned += 1
        for point in planned.points[::5]:
            assert point_from_json(to_json(point)) == point
    assert n_planned > n / 50, "the fuzzer must let some through"


@pytest.mark.parametrize(
    "is_ladder", [True, pytest.param(False, marks=pytest.mark.slow(reason="as of a ladder"))]
)
def test_every_override_is_refused_in_one_line_or_gives_a_plan(study, manifest, is_ladder):
    if not is_ladder:
        sizes = LogSpaced(n_sizes=3, tokens_per_param=(1.0, 500.0))
        study = dataclasses.replace(study, sizes=sizes)
    refuse_or_plan(300, study, manifest, seed=3)


@pytest.mark.slow(reason="five thousand inputs")
def test_five_thousand_overrides_are_refused_or_planned(study, manifest, record_property):
    refuse_or_plan(5000, study, manifest, seed=4)
    record_property("overrides_refused_or_planned", 5000)


def files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_five_hundred_ids_reach_no_path_unless_they_are_legal(
    tmp_path, ledger, record, record_property
):
    record_property("ids", 500)
    ledger.folder.mkdir(parents=True)
    n_legal = 0
    for name in fuzzing.ids(500, seed=5):
        uses = (
            lambda name: check_id(name),
            lambda name: _ids([name], None),
            lambda name: ledger.has_result(name),
            lambda name: ledger.read_result(name),
            lambda name: ledger.write_result(name, record()),
            lambda name: ledger.metrics.write(name, 1, {"step": 1}),
            lambda name: ledger.metrics.read(name, 1),
            lambda name: ledger.metrics.attempts(name),
            lambda name: ledger.checkpoints(name),
            lambda name: ledger.delete_checkpoints(name),
            lambda name: ledger.job(name).beat(1),
        )
        if fuzzing.is_legal_id(name):
            n_legal += 1
            for use in uses:
                use(name)
            continue
        for use in (*uses, ledger.read_point):
            with pytest.raises(ValueError, match=r"^id ") as caught:
                use(name)
            assert is_one_line(caught.value), name
    assert 50 < n_legal < 250
    runs, jobs = ledger.folder / "runs", ledger.folder / "jobs"
    assert {p.name for p in tmp_path.iterdir()} == {"results"}
    assert {p.name for p in ledger.results.iterdir()} == {ledger.folder.name}
    assert {p.name for p in ledger.folder.iterdir()} == {"runs", "jobs"}
    for folder in (runs, jobs):
        assert all(fuzzing.is_legal_id(path.name) for path in folder.iterdir())


NAMES = (
    "",
    "..",
    ".",
    "../x",
    "a/b",
    "/etc",
    "a\\b",
    "a b",
    "a\n",
    "\0",
    "é",
    "a" * 101,
    "\udcff",
    "-\u202e",
)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_study_whose_name_is_no_folder_writes_nothing(tmp_path, capsys, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "work").mkdir()
    with pytest.raises(SystemExit) as end:
        main.main(["run", "quickstart", f"name={name}", "--results", "work"])
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("isoflop: name=")
    assert err.count("\n") == 1
    assert err[:-1].isprintable()
    assert [p.name for p in tmp_path.rglob("*")] == ["work"]


def test_the_longest_and_the_shortest_name_are_legal(study):
    for name in ("a" * 100, "-", "_", "0", "Z"):
        assert dataclasses.replace(study, name=name).name == name


LOOSE = (
    ("NaN", lambda text: text.replace("2.5", "NaN"), "nan"),
    ("infinity", lambda text: text.replace("2.5", "-Infinity"), "inf"),
    ("beyond all numbers", lambda text: text.replace("2.5", "1e999"), "inf"),
    ("a key twice", lambda text: f'{text[:-1]}, "value": 1, "value": 1}}', "twice"),
    ("no object", lambda text: "[1]", "Expected"),
    ("an empty object", lambda text: "{}", "missing"),
    ("trailing words", lambda text: f"{text} x", "Extra data"),
)


@pytest.mark.parametrize(("damage", "words"), [c[1:] for c in LOOSE], ids=[c[0] for c in LOOSE])
def test_every_reader_of_json_is_strict_and_names_the_file(
    tmp_path, ledger, points, record, forecast, damage, words
):
    # With a right checksum: it is the reading that must refuse.
    text = text_of(encode(record(2.5))).decode()
    ledger.storage.create("runs/a/result.json", with_checksum(damage(text)))
    with pytest.raises(Damaged, match=rf"result\.json.*{words}"):
        ledger.read_result("a")
    predicted = {"additive": Predicted(value=2.5, lower=None, upper=3.0)}
    text = text_of(encode(forecast(points[0], forecasts=predicted))).decode()
    ledger.storage.create("forecasts/1.000000e+12-k.json", with_checksum(damage(text)))
    for read in (lambda: read_forecasts(ledger), lambda: read_forecast(ledger, 1e12, "k")):
        with pytest.raises(Damaged, match=rf"forecasts/.*{words}"):
            read()
    speeds = {"device": "x", "flops_per_second": {"1e9": 2.5}}
    speeds |= {"peak_flops_per_second": 2.5, "compile_seconds": 2.5}
    host = damage(json.dumps(speeds))
    (tmp_path / "calibration.json").write_bytes(with_checksum(f'{{"host": {host}}}'))
    with pytest.raises(ValueError, match=r"calibration\.json is not what it should be"):
        calibration.load(tmp_path)
