# SPDX-License-Identifier: Apache-2.0
"""The best pack is found by doubling, kept in a file that notices damage, and only looked up."""

from dataclasses import replace

import pytest

from experiments.files.checked_json import Damaged, with_checksum
from experiments.plan.plan import plan
from experiments.plan.point import Point
from experiments.speed.pack_sizes import PackSpeeds, best_pack, search, shape_key, store


@pytest.fixture
def point(study, manifest) -> Point:
    return plan(study, manifest).points[0]


@pytest.mark.parametrize(
    ("speeds", "asked", "best"),
    [
        ([100.0, 90.0], [1, 2], 1),
        ([100.0, 104.9], [1, 2], 1),
        ([100.0, 105.1, 110.0], [1, 2, 4], 2),
        ([100.0, 190.0, 350.0, 360.0, 9999.0], [1, 2, 4, 8], 4),
        ([100.0, 190.0, None], [1, 2, 4], 2),
        ([100.0, 200.0, 400.0], [1, 2, 4], 4),
        ([100.0, None], [1, 2], 1),
    ],
)
def test_packs_double_until_they_gain_too_little_or_memory_ends(speeds, asked, best):
    seen = []

    def measure(n_runs: int) -> float | None:
        seen.append(n_runs)
        return speeds[len(seen) - 1]

    found = search(measure, max_runs=2 ** (len(speeds) - 1))
    assert seen == asked
    assert found.best == best


def test_where_not_one_run_fits_nothing_is_found():
    assert search(lambda n_runs: None) is None


def test_the_best_pack_is_looked_up_by_device_and_shape(point, tmp_path):
    assert best_pack(tmp_path, "H200", point) is None
    store(tmp_path, "H200", shape_key(point), PackSpeeds(run_steps_per_second={1: 10.0, 2: 19.0}))
    store(tmp_path, "EPYC", shape_key(point), PackSpeeds(run_steps_per_second={1: 10.0, 2: 9.0}))
    assert best_pack(tmp_path, "H200", point) == 2
    assert best_pack(tmp_path, "EPYC", point) == 1
    assert best_pack(tmp_path, "L4", point) is None
    store(tmp_path, "H200", shape_key(point), PackSpeeds(run_steps_per_second={1: 10.0}))
    assert best_pack(tmp_path, "H200", point) == 1


def of(point: Point, **changes: object) -> Point:
    """The point with fields of its training, or of its network, replaced."""
    train = {k: v for k, v in changes.items() if hasattr(point.spec.train, k)}
    model = {k: v for k, v in changes.items() if hasattr(point.spec.model, k)}
    spec = replace(
        point.spec,
        train=replace(point.spec.train, **train),
        model=replace(point.spec.model, **model),
    )
    return replace(point, spec=spec)


def test_points_of_one_program_have_one_shape_and_others_another(point):
    train = point.spec.train
    optimizer = replace(train.optimizer, beta1=0.5)
    schedule = replace(train.schedule, n_steps=train.schedule.n_steps + 1)
    same = [{"init_seed": 5}, {"optimizer": optimizer}, {"schedule": schedule}]
    assert {shape_key(of(point, **changes)) for changes in same} == {shape_key(point)}
    others = [
        {"batch_size": 3},
        {"compute_dtype": "bfloat16"},
        {"norm_eps": 0.5},
        {"seq_len": 8},
        {"objective": "diffusion"},
    ]
    assert len({shape_key(of(point, **changes)) for changes in [{}, *others]}) == 6


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-9],
        lambda data: data.replace(b"19.0", b"91.0"),
        lambda data: b"",
        lambda data: with_checksum('{"H200": 3}'),
        lambda data: with_checksum('{"H200": {"d8": {"run_steps_per_second": {"1": -2.0}}}}'),
        lambda data: with_checksum('{"H200": {"d8": {"run_steps_per_second": {"2": 2.0}}}}'),
    ],
)
def test_a_damaged_file_is_named_with_the_way_out(point, tmp_path, damage):
    store(tmp_path, "H200", shape_key(point), PackSpeeds(run_steps_per_second={1: 10.0, 2: 19.0}))
    path = tmp_path / "packs.json"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(Damaged, match=r"packs\.json .* Delete it") as refused:
        best_pack(tmp_path, "H200", point)
    assert "\n" not in str(refused.value)


@pytest.mark.slow(reason="a real process measures this machine")
def test_speeds_of_packs_are_measured(point):
    from experiments.speed.measure_pack import measure

    tiny = of(point, batch_size=1, seq_len=4, n_layers=1, d_model=8)
    for n_runs in (1, 2):
        assert measure(tiny.spec.model, tiny.spec.train, n_runs, seconds=0.01) > 0


def test_memory_that_ends_is_no_error(point, monkeypatch: pytest.MonkeyPatch):
    import jax

    from experiments.speed import measure_pack
    from model.training.memory import TooLarge

    def compile_program(*_: object, **options: object) -> None:
        raise errors.pop()

    errors = [
        jax.errors.JaxRuntimeError("INTERNAL: no"),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"),
        TooLarge("a device needs more"),
    ]
    monkeypatch.setattr(measure_pack, "compile_program", compile_program)
    assert measure_pack.measure(point.spec.model, point.spec.train, 8) is None
    assert measure_pack.measure(point.spec.model, point.spec.train, 8) is None
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        measure_pack.measure(point.spec.model, point.spec.train, 8)
