# SPDX-License-Identifier: Apache-2.0
"""Data as axes of a study, and how often a run may pass over each part."""

import dataclasses

import pytest

from experiments.plan.epochs import passes
from experiments.plan.plan import plan
from experiments.plan.settings import settings, sources
from experiments.study.study import Axis
from model.data.mixture import mixed
from model.data.source import Mixture, Part, PepsText, StdlibText

PEPS, STDLIB = PepsText(validation_fraction=0.1), StdlibText(validation_fraction=0.1)
N_TOKENS = {PEPS: 1_000_000, STDLIB: 10_000_000}


@pytest.fixture
def varied(study, make_manifest):
    """(study, manifest) of a mixture with such parts, an axis of its first weight."""

    def make(*values: float, **fields: float):
        parts = (
            Part(name="peps", source=PEPS, weight=values[0], **fields),
            Part(name="code", source=STDLIB, weight=1.0),
        )
        axis = Axis(field="data.parts.0.weight", values=values)
        own = dataclasses.replace(
            study, data=Mixture(parts=parts), axes=(axis,), max_epochs=3.0, budgets=(1e11,)
        )
        leaves = [
            make_manifest(kind=source.kind, n_train_tokens=n, fingerprint=f"{n:064x}")
            for source, n in N_TOKENS.items()
        ]
        first, *others = (mixed(source, leaves) for source in sources(own))
        return own, dataclasses.replace(first, variants=tuple(others))

    return make


def test_weights_are_an_axis_of_numbers_with_data_of_their_own(varied):
    study, manifest = varied(0.1, 0.2, 0.5)
    assert study.axes[0].is_numbers
    points = plan(study, manifest).points
    assert {point.axes["data.parts.0.weight"] for point in points} == {0.1, 0.2, 0.5}
    fingerprints = {
        point.axes["data.parts.0.weight"]: point.spec.data_fingerprint for point in points
    }
    assert list(fingerprints.values()) == [
        one.fingerprint for one in (manifest, *manifest.variants)
    ]
    assert len(set(fingerprints.values())) == 3


def test_epochs_are_those_of_the_part_that_is_repeated_most(varied):
    study, manifest = varied(1.0)
    for point in plan(study, manifest).points:
        assert point.epochs == pytest.approx(0.5 * point.n_tokens / N_TOKENS[PEPS])
        found = passes(study, manifest, point.n_tokens)
        assert [one.name for one in found] == ["peps", "code"]
        assert found[1].epochs == pytest.approx(0.5 * point.n_tokens / N_TOKENS[STDLIB])


def test_each_part_must_have_its_share_of_what_is_evaluated(varied):
    """Of 4096 tokens each part is asked 16 windows of 128, which are 2049 tokens."""
    study, manifest = varied(1.0)
    parts = [dataclasses.replace(one, n_validation_tokens=2049) for one in manifest.parts]
    plan(study, dataclasses.replace(manifest, parts=tuple(parts)))
    parts[1] = dataclasses.replace(parts[1], n_validation_tokens=2048)
    said = "of which 'stdlib' is asked for one in 2: .* enough for n_tokens=3840. Ask for fewer"
    with pytest.raises(ValueError, match=said):
        plan(study, dataclasses.replace(manifest, parts=tuple(parts)))


@pytest.mark.parametrize(
    ("fields", "n_unique", "most"),
    [({"max_epochs": 0.3}, 1_000_000, 0.3), ({"unique_tokens": 100_000}, 100_000, 3.0)],
)
def test_more_epochs_of_a_part_than_are_allowed_are_refused(varied, fields, n_unique, most):
    before, manifest = varied(1.0)
    n_tokens = [point.n_tokens for point in plan(before, manifest).points]
    study, manifest = varied(1.0, **fields)
    assert min(n_tokens) < 2 * n_unique * most < max(n_tokens), "some are refused, not all"
    planned = plan(study, manifest)
    assert {p.n_tokens for p in planned.points} == {n for n in n_tokens if n <= 2 * n_unique * most}
    (line,) = [line for line in planned.left_out if "epochs" in line]
    assert "tokens of part 'peps' at d_model 16 are" in line
    assert f"above max_epochs={most:g}" in line


def test_any_data_may_be_an_axis_where_they_have_names(study, make_manifest):
    axis = Axis(field="data", values=(PEPS, STDLIB), labels=("peps", "code"))
    study = dataclasses.replace(study, axes=(axis,))
    assert sources(study) == [PEPS, STDLIB]
    assert [setting.axes for setting in settings(study)] == [{"data": "peps"}, {"data": "code"}]
