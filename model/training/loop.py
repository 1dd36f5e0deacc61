# SPDX-License-Identifier: Apache-2.0
"""Train one network: one linear function, read top to bottom."""

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from model.config import ModelConfig
from model.data.batches import BatchIterator, batches
from model.data.corpus import Corpus
from model.execution import AUTO, Execution
from model.sharding import LAYOUTS, check_divisible
from model.training.checkpoint import Checkpoints, TrunkLost
from model.training.config import ScheduleConfig, TrainConfig
from model.training.control import Interrupted, Order
from model.training.optimizer import hyper_arrays
from model.training.processes import barrier, broadcast, fetch, is_leader
from model.training.step import Program, compile_program
from model.training.validation import Validation


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Where a run stands, after each chunk of steps.

    Attributes:
      step, n_steps: done and asked; a trunk is asked for ``until``.
      loss_nats: mean training loss of the chunk, without z-loss.
      grad_norm: of the chunk's last step, before clipping.
      n_tokens: tokens trained on so far.
      resumed_at: step at which this attempt began.
      train_seconds: of this attempt, without compilation and evaluation.
      stall_seconds: while data were loaded and the device had nothing to do; not among these.
    """

    step: int
    n_steps: int
    loss_nats: float
    grad_norm: float
    n_tokens: int
    resumed_at: int
    train_seconds: float
    stall_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CurvePoint:
    """Validation loss on the first ``curve_tokens``, during the run."""

    step: int
    n_tokens: int
    loss_nats: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """What came out of one run.

    Attributes:
      status: "ok", or "diverged" when a loss was not finite; then ``loss_nats`` is None.
      reason: why it diverged, else empty.
      loss_nats: plain cross-entropy per token on the whole validation set, after the last step;
        None for a trunk.
      oracle_loss_nats: the true source's loss on the same tokens, where it is known.
      curve: validation loss during the run; of a branch, after its trunk.
      params_sha256: digest of the final parameters.
      n_steps, n_tokens: trained.
      resumed_at: step at which this attempt began; of a branch, where its trunk ended.
      notes: what happened to checkpoints.
      execution: how it was computed, nothing left open.
      n_timed_steps: steps that this attempt executed; ``seconds["train"]`` is the time of these.
      seconds: by "compile", "train", "stall", "evaluate", "checkpoint", of this attempt.
    """

    status: Literal["ok", "diverged"]
    reason: str
    loss_nats: float | None
    oracle_loss_nats: float | None
    curve: tuple[CurvePoint, ...]
    params_sha256: str
    n_steps: int
    n_tokens: int
    resumed_at: int
    notes: tuple[str, ...]
    execution: Execution
    n_timed_steps: int
    seconds: dict[str, float]


def train(
    model: ModelConfig,
    config: TrainConfig,
    corpus: Corpus,
    *,
    mesh_shape: tuple[int, ...] = (1, 1, 1, 1),
    checkpoints: Checkpoints | None = None,
    checkpoint_seconds: float = 60.0,
    execution: Execution = AUTO,
    trunk: Checkpoints | None = None,
    until: int | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_phase: Callable[[str], None] = lambda phase: None,
    control: Callable[[int], Order] = lambda step: Order.GO,
) -> TrainResult:
    """The result of one training run, continued from its newest good checkpoint if there is one.

    The losses depend on the configuration and the corpus alone: not on chunking, on where a run
    was interrupted, nor (on the CPU, bit for bit) on how often, nor on how much of it a trunk did.

    Runs that differ only in where and how their rate decays are the same until then: a trunk
    computes that part once, and each of them is a branch of it (Hägele et al. 2024,
    arXiv:2405.18392, sec. 3). A trunk may itself be a branch of a shorter one.

    Args:
      model, config: every number that moves the loss.
      corpus: where tokens come from.
      mesh_shape: sizes of the mesh axes (model/sharding.py).
      checkpoints: None trains without; ``checkpoint_seconds`` is the least time between two.
      execution: how the network is computed; the result says what was chosen.
      trunk: where nothing of its own is saved, the run begins from the newest intact checkpoint
        here. It must be of a run that differs in nothing else than the end of its schedule.
      until: a trunk: the run ends after so many steps with a checkpoint, and evaluates nothing.
      on_progress: called once for each chunk, in order, when its losses have been fetched.
      on_phase: called with "compile", and with "train" once everything has been compiled.
      control: asked with the number of steps done before each dispatch of steps and before the
        final evaluation. The device runs one dispatch ahead, so an order to save takes up to two.

    Raises:
      Interrupted: if ``control`` gave another order than to go on.
      TrunkLost: if the run has nothing to begin from but ``trunk``, and nothing there is intact.
      ValueError: if the mesh does not fit, the corpus is too small or has more token ids than the
        model, or ``until`` or the trunk lies beyond the step where the rate begins to decay.
    """
    on_phase("compile")
    if not is_leader():
        on_progress = lambda progress: None  # noqa: E731
    layout = LAYOUTS[execution.layout]
    check_divisible(model, mesh_shape, batch_size=config.batch_size, layout=layout)
    if corpus.manifest.vocab_size > model.vocab_size:
        raise ValueError(
            f"vocab_size={model.vocab_size} of the model is less than the "
            f"{corpus.manifest.vocab_size} token ids of the data. Raise it to at least that."
        )
    seconds = dict.fromkeys(("compile", "train", "stall", "evaluate", "checkpoint"), 0.0)
    clock = _Clock(seconds)
    n_steps, stops = config.schedule.n_steps, config.eval_steps
    if until is not None:
        _check_stable(config.schedule, until, "until")
        n_steps, stops = until, (until,)
    evaluation = config.evaluation
    tokens_per_step = config.batch_size * model.seq_len
    program = compile_program(model, config, mesh_shape, execution)
    validation = None
    if until is None:
        validation = Validation(corpus, model, evaluation, program)
    hyper = hyper_arrays(config)
    curve: list[CurvePoint] = []
    notes: list[str] = []

    with jax.set_mesh(program.mesh):
        state = program.init(jax.random.key(config.init_seed), hyper)
        n_rows = len(program.rows)
        data = batches(
            corpus,
            batch_size=config.batch_size,
            seq_len=model.seq_len,
            n_steps=n_steps,
            seed=config.data_seed,
            process_index=program.rows.start // n_rows,
            process_count=config.batch_size // n_rows,
            steps_per_chunk=execution.steps_per_dispatch,
            stops=stops,
        )
        step = saved_step = 0
        restored = None
        if checkpoints is not None:
            restored, notes = checkpoints.restore(state)
        if restored is not None:
            saved_step = restored[1]["step"]
        elif trunk is not None:
            restored, trunk_notes = trunk.restore(state)
            if restored is None:
                raise TrunkLost(trunk.folder)
            _check_stable(config.schedule, restored[1]["step"], "trunk")
            notes += [f"trunk: {note}" for note in trunk_notes]
        if restored is not None:
            state, position = restored
            step = position["step"]
            data.set_state(position["data"])
            curve = [CurvePoint(**point) for point in position["curve"]]
        # A chunk of no steps compiles, and leaves the state as it is.
        nothing = program.put(np.zeros(program.batch_shape, np.int32))
        feed = _Feed(data, program)
        state, *_ = program.train_chunk(state, hyper, nothing, jnp.int32(0))
        if validation is not None:
            validation.compile(state.params)
        jax.block_until_ready(state)
        barrier("compiled")
        clock.lap("compile")
        on_phase("train")
        resumed_at = step
        saved_at = time.monotonic()
        losses = _Losses(step)

        def tell() -> None:
            clock.lap("train")
            for done, loss, grad_norm in losses.take():
                on_progress(
                    Progress(
                        step=done,
                        n_steps=n_steps,
                        loss_nats=loss,
                        grad_norm=grad_norm,
                        n_tokens=done * tokens_per_step,
                        resumed_at=resumed_at,
                        train_seconds=seconds["train"],
                        stall_seconds=seconds["stall"],
                    )
                )

        while not losses.reason:
            is_late = time.monotonic() - saved_at >= checkpoint_seconds
            is_due = step == until or (step < n_steps and is_late)
            order, is_due = _agree(control, step, is_due)
            is_save = (is_due or order is Order.SAVE_AND_STOP) and step > saved_step
            if checkpoints is not None and is_save:
                losses.fetch()
                tell()
                if losses.reason:
                    break
                points = [dataclasses.asdict(point) for point in curve]
                position = {"step": step, "data": feed.position, "curve": points}
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
            if validation is not None and step in stops and not losses.reason:
                loss = validation.loss(state.params, evaluation.curve_tokens)
                point = CurvePoint(step=step, n_tokens=step * tokens_per_step, loss_nats=loss)
                curve.append(point)
                clock.lap("evaluate")

        final = None
        if validation is not None and not losses.reason:
            final = validation.loss(state.params, evaluation.n_tokens)
        reason = losses.reason or _divergence(final, curve)
        clock.lap("evaluate")
        n_done = losses.diverged_at or step
        return TrainResult(
            status="diverged" if reason else "ok",
            reason=reason,
            loss_nats=None if reason else final,
            oracle_loss_nats=validation.oracle_loss_nats if validation is not None else None,
            curve=tuple(point for point in curve if math.isfinite(point.loss_nats)),
            params_sha256="" if reason else _digest(state.params),
            n_steps=n_done,
            n_tokens=n_done * tokens_per_step,
            resumed_at=resumed_at,
            notes=tuple(notes),
            execution=program.execution,
            n_timed_steps=step - resumed_at,
            seconds=seconds,
        )


def _check_stable(schedule: ScheduleConfig, step: int, what: str) -> None:
    """Raises ValueError if a trunk of so many steps is no part of a run with this schedule."""
    n_stable = schedule.n_steps - schedule.decay_steps
    if not 1 <= step <= n_stable:
        raise ValueError(
            f"{what}: a trunk of {step} steps is no part of this run, whose rate decays after "
            f"{n_stable} of {schedule.n_steps} steps. A trunk has 1 to {n_stable} steps."
        )


def _agree(control: Callable[[int], Order], step: int, is_due: bool) -> tuple[Order, bool]:
    """What process 0 was ordered to do, and whether its checkpoint is due, on every process."""
    decision = [control(step), is_due] if is_leader() else None
    order, is_due = json.loads(broadcast(json.dumps(decision)))
    return Order(order), is_due


class _Losses:
    """Training losses, fetched one chunk late so that the device never waits for the host.

    Attributes:
      step: steps whose losses have been fetched.
      diverged_at: first step (from 1) whose loss is not finite, or 0; ``reason`` says so in words.
    """

    def __init__(self, step: int):
        self.step, self.diverged_at, self.reason = step, 0, ""
        self._pending: tuple[int, jax.Array, jax.Array] | None = None
        self._fetched: list[tuple[int, float, float]] = []

    def add(self, n: int, losses: jax.Array, grad_norms: jax.Array) -> None:
        self.fetch()
        self._pending = (n, losses, grad_norms)

    def fetch(self) -> None:
        if self._pending is None or self.reason:
            return
        n, losses, grad_norms = self._pending
        self._pending = None
        finite = np.isfinite(np.asarray(losses)[:n])
        if not finite.all():
            self.diverged_at = self.step + int(np.argmin(finite)) + 1
            self.reason = f"training loss is not finite at step {self.diverged_at}"
            return
        self.step += n
        mean = float(np.asarray(losses)[:n].mean())
        self._fetched.append((self.step, mean, float(np.asarray(grad_norms)[n - 1])))

    def take(self) -> list[tuple[int, float, float]]:
        """(last step, mean loss, last gradient norm) of each chunk fetched since the last call."""
        taken, self._fetched = self._fetched, []
        return taken


def _divergence(loss: float | None, curve: list[CurvePoint]) -> str:
    """A sentence if a validation loss was not finite, else empty."""
    bad = [point.step for point in curve if not math.isfinite(point.loss_nats)]
    if bad:
        return f"validation loss is not finite after step {bad[0]}"
    is_bad = loss is not None and not math.isfinite(loss)
    return "final validation loss is not finite" if is_bad else ""


class _Feed:
    """The next chunk of batches on the device, and where in the data it begins.

    Attributes:
      position: for a checkpoint of the steps before this chunk.
      chunk: int32 [K, B, T+1], of which the first ``n_steps`` count; None at the end.
    """

    def __init__(self, data: BatchIterator, program: Program):
        self._data, self._program = data, program
        self.load()

    def load(self) -> None:
        self.position = self._data.get_state()
        chunk = next(self._data, None)
        self.n_steps = 0 if chunk is None else len(chunk)
        self.chunk = None
        if chunk is not None:
            padded = _padded(chunk, self._program.batch_shape[0])
            self.chunk = self._program.put_rows(padded)


class _Clock:
    """Adds the time since the last lap to a named account."""

    def __init__(self, seconds: dict[str, float]):
        self.seconds, self.last = seconds, time.perf_counter()

    def lap(self, account: str) -> None:
        now = time.perf_counter()
        self.seconds[account] += now - self.last
        self.last = now


def _padded(chunk: np.ndarray, n_steps: int) -> np.ndarray:
    """The chunk [k, B, T+1] with zeros up to ``n_steps``, so that one compiled shape serves all."""
    missing = n_steps - len(chunk)
    return np.pad(chunk, ((0, missing), (0, 0), (0, 0))) if missing else chunk


def _digest(params: Any) -> str:
    """sha256 of the parameters, in tree order."""
    total = hashlib.sha256()
    for leaf in jax.tree.leaves(params):
        total.update(fetch(leaf).tobytes())
    return total.hexdigest()
