# SPDX-License-Identifier: Apache-2.0
"""Attempts at jobs with a stand-in trainer: what is written, and what the worker answers."""

import csv
import dataclasses
import errno
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
import safetensors
from stand_in_training import PHASES, of_all, outcome, session

from experiments import worker
from experiments.executors.worker_settings import MODULE, WorkerSettings
from experiments.ledger.claims import JobFolder, Owned
from experiments.ledger.forecasts import Trajectory, write_forecast
from experiments.ledger.owner import this_process
from experiments.ledger.result import Ended
from experiments.ledger.tables import collate
from experiments.ledger.verdict import Judge
from experiments.machine.peak import Peak
from experiments.plan.arrange import arrange
from experiments.plan.jobs import alone
from experiments.plan.plan import plan
from experiments.plan.trunks import grow
from experiments.study.study import MOST_KEPT_PARAMS
from experiments.train import attempt
from experiments.train.attempt import run_job
from experiments.train.session import Stop
from experiments.worker import work
from model.data import corpus
from model.network.config import ModelConfig
from model.network.weight_names import Tensor
from model.training.outcome import CurvePoint, Interrupted, Order, Progress, TrainResult
from scaling.tables.read_tables import read_runs


class Trainer:
    """Does as the loop does: asks before each step, and obeys."""

    def __init__(self, before_step=lambda step: None, **changes):
        self.before_step, self.changes, self.n_calls = before_step, changes, 0

    def __call__(self, model, configs, corpus, *, control, on_phase, **_):
        self.n_calls += 1
        on_phase("train")
        for step in range(4):
            self.before_step(step)
            if (order := control(step)) is not Order.GO:
                raise Interrupted(step, is_saved=order is Order.SAVE_AND_STOP)
        return tuple(outcome(**self.changes) for _ in configs)


NORM = Tensor("norm.gain", (2,))
NUMBERS = np.array([0.5, -2.0], np.float32)


class Keeping(Trainer):
    """Gives its final parameters to whoever wants them, as the loop does."""

    def __init__(self, *, at_the_end=lambda: None):
        super().__init__()
        self.at_the_end, self.kept = at_the_end, []

    def __call__(self, model, configs, corpus, *, keep, **rest):
        results = super().__call__(model, configs, corpus, **rest)
        if keep is not None:
            for run in range(len(configs)):
                with keep(run, [NORM]) as take:
                    take(NUMBERS.tobytes()[:3])
                    take(NUMBERS.tobytes()[3:])
                    self.at_the_end()
                self.kept.append(run)
        return results


@pytest.fixture
def make_session(manifest):
    return lambda train, **changes: session(train, manifest, **changes)


@pytest.fixture
def go(ledger, planned, make_session):
    """Runs a worker's jobs; returns its exit code and what it said."""

    def go(train, ids=None, **changes):
        said = []
        ids = [planned[0].id] if ids is None else ids
        code = work(ledger, iter(ids), make_session(train, **changes), said.append)
        return code, [msgspec.to_builtins(event) for event in said]

    return go


def successor(ledger, name):
    """Another worker takes the job, as after a silence."""
    job = ledger.job(name)
    job.end(job.newest(), "killed", "was silent", 0)
    return job.claim(this_process({}), lease_seconds=100, max_attempts=9)


def test_jobs_are_trained_once_and_each_result_says_where_it_came_from(go, ledger, planned):
    train, ids = Trainer(), [point.id for point in planned]
    code, said = go(train, ids)
    assert code == 0
    assert [event["event"] for event in said] == ["done"] * len(ids)
    record = ledger.read_result(ids[0])
    assert record.loss_nats == 2.5
    assert record.flops == planned[0].flops
    told = record.provenance
    assert (told.job_id, told.pack_size, told.attempt) == (ids[0], 1, 1)
    assert (told.attempts, told.resumed_at_steps) == ((), (0,))
    assert told.data_fingerprint == planned[0].spec.data_fingerprint
    for name in ("git_commit", "version_jax", "n_devices", "n_processes", "xla_flags", "host"):
        assert getattr(told, name) is not None, name
    assert record.costs.device_seconds == record.costs.total_wall_seconds
    assert record.costs.joules_source
    assert go(train, ids)[0] == 0
    assert train.n_calls == len(ids)


