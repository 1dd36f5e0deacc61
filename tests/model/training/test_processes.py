# SPDX-License-Identifier: Apache-2.0
"""Two processes train one network as one process would, and obey process 0."""

import hashlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.machine.jax_setup import quick_flags
from model.data.corpus import Corpus
from model.network.config import ModelConfig
from model.network.execution import Execution
from model.training import processes
from model.training.config import TrainConfig
from model.training.loop import train_pack
from model.training.outcome import Progress

# Parameters are split over the two processes, and so is the batch.
MESH = (1, 1, 2, 1)

# Process 1 never asks for orders nor reports; it gets its work from process 0.
CHILD = """
import contextlib, hashlib, json, os, sys
from concurrent.futures import wait
from pathlib import Path
from threading import Event
from model.training.processes import barrier, broadcast, initialize_from_environment
from model.training.processes import gather, is_leader
initialize_from_environment(os.environ)

import jax
import numpy as np
import tensorstore
from model.network.config import ModelConfig
from model.network.counts.attention import AttentionConfig
from model.network.counts.kinds import BlockConfig
from model.network.counts.mlp import SwiGLUConfig
from model.network.sharding import make_mesh
from model.data.corpus import open_corpus
from model.data.manifest import Manifest
from model.network.execution import Execution
from model.training.checkpoints import checkpoint_files
from model.training.checkpoints.checkpoint import Checkpoints
from model.training.clock import Clock
from model.training.config import *
from model.training.checkpoints.digest import params_sha256
from model.training.outcome import Interrupted, Order
from model.training.loop import train_pack

may_write, open_array, seen = Event(), tensorstore.open, {{}}

def patient(*args, **options):
    assert may_write.wait(60)
    return open_array(*args, **options)

if is_leader():
    tensorstore.open = patient

def control(step):
    assert is_leader()
    if name == "calm":
        seen[step] = checkpoints.steps()
        if step == 10:
            may_write.set()
            wait([checkpoints._writing[1]])
    return Order.SAVE_AND_STOP if step == stop_at else Order.GO

def on_progress(packed):
    assert is_leader()
    told.extend((run.step, run.loss_nats, run.grad_norm) for run in packed)

kept = []

@contextlib.contextmanager
def keep(run, tensors):
    yield kept.append

# What process 1 finds right must not matter.
Clock.dispatch_steps = lambda clock, most: min(most, 3 if is_leader() else 1)

network, config = {network!r}, {config!r}
corpus = open_corpus(Manifest.from_json({manifest!r}), "")
asked, train_windows = set(), corpus.train_windows

def recorded(first, n, **rest):
    asked.add((first % config.batch_size, n))
    return train_windows(first, n, **rest)

corpus.train_windows = recorded
read, content = [], checkpoint_files.content

def noted(folder, saved, name, *, flush):
    read.append([f"{{folder.name}}/{{saved}}", name, flush])
    return content(folder, saved, name, flush=flush)

checkpoint_files.content = noted
jobs = ("calm -1 1", "broken 10 1", "broken -1 2")
clocks = {{"calm": 1e-9, "broken": 0.0}}
records = []
for job in jobs:
    name, stop_at, attempt = broadcast(job if is_leader() else "nobody reads this").split()
    told, stop_at = [], int(stop_at)
    checkpoints = Checkpoints(Path({folder!r}) / name, attempt=int(attempt))
    try:
        kept.clear()
        (result,) = train_pack(
            network, (config,), corpus, mesh_shape={mesh}, keep=keep if is_leader() else None,
            execution=Execution(steps_per_dispatch=7),
            checkpoints=checkpoints, checkpoint_seconds=clocks[name] if is_leader() else 1e9,
            on_progress=on_progress, control=control,
        )
        how = ("curve", "params_sha256", "loss_nats", "resumed_at", "notes", "n_timed_steps")
        record = {{name: getattr(result, name) for name in how}}
        record["kept"] = hashlib.sha256(b"".join(kept)).hexdigest()
        record["curve"] = [point.loss_nats for point in result.curve]
    except Interrupted as order:
        record = {{"interrupted": [order.step, order.is_saved]}}
    records.append(record | {{"told": told}})
    barrier("the step list is read before the next job writes")
    records[-1]["steps"] = checkpoints.steps()
whole = np.arange(48, dtype=np.float32).reshape(6, 8)
halves = jax.NamedSharding(make_mesh({mesh}), jax.P("fsdp"))
halved = jax.make_array_from_callback(whole.shape, halves, lambda index: whole[index])
digest = params_sha256({{"a": halved}}, 1)
long = broadcast("Zeichen \\u00e4 " * 1000 if is_leader() else "")

# Thousands of products and of sums over both processes.
import jax.numpy as jnp
mesh = make_mesh({mesh})
rows = jax.NamedSharding(mesh, jax.P("fsdp", None, None))
ones = lambda index: np.ones((1, 128, 128), np.float32)
x = jax.make_array_from_callback((2, 128, 128), rows, ones)
mix = lambda i, x: jnp.tanh(x @ x - x.sum(axis=0, keepdims=True))
with jax.set_mesh(mesh):
    busy = jax.jit(lambda x, n: jax.lax.fori_loop(0, n, mix, x))
    busy(x, jnp.int32(1)).block_until_ready()
    x = busy(x, jnp.int32(600))
broadcast("now" if is_leader() else "")
was_busy = not x.is_ready()
x.block_until_ready()

print()
said = {{"records": records, "asked": sorted(asked), "read": read, "digest": digest}}
said |= {{"seen": seen, "gathered": gather("abc" * (1 + 2 * is_leader())), "was_busy": was_busy}}
print(json.dumps(said | {{"long": [len(long), long[-10:]]}}))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def pair_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pair")


@pytest.fixture(scope="module")
def pair(
    network_config: ModelConfig,
    train_config: TrainConfig,
    corpus: Corpus,
    pair_folder: Path,
) -> list[dict]:
    """What each of two processes says: an undisturbed run, one that is told to stop, and its
    continuation. One after the other in the same two processes, so that they compile once."""
    script = CHILD.format(
        network=network_config,
        config=train_config,
        manifest=corpus.manifest.to_json(),
        folder=str(pair_folder),
        mesh=MESH,
    )
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": " ".join(quick_flags()),
        # As in this process: see `quick_to_compile`.
        "JAX_DISABLE_MOST_OPTIMIZATIONS": str(jax.config.values["jax_disable_most_optimizations"]),
        "JAX_NUM_PROCESSES": "2",
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}",
    }
    children = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            env={**environment, "JAX_PROCESS_ID": str(i)},
            cwd=Path(__file__).parents[3],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    try:
        outputs = [child.communicate(timeout=240) for child in children]
    finally:
        for child in children:
            child.kill()
    assert [child.returncode for child in children] == [0, 0], [err[-3000:] for _, err in outputs]
    return [json.loads(out.splitlines()[-1]) for out, _ in outputs]


def test_each_process_loads_its_own_rows_of_every_batch_only(pair: list) -> None:
    """Of the eight rows of a batch the first four, and the last four."""
    assert [child["asked"] for child in pair] == [[[0, 4]], [[4, 4]]]


def test_two_processes_have_the_losses_of_one_with_the_same_mesh(
    pair: list, network_config: ModelConfig, train_config: TrainConfig, corpus: Corpus
) -> None:
    """Not to the last bit: sums over the two devices are taken by another library (Gloo), in
    another order. Seen: one unit in the last place, 2.4e-7; eight of those are allowed."""
    told: list[Progress] = []
    (result,) = train_pack(
        network_config,
        (train_config,),
        corpus,
        mesh_shape=MESH,
        execution=Execution(steps_per_dispatch=7),
        on_progress=told.extend,
    )
    calm = pair[0]["records"][0]
    assert [step for step, _, _ in calm["told"]] == [7, 10, 17, 20]
    found = [*(loss for _, loss, _ in calm["told"]), *calm["curve"], calm["loss_nats"]]
    curve = [point.loss_nats for point in result.curve]
    expected = [*(progress.loss_nats for progress in told), *curve, result.loss_nats]
    assert found == pytest.approx(expected, rel=0, abs=2e-6)
    norms = [norm for _, _, norm in calm["told"]]
    assert norms == pytest.approx([progress.grad_norm for progress in told], rel=1e-5)


def test_both_processes_end_with_the_same_result_and_only_process_0_reports(pair: list) -> None:
    results = [
        [{**record, "told": [], "kept": ""} for record in child["records"]] for child in pair
    ]
    assert results[0] == results[1]
    assert [record["told"] for record in pair[1]["records"]] == [[], [], []]


def test_the_checkpoint_clock_of_process_0_decides_for_both(pair: list) -> None:
    """Its own is due always, that of process 1 never."""
    assert pair[0]["records"][2]["steps"] == [17, 10]


def test_a_checkpoint_of_both_counts_between_two_dispatches_once_it_is_written(pair: list) -> None:
    """Of step 7: nothing of it is written before step 10 is done, and all of it before step 13."""
    steps = (0, 3, 6, 7, 10, 13, 16, 17, 20)
    assert pair[0]["seen"] == {str(step): [7] * (step > 13) for step in steps}
    assert pair[0]["records"][0]["steps"] == [7]


def test_an_order_to_process_0_stops_both_with_a_checkpoint(pair: list) -> None:
    for child in pair:
        assert child["records"][1]["interrupted"] == [10, True]
        assert child["records"][1]["steps"] == [10, 7]


def test_an_interrupted_run_of_two_processes_goes_on_to_the_same_bits(pair: list) -> None:
    calm, broken, resumed = pair[0]["records"]
    assert (resumed["resumed_at"], resumed["n_timed_steps"], resumed["notes"]) == (10, 10, [])
    assert [*broken["told"], *resumed["told"]] == calm["told"]
    for name in ("params_sha256", "loss_nats", "curve"):
        assert resumed[name] == calm[name]


@pytest.mark.parametrize(
    ("saved", "flush"), [("broken/17-2", True), ("broken/10-1", False)], ids=["saved", "restored"]
)
def test_each_process_digests_the_files_that_it_wrote_and_no_others(
    pair: list, pair_folder: Path, saved: str, flush: bool
) -> None:
    read = [
        {name for at, name, how in child["read"] if (at, how) == (saved, flush)} for child in pair
    ]
    top = pair_folder / saved
    names = {path.relative_to(top).as_posix() for path in (top, *top.rglob("*"))}
    assert read[0] | read[1] == names
    assert not read[0] & read[1]
    for i, mine in enumerate(read):
        data = [name for name in names if f"ocdbt.process_{i}/d/" in name]
        assert data
        assert mine.issuperset(data)
    # What a host wrote can be made durable there alone.
    assert {name for name in names if "process_" not in name} <= read[0]


def test_parameters_on_two_processes_have_the_digest_of_their_numbers(pair: list) -> None:
    whole = np.arange(48, dtype=np.float32).reshape(6, 8)
    assert [child["digest"] for child in pair] == [
        [hashlib.sha256(whole.tobytes()).hexdigest()]
    ] * 2


def test_process_0_alone_is_given_the_final_parameters_of_both(pair: list) -> None:
    for run in (0, 2):
        record, other = (child["records"][run] for child in pair)
        assert record["kept"] == record["params_sha256"]
        assert other["kept"] == hashlib.sha256(b"").hexdigest()


def test_the_texts_of_both_are_gathered_on_both(pair: list) -> None:
    assert [child["gathered"] for child in pair] == [["abcabcabc", "abc"]] * 2


def test_a_long_text_reaches_both(pair: list) -> None:
    assert [child["long"] for child in pair] == [[10_000, "Zeichen \u00e4 "]] * 2


def test_the_processes_agree_without_waiting_for_what_their_devices_do(pair: list) -> None:
    """So a dispatch can be given while the one before runs."""
    assert [child["was_busy"] for child in pair] == [True, True]


SLURM = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2", "SLURM_NTASKS": "4"}
EXPLICIT = {"JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3", "JAX_COORDINATOR_ADDRESS": "a:1"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, {}),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, {}),  # A batch script, not a step.
        ({**SLURM, "SLURM_STEP_NUM_TASKS": "1"}, {}),
        ({**SLURM, "JAX_NUM_PROCESSES": "1"}, {}),
        (SLURM, {"cluster_detection_method": "slurm", "coordinator_address": None}),
        (
            {**SLURM, "SLURM_STEP_NUM_NODES": "4", "JAX_COORDINATOR_ADDRESS": "a:1"},
            {
                "cluster_detection_method": "slurm",
                "coordinator_address": "a:1",
                "local_device_ids": [],
            },
        ),
        (
            {**SLURM, "SLURM_STEP_NUM_NODES": "4", "JAX_LOCAL_DEVICE_IDS": "0,1"},
            {"cluster_detection_method": "slurm", "coordinator_address": None},
        ),
        (
            {**SLURM, **EXPLICIT},
            {
                "cluster_detection_method": "deactivate",
                "coordinator_address": "a:1",
                "num_processes": 4,
                "process_id": 3,
            },
        ),
    ],
)
def test_a_process_finds_the_others_by_its_environment(environ: dict, expected: dict) -> None:
    assert processes.distributed_arguments(environ) == expected


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"JAX_NUM_PROCESSES": "0"}, "JAX_NUM_PROCESSES='0'"),
        ({"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES='two'"),
        ({"JAX_PROCESS_ID": "4"}, "JAX_PROCESS_ID='4': must be a whole number from 0 to 3"),
        ({"JAX_PROCESS_ID": "-1"}, "JAX_PROCESS_ID='-1'"),
        ({"JAX_PROCESS_ID": ""}, "JAX_PROCESS_ID=''"),
        ({"JAX_COORDINATOR_ADDRESS": ""}, "needs JAX_COORDINATOR_ADDRESS"),
    ],
)
def test_variables_that_do_not_fit_are_refused_in_one_line(change: dict, named: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        processes.distributed_arguments({**EXPLICIT, **change})
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)


def test_one_process_alone_needs_no_others() -> None:
    processes.initialize_from_environment({})
    processes.barrier("alone")
    assert processes.is_leader()
    assert processes.broadcast("text") == "text"
    assert processes.gather("text") == ["text"]
