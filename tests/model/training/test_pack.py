# SPDX-License-Identifier: Apache-2.0
"""Runs that train together are the runs that train alone."""

import contextlib
import hashlib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_networks import CONFIGS, vary

from experiments.checks.compile import hlo
from model.data.corpus import Corpus, open_corpus
from model.data.source import Zipf
from model.data.synthetic.zipf import describe
from model.network.config import ModelConfig
from model.network.counts.total import count_params
from model.network.execution import PLAIN
from model.network.mixers import attention_kernels
from model.network.mixers.attention_kernels import plain_attention
from model.network.sharding import check_divisible
from model.network.weight_names import Tensor
from model.training import loop, memory
from model.training.checkpoints.checkpoint import Checkpoints
from model.training.compile_program import _needed_bytes, compile_program
from model.training.config import ROLES, TrainConfig
from model.training.loop import train_pack
from model.training.optimizers.optimizer import hyper_arrays
from model.training.outcome import Interrupted, Order, Progress, TrainResult
from model.training.pack import Keep
from model.training.program import Program
from model.training.step import GRAD_NORM, LOSS

N_STEPS = 100


@pytest.fixture(scope="session")
def other_corpus() -> Corpus:
    """Another language over the same ids."""
    source = Zipf(alpha=0.3, epsilon=0.2, base=8, n_digits=2, n_answers=1, language_seed=7)
    return open_corpus(describe(source), "")


def rated(config: TrainConfig, rate: float, decay: float = 1.0) -> TrainConfig:
    """The run with its learning rates and weight decays multiplied."""
    optimizer = config.optimizer
    for role in ROLES:
        group = getattr(optimizer, role)
        group = replace(
            group,
            learning_rate=rate * group.learning_rate,
            weight_decay=decay * group.weight_decay,
        )
        optimizer = replace(optimizer, **{role: group})
    return replace(config, optimizer=optimizer)