class Evaluating(Trainer):
    """Tells two losses far above what was forecast, asks, and obeys."""

    def __call__(self, model, configs, corpus, *, control, on_evaluated, on_phase, **_):
        on_phase("train")
        for step, n_tokens in enumerate((5000, 7500), 1):
            on_evaluated((CurvePoint(step=step, n_tokens=n_tokens, loss_nats=9.0),))
        if control(2) is not Order.GIVE_UP:
            return (outcome(),)
        fields = vars(outcome(None, status="stopped", reason="given up", n_steps=2))
        fields.pop("loss_nats")
        return (TrainResult(**fields, n_tokens=20),)


@pytest.mark.parametrize("is_asked", [True, False])
def test_a_hopeless_run_has_a_result_that_no_fit_takes(go, ledger, planned, forecast, is_asked):
    point, *others = planned
    band = {"value": (1.0, 1.0), "lower": (0.9, 0.9), "upper": (1.1, 1.1)}
    expected = Trajectory(level=0.95, share=(5000 / point.n_tokens, 1.0), **band)
    write_forecast(ledger, "k", forecast(point, trajectory=expected))
    assert go(Evaluating(), [point.id], stop_early=is_asked)[0] == 0
    result = ledger.read_result(point.id)
    if not is_asked:
        assert result.status == "ok"
        return
    assert result.status == "stopped"
    assert result.reason.startswith("stopped early at ")
    n_steps = point.spec.train.schedule.n_steps
    for name, flops in point.flops.items():
        assert result.flops_spent[name] == pytest.approx(flops * 2 / n_steps)
    go(Trainer(), [other.id for other in others])
    collate(ledger, planned)
    runs = read_runs(ledger.table, flops="matmul_full", params="total")
    assert runs.not_ok == {point.id: "stopped"}
    assert Judge(ledger).point(point.id).state == "stopped"


def test_a_result_names_the_weights_that_lie_beside_it(go, ledger, planned):
    point = planned[0]
    train = Keeping(at_the_end=lambda: pytest.fail("there was a result") if result() else None)

    def result():
        return ledger.read_result(point.id)

    assert go(train)[0] == 0
    path = ledger.folder / "runs" / point.id / "weights.safetensors"
    assert result().weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    with safetensors.safe_open(path, "numpy") as file:
        about = file.metadata()
        assert {name: file.get_tensor(name).tolist() for name in file.keys()} == {  # noqa: SIM118
            NORM.name: NUMBERS.tolist()
        }
    assert (about["spec_id"], about["isoflop_weights"]) == (point.id, "1")
    assert msgspec.json.decode(about["model"], type=ModelConfig) == point.spec.model


@pytest.mark.parametrize(
    ("keep", "n_params", "is_kept"),
    [
        ("auto", MOST_KEPT_PARAMS, True),
        ("auto", MOST_KEPT_PARAMS + 1, False),
        ("final", MOST_KEPT_PARAMS + 1, True),
        ("none", 1, False),
    ],
)
def test_the_study_and_the_size_say_whether_weights_are_kept(
    go, ledger, planned, monkeypatch, keep, n_params, is_kept
):
    read_point = ledger.read_point

    def sized(name):
        point = read_point(name)
        return replace(point, params=replace(point.params, total=n_params))

    monkeypatch.setattr(ledger, "read_point", sized)
    assert go(train := Keeping(), keep=keep)[0] == 0
    assert train.kept == [0] * is_kept
    assert bool(ledger.read_result(planned[0].id).weights_sha256) == is_kept
    assert len([*ledger.folder.rglob("*.safetensors")]) == is_kept


def test_weights_of_a_worker_that_was_replaced_never_get_their_name(go, ledger, planned):
    train = Keeping(at_the_end=lambda: successor(ledger, planned[0].id))
    assert go(train)[0] == 3
    assert not [*ledger.folder.rglob("*weights*")]


def test_weights_that_find_no_room_are_a_full_disk_and_no_failure(go, ledger, planned):
    def full():
        raise OSError(errno.ENOSPC, "No space left on device", "weights")

    assert go(Keeping(at_the_end=full))[0] == 74
    assert ledger.job(planned[0].id).ending(1).how == "disk"
    assert not [*ledger.folder.rglob("*weights*")]


