# SPDX-License-Identifier: Apache-2.0
"""The runs of a pack on their way: what the training loop does with them, step by step."""

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from model.data.corpus import Corpus
from model.network.config import ModelConfig
from model.network.weight_names import Tensor, tensors
from model.training.checkpoints import resume
from model.training.checkpoints.checkpoint import Checkpoints
from model.training.checkpoints.digest import params_sha256
from model.training.checkpoints.resume import Position
from model.training.checkpoints.saves import Saves
from model.training.clock import Clock
from model.training.config import TrainConfig
from model.training.feed import Feed
from model.training.loss_watch import Losses
from model.training.optimizers.optimizer import hyper_arrays
from model.training.outcome import ALL, CurvePoint, Loss, Progress, TrainResult
from model.training.processes import barrier, is_leader
from model.training.program import Program
from model.training.step import GRAD_NORM, LOSS
from model.training.validation import Validation, validation_sets

Keep = Callable[[int, Sequence[Tensor]], contextlib.AbstractContextManager[Callable[[bytes], None]]]
"""(run, its tensors) -> what takes their bytes, float32 and in that order, before the block ends.

A leaf of the network is on this host at a time. Of several processes the first alone needs it.
"""


class Dispatch(NamedTuple):
    """Steps that were given to the devices.

    Attributes:
      began: when, as of time.perf_counter.
      ends_chunk: whether they are the last of a chunk.
      outcome: metrics [R, n] by name on this host, and when they were done.
    """

    began: float
    ends_chunk: bool
    outcome: Future[tuple[dict[str, np.ndarray], float]]


