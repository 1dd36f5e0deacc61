# SPDX-License-Identifier: Apache-2.0
import csv
import dataclasses
import io
import struct
import sys
from types import SimpleNamespace

import msgspec
import pytest
from rich.console import Console
from small_networks import attention

from experiments.ledger.claims import Limits
from experiments.ledger.owner import this_process
from experiments.ledger.result import Ended
from experiments.ledger.tables import collate
from experiments.operations.export import export
from experiments.plan.jobs import alone
from experiments.plan.plan import plan
from experiments.study.study import Ladder
from scaling.approaches.surface.fit import fit_surface
from scaling.tables.read_tables import read_runs

ME = this_process({})


@pytest.fixture
def points(study, manifest):
    """Enough sizes for a fit."""
    sizes = Ladder(d_models=(16, 24, 32, 48, 64), tokens_per_param=(1.0, 500.0))
    return list(plan(dataclasses.replace(study, sizes=sizes), manifest).points)


@pytest.fixture
def planned(ledger, points, record):
    """Losses of a known law; of the last four one has diverged, one failed, one runs, one waits."""
    ledger.write_plan("{}", points, [alone(point).job for point in points])
    for i, point in enumerate(points[:-4]):
        # No law fits it exactly: the least difference between two tables would move the fit.
        loss = 1.5 + 40 * point.params.total**-0.4 + 90 * point.n_tokens**-0.4 + 1e-3 * (i % 3)
        attempts = (Ended(attempt=1, how="killed", step=3),)
        ledger.write_result(point.id, record(loss, provenance={"attempts": attempts}))
    diverged, failed, running, _ = points[-4:]
    ledger.write_result(diverged.id, record(None, status="diverged", reason='no, "number"'))
    for _ in range(3):
        job = ledger.job(failed.id)
        job.end(job.claim(ME, lease_seconds=9, max_attempts=9), "oom", "out of [/memory]", 0)
    ledger.job(running.id).claim(ME, lease_seconds=9, max_attempts=9)
    return points


@pytest.fixture
def go(ledger):
    def go(out=None, to=None):
        console = Console(file=io.StringIO(), width=200, markup=False, soft_wrap=True)
        export("mine", ledger, console, out=out, to=to, limits=Limits())
        return console.file.getvalue()

    return go


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_exported_table_gives_the_fit_of_the_studys_own(go, ledger, planned, tmp_path, suffix):
    collate(ledger, planned)
    path = tmp_path / "new" / f"all.{suffix}"
    assert str(path) in go(out=path)
    own, exported = read_runs(ledger.table), read_runs(path)
    assert len(exported) == len(planned) > len(own)
    assert exported.flops_convention == own.flops_convention
    fits = [fit_surface(runs, "additive", n_bootstrap=0) for runs in (own, exported)]
    assert len(fits[0].fitted_runs) == len(planned) - 4
    assert fits[0].parameters == fits[1].parameters


def test_every_point_is_a_row_with_its_spec_outcome_costs_and_provenance(go, planned, tmp_path):
    path = tmp_path / "all.csv"
    go(out=path)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run_id"] for row in rows] == [point.id for point in planned]
    assert [row["status"] for row in rows[-5:]] == [
        "ok",
        "diverged",
        "failed",
        "running",
        "waiting",
    ]
    assert [row["reason"] for row in rows[-4:-2]] == ['no, "number"', "out of [/memory]"]
    for point, row in zip(planned, rows, strict=True):
        spec = point.spec
        assert int(row["spec.model.d_model"]) == spec.model.d_model
        rate = spec.train.optimizer.hidden.learning_rate
        assert float(row["spec.train.optimizer.hidden.learning_rate"]) == rate
        n_heads = attention(spec.model).n_heads
        assert int(row["spec.model.blocks.0.mixer.n_heads"]) == n_heads
        assert int(row["spec.train.data_seed"]) == spec.train.data_seed
    n_fields = sum(name.startswith("spec.") for name in rows[0])
    assert n_fields == count_leaves(msgspec.to_builtins(planned[0].spec))
    assert (rows[0]["cost.wall_seconds"], rows[0]["provenance.device"]) == ("1.0", "abacus")
    assert rows[0]["provenance.attempts"] == "killed@3"
    assert rows[-1]["cost.wall_seconds"] == ""


def count_leaves(tree):
    inner = tree.values() if isinstance(tree, dict) else tree
    return sum(map(count_leaves, inner)) if isinstance(tree, dict | list | tuple) else 1