def test_a_run_that_spiked_says_so_in_its_result_and_its_row_and_is_fitted(go, ledger, planned):
    def train(model, configs, corpus, *, on_progress, **_):
        for step in range(1, 21):
            progress = Progress(
                step=step,
                n_steps=20,
                loss_nats=9.0 if step == 15 else 3 - step / 100,
                grad_norm=1.0,
                said={},
                n_tokens=step,
                resumed_at=0,
                train_seconds=1.0,
                stall_seconds=0.0,
            )
            on_progress((progress,))
        return (outcome(),)

    assert go(train)[0] == 0
    assert ledger.read_result(planned[0].id).flags == ("spike",)
    collate(ledger, planned[:1])
    (row,) = csv.DictReader(ledger.table.read_text().splitlines())
    assert (row["flags"], row["status"]) == ("spike", "ok")
    assert read_runs(ledger.table, flops="matmul_full", params="total").is_ok.all()


@pytest.mark.parametrize(
    ("error", "how"),
    [
        (RuntimeError("boom"), "exception"),
        (MemoryError(), "oom"),
        (RuntimeError("RESOURCE_EXHAUSTED: 9 GiB"), "oom"),
    ],
)
def test_a_failure_is_written_down_and_the_other_jobs_have_their_turn(
    go, ledger, planned, error, how
):
    def fail(step):
        if ledger.job(planned[0].id).ending(1) is None:
            raise error

    code, said = go(Trainer(fail), [p.id for p in planned[:2]])
    assert code == 1
    assert [e["event"] for e in said] == ["failed", "done"]
    ending = ledger.job(planned[0].id).ending(1)
    assert ending.how == how
    assert str(error) in ending.reason


def test_what_the_trainer_refuses_is_no_failure(go, ledger, planned):
    def refuse(step):
        raise ValueError("mesh 1x2x1x1 needs 2 devices")

    for number in range(1, 5):
        code, said = go(Trainer(refuse))
        assert (code, said[0]["event"]) == (2, "refused")
        assert ledger.job(planned[0].id).ending(number).how == "refused"


def test_bfloat16_is_refused_on_a_cpu_before_anything_is_claimed(go, ledger, study, manifest):
    recipe = study.recipe.with_(compute_dtype="bfloat16")
    points = plan(dataclasses.replace(study, recipe=recipe), manifest).points
    ledger.write_plan("{}", points, [alone(point).job for point in points])
    train = Trainer()
    code, said = go(train, [points[0].id])
    assert (code, said[0]["event"], train.n_calls) == (2, "refused", 0)
    assert "which is for GPUs and TPUs, and this is a CPU. Train it there, or" in said[0]["reason"]
    assert ledger.job(points[0].id).newest() == 0


def test_after_three_failures_a_job_is_left_alone(go, ledger, planned):
    def fail(step):
        raise RuntimeError("boom")

    train = Trainer(fail)
    for _ in range(3):
        assert go(train)[0] == 1
    code, said = go(train)
    assert (code, said[0]["event"], train.n_calls) == (1, "gave up", 3)
    assert "failed 3 times" in said[0]["reason"]
    ledger.job(planned[0].id).forgive()
    assert go(Trainer())[0] == 0
    attempts = ledger.read_result(planned[0].id).provenance.attempts
    assert [attempt.how for attempt in attempts] == ["exception"] * 3


def test_a_full_disk_ends_the_worker(go, ledger, planned):
    def fail(step):
        raise OSError(errno.ENOSPC, "No space left on device", "/data/x")

    code, said = go(Trainer(fail), [p.id for p in planned[:2]])
    assert code == 74
    assert [event["reason"] for event in said] == ["cannot write /data/x: No space left on device."]
    assert ledger.job(planned[0].id).ending(1).how == "disk"


def test_another_live_owner_is_left_alone(go, ledger, planned):
    other = this_process({})
    ledger.job(planned[0].id).claim(other, lease_seconds=9, max_attempts=9)
    code, said = go(Trainer(), [p.id for p in planned[:2]])
    assert code == 3
    assert [event["event"] for event in said] == ["owned", "done"]
    assert f"process {os.getpid()} on" in said[0]["reason"]


def test_a_worker_that_was_replaced_stops_before_its_next_step(go, ledger, planned):
    steps = []

    def replaced(step):
        steps.append(step)
        if step == 2:
            successor(ledger, planned[0].id)

    code, _ = go(Trainer(replaced))
    assert (code, steps) == (3, [0, 1, 2])
    assert not ledger.has_result(planned[0].id)
    assert ledger.job(planned[0].id).ending(1).reason == "was silent"
    assert ledger.job(planned[0].id).ending(2) is None