class Pack:
    """One run, or several of one shape that train together.

    Attributes:
      n_steps: after which they end.
      position: where they stand; its ``data`` and ``diverged_at`` as of the last checkpoint.
      saved_step: of their newest checkpoint, which may still be being written, or 0.
      losses: of their training.
    """

    position: Position
    saved_step: int
    losses: Losses
    _running: Dispatch | None

    def __init__(
        self,
        model: ModelConfig,
        configs: Sequence[TrainConfig],
        corpora: Sequence[Corpus],
        program: Program,
        clock: Clock,
        *,
        until: int | None,
    ):
        self.model, self.configs, self.corpora = model, configs, corpora
        self.program, self.clock = program, clock
        config = configs[0]  # What the runs have in common is its.
        self.tokens_per_step = config.batch_size * model.seq_len
        self.n_steps, self.stops = config.schedule.n_steps, config.eval_steps
        # One thread, so that dispatches are waited for in their order.
        self._waiting, self._running = ThreadPoolExecutor(1), None
        self.validation = None
        self.oracle_losses: list[float | None] = [None] * len(configs)
        if until is not None:
            self.n_steps, self.stops = until, (until,)
        else:
            evaluations = [config.evaluation for config in configs]
            sets = validation_sets(corpora, model, evaluations)
            if program.objective.kind.unit == "token":
                self.oracle_losses = [one.oracle_loss for one in sets]
            self.validation = Validation(sets, program)

    def begin(self, checkpoints: Checkpoints | None, trunk: Checkpoints | None) -> None:
        """Initial parameters, or those of a checkpoint; and the first chunk of batches."""
        program, configs = self.program, self.configs
        hypers = [hyper_arrays(config) for config in configs]
        self.hyper = program.joined(hypers)
        keys = [jax.random.key(config.init_seed) for config in configs]
        found = resume.begin(
            program.abstract_state(hypers[0]),
            lambda: program.init(keys if program.lead else keys[0], self.hyper),
            configs,
            checkpoints=checkpoints,
            trunk=trunk,
        )
        self.state, self.position, self.notes = found.state, found.position, found.notes
        self.saved_step, self.resumed_at = found.saved_step, self.position.step
        self.losses = Losses(self.position.step, self.position.diverged_at)
        self.feed = Feed(
            self.corpora,
            self.model,
            configs,
            program,
            step=self.position.step,
            positions=self.position.data,
            n_steps=self.n_steps,
            stops=self.stops,
        )

    def compile(self) -> None:
        """Compiles everything that the loop calls, on every process."""
        # A chunk of no steps compiles, and leaves the state as it is.
        zero = jnp.int32(0)
        self.state, _ = self.program.train_chunk(
            self.state, self.hyper, self.program.nothing(), zero, zero
        )
        if self.validation is not None:
            self.validation.compile(self.state.params)
        jax.block_until_ready(self.state)
        barrier("compiled")
        self.clock.lap("compile")

    def save(self, saves: Saves) -> None:
        """Begins to write a checkpoint of where the runs stand; everything has been fetched."""
        self.clock.lap("stall")
        self.position.diverged_at = self.losses.diverged_at
        self.position.data = self.feed.positions
        saves.save(self.state, self.position)
        self.saved_step = self.position.step
        self.clock.lap("checkpoint")

    def train(self, n: int) -> None:
        """Dispatches the next ``n`` steps, loads the next chunk where these are the last of theirs,
        and fetches the losses of the dispatch before."""
        first, before = self.feed.n_used, self._running
        began = time.perf_counter()
        # Donated: the old state is dead after this call.
        self.state, metrics = self.program.train_chunk(
            self.state, self.hyper, self.feed.chunk, jnp.int32(first), jnp.int32(first + n)
        )
        steps = slice(first, first + n)
        outcome = self._waiting.submit(_outcome, metrics, len(self.configs), steps)
        self._running = Dispatch(began, self.feed.n_left == n, outcome)
        self.position.step += n
        self.feed.use(n)  # While the devices work.
        self._take(before)
        if self.position.step in self.stops:
            self.fetch()

    def fetch(self) -> None:
        """Waits for the devices, which have nothing to do after this."""
        running, self._running = self._running, None
        self._take(running)

    def settle(self, on_progress: Callable[[tuple[Progress, ...]], None]) -> None:
        """Waits for the devices, and says how every run fares after the last step."""
        self.fetch()
        self.losses.end_chunk()
        self.tell(on_progress)

    def _take(self, dispatch: Dispatch | None) -> None:
        """The losses of a dispatch and the time that it took."""
        if dispatch is not None:
            metrics, ended = dispatch.outcome.result()
            self.clock.steps(metrics[LOSS].shape[1], began=dispatch.began, ended=ended)
            self.losses.add(metrics)
            if dispatch.ends_chunk:
                self.losses.end_chunk()

    def tell(self, on_progress: Callable[[tuple[Progress, ...]], None]) -> None:
        """Says of each chunk whose losses have been fetched how every run fares."""
        for chunk in self.losses.take():
            if is_leader():
                on_progress(
                    tuple(
                        Progress(
                            step=chunk.step,
                            n_steps=self.n_steps,
                            loss_nats=loss,
                            grad_norm=last[GRAD_NORM],
                            said={name: last[name] for name in self.model.says},
                            n_tokens=chunk.step * self.tokens_per_step,
                            resumed_at=self.resumed_at,
                            train_seconds=self.clock.seconds["train"],
                            stall_seconds=self.clock.seconds["stall"],
                        )
                        for loss, last in zip(chunk.losses, chunk.last, strict=True)
                    )
                )

    def evaluate(self, on_evaluated: Callable[[tuple[CurvePoint, ...]], None]) -> None:
        """Adds a point to the curve of each run that lives, where this step asks for one."""
        step = self.position.step
        if self.validation is None or step not in self.stops or self.losses.all_diverged:
            return
        self.clock.lap("stall")
        measured = self.validation.losses(self.state.params, is_curve=True)
        for run, losses in enumerate(measured):
            if not self.losses.diverged_at[run]:
                loss = losses[ALL]
                point = CurvePoint(
                    step=step,
                    n_tokens=step * self.tokens_per_step,
                    loss_nats=loss.nats,
                    bits_per_byte=loss.bits_per_byte,
                )
                self.position.curves[run].append(point)
        if is_leader():
            alive = [run for run, at in enumerate(self.losses.diverged_at) if not at]
            on_evaluated(tuple(self.position.curves[run][-1] for run in alive))
        self.clock.lap("evaluate")

    def results(self, saves: Saves, keep: Keep | None = None) -> tuple[TrainResult, ...]:
        """The final evaluation, and what came out of each run; ``keep``: see train_pack."""
        self.fetch()
        self.clock.lap("stall")
        saves.finish()
        self.clock.lap("checkpoint")
        n_runs = len(self.configs)
        finals: list[dict[str, Loss]] = [{}] * n_runs
        if self.validation is not None and not self.losses.all_diverged:
            finals = self.validation.losses(self.state.params)
        self.clock.lap("evaluate")
        reasons = [
            self.losses.reason(run) or _divergence(finals[run], self.position.curves[run])
            for run in range(n_runs)
        ]
        sound = [run for run in range(n_runs) if not reasons[run]]
        digests = self._digests(sound if self.validation is not None else [], keep)
        return tuple(map(self._result, range(n_runs), reasons, finals, self.oracle_losses, digests))

    def _digests(self, runs: Sequence[int], keep: Keep | None) -> list[str]:
        """Of the parameters of all runs; those of ``runs`` are given to ``keep``."""
        params = self.state.params
        named = [*itertools.chain(*tensors(params, n_lead=len(self.program.lead)))]
        with contextlib.ExitStack() as kept:
            takers = {}
            if keep is not None:
                takers = {run: kept.enter_context(keep(run, named)) for run in runs}
            return params_sha256(params, len(self.configs), takers)

    def _result(
        self, run: int, reason: str, losses: dict[str, Loss], oracle: float | None, digest: str
    ) -> TrainResult:
        step, curve = self.position.step, self.position.curves[run]
        status = self.losses.status(run)
        n_steps = self.losses.diverged_at[run] or step
        return TrainResult(
            status=("diverged" if reason else "ok") if status == "ok" else status,
            reason=reason,
            losses={} if reason else losses,
            oracle_loss_nats=oracle,
            curve=tuple(point for point in curve if math.isfinite(point.loss_nats)),
            params_sha256="" if reason else digest,
            n_steps=n_steps,
            n_tokens=n_steps * self.tokens_per_step,
            resumed_at=self.resumed_at,
            notes=tuple(self.notes),
            execution=self.program.execution,
            n_timed_steps=self.clock.n_steps,
            seconds=self.clock.seconds,
        )


def _outcome(
    metrics: Mapping[str, Any], n_runs: int, steps: slice
) -> tuple[dict[str, np.ndarray], float]:
    """Of a Dispatch, once it is done."""
    jax.block_until_ready(metrics)
    ended = time.perf_counter()
    return {name: np.asarray(x).reshape(n_runs, -1)[:, steps] for name, x in metrics.items()}, ended


def _divergence(final: dict[str, Loss], curve: list[CurvePoint]) -> str:
    """A sentence if a validation loss was not finite, else empty."""
    bad = [point.step for point in curve if not math.isfinite(point.loss_nats)]
    if bad:
        return f"validation loss is not finite after step {bad[0]}"
    is_bad = not all(math.isfinite(loss.nats) for loss in final.values())
    return "final validation loss is not finite" if is_bad else ""
