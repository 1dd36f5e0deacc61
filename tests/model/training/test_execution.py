# SPDX-License-Identifier: Apache-2.0
"""Fast paths against the plain one: the same losses, whatever computes them."""

from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_networks import RECURRENCES, vary

from model.data.corpus import Corpus
from model.network.config import ModelConfig
from model.network.counts.total import count_params
from model.network.execution import AUTO, PLAIN, Execution
from model.network.sharding import make_mesh
from model.training import compile_program as training_program
from model.training import memory
from model.training.checkpoints.checkpoint import Checkpoints
from model.training.compile_program import _needed_bytes, compile_program
from model.training.config import TrainConfig
from model.training.loop import train_pack
from model.training.optimizers.optimizer import hyper_arrays
from model.training.program import Program
from model.training.step import GRAD_NORM, LOSS

ONE, ALL = (1, 1, 1, 1), (1, 2, 2, 2)
N_STEPS = 6
# What differs from PLAIN, and the mesh.
FAST = {
    "scanned": ({"layers": "scanned"}, ONE),
    "scanned, all computed again": ({"layers": "scanned", "remat": "block"}, ONE),
    "products kept": ({"remat": "dots"}, ONE),
    "four parts of a batch": ({"n_microbatches": 4}, ONE),
    "four parts of the loss": ({"n_loss_chunks": 4}, ONE),
    "everything": (
        {"layers": "scanned", "remat": "dots", "n_microbatches": 2, "n_loss_chunks": 2},
        ALL,
    ),
    "everything, positions split": (
        {
            **{"layout": "fsdp_context", "layers": "scanned", "remat": "dots"},
            **{"n_microbatches": 2, "n_loss_chunks": 2},
        },
        ALL,
    ),
    "positions split": ({"layout": "fsdp_context", "n_loss_chunks": 2}, ALL),
    "positions split, scanned": (
        {"layout": "fsdp_context", "layers": "scanned", "remat": "block", "n_microbatches": 2},
        (1, 1, 2, 2),
    ),
}


@pytest.fixture(scope="module")
def deep(network_config: ModelConfig) -> ModelConfig:
    """Two kinds of block, each twice; the head is tied."""
    pattern = {"n_layers": 4, "channel_mixers": ("swiglu", "gelu"), "tie_embeddings": True}
    return vary(network_config, **pattern)


@pytest.fixture(scope="module")
def steps(deep: ModelConfig, train_config: TrainConfig, corpus: Corpus) -> Callable:
    """(execution, mesh) -> (losses, gradient norms, validation nats) of the first steps."""

    def steps(execution: Execution, mesh: tuple[int, ...] = ONE) -> np.ndarray:
        execution = replace(execution, steps_per_dispatch=N_STEPS)
        program = compile_program(deep, train_config, mesh, execution)
        rows = corpus.train_windows(0, N_STEPS * 8, seq_len=deep.seq_len, seed=0)
        hyper = hyper_arrays(train_config)
        with jax.set_mesh(program.mesh):
            chunk = program.put(rows.reshape(N_STEPS, 8, -1))
            state = program.init(jax.random.key(0), hyper)
            arguments = (state, hyper, chunk, jnp.int32(0), jnp.int32(N_STEPS))
            state, metrics = program.train_chunk(*arguments)
            found = program.evaluate(state.params, chunk, jnp.int32(N_STEPS))
        told = [metrics[name] for name in (LOSS, GRAD_NORM)]
        return np.concatenate([*told, [np.sum(found.nats) / rows[:, 1:].size]])

    return steps


@pytest.fixture(scope="module")
def plain(steps: Callable) -> np.ndarray:
    return steps(PLAIN)


QUICK = "everything, positions split"


