# SPDX-License-Identifier: Apache-2.0
"""Train one network, or several of one shape together: one linear function, read top to bottom."""

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from model.data.corpus import Corpus
from model.network.config import ModelConfig
from model.network.execution import AUTO, Execution
from model.training.checkpoint import Checkpoints, TrunkLost
from model.training.config import TrainConfig
from model.training.feed import Feed
from model.training.losses import Losses
from model.training.optimizer import hyper_arrays
from model.training.outcome import CurvePoint, Interrupted, Order, Progress, TrainResult
from model.training.pack import check_pack, check_stable
from model.training.processes import barrier, broadcast, fetch, is_leader
from model.training.step import compile_program
from model.training.validation import Validation


def train(
    model: ModelConfig,
    config: TrainConfig,
    corpus: Corpus,
    *,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    **options: Any,
) -> TrainResult:
    """The result of one training run: ``train_pack`` of one, with its options."""
    told = lambda progress: on_progress(progress[0])  # noqa: E731
    return train_pack(model, (config,), corpus, on_progress=told, **options)[0]


def train_pack(
    model: ModelConfig,
    configs: Sequence[TrainConfig],
    corpora: Corpus | Sequence[Corpus],
    *,
    mesh_shape: tuple[int, ...] = (1, 1, 1, 1),
    checkpoints: Checkpoints | None = None,
    checkpoint_seconds: float = 60.0,
    execution: Execution = AUTO,
    trunk: Checkpoints | None = None,
    until: int | None = None,
    on_progress: Callable[[tuple[Progress, ...]], None] = lambda progress: None,
    on_phase: Callable[[str], None] = lambda phase: None,
    control: Callable[[int], Order] = lambda step: Order.GO,
) -> tuple[TrainResult, ...]:
    """The results of runs that train side by side, continued from their newest good checkpoint.

    The losses of a run depend on its configuration and its corpus alone: not on chunking, on where
    it was interrupted, nor (on the CPU, bit for bit) on how often, nor on how much of it a trunk
    did. Neither do they depend on the runs beside it, of which any may diverge; a pack of several
    differs from runs alone in the last bits of its sums.

    Runs that differ only in where and how their rate decays are the same until then: a trunk
    computes that part once, and each of them is a branch of it (Hägele et al. 2024,
    arXiv:2405.18392, sec. 3). A trunk may itself be a branch of a shorter one.

    Args:
      model, configs: every number that moves a loss. The runs of a pack may differ in seeds, rates,
        decays, other constants of the optimiser and the shape of their schedule.
      corpora: where tokens come from; one for all, or one for each run.
      mesh_shape: sizes of the mesh axes (network/sharding.py); "run" divides the number of runs.
      checkpoints: of the whole pack; None trains without. ``checkpoint_seconds`` is the least time
        between two.
      execution: how the network is computed; the result says what was chosen.
      trunk: where nothing of its own is saved, the pack begins from the newest intact checkpoint
        here. It must be of the same runs but for the end of their schedule.
      until: a trunk: the runs end after so many steps with a checkpoint, and evaluate nothing.
      on_progress: called once for each chunk, in order, when its losses have been fetched.
      on_phase: called with "compile", and with "train" once everything has been compiled.
      control: asked with the number of steps done before each dispatch of steps and before the
        final evaluation. The device runs one dispatch ahead, so an order to save takes up to two.

    Raises:
      Interrupted: if ``control`` gave another order than to go on.
      TrunkLost: if there is nothing to begin from but ``trunk``, and nothing there is intact.
      ValueError: if the mesh does not fit, a corpus is too small or has more token ids than the
        model, the runs need different programs, or ``until`` or the trunk lies beyond the step
        where a rate begins to decay.
    """
    on_phase("compile")
    if not is_leader():
        on_progress = lambda progress: None  # noqa: E731
    n_runs = len(configs)
    corpora = (corpora,) * n_runs if isinstance(corpora, Corpus) else corpora
    check_pack(model, configs, corpora, mesh_shape, execution)
    config = configs[0]  # What the runs have in common is its.
    seconds = dict.fromkeys(("compile", "train", "stall", "evaluate", "checkpoint"), 0.0)
    clock = _Clock(seconds)
    n_steps, stops, evaluation = config.schedule.n_steps, config.eval_steps, config.evaluation
    if until is not None:
        check_stable(configs, until, "until")
        n_steps, stops = until, (until,)
    tokens_per_step = config.batch_size * model.seq_len
    program = compile_program(model, config, mesh_shape, execution, n_runs=n_runs)
    validation = None
    if until is None:
        evaluations = [config.evaluation for config in configs]
        validation = Validation(corpora, model, evaluations, program)
    curves: list[list[CurvePoint]] = [[] for _ in configs]
    notes: list[str] = []

    with jax.set_mesh(program.mesh):
        hyper = program.joined([hyper_arrays(config) for config in configs])
        keys = [jax.random.key(config.init_seed) for config in configs]
        state = program.init(keys if program.lead else keys[0], hyper)
        step = saved_step = 0
        data, diverged_at, restored = None, [0] * n_runs, None
        if checkpoints is not None:
            restored, notes = checkpoints.restore(state)
        if restored is not None and "curves" not in restored[1]:
            restored, notes = None, [*notes, "a checkpoint of an earlier version was passed over."]
        if restored is not None:
            saved_step = restored[1]["step"]
        elif trunk is not None:
            restored, trunk_notes = trunk.restore(state)
            if restored is None:
                raise TrunkLost(trunk.folder)
            check_stable(configs, restored[1]["step"], "trunk")
            notes += [f"trunk: {note}" for note in trunk_notes]
        if restored is not None:
            state, position = restored
            step, diverged_at, data = position["step"], position["diverged_at"], position["data"]
            curves = [[CurvePoint(**point) for point in curve] for curve in position["curves"]]
        feed = Feed(corpora, model, configs, program, positions=data, n_steps=n_steps, stops=stops)
        # A chunk of no steps compiles, and leaves the state as it is.
        nothing = program.put(np.zeros(program.lead + program.batch_shape, np.int32))
        state, *_ = program.train_chunk(state, hyper, nothing, jnp.int32(0))
        if validation is not None:
            validation.compile(state.params)
        jax.block_until_ready(state)
        barrier("compiled")
        clock.lap("compile")
        on_phase("train")
        resumed_at = step
        saved_at = time.monotonic()
        losses = Losses(step, diverged_at)

        def tell() -> None:
            clock.lap("train")
            for chunk in losses.take():
                on_progress(
                    tuple(
                        Progress(
                            step=chunk.step,
                            n_steps=n_steps,
                            loss_nats=loss,
                            grad_norm=grad_norm,
                            n_tokens=chunk.step * tokens_per_step,
                            resumed_at=resumed_at,
                            train_seconds=seconds["train"],
                            stall_seconds=seconds["stall"],
                        )
                        for loss, grad_norm in zip(chunk.losses, chunk.grad_norms, strict=True)
                    )
                )

        while not losses.all_diverged:
            is_late = time.monotonic() - saved_at >= checkpoint_seconds
            is_due = step == until or (step < n_steps and is_late)
            order, is_due = _agree(control, step, is_due)
            is_save = (is_due or order is Order.SAVE_AND_STOP) and step > saved_step
            if checkpoints is not None and is_save:
                losses.fetch()
                tell()
                if losses.all_diverged:
                    break
                position = {
                    "step": step,
                    "diverged_at": losses.diverged_at,
                    "data": feed.positions,
                    "curves": [[dataclasses.asdict(point) for point in curve] for curve in curves],
                }
                checkpoints.save(step, state, position)
                saved_step, saved_at = step, time.monotonic()
                clock.lap("checkpoint")
            if order is not Order.GO:
                raise Interrupted(step, is_saved=step > 0 and step == saved_step)
            if step == n_steps:
                break
            # Donated: the old state is dead after this call.
            state, *metrics = program.train_chunk(state, hyper, feed.chunk, jnp.int32(feed.n_steps))
            step, n_new = step + feed.n_steps, feed.n_steps
            clock.lap("train")
            feed.load()  # While the device works; where it was done first, it had to wait.
            clock.lap("stall" if metrics[0].is_ready() else "train")
            losses.add(n_new, *metrics)  # Fetches the chunk before, while this one runs.
            if step in stops:
                losses.fetch()
            tell()
            if validation is not None and step in stops and not losses.all_diverged:
                measured = validation.losses(state.params, evaluation.curve_tokens)
                for run, loss in enumerate(measured):
                    if not losses.diverged_at[run]:
                        n_tokens = step * tokens_per_step
                        point = CurvePoint(step=step, n_tokens=n_tokens, loss_nats=loss)
                        curves[run].append(point)
                clock.lap("evaluate")

        finals: list[float | None] = [None] * n_runs
        oracles: list[float | None] = [None] * n_runs
        if validation is not None:
            oracles = validation.oracle_losses
            if not losses.all_diverged:
                finals = [*validation.losses(state.params, evaluation.n_tokens)]
        clock.lap("evaluate")
        results = []
        for run, digest in enumerate(_digests(state.params, n_runs)):
            reason = losses.reason(run) or _divergence(finals[run], curves[run])
            n_done = losses.diverged_at[run] or step
            results.append(
                TrainResult(
                    status="diverged" if reason else "ok",
                    reason=reason,
                    loss_nats=None if reason else finals[run],
                    oracle_loss_nats=oracles[run],
                    curve=tuple(point for point in curves[run] if math.isfinite(point.loss_nats)),
                    params_sha256="" if reason else digest,
                    n_steps=n_done,
                    n_tokens=n_done * tokens_per_step,
                    resumed_at=resumed_at,
                    notes=tuple(notes),
                    execution=program.execution,
                    n_timed_steps=step - resumed_at,
                    seconds=seconds,
                )
            )
        return tuple(results)