def test_whatever_fails_in_a_worker_that_was_replaced_is_no_failure_of_the_job(go, ledger, planned):
    """Its successor may have cleared away the checkpoint that it was writing."""

    def replaced(step):
        successor(ledger, planned[0].id)
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "checkpoints/3-1")

    code, said = go(Trainer(replaced))
    assert (code, said[0]["event"]) == (3, "owned")
    assert ledger.job(planned[0].id).ending(1).reason == "was silent"


def test_a_worker_asked_to_stop_at_the_end_of_a_job_begins_no_other(go, ledger, planned):
    stop = Stop(lambda: pytest.fail("it was at work"))

    def train(*_, on_phase, **__):
        on_phase("train")
        stop.ask()
        return (outcome(),)

    assert go(train, [p.id for p in planned[:2]], stop=stop)[0] == 75
    assert ledger.has_result(planned[0].id)
    assert ledger.job(planned[1].id).newest() == 0


def test_a_damaged_result_is_trained_again_and_kept_for_whoever_asks(go, ledger, planned):
    assert go(Trainer())[0] == 0
    path = ledger.folder / "runs" / planned[0].id / "result.json"
    evidence = path.read_bytes()[:-9]
    path.write_bytes(evidence)
    ledger.job(planned[0].id).end(1, "killed", "long ago", 0)
    code, said = go(Trainer())
    assert (code, said[0]["event"]) == (0, "done")
    (note,) = ledger.read_result(planned[0].id).notes
    assert "result.json was damaged; it is kept as" in note
    assert [kept.read_bytes() for kept in path.parent.glob("*.damaged-*")] == [evidence]


def test_a_job_that_was_finished_while_we_looked_is_not_trained_again(
    ledger, planned, record, make_session, monkeypatch
):
    job, name = JobFolder.claim, planned[0].id

    def slow(self, me, **options):
        ledger.write_result(name, record(1.25))
        return job(self, me, **options)

    monkeypatch.setattr(JobFolder, "claim", slow)
    train = Trainer()
    assert run_job(ledger, name, make_session(train)) == [record(1.25)]
    assert train.n_calls == 0


EMIT_TWICE = """
import sys
from experiments.executors.worker_events import Preempted
from experiments.worker import _emit
sys.stdin.read()
_emit(Preempted(id="a"))
_emit(Preempted(id="a"))
sys.exit(75)
"""