@pytest.mark.parametrize(
    "name",
    [
        name
        if name == QUICK
        else pytest.param(name, marks=pytest.mark.slow(reason="8 s; its part of the quick one"))
        for name in FAST
    ],
)
def test_a_fast_path_has_the_losses_of_the_plain_one(
    steps: Callable, plain: np.ndarray, name: str, capfd: pytest.CaptureFixture
) -> None:
    changes, mesh = FAST[name]
    assert replace(PLAIN, **changes) != PLAIN
    found = steps(replace(PLAIN, **changes), mesh)
    is_norm = np.arange(len(plain)) // N_STEPS == 1
    np.testing.assert_allclose(found[~is_norm], plain[~is_norm], rtol=0, atol=1e-5)
    # A norm is a root of a sum of squares of sums over the batch: seen, 2e-5 of it.
    np.testing.assert_allclose(found[is_norm], plain[is_norm], rtol=1e-4)
    assert plain[N_STEPS - 1] < plain[0]
    assert "rematerialization" not in capfd.readouterr().err, "XLA could not place an array"


@pytest.mark.slow(reason="12 s; plain runs are killed in test_resume")
@pytest.mark.parametrize("name", ["everything", "positions split, scanned"])
def test_a_killed_fast_run_continues_bit_for_bit(
    deep: ModelConfig, train_config: TrainConfig, corpus: Corpus, tmp_path: Path, name: str
) -> None:
    class Killed(Exception):
        pass

    def kill(progress: tuple) -> None:
        if progress[0].step == 16:
            raise Killed

    changes, mesh = FAST[name]
    options = {
        "execution": replace(PLAIN, **changes, steps_per_dispatch=N_STEPS),
        "mesh_shape": mesh,
        "checkpoint_seconds": 0.0,
    }
    (whole,) = train_pack(deep, (train_config,), corpus, **options)
    saved = Checkpoints(tmp_path)
    with pytest.raises(Killed):
        train_pack(deep, (train_config,), corpus, checkpoints=saved, on_progress=kill, **options)
    (resumed,) = train_pack(deep, (train_config,), corpus, checkpoints=saved, **options)
    assert 0 < resumed.resumed_at < 20
    assert (resumed.loss_nats, resumed.params_sha256) == (whole.loss_nats, whole.params_sha256)
    assert resumed.curve == whole.curve
    assert resumed.execution == options["execution"]