def members(config: TrainConfig, n_steps: int = N_STEPS) -> list[TrainConfig]:
    """Four runs: other seeds of weights, data and evaluation, other rates, another decay.

    Chunks of 20 steps end at 5, 10, 15 and 20, where the curve has its points.
    """
    schedule = replace(config.schedule, n_steps=n_steps, decay_steps=n_steps // 2)
    evaluation = replace(config.evaluation, n_points=4)
    config = replace(config, schedule=schedule, evaluation=evaluation)
    late = replace(schedule, decay="cosine", warmup_steps=9, final_fraction=0.1)
    seed = replace(config.evaluation, seed=5)
    return [
        config,
        replace(config, init_seed=1, evaluation=seed),
        replace(rated(config, 0.5, decay=3.0), data_seed=2, evaluation=seed),
        replace(rated(config, 2.0, decay=0.0), schedule=late, z_loss_weight=0.0),
    ]


@pytest.fixture
def losses_of(network_config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """(configs, corpora) -> (results, losses [R, n_steps], gradient norms) of a pack."""
    compile_program = loop.compile_program
    seen: list[tuple] = []

    def recording(*arguments: object, **options: object) -> Program:
        program = compile_program(*arguments, **options)

        def train_chunk(*arguments: object) -> tuple:
            state, metrics = program.train_chunk(*arguments)
            steps = slice(*map(int, arguments[-2:]))
            arrays = (np.asarray(x).reshape(program.n_runs, -1)[:, steps] for x in metrics.values())
            seen.append(tuple(arrays))
            return state, metrics

        return replace(program, train_chunk=train_chunk)

    monkeypatch.setattr(loop, "compile_program", recording)

    def run(configs: list[TrainConfig], corpora: list[Corpus]) -> tuple:
        seen.clear()
        results = train_pack(network_config, configs, corpora)
        losses, norms = (np.concatenate(parts, axis=1) for parts in zip(*seen, strict=True))
        return results, losses, norms

    return run


@pytest.mark.parametrize(
    "algorithm",
    ["adamw", pytest.param("muon", marks=pytest.mark.slow(reason="half a minute of compiling"))],
)
def test_every_loss_of_a_packed_run_is_that_of_the_run_alone(
    losses_of: Callable,
    train_config: TrainConfig,
    muon_config: TrainConfig,
    corpus: Corpus,
    other_corpus: Corpus,
    algorithm: str,
) -> None:
    # Muon magnifies last bits along singular values that are nearly zero: at the fixture's rates a
    # run alone whose weights begin one unit in the last place away has another loss (by 0.15 after
    # 200 steps), at a tenth of them the same to 1e-6.
    configs = members(rated(muon_config, 0.1) if algorithm == "muon" else train_config)
    corpora = [corpus, other_corpus, corpus, corpus]
    results, losses, norms = losses_of(configs, corpora)
    assert losses.shape == (4, N_STEPS)
    for run, (config, own) in enumerate(zip(configs, corpora, strict=True)):
        (alone,), expected, expected_norms = losses_of([config], [own])
        # Sums over a batch are taken in another order where runs are mapped, and last bits grow
        # with every step: on one kind of processor to 1.6e-5 from step 144 on, with JAX 0.12 to
        # 1.9e-5 at step 93 of 100.
        np.testing.assert_allclose(losses[run], expected[0], rtol=0, atol=4e-5)
        np.testing.assert_allclose(norms[run], expected_norms[0], rtol=1e-3)
        assert results[run].loss_nats == pytest.approx(alone.loss_nats, abs=1e-4)
        assert results[run].oracle_loss_nats == alone.oracle_loss_nats
        for found, point in zip(results[run].curve, alone.curve, strict=True):
            assert (found.step, found.n_tokens) == (point.step, point.n_tokens)
            assert found.loss_nats == pytest.approx(point.loss_nats, abs=1e-4)
    assert len({result.loss_nats for result in results}) == 4


@pytest.fixture(scope="module")
def pack(network_config: ModelConfig, corpus: Corpus) -> Callable:
    """(configs, options) -> results."""

    def pack(configs: list[TrainConfig], **options: object) -> tuple[TrainResult, ...]:
        return train_pack(network_config, configs, corpus, **options)

    return pack


def keeper(kept: dict[int, bytes]) -> Keep:
    """Notes the final parameters of each run, of the size that their names say."""

    @contextlib.contextmanager
    def keep(run: int, tensors: Sequence[Tensor]) -> Iterator[Callable[[bytes], None]]:
        parts: list[bytes] = []
        yield parts.append
        kept[run] = b"".join(parts)
        assert len(kept[run]) == 4 * sum(math.prod(tensor.shape) for tensor in tensors)

    return keep


def records(results: tuple[TrainResult, ...]) -> list[dict]:
    """All of the results that must not depend on how the pack was executed."""
    how = {"resumed_at", "notes", "execution", "n_timed_steps", "seconds"}
    return [{k: v for k, v in asdict(result).items() if k not in how} for result in results]


@pytest.mark.parametrize(
    "algorithm",
    ["adamw", pytest.param("muon", marks=pytest.mark.slow(reason="half a minute of compiling"))],
)
def test_a_killed_pack_goes_on_to_the_same_bits(
    pack: Callable,
    train_config: TrainConfig,
    muon_config: TrainConfig,
    tmp_path: Path,
    algorithm: str,
) -> None:
    configs = members(muon_config if algorithm == "muon" else train_config, 20)
    for stop in (5, 15):
        order = {"control": lambda step, s=stop: Order.SAVE_AND_STOP if step == s else Order.GO}
        with pytest.raises(Interrupted) as interrupted:
            pack(configs, checkpoints=Checkpoints(tmp_path), **order)
        assert (interrupted.value.step, interrupted.value.is_saved) == (stop, True)
    results = pack(configs, checkpoints=Checkpoints(tmp_path))
    assert {result.resumed_at for result in results} == {15}
    assert len({result.params_sha256 for result in results}) == 4
    assert records(results) == records(pack(configs))


def test_a_run_that_diverges_leaves_the_others_untouched(
    pack: Callable, train_config: TrainConfig, tmp_path: Path
) -> None:
    healthy = members(train_config, 20)
    wild = [*healthy[:2], rated(healthy[2], 1e30, decay=0.0), healthy[3]]
    told: list[tuple[Progress, ...]] = []
    kept: dict[int, bytes] = {}
    results, expected = pack(wild, on_progress=told.append, keep=keeper(kept)), pack(healthy)
    assert [result.status for result in results] == ["ok", "ok", "diverged", "ok"]
    others = [0, 1, 3]
    found, expected = records(results), records(expected)
    assert [found[run] for run in others] == [expected[run] for run in others]
    digests = {run: hashlib.sha256(data).hexdigest() for run, data in kept.items()}
    assert digests == {run: found[run]["params_sha256"] for run in others}
    bad = found[2]
    assert bad["reason"] == f"training loss is not finite at step {bad['n_steps']}"
    assert (bad["losses"], bad["params_sha256"], bad["curve"]) == ({}, "", ())
    for progress in told:
        is_over = progress[2].step >= bad["n_steps"]
        assert [math.isnan(p.loss_nats) for p in progress] == [False, False, is_over, False]
        assert [math.isnan(p.grad_norm) for p in progress] == [False, False, is_over, False]
    # What a resumed pack says of it is the same.
    order = {"control": lambda step: Order.SAVE_AND_STOP if step == 10 else Order.GO}
    with pytest.raises(Interrupted):
        pack(wild, checkpoints=Checkpoints(tmp_path), **order)
    assert records(pack(wild, checkpoints=Checkpoints(tmp_path))) == found


def test_a_pack_ends_when_all_of_it_has_diverged(
    pack: Callable, train_config: TrainConfig, tmp_path: Path
) -> None:
    configs = [rated(config, 1e30, decay=0.0) for config in members(train_config, 20)]
    results = pack(configs, checkpoints=Checkpoints(tmp_path), checkpoint_seconds=0.0)
    assert [result.status for result in results] == ["diverged"] * 4
    assert all(0 < result.n_steps < 10 for result in results)
    assert all(result.n_timed_steps < 20 for result in results)


def test_packed_branches_of_a_packed_trunk_are_the_packed_runs(
    pack: Callable, train_config: TrainConfig, tmp_path: Path
) -> None:
    configs = members(train_config, 20)
    configs[1] = rated(configs[1], 1e30, decay=0.0)
    longer = [
        replace(config, schedule=replace(config.schedule, n_steps=50, decay="linear"))
        for config in configs
    ]
    folder = Checkpoints(tmp_path)
    trunks = pack(longer, checkpoints=folder, until=9)
    assert [trunk.status for trunk in trunks] == ["ok", "diverged", "ok", "ok"]
    assert [trunk.loss_nats for trunk in trunks] == [None] * 4
    assert folder.steps() == [9]
    branches = pack(configs, trunk=folder)
    assert {branch.resumed_at for branch in branches} == {9}
    alone = pack(configs)
    for branch, other in zip(branches, alone, strict=True):
        assert branch.params_sha256 == other.params_sha256
        assert (branch.loss_nats, branch.reason) == (other.loss_nats, other.reason)
        assert (branch.n_steps, branch.curve) == (other.n_steps, other.curve[1:])


@pytest.mark.parametrize(
    "mesh",
    [
        pytest.param((8, 1, 1, 1), marks=pytest.mark.slow(reason="16 s of compiling")),
        pytest.param((2, 2, 2, 1), marks=pytest.mark.slow(reason="half a minute of compiling")),
    ],
    ids=str,
)
def test_runs_on_devices_of_their_own_are_the_runs_alone(
    network_config: ModelConfig,
    muon_config: TrainConfig,
    corpus: Corpus,
    run_steps: Callable,
    mesh: tuple[int, ...],
) -> None:
    configs = [replace(muon_config, init_seed=seed) for seed in range(8)]
    program = compile_program(network_config, muon_config, mesh, n_runs=8)
    compiled = program.lowered(hyper_arrays(muon_config)).compile()
    # Of one device for each run nothing moves; else within a run's devices, which are neighbours.
    found = hlo.collectives(compiled.as_text())
    assert {collective.group_size for collective in found} <= {2, 4}
    assert (found == []) == (mesh == (8, 1, 1, 1))
    rows = corpus.train_windows(0, 32 * 8, seq_len=network_config.seq_len, seed=0)
    chunk = np.stack([rows.reshape(32, 8, -1)] * 8)
    with jax.set_mesh(program.mesh):
        hyper = program.joined([hyper_arrays(config) for config in configs])
        state = program.init([jax.random.key(seed) for seed in range(8)], hyper)
        shards = {leaf.sharding.shard_shape(leaf.shape)[0] for leaf in jax.tree.leaves(state)}
        assert shards == {8 // mesh[0]}
        _, metrics = compiled(state, hyper, program.put(chunk), jnp.int32(0), jnp.int32(20))
    losses, norms = metrics[LOSS], metrics[GRAD_NORM]
    for run, config in enumerate(configs):
        _, expected, expected_norms = run_steps(config)
        np.testing.assert_allclose(np.asarray(losses)[run, :20], expected, rtol=0, atol=1e-5)
        np.testing.assert_allclose(np.asarray(norms)[run, :20], expected_norms, rtol=1e-3)


@jax.custom_vjp
def opaque(x: jax.Array) -> jax.Array:
    """The same, times and over sqrt(x^2 + 1), once by a custom call, which XLA cannot split."""
    square = (x * x + 1)[..., None, None]
    shapes = (jax.ShapeDtypeStruct(square.shape, x.dtype), jax.ShapeDtypeStruct(x.shape, jnp.int32))
    cholesky = jax.ffi.ffi_call("lapack_spotrf_ffi", shapes, vmap_method="broadcast_all")
    root, _ = cholesky(square, uplo=np.uint8(ord("L")))
    return x * root[..., 0, 0] / jnp.sqrt(square)[..., 0, 0]


opaque.defvjp(lambda x: (opaque(x), None), lambda _, slope: (opaque(slope),))


@pytest.mark.slow(reason="12 s; packs over devices are quick, and so is a kernel alone")
def test_the_kernel_of_a_pack_is_given_the_runs_of_its_own_devices_only(
    network_config: ModelConfig,
    train_config: TrainConfig,
    corpus: Corpus,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def through_a_kernel(q: jax.Array, k: jax.Array, v: jax.Array, _: object) -> jax.Array:
        local = lambda q, k, v: opaque(plain_attention(q, opaque(k), v))  # noqa: E731
        return attention_kernels._per_device(local, q, k, v)

    jnp.linalg.cholesky(jnp.ones((1, 1)))  # Loads LAPACK.
    monkeypatch.setattr(attention_kernels, "cudnn_attention", through_a_kernel)
    monkeypatch.setattr(memory, "check_kernel", lambda *arguments, **options: None)
    rows = corpus.train_windows(0, 8 * 8, seq_len=network_config.seq_len, seed=0)
    chunk = np.stack([rows.reshape(8, 8, -1)] * 8)
    losses = {}
    for kernel in ("xla", "cudnn"):
        execution = replace(PLAIN, attention=kernel, steps_per_dispatch=8)
        program = compile_program(network_config, train_config, (4, 1, 1, 1), execution, n_runs=8)
        compiled = program.lowered(hyper_arrays(train_config)).compile()
        assert hlo.collectives(compiled.as_text()) == [], kernel
        with jax.set_mesh(program.mesh):
            hyper = program.joined([hyper_arrays(train_config)] * 8)
            state = program.init([jax.random.key(seed) for seed in range(8)], hyper)
            losses[kernel] = np.asarray(
                compiled(state, hyper, program.put(chunk), jnp.int32(0), jnp.int32(8))[1][LOSS]
            )
    assert len(set(losses["xla"][:, -1])) == 8
    np.testing.assert_allclose(losses["cudnn"], losses["xla"], rtol=0, atol=1e-5)


@pytest.mark.slow(reason="12 s; packs of dense networks, and mixtures alone, are quick")
def test_each_run_of_a_pack_sorts_its_own_tokens_by_their_experts(
    network_config: ModelConfig,
    train_config: TrainConfig,
    corpus: Corpus,
) -> None:
    config = vary(network_config, channel_mixers=("moe",))
    execution = replace(PLAIN, steps_per_dispatch=8)
    rows = corpus.train_windows(0, 8 * 8, seq_len=config.seq_len, seed=0)
    chunk = rows.reshape(8, 8, -1)

    def losses(mesh: tuple[int, ...], seeds: Sequence[int]) -> np.ndarray:
        n_runs = len(seeds)
        program = compile_program(config, train_config, mesh, execution, n_runs=n_runs)
        compiled = program.lowered(hyper_arrays(train_config)).compile()
        groups = {each.group_size for each in hlo.collectives(compiled.as_text())}
        assert groups <= {1}, "nothing moves between runs"
        with jax.set_mesh(program.mesh):
            hyper = program.joined([hyper_arrays(train_config)] * n_runs)
            keys = [jax.random.key(seed) for seed in seeds]
            state = program.init(keys if program.lead else keys[0], hyper)
            batches = program.put(np.stack([chunk] * n_runs) if program.lead else chunk)
            metrics = compiled(state, hyper, batches, jnp.int32(0), jnp.int32(8))[1]
            return np.asarray(metrics[LOSS] + metrics["balance"])

    alone = [losses((1, 1, 1, 1), [seed]) for seed in range(4)]
    np.testing.assert_allclose(losses((2, 1, 1, 1), range(4)), alone, rtol=0, atol=1e-5)
    assert np.min(np.abs(alone[0] - alone[1])) > 1e-4


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param({"n_loss_chunks": 4}, marks=pytest.mark.slow(reason="11 s of compiling")),
        {"n_microbatches": 2},
    ],
    ids=str,
)
def test_a_pack_in_parts_is_the_pack_at_once(
    network_config: ModelConfig, train_config: TrainConfig, corpus: Corpus, parts: dict
) -> None:
    configs = members(train_config, 20)
    at_once = train_pack(network_config, configs, corpus, execution=PLAIN)
    in_parts = train_pack(network_config, configs, corpus, execution=replace(PLAIN, **parts))
    for one, other in zip(at_once, in_parts, strict=True):
        assert other.loss_nats == pytest.approx(one.loss_nats, abs=1e-5)


def test_the_memory_of_a_pack_is_that_of_all_its_runs(
    network_config: ModelConfig, train_config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compiled() -> Program:
        return compile_program(network_config, train_config, (1, 1, 1, 1), PLAIN, n_runs=4)

    need = _needed_bytes(compiled(), tuple(hyper_arrays(train_config)))
    # Parameters and two moments in float32, of four runs.
    assert need > 4 * 3 * 4 * count_params(network_config).total
    # Enough for two of them.
    monkeypatch.setattr(memory, "limit_bytes", lambda mesh: int(need / 2))
    message = r"batch_size=8, a pack of 4 runs: a device needs .* Pack fewer"
    with pytest.raises(memory.TooLarge, match=message):
        compiled()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"batch_size": 4}, "run 1 of the pack differs from run 0 in batch_size"),
        ({"compute_dtype": "bfloat16"}, "compute_dtype"),
        ({"schedule": {"n_steps": 21}}, "schedule.n_steps"),
        ({"evaluation": {"n_tokens": 800}}, "evaluation.n_tokens"),
        ({"evaluation": {"curve_tokens": 50}}, "evaluation.curve_tokens"),
        ({"evaluation": {"n_points": 3}}, "evaluation.n_points"),
    ],
    ids=str,
)
def test_runs_that_cannot_train_together_are_refused_by_name(
    pack: Callable, train_config: TrainConfig, changes: dict, named: str
) -> None:
    other = {
        name: replace(getattr(train_config, name), **value) if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    with pytest.raises(ValueError, match=re.escape(named)):
        pack([train_config, replace(train_config, **other)])


def test_other_bad_packs_are_refused(
    network_config: ModelConfig,
    train_config: TrainConfig,
    muon_config: TrainConfig,
    corpus: Corpus,
    pack: Callable,
) -> None:
    with pytest.raises(ValueError, match=r"differs from run 0 in optimizer.compiled"):
        pack([train_config, muon_config])
    with pytest.raises(ValueError, match="mesh axis run=2 does not divide the 3 runs"):
        pack([train_config] * 3, mesh_shape=(2, 1, 1, 1))
    with pytest.raises(ValueError, match="3 corpora for 2 runs"):
        train_pack(network_config, [train_config] * 2, [corpus] * 3)
    with pytest.raises(ValueError, match="a pack of no runs"):
        pack([])
    check_divisible(network_config, (2, 1, 1, 1), batch_size=8)  # The pack is not known yet.


def test_a_pack_of_mixtures_with_several_devices_for_each_run_is_refused(
    network_config: ModelConfig, train_config: TrainConfig
) -> None:
    """XLA would end the process."""
    config = vary(network_config, **CONFIGS["moe"])
    with pytest.raises(ValueError, match=r"a pack of 2 runs with 2 devices for each: .*one device"):
        compile_program(config, train_config, (2, 1, 1, 2), n_runs=2)
    compile_program(config, train_config, (2, 1, 1, 1), n_runs=2)