def test_a_worker_whose_runner_is_gone_speaks_into_the_void_and_goes_on():
    worker = subprocess.Popen(
        [sys.executable, "-c", EMIT_TWICE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    worker.stdout.close()
    worker.stdin.close()
    assert (worker.wait(timeout=60), worker.stderr.read()) == (75, b"")
    worker.stderr.close()


def test_a_worker_that_was_replaced_after_its_last_step_leaves_no_result(
    ledger, planned, make_session
):
    def train(*_, **__):
        successor(ledger, planned[0].id)
        return (outcome(),)

    with pytest.raises(Owned, match="attempt 1 was silent too long"):
        run_job(ledger, planned[0].id, make_session(train))
    assert not ledger.has_result(planned[0].id)


def test_of_two_results_the_first_stands(ledger, planned, make_session):
    name = planned[0].id

    def late(*_, **__):
        (record,) = run_job(ledger, planned[1].id, make_session(Trainer()))
        ledger.write_result(name, msgspec.structs.replace(record, losses={"all": of_all(1.25)}))
        return (outcome(9.0),)

    (record,) = run_job(ledger, name, make_session(late))
    assert record.loss_nats == 1.25
    assert ledger.read_result(name).loss_nats == 1.25


def test_a_worker_that_is_asked_to_stop_saves_and_says_so(go, ledger, planned):
    stop = Stop(lambda: pytest.fail("it could have saved"))

    def asked(step):
        if step == 1:
            stop.ask()

    code, said = go(Trainer(asked), [p.id for p in planned[:2]], stop=stop)
    assert (code, [event["event"] for event in said]) == (75, ["preempted"])
    ending = ledger.job(planned[0].id).ending(1)
    assert (ending.how, ending.reason) == ("preempted", "stopped at step 1")
    assert ledger.job(planned[0].id).failures() == []
    assert go(Trainer())[0] == 0


def test_while_it_compiles_a_worker_ends_at_once_and_has_said_so(go, ledger, planned):
    ended = threading.Event()
    stop = Stop(ended.set)

    def compiling(*_, on_phase, **__):
        on_phase("compile")
        thread = threading.Thread(target=stop.ask)
        thread.start()
        thread.join()
        raise RuntimeError("the process would be gone")

    go(compiling, stop=stop)
    assert ended.is_set()
    ending = ledger.job(planned[0].id).ending(1)
    assert (ending.how, ending.reason) == ("preempted", "asked to stop while it compiled")


def test_a_worker_beats_while_it_trains(go, ledger, planned):
    heart = ledger.folder / "jobs" / planned[0].id / "hb" / "000001"
    beats = []

    def slow(step):
        os.utime(heart, (0, 0))
        until = time.monotonic() + 20
        while heart.stat().st_mtime == 0 and time.monotonic() < until:
            time.sleep(0.005)
        beats.append(heart.stat().st_mtime > 0)

    assert go(Trainer(slow), lease_seconds=0.06)[0] == 0
    assert beats == [True] * 4
    os.utime(heart, (0, 0))
    time.sleep(0.1)
    assert heart.stat().st_mtime == 0, "its heart stops with it"


def test_costs_of_attempts_add_up(go, ledger, planned):
    name = planned[0].id
    ledger.job(name).claim(this_process({}), lease_seconds=9, max_attempts=9)
    row = {"train_seconds": 10.0, "wall_seconds": 30.0, "resumed_at": 0}
    ledger.metrics.write(name, 1, row)
    ledger.job(name).end(1, "preempted", "asked to stop", 2)
    assert go(Trainer(resumed_at=2, n_timed_steps=2))[0] == 0
    record = ledger.read_result(name)
    costs = record.costs
    assert costs.total_wall_seconds == pytest.approx(30 + costs.wall_seconds)
    per_step = planned[0].flops["matmul_full"] / planned[0].spec.train.schedule.n_steps
    assert costs.flops_per_second == round(2 * per_step / 2.0)
    assert record.provenance.resumed_at_steps == (0, 2)
    assert record.provenance.attempts == (Ended(attempt=1, how="preempted", step=2),)


class Counter:
    """Stands for the energy meter of a process: the whole device's counter."""

    def __init__(self, platform):
        pass

    def joules(self):
        return 900.0

    def facts(self):
        return {"joules": 900.0, "joules_source": "nvml"}


def test_processes_that_share_a_device_cost_what_the_device_did(go, ledger, planned, monkeypatch):
    monkeypatch.setattr(attempt, "EnergyMeter", Counter)
    monkeypatch.setattr(attempt._Meter, "wall_seconds", property(lambda meter: 60.0))
    chosen = planned[:3]
    for point in chosen:  # Three processes, from the same second to the same second.
        trainer = Trainer(resumed_at=0, n_timed_steps=4)
        assert go(trainer, [point.id], per_device=3, mesh_shape=(1, 1, 2, 1))[0] == 0
    costs = [ledger.read_result(point.id).costs for point in chosen]
    assert sum(cost.device_seconds for cost in costs) == 60 * 2, "on two devices"
    assert sum(cost.joules for cost in costs) == pytest.approx(900)
    for name in PHASES:
        total = sum(getattr(cost, f"{name}_seconds") for cost in costs)
        assert total == pytest.approx(2.0, abs=0.003), name
    # What is charged, times the speed that is told, is what was done.
    for point, cost in zip(chosen, costs, strict=True):
        done = 4 * point.flops["matmul_full"] / point.spec.train.schedule.n_steps
        assert cost.flops_per_second * cost.train_seconds == pytest.approx(done, rel=1e-3)


def test_a_process_that_shares_a_device_pays_its_share_of_earlier_attempts(
    go, ledger, planned, monkeypatch
):
    name = planned[0].id
    monkeypatch.setattr(attempt._Meter, "wall_seconds", property(lambda meter: 60.0))

    def fails(*_, on_progress, **__):
        progress = {"step": 2, "n_steps": 4, "loss_nats": 2.0, "grad_norm": 1.0, "said": {}}
        progress |= {"n_tokens": 9}
        progress |= {"resumed_at": 0, "train_seconds": 1.0, "stall_seconds": 0.0}
        on_progress((Progress(**progress),))
        raise RuntimeError("boom")

    go(fails, per_device=4)
    assert go(Trainer(resumed_at=2, n_timed_steps=2), per_device=2)[0] == 0
    assert ledger.read_result(name).costs.total_wall_seconds == 60 / 4 + 60 / 2


def test_what_a_worker_is_told_of_its_device_reaches_its_records(ledger, monkeypatch):
    monkeypatch.setattr(corpus, "open_corpora", lambda *_: {})
    monkeypatch.setattr(worker.Manifest, "read", lambda path: None)
    session = worker._session(ledger, WorkerSettings(per_device=3), Stop(lambda: None), Trainer())
    assert session.per_device == 3


def test_a_result_has_its_share_of_a_peak_with_its_source(go, ledger, planned):
    point, asked = planned[0], []

    def peak(dtype):
        asked.append(dtype)
        return Peak(flops_per_second=1e9, source="table: an abacus")

    assert go(Trainer(resumed_at=0, n_timed_steps=4), peak=peak)[0] == 0
    costs = ledger.read_result(point.id).costs
    assert set(asked) == {"float32"}
    assert costs.peak_flops_per_second == 1e9
    assert costs.peak_flops_source == "table: an abacus"
    n_steps = point.spec.train.schedule.n_steps
    for convention in ("matmul_full", "matmul_causal"):
        speed = 4 * point.flops[convention] / n_steps / 2.0
        assert getattr(costs, f"mfu_{convention}") == pytest.approx(speed / 1e9, abs=1e-5)


def test_without_a_peak_there_is_no_share_of_it(go, ledger, planned):
    assert go(Trainer())[0] == 0
    assert ledger.read_result(planned[0].id).costs.mfu_matmul_full is None


def test_jobs_that_cannot_be_trained_are_refused_in_a_line(go, planned):
    code, said = go(Trainer(), ["nothing"])
    assert code == 2
    assert "no job nothing in" in said[0]["reason"]


def test_a_run_planned_for_other_data_is_refused(go, ledger, planned, make_manifest):
    corpora = {"ef" * 32: SimpleNamespace(manifest=make_manifest(fingerprint="ef" * 32))}
    code, said = go(Trainer(), corpora=corpora)
    assert code == 2
    assert "was planned for other data" in said[0]["reason"]
    assert ledger.job(planned[0].id).newest() == 0


class Saved:
    """Stands for the checkpoints of a folder: a stand-in trainer leaves the step it ended at."""

    def __init__(self, folder, attempt):
        self.folder = folder

    def save(self, step):
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{step}-1.sha256").write_text("")

    def has_intact(self, step):
        return (self.folder / f"{step}-1.sha256").exists()


class Branching(Trainer):
    """Notes where each call begins and ends; trunks leave a checkpoint, or diverge."""

    def __init__(self, reason=""):
        super().__init__()
        self.calls, self.reason = [], reason

    def __call__(self, model, configs, corpus, *, checkpoints, trunk, until, **rest):
        if trunk is not None:
            assert list(trunk.folder.glob("*.sha256")), "nothing to begin from"
        self.calls.append((trunk is not None, until, len(configs)))
        if until is not None and not self.reason:
            checkpoints.save(until)
        rest["on_phase"]("train")
        if until is None:
            return tuple(outcome(2.0 + config.init_seed) for config in configs)
        lost = {"status": "diverged"} if self.reason else {}
        return tuple(outcome(None, reason=self.reason, **lost) for _ in configs)


@pytest.fixture
def tree(ledger, branched, manifest):
    """The jobs of one trunk with three branches, planned; the last is the longest branch's."""
    points = list(plan(branched, manifest).points)
    one = grow(points)[0]
    planned_jobs = arrange(one.points, (1, 1, 1, 1), trunks=True)
    ledger.write_plan("{}", points, [planned_job.job for planned_job in planned_jobs])
    return [planned_job.job for planned_job in planned_jobs if planned_job.job.kind == "trunk"], one


@pytest.fixture
def branch_out(ledger, make_session):
    def go(train, job_id):
        return run_job(ledger, job_id, make_session(train, open_checkpoints=Saved))

    return go


def test_a_branch_trains_the_trunks_that_are_missing_and_no_more(branch_out, ledger, tree):
    trunks, one = tree
    train = Branching()
    (record,) = branch_out(train, one.points[1].id)
    a, b, _ = one.leaves_at
    assert train.calls == [(False, a, 1), (True, b, 1), (True, None, 1)]
    assert (record.status, record.provenance.trunk) == ("ok", trunks[1].id)
    share = 1 - b / one.points[1].spec.train.schedule.n_steps
    flops = one.points[1].flops["matmul_full"]
    assert record.flops_spent["matmul_full"] == pytest.approx(share * flops)
    assert record.flops == one.points[1].flops
    spent = ledger.read_trunk(trunks[1].id).flops_spent["matmul_full"]
    assert spent == pytest.approx(flops * (b - a) / one.points[1].spec.train.schedule.n_steps)
    train.calls.clear()
    branch_out(train, one.points[0].id)
    assert train.calls == [(True, None, 1)]


def test_a_trunk_without_its_checkpoint_is_trained_again(branch_out, ledger, tree):
    trunks, one = tree
    branch_out(Branching(), one.points[0].id)
    shutil.rmtree(ledger.checkpoints(trunks[0].id))
    assert not ledger.has_trunk(trunks[0].id)
    train = Branching()
    branch_out(train, one.points[1].id)
    a, b, _ = one.leaves_at
    assert train.calls == [(False, a, 1), (True, b, 1), (True, None, 1)]
    assert ledger.has_trunk(trunks[0].id)
    assert len(list((ledger.folder / trunks[0].id).parent.glob("jobs/*/trunk.json.lost-*"))) == 1


def test_branches_of_a_trunk_that_diverged_have_diverged_with_it(branch_out, ledger, tree):
    trunks, one = tree
    train = Branching("training loss is not finite at step 3")
    (record,) = branch_out(train, one.points[2].id)
    assert [until for _, until, _ in train.calls] == [one.leaves_at[0]]
    assert (record.status, record.loss_nats) == ("diverged", None)
    assert record.reason == "training loss is not finite at step 3"
    assert all(ledger.read_trunk(trunk.id).is_lost for trunk in trunks)


def test_a_trunk_that_somebody_trains_is_waited_for(branch_out, ledger, tree):
    trunks, one = tree
    ledger.job(trunks[0].id).claim(this_process({}), lease_seconds=9, max_attempts=9)
    with pytest.raises(Owned):
        branch_out(Branching(), one.points[0].id)
    assert ledger.job(one.points[0].id).newest() == 0


def test_a_pack_gives_each_of_its_points_a_result_and_its_share_of_the_seconds(
    ledger, planned, make_session, study
):
    pack = arrange(planned[:2], study.mesh, pack_size=lambda point: 2)[0].job
    ledger.write_plan("{}", planned, [pack])
    records = run_job(ledger, pack.id, make_session(Trainer()))
    assert len(records) == 2
    for point, record in zip(planned[:2], records, strict=True):
        assert ledger.read_result(point.id) == record
        assert record.provenance.pack_size == 2
        assert record.provenance.init_seed == point.seed
        assert record.costs.train_seconds == 2.0 / 2
    per_step = planned[0].flops["matmul_full"] / planned[0].spec.train.schedule.n_steps
    assert records[0].costs.flops_per_second == round(2 * 4 * per_step / 2.0)


def test_the_one_record_of_a_trunk_of_several_runs_has_all_of_its_seconds(
    ledger, make_session, branched, manifest
):
    points = list(plan(branched, manifest).points)
    planned_jobs = arrange(points, (1, 1, 1, 1), trunks=True, pack_size=lambda point: 2)
    ledger.write_plan("{}", points, [planned_job.job for planned_job in planned_jobs])
    trunk = next(one.job for one in planned_jobs if one.job.kind == "trunk")
    assert len(trunk.members) == 2
    (record,) = run_job(ledger, trunk.id, make_session(Branching(), open_checkpoints=Saved))
    assert record.costs.train_seconds == 2.0


def test_a_worker_has_no_other_thread_when_it_begins_to_watch_for_signals():
    """A signal goes to any thread that does not block it, and ends the process; NumPy has some."""
    code = "import os, experiments.worker; print(*os.listdir('/proc/self/task'), os.getpid())"
    thread, process = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert thread == process


def test_a_worker_takes_no_file_beside_the_study_for_a_module_of_pythons(tmp_path):
    (tmp_path / "glob.py").write_text("raise OSError('of the user')\n")
    code = [sys.executable, *MODULE, "--help"]
    there = os.environ | {"PYTHONPATH": str(Path(worker.__file__).parents[1])}
    done = subprocess.run(code, cwd=tmp_path, env=there, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