@pytest.mark.slow(reason="13 s of compiling; test_checkpoint restores on another mesh")
def test_a_checkpoint_continues_on_another_mesh_and_layout(
    deep: ModelConfig, train_config: TrainConfig, corpus: Corpus, tmp_path: Path
) -> None:
    """With losses that differ by the order of sums only."""

    def stop(progress: tuple) -> None:
        if progress[0].step == 10:
            raise KeyboardInterrupt

    plan = replace(PLAIN, steps_per_dispatch=N_STEPS)
    (whole,) = train_pack(deep, (train_config,), corpus, execution=plan)
    saved = Checkpoints(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train_pack(
            deep,
            (train_config,),
            corpus,
            execution=plan,
            checkpoints=saved,
            checkpoint_seconds=0.0,
            on_progress=stop,
        )
    changes, mesh = FAST["positions split, scanned"]
    other = replace(plan, **changes)
    (resumed,) = train_pack(
        deep, (train_config,), corpus, execution=other, mesh_shape=mesh, checkpoints=saved
    )
    assert resumed.resumed_at == N_STEPS
    assert resumed.loss_nats == pytest.approx(whole.loss_nats, rel=0, abs=1e-5)
    losses = [[point.loss_nats for point in result.curve] for result in (resumed, whole)]
    assert losses[0] == pytest.approx(losses[1], rel=0, abs=1e-5)


def resolved(model: ModelConfig, train: TrainConfig, execution: Execution = AUTO) -> list:
    mesh = jax.make_mesh(ONE, ("run", "data", "fsdp", "tensor"))
    return list(memory.candidates(execution, model, train, mesh))


def test_what_is_open_is_tried_cheapest_first(deep: ModelConfig, train_config: TrainConfig) -> None:
    found = [(e.remat, e.n_microbatches) for e in resolved(deep, train_config)]
    assert found == [
        ("none", 1),
        ("dots", 1),
        ("block", 1),
        ("block", 2),
        ("block", 4),
        ("block", 8),
    ]
    fixed = replace(AUTO, remat="none", n_microbatches=2)
    assert [(e.remat, e.n_microbatches) for e in resolved(deep, train_config, fixed)] == [
        ("none", 2)
    ]
    assert {e.attention for e in resolved(deep, train_config)} == {"xla"}
    assert resolved(replace(deep, n_layers=12), train_config)[0].layers == "unrolled"
    assert resolved(replace(deep, n_layers=14), train_config)[0].layers == "scanned"


def test_logits_of_a_large_vocabulary_are_computed_in_parts(
    deep: ModelConfig, train_config: TrainConfig
) -> None:
    large = replace(deep, vocab_size=2**17, seq_len=1024)
    # 8 x 1024 x 131072 floats are 4 GiB; sixteen parts of 256 MiB.
    assert resolved(large, train_config)[0].n_loss_chunks == 16
    assert resolved(deep, train_config)[0].n_loss_chunks == 1


@pytest.mark.parametrize("fits", [("none", 1), ("block", 1), ("block", 4)], ids=str)
def test_the_cheapest_that_fits_into_memory_is_taken(
    deep: ModelConfig,
    train_config: TrainConfig,
    monkeypatch: pytest.MonkeyPatch,
    fits: tuple,
) -> None:
    _needed_bytes.cache_clear()
    monkeypatch.setattr(memory, "limit_bytes", lambda mesh: 100)
    monkeypatch.setattr(Program, "lowered", lambda self, hyper: self.execution)
    monkeypatch.setattr(training_program, "_evaluation_bytes", lambda *_: 0.0)
    order = [(e.remat, e.n_microbatches) for e in resolved(deep, train_config)]
    enough = order.index(fits)
    measured = []

    def needed_bytes(execution: Execution) -> float:
        measured.append((execution.remat, execution.n_microbatches))
        return 100.0 if len(measured) > enough else 101.0

    monkeypatch.setattr(memory, "needed_bytes", needed_bytes)
    program = compile_program(deep, train_config, ONE)
    assert (program.execution.remat, program.execution.n_microbatches) == fits
    assert compile_program(deep, replace(train_config, init_seed=7), ONE) is program
    assert measured == order[: enough + 1], "a program was measured again for another run"
    _needed_bytes.cache_clear()


@pytest.mark.parametrize(
    ("n_runs", "mesh"),
    [
        pytest.param(1, (1, 1, 2, 1), marks=pytest.mark.slow(reason="5 s, as of a pack")),
        (2, ONE),
    ],
)
def test_a_program_that_was_measured_is_not_compiled_again(
    network_config: ModelConfig,
    train_config: TrainConfig,
    corpus: Corpus,
    monkeypatch: pytest.MonkeyPatch,
    n_runs: int,
    mesh: tuple,
) -> None:
    """JAX itself says when it compiles."""
    compiled = []

    def listen(event: str, seconds: float, *, fun_name: str = "", **_: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration" and "train" in fun_name:
            compiled.append(fun_name)

    monkeypatch.setattr(memory, "limit_bytes", lambda mesh: 2**40)
    other = vary(network_config, d_ff=16)  # No other test compiles this.
    configs = [replace(train_config, init_seed=seed) for seed in range(n_runs)]
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        train_pack(other, configs, corpus, mesh_shape=mesh, until=1)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert len(compiled) == 1


def test_an_evaluation_beside_the_moments_has_to_fit_as_well(
    network_config: ModelConfig, train_config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a step takes its batch in parts, an evaluation of 32 windows needs more than it."""
    fixed = replace(PLAIN, remat="block", n_microbatches=8)
    many = replace(train_config, evaluation=replace(train_config.evaluation, n_tokens=32 * 16))
    program, hyper = compile_program(network_config, many, ONE, fixed), hyper_arrays(many)
    step = memory.needed_bytes(program.lowered(hyper))
    moments = 2 * 4 * count_params(network_config).total
    evaluation = moments + memory.needed_bytes(program.lowered_evaluation(hyper, 32))
    assert step < evaluation
    monkeypatch.setattr(memory, "limit_bytes", lambda mesh: int(step + evaluation) // 2)
    with pytest.raises(memory.TooLarge, match="n_microbatches=8"):
        compile_program(network_config, many, ONE, fixed)
    monkeypatch.setattr(memory, "limit_bytes", lambda mesh: int(evaluation) + 100)
    assert compile_program(network_config, many, ONE, fixed) is program


def test_what_fits_in_no_way_is_refused_in_one_line_with_the_figures(
    deep: ModelConfig, train_config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    _needed_bytes.cache_clear()
    monkeypatch.setattr(memory, "limit_bytes", lambda mesh: 1000)
    monkeypatch.setattr(Program, "lowered", lambda self, hyper: self.execution)
    monkeypatch.setattr(memory, "needed_bytes", lambda execution: 2000.0)
    fixed = replace(AUTO, remat="block", n_microbatches=8)
    with pytest.raises(ValueError, match=r"even with remat='block' and n_microbatches=8") as error:
        compile_program(deep, train_config, ONE, fixed)
    assert "\n" not in str(error.value)
    _needed_bytes.cache_clear()


@pytest.mark.slow(reason="compiles a program for each way of using memory")
def test_remat_and_accumulation_need_less_memory_by_xlas_own_count(
    deep: ModelConfig, train_config: TrainConfig
) -> None:
    long = replace(deep, seq_len=128, n_layers=8)
    hyper = hyper_arrays(train_config)

    def need(**changes: object) -> float:
        program = compile_program(long, train_config, ONE, replace(PLAIN, **changes))
        return memory.needed_bytes(program.lowered(hyper))

    everything, parts = need(), need(n_microbatches=4)
    scanned, again = need(layers="scanned"), need(layers="scanned", remat="block")
    assert parts < 0.5 * everything
    assert again < 0.5 * scanned


BAD = [
    ({"attention": "cudnn"}, "attention='cudnn' needs an NVIDIA GPU"),
    ({"attention": "splash"}, "attention='splash' needs a TPU"),
    ({"n_microbatches": 3}, "n_microbatches=3 does not divide the 8 sequences"),
    ({"n_loss_chunks": 3}, "n_loss_chunks=3 does not divide the 16 positions"),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_what_cannot_run_here_is_refused_with_the_way_out(
    deep: ModelConfig, train_config: TrainConfig, changes: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        compile_program(deep, train_config, ONE, replace(AUTO, **changes))
    assert "\n" not in str(error.value)


def test_an_execution_is_read_back_from_its_text() -> None:
    chosen = replace(PLAIN, layout="fsdp_context", n_loss_chunks=4)
    assert Execution.from_text(chosen.to_text()) == chosen
    assert Execution.from_text("") == AUTO
    for bad in ("remats=none", "remat", "steps_per_dispatch=0"):
        with pytest.raises(ValueError, match=bad.split("=")[0]) as error:
            Execution.from_text(bad)
        assert "\n" not in str(error.value)


def test_float32_products_ask_for_full_precision(
    deep: ModelConfig, train_config: TrainConfig
) -> None:
    """Or a GPU would multiply in TF32 and a TPU in bfloat16."""
    text = compile_program(deep, train_config, ONE, PLAIN).lowered(hyper_arrays(train_config))
    products = [line for line in text.as_text().splitlines() if "dot_general" in line]
    assert products
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in products)


def test_gelu_and_attention_in_blocks_alone_are_compiled_with_the_newer_fusions(
    network_config: ModelConfig, deep: ModelConfig
) -> None:
    """Measured: without them nanoGPT's network trains a seventh slower, SwiGLU's as fast."""
    mesh = make_mesh((1, 1, 1, 1))
    newer = {"xla_cpu_use_fusion_emitters": True}
    expected = newer if version("jaxlib").startswith("0.10.") else {}
    in_blocks = replace(PLAIN, attention="blocked")
    asked = training_program.compiler_options
    assert asked(network_config, PLAIN, mesh) == {}
    assert asked(deep, PLAIN, mesh) == asked(network_config, in_blocks, mesh) == expected


def test_recurrences_are_compiled_without_the_library_that_crashes_on_their_packs(
    network_config: ModelConfig,
) -> None:
    """That packs then train is the slow test_other_mixers.py; without this they end the process."""
    known = version("jaxlib").startswith("0.10.")
    without = {"xla_cpu_experimental_ynn_fusion_type": ""} if known else {}
    for changes in RECURRENCES.values():
        net = vary(network_config, **changes)
        asked = training_program.compiler_options(net, PLAIN, make_mesh((1, 1, 1, 1)))
        assert asked == training_program._safe_options(net, make_mesh((1, 1, 1, 1))) == without