def _agree(control: Callable[[int], Order], step: int, is_due: bool) -> tuple[Order, bool]:
    """What process 0 was ordered to do, and whether its checkpoint is due, on every process."""
    decision = [control(step), is_due] if is_leader() else None
    order, is_due = json.loads(broadcast(json.dumps(decision)))
    return Order(order), is_due


def _divergence(loss: float | None, curve: list[CurvePoint]) -> str:
    """A sentence if a validation loss was not finite, else empty."""
    bad = [point.step for point in curve if not math.isfinite(point.loss_nats)]
    if bad:
        return f"validation loss is not finite after step {bad[0]}"
    is_bad = loss is not None and not math.isfinite(loss)
    return "final validation loss is not finite" if is_bad else ""


class _Clock:
    """Adds the time since the last lap to a named account."""

    def __init__(self, seconds: dict[str, float]):
        self.seconds, self.last = seconds, time.perf_counter()

    def lap(self, account: str) -> None:
        now = time.perf_counter()
        self.seconds[account] += now - self.last
        self.last = now


def _digests(params: Any, n_runs: int) -> list[str]:
    """By run, sha256 of the parameters, in tree order."""
    totals = [hashlib.sha256() for _ in range(n_runs)]
    for leaf in jax.tree.leaves(params):
        array = fetch(leaf)
        for total, part in zip(totals, array if n_runs > 1 else [array], strict=True):
            total.update(part.tobytes())
    return [total.hexdigest() for total in totals]
