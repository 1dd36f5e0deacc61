# SPDX-License-Identifier: Apache-2.0
"""Train one network, or several of one shape together: one linear function, read top to bottom.

Runs that differ only in where and how their rate decays are the same until then: a trunk computes
that part once, and each of them is a branch of it (Hägele et al. 2024, arXiv:2405.18392, sec. 3). A
trunk may itself be a branch of a shorter one.
"""

import json
from collections.abc import Callable, Sequence

import jax

from model.data.corpus import Corpus
from model.network.config import ModelConfig
from model.network.execution import AUTO, Execution
from model.training.checkpoints.checkpoint import Checkpoints
from model.training.checkpoints.saves import Saves
from model.training.clock import Clock
from model.training.compatible import check_pack, check_stable
from model.training.compile_program import compile_program
from model.training.config import TrainConfig
from model.training.outcome import CurvePoint, Interrupted, Order, Progress, TrainResult
from model.training.pack import Keep, Pack
from model.training.processes import broadcast, is_leader


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
    keep: Keep | None = None,
    on_progress: Callable[[tuple[Progress, ...]], None] = lambda progress: None,
    on_evaluated: Callable[[tuple[CurvePoint, ...]], None] = lambda points: None,
    on_phase: Callable[[str], None] = lambda phase: None,
    control: Callable[[int], Order] = lambda step: Order.GO,
) -> tuple[TrainResult, ...]:
    """The results of runs that train side by side, continued from their newest good checkpoint.

    The losses of a run depend on its configuration and its corpus alone: not (on the CPU, bit for
    bit) on chunks, interruptions or a trunk, nor on the runs beside it, of which any may diverge; a
    pack of several differs from runs alone in the last bits of its sums.

    Args:
      model, configs: every number that moves a loss. The runs of a pack may differ in seeds, rates,
        decays, other constants of the optimiser and the shape of their schedule.
      corpora: where tokens come from; one for all, or one for each run.
      mesh_shape: sizes of the mesh axes (network/sharding.py); "run" divides the number of runs.
      checkpoints: of the whole pack, written while it trains on; None trains without.
        ``checkpoint_seconds`` is the least time between two, or ten times what writing took, if
        more; 0 saves where any chunk of steps ends.
      execution: how the network is computed; the result says what was chosen.
      trunk: where nothing of its own is saved, the pack begins from the newest intact checkpoint
        here. It must be of the same runs but for the end of their schedule.
      until: a trunk: the runs end after so many steps with a checkpoint, and evaluate nothing.
      keep: is given the final parameters of each run that did not diverge (pack.py); no trunk's.
      on_progress: called in order for each chunk of ``steps_per_dispatch`` steps whose losses have
        been fetched; before an order to save is obeyed, for a part of one.
      on_evaluated: called with the new points of the curves of the runs that live.
      on_phase: called with "compile", and with "train" once everything has been compiled.
      control: asked with the number of steps done before each dispatch and before the final
        evaluation; GIVE_UP ends the runs with the status "stopped". An order to save takes up to
        two dispatches (DISPATCH_SECONDS of clock.py), the rest of a checkpoint that is being
        written, and its own.

    Raises:
      Interrupted: if ``control`` gave another order than to go on.
      TrunkLost: if there is nothing to begin from but ``trunk``, and nothing there is intact.
      ValueError: if the mesh does not fit, a corpus is too small or has more token ids than the
        model, the runs need different programs, or ``until`` or the trunk is no part of them.
    """
    on_phase("compile")
    clock = Clock()
    corpora = (corpora,) * len(configs) if isinstance(corpora, Corpus) else corpora
    check_pack(model, configs, corpora, mesh_shape, execution)
    if until is not None:
        check_stable(configs, until, "until")
    program = compile_program(model, configs[0], mesh_shape, execution, n_runs=len(configs))
    with jax.set_mesh(program.mesh):
        pack = Pack(model, configs, corpora, program, clock, until=until)
        pack.begin(checkpoints, trunk)
        pack.compile()
        on_phase("train")
        with Saves(checkpoints, checkpoint_seconds) as saves:
            _train(pack, saves, until, on_progress, on_evaluated, control)
            return pack.results(saves, keep)


def _train(
    pack: Pack,
    saves: Saves,
    until: int | None,
    on_progress: Callable[[tuple[Progress, ...]], None],
    on_evaluated: Callable[[tuple[CurvePoint, ...]], None],
    control: Callable[[int], Order],
) -> None:
    """All steps, unless every run diverges or is given up before."""
    while not pack.losses.all_diverged:
        step, is_between = pack.position.step, pack.feed.n_used == 0
        is_over = saves.is_due and is_between and step < pack.n_steps
        n = pack.clock.dispatch_steps(pack.feed.n_left)
        order, is_due, is_written, n = _agree(
            control, step, is_over or step == until, saves.is_written, n
        )
        if is_written:
            saves.finish()
        if order is Order.GIVE_UP:
            pack.settle(on_progress)
            pack.losses.give_up()
            break
        is_save = (is_due or order is Order.SAVE_AND_STOP) and step > pack.saved_step
        if saves.are_kept and is_save:
            pack.settle(on_progress)
            if pack.losses.all_diverged:
                break
            pack.save(saves)
        if order is not Order.GO:
            saves.finish()
            raise Interrupted(step, is_saved=step > 0 and step == pack.saved_step)
        if step == pack.n_steps:
            break
        pack.train(n)
        pack.tell(on_progress)
        pack.evaluate(on_evaluated)


def _agree(
    control: Callable[[int], Order], step: int, is_due: bool, is_written: bool, n: int
) -> tuple[Order, bool, bool, int]:
    """What process 0 was ordered to do, whether its checkpoint is due, whether its last one is
    written, and how many steps it finds right for the next dispatch, on every process."""
    decision = [control(step), is_due, is_written, n] if is_leader() else None
    order, is_due, is_written, n = json.loads(broadcast(json.dumps(decision)))
    return Order(order), is_due, is_written, n
