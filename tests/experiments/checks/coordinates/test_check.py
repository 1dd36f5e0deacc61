# SPDX-License-Identifier: Apache-2.0
"""The coordinate check with a planted measure; its own measure against one step of Adam."""

import dataclasses
import io
import json
import math

import pytest
from rich.console import Console

from experiments.checks.coordinates.cases import QUANTITIES, Means, Networks, run_cases
from experiments.checks.coordinates.measure import measure
from experiments.checks.coordinates.page import show, write
from experiments.checks.coordinates.slopes import answer
from experiments.plan.resolve import resolve_tokens
from model.data.corpus import open_corpus
from model.data.manifest import Manifest
from model.data.prepare import prepare
from model.data.source import Zipf

pytestmark = pytest.mark.usefixtures("quick_to_compile")

NETWORKS = Networks(widths=(32, 64, 128), depths=(2, 4), seeds=(0, 1), n_steps=7)
ABOUT = {"command": "isoflop coordinate-check small", "seconds": 1, "device": "abacus"}
ABOUT |= {"python": "3", "version_jax": "0"}


def planted(spec) -> dict[str, Means]:
    """Logits move as sqrt(width) where their multiplier does not know the width, and as depth where
    the residual multiplier does not know it; everything else stays. The base shape is (64, 2)."""
    model, moved = spec.model, 1.0 + spec.train.init_seed
    if model.logit_multiplier == 0.3:
        moved *= math.sqrt(model.d_model / 64)
    if model.residual_multiplier == 2**-0.5:
        moved *= model.n_layers / 2
    found = dict.fromkeys(QUANTITIES, Means(1.0, 2.0, 3.0))
    return found | {"logits": Means(1.0, 2.0, moved)}


def answered(study, manifest, measure=planted):
    cases = list(run_cases(study, manifest, networks=NETWORKS, measure=measure))
    return answer(study.recipe, NETWORKS, cases)


@pytest.fixture
def found(study, manifest):
    return answered(study, manifest)


def test_planted_slopes_and_verdicts_come_back(found):
    rows = {(r.parameterization, r.axis, r.quantity): r for r in found.slopes}
    assert len(rows) == 2 * 2 * len(QUANTITIES)
    assert rows["standard", "width", "logits"].change.exponent == pytest.approx(0.5)
    assert rows["standard", "depth", "logits"].change.exponent == pytest.approx(1.0)
    grows = {key for key, row in rows.items() if row.change.verdict == "grows"}
    assert grows == {("standard", axis, "logits") for axis in ("width", "depth")}
    assert all(row.final.verdict == "flat" for row in rows.values())
    assert "all 20 slopes are flat" in found.verdict


def test_a_recipe_that_does_not_transfer_is_told_so(study, manifest):
    study = dataclasses.replace(study, recipe=study.recipe.with_(parameterization="standard"))
    found = answered(study, manifest)
    said = found.verdict
    assert "2 of 20 slopes are not flat" in said
    assert "logits change grows with depth" in said


def test_networks_differ_in_nothing_but_their_shape_and_run_at_the_peak_rate(found, study):
    shapes = {(c.d_model, c.n_layers) for c in found.cases}
    assert shapes == {(32, 2), (64, 2), (128, 2), (64, 4)}
    for case in found.cases:
        for seed, spec in zip(NETWORKS.seeds, case.specs, strict=True):
            assert (spec.model.d_model, spec.model.n_layers) == (case.d_model, case.n_layers)
            assert spec.train.init_seed == spec.train.data_seed == seed
            schedule = spec.train.schedule
            assert (schedule.n_steps, schedule.warmup_steps, schedule.decay_steps) == (7, 0, 0)
    first, *others = (case.specs[0].train for case in found.cases)
    assert all(train.batch_size == first.batch_size for train in others)
    assert all(train.optimizer.beta2 == first.optimizer.beta2 for train in others)
    base = study.recipe.base
    rates = {
        (case.parameterization, case.d_model): case.specs[0].train.optimizer.hidden.learning_rate
        for case in found.cases
    }
    assert rates["completep", 128] == pytest.approx(base.hidden_rate / 2)
    assert rates["standard", 128] == pytest.approx(base.hidden_rate)


def test_every_number_and_its_spec_are_written(found, tmp_path):
    paths = write(found, tmp_path, ABOUT)
    assert [path.name for path in paths] == [f"coordinate_check.{k}" for k in ("png", "json", "md")]
    record = json.loads((tmp_path / "coordinate_check.json").read_text())
    assert len(record["slopes"]) == 20
    case = next(c for c in record["cases"] if (c["d_model"], c["n_layers"]) == (128, 2))
    assert case["specs"][1]["model"]["d_model"] == 128
    assert record["means"] == ["initial", "final", "change"]
    assert case["means"]["mixer"] == [[1.0, 2.0, 3.0]] * 2
    page = (tmp_path / "coordinate_check.md").read_text()
    assert "| standard | width | logits | +0.00 ± 0.00 | flat | +0.50 ± 0.00 | grows |" in page
    console = Console(file=io.StringIO(), width=160)
    show(found, console)
    assert console.file.getvalue().count("standard") == 10


def test_what_is_not_finite_is_null_and_said(study, manifest, tmp_path):
    def blows_up(spec) -> dict[str, Means]:
        return planted(spec) | {"mixer": Means(1.0, math.inf, math.nan)}

    found = answered(study, manifest, blows_up)
    write(found, tmp_path, ABOUT)
    text = (tmp_path / "coordinate_check.json").read_text()
    json.loads(text, parse_constant=lambda word: pytest.fail(word))
    assert "mixer change no power law with width" in found.verdict


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zipf")
    data = Zipf(alpha=0.5, epsilon=0.1, base=8, n_digits=2, n_answers=1, language_seed=0)
    return open_corpus(prepare(data, folder), folder)


def test_one_step_of_adam_moves_every_embedding_by_its_rate(study, corpus, changed):
    """The first update is the sign of the gradient; with a tied head every row has one."""
    manifest: Manifest = corpus.manifest
    # Next to no decay, which would move weights too.
    study = changed(study, "recipe.optimizer.weight_decay_timescale", 1e6)
    study = dataclasses.replace(study, seq_len=16)
    point = resolve_tokens(study, manifest, n_tokens=64_000, d_model=16, seed=0, axes={})
    train = point.spec.train
    schedule = dataclasses.replace(train.schedule, n_steps=1, warmup_steps=0, decay_steps=0)
    spec = dataclasses.replace(
        point.spec,
        train=dataclasses.replace(train, schedule=schedule),
        model=dataclasses.replace(point.spec.model, n_layers=1),
    )
    found = measure(spec, corpus, 2)
    assert set(found) == set(QUANTITIES)
    rate = train.optimizer.input.learning_rate
    assert found["embedding"].change == pytest.approx(rate, rel=1e-3)
    # The mean absolute value of a normal draw; of 9 rows the frequent ones count most.
    expected = spec.model.embedding_init_std * math.sqrt(2 / math.pi)
    assert found["embedding"].initial == pytest.approx(expected, rel=0.3)
    for initial, final, change in found.values():
        assert 0 < abs(final - initial) <= change