def test_without_a_name_the_table_lies_in_the_studys_folder(go, ledger, planned):
    assert "export.parquet" in go()
    assert len(read_runs(ledger.folder / "export.parquet")) == len(planned)


def test_another_kind_of_file_is_said(go, planned, tmp_path):
    with pytest.raises(ValueError, match=r"must end with .parquet or .csv"):
        go(out=tmp_path / "all.xlsx")
    assert not list(tmp_path.glob("*.xlsx"))


@pytest.fixture
def resumed(ledger, points, record):
    """Two attempts; the second trains steps 3 and 4 again. Returns the point."""
    ledger.write_plan("{}", points[:2])
    row = {"n_steps": 6, "grad_norm": 1.0, "resumed_at": 0}
    for attempt, first, last in ((1, 1, 4), (2, 3, 6)):
        for step in range(first, last + 1):
            told = {"step": step, "n_tokens": 10 * step, "loss_nats": attempt + step / 8}
            told["wall_seconds"] = float(step - first + 1)
            ledger.metrics.write(points[0].id, attempt, row | {"resumed_at": first - 1} | told)
    ledger.write_result(points[0].id, record())
    return points[0]


LOSSES = {1: 1.125, 2: 1.25, 3: 2.375, 4: 2.5, 5: 2.625, 6: 2.75}


def events(path):
    """(time, step, tag, value) of a TensorBoard file: frames of length, crc, protobuf, crc."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        event = event_pb2.Event.FromString(data[at + 12 : at + 12 + length])
        at += 12 + length + 4
        for value in event.summary.value:
            found.append((event.wall_time, event.step, value.tag, value.simple_value))
    return found


def test_tensorboard_gets_every_step_once_with_the_seconds_of_all_attempts(go, resumed, tmp_path):
    pytest.importorskip("tensorboardX")
    assert "metrics of 1 runs" in go(to=("tensorboard", str(tmp_path / "board")))
    (folder,) = (tmp_path / "board").iterdir()
    assert resumed.id in folder.name
    (path,) = folder.iterdir()
    path.rename(folder / "events.out.tfevents.1.earlier.isoflop")
    go(to=("tensorboard", str(tmp_path / "board")))
    (path,) = folder.iterdir()
    found = events(path)
    assert {step: v for _, step, tag, v in found if tag == "train/loss_nats"} == LOSSES
    times = {step: time for time, step, _, _ in found}
    assert times == {1: 1.0, 2: 2.0, 3: 5.0, 4: 6.0, 5: 7.0, 6: 8.0}, "lost work took its time too"
    curve = {step: v for _, step, tag, v in found if tag == "validation/loss_nats"}
    assert curve == {1: 4.0, 2: 3.5}


def test_wandb_gets_the_same_under_the_id_of_the_point(go, resumed, monkeypatch):
    said = []
    opened = SimpleNamespace(
        log=lambda values, step: said.append((step, values)), finish=lambda: said.append("end")
    )
    stub = SimpleNamespace(init=lambda **given: said.append(given) or opened)
    monkeypatch.setitem(sys.modules, "wandb", stub)
    go(to=("wandb", "project"))
    assert said[0]["id"] == resumed.id
    assert said[0]["project"] == "project"
    assert said[0]["config"]["spec.model.d_model"] == resumed.spec.model.d_model
    assert {step: values["train/loss_nats"] for step, values in said[1:-1]} == LOSSES
    assert [step for step, _ in said[1:-1]] == sorted(LOSSES)
    assert said[-1] == "end"


def test_steps_beyond_where_the_last_attempt_is_are_left_out(go, ledger, resumed, monkeypatch):
    row = {"n_steps": 6, "grad_norm": None, "n_tokens": 30, "loss_nats": 9.0, "wall_seconds": 1.0}
    ledger.metrics.write(resumed.id, 3, row | {"step": 3, "resumed_at": 2})
    steps = []
    opened = SimpleNamespace(log=lambda _, step: steps.append(step), finish=lambda: None)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **_: opened))
    go(to=("wandb", "project"))
    assert steps == [1, 2, 3]


MISSING = (("tensorboard", "tensorboardX"), ("wandb", "wandb"))


@pytest.mark.parametrize(("sink", "package"), MISSING)
def test_a_missing_package_is_said_in_a_line(go, resumed, monkeypatch, tmp_path, sink, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=f"needs the package {package}.*pip install") as error:
        go(to=(sink, str(tmp_path / "board")))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "board").exists()
