# SPDX-License-Identifier: Apache-2.0
"""Learning-rate schedules, and the columns that the multi-power law makes of them.

A schedule is an array lr [T + 1]: lr[t] is the rate of step t, warm-up included. The law sums over
all steps of the past; `schedule_columns` replaces that sum by a few dozen weighted nodes per
evaluation, so that the solver sees columns of matrices [n, K] and nothing else is special.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from scaling.tables.arrays import Array

# Width of a block of steps in log lr and in log S_k(t). Two nodes keep a block's weight, mean and
# variance, so that the error is of third order: 2e-7 nats for the schedules and parameters of Luo
# et al., with at most 59 nodes for 72,000 steps.
BLOCK_WIDTH = 0.8
# A rate of zero counts as this share of the peak: its logarithm must exist, and a step of no
# length moves no loss either way.
_SMALLEST_LR = 1e-9


def constant(n_steps: int, peak: float, *, n_warmup: int = 0) -> Float[Array, " steps"]:
    """lr [n_steps + 1]: linear warm-up from zero, then the peak."""
    return _warmed_up(np.full(n_steps + 1, float(peak)), n_warmup)


def cosine(n_steps: int, peak: float, *, final: float, n_warmup: int = 0) -> Float[Array, " steps"]:
    """lr [n_steps + 1]: warm-up, then half a cosine from the peak to `final` at the last step."""
    share = _share(n_steps, n_warmup)
    return _warmed_up(final + 0.5 * (peak - final) * (1.0 + np.cos(np.pi * share)), n_warmup)


def warmup_stable_decay(
    n_steps: int,
    peak: float,
    *,
    final: float,
    decay_from: int,
    n_warmup: int = 0,
    shape: str = "linear",
) -> Float[Array, " steps"]:
    """lr [n_steps + 1]: warm-up, the peak up to step `decay_from`, then decay to `final`.

    Args:
      shape: "linear", or "exponential" (then final > 0).

    Raises:
      ValueError: for another shape.
    """
    share = _share(n_steps, decay_from)
    if shape not in ("linear", "exponential"):
        raise ValueError(f"unknown shape of decay {shape!r}; choose linear or exponential")
    if shape == "linear":
        return _warmed_up(peak + (final - peak) * share, n_warmup)
    return _warmed_up(peak * (final / peak) ** share, n_warmup)


def two_stage(
    n_steps: int, peak: float, *, final: float, switch_at: int, n_warmup: int = 0
) -> Float[Array, " steps"]:
    """lr [n_steps + 1]: warm-up, the peak before step `switch_at`, `final` from it on."""
    lr = np.where(np.arange(n_steps + 1) < switch_at, float(peak), float(final))
    return _warmed_up(lr, n_warmup)


def schedule_columns(
    run: Sequence[str] | Array, step: ArrayLike, schedules: Mapping[str, Array]
) -> dict[str, Array]:
    """Columns of the multi-power law for evaluations of runs, first axis n.

    log_lr_sum [n]: log S(t). drop_* [n, K]: weight, log lr and log S_k(t) of the nodes that stand
    for all steps k <= t whose rate differs from the one before. Steps whose rate does not change
    weigh nothing and drop out exactly. The others are gathered in blocks that are at most
    BLOCK_WIDTH wide in both logarithms and hold either falling or rising rates; a block of one
    step is one node, a longer one two nodes with its weight, mean and variance.

    Args:
      run, step: of each evaluation, [n]; the loss after step t has seen lr[1] ... lr[t].
      schedules: run -> lr [T + 1].

    Raises:
      ValueError: for a run without a schedule, a step outside it, or a rate that is none.
    """
    runs, steps = np.asarray(run), np.asarray(step)
    missing = sorted(set(runs.tolist()) - set(schedules))
    if missing:
        raise ValueError(f"no schedule for run {', '.join(map(str, missing))}")
    log_sum, nodes = np.zeros(len(steps)), [np.zeros((3, 0))] * len(steps)
    for name in dict.fromkeys(runs.tolist()):
        rows = np.flatnonzero(runs == name)
        log_sum[rows], found = _run_nodes(name, np.asarray(schedules[name], float), steps[rows])
        for row, values in zip(rows, found, strict=True):
            nodes[row] = values
    padded = np.zeros((3, len(steps), max(1, *(v.shape[1] for v in nodes))))
    for k, values in enumerate(nodes):
        padded[:, k, : values.shape[1]] = values
    names = ("drop_weight", "drop_log_lr", "drop_log_reach")
    return {"log_lr_sum": log_sum, **dict(zip(names, padded, strict=True))}


def _run_nodes(name: str, lr: Array, steps: Array) -> tuple[Array, list[Array]]:
    """log S(t) [n], and the nodes [3, K] of each step of one run."""
    _check(lr)
    if not np.all((steps >= 1) & (steps < len(lr)) & (steps == np.round(steps))):
        raise ValueError(
            f"run {name}: steps must be whole and lie in 1 to {len(lr) - 1}, the end of its "
            f"schedule; they go from {np.min(steps):g} to {np.max(steps):g}"
        )
    total = np.cumsum(lr)
    changed = np.flatnonzero(np.diff(lr) != 0.0) + 1
    weight, before = (lr[:-1] - lr[1:])[changed - 1], total[changed - 1]
    floor = _SMALLEST_LR * np.max(lr)
    log_lr = np.log(np.maximum(lr[changed], floor))
    nodes = []
    for t, n in zip(steps.astype(int), np.searchsorted(changed, steps, side="right"), strict=True):
        log_reach = np.log(np.maximum(total[t] - before[:n], floor))
        nodes.append(_nodes(weight[:n], log_lr[:n], log_reach))
    with np.errstate(divide="ignore"):
        return np.log(total[steps.astype(int)]), nodes


def _nodes(weight: Array, log_lr: Array, log_reach: Array) -> Array:
    """Nodes [3, K] (weight, log lr, log reach) that stand for steps [k]."""
    if not len(weight):
        return np.zeros((3, 0))
    cells = np.stack([np.sign(weight), log_lr // BLOCK_WIDTH, log_reach // BLOCK_WIDTH])
    starts = np.concatenate([[True], np.any(np.diff(cells) != 0, axis=0)])
    first, label = np.flatnonzero(starts), np.cumsum(starts) - 1
    total = np.add.reduceat(weight, first)
    share = weight / total[label]
    places = np.stack([log_lr, log_reach])
    mean = np.add.reduceat(share * places, first, axis=1)
    away = places - mean[:, label]
    spread = np.sqrt(np.add.reduceat(share * away**2, first, axis=1))
    # Within a block both logarithms move together along the steps, or one against the other.
    spread[1] *= np.where(np.add.reduceat(share * away[0] * away[1], first) < 0, -1.0, 1.0)
    is_long = np.diff(np.append(first, len(weight))) > 1
    one = np.concatenate([(total * np.where(is_long, 0.5, 1.0))[None], mean - spread * is_long])
    two = np.concatenate([0.5 * total[None], mean + spread])[:, is_long]
    return np.concatenate([one, two], axis=1)


def _share(n_steps: int, first: int) -> Array:
    """How far each step lies between `first` (0) and the last step (1), [n_steps + 1]."""
    if not 0 <= first < n_steps:
        raise ValueError(f"step {first} must lie in 0 to {n_steps - 1}: {n_steps} steps in all")
    return np.clip((np.arange(n_steps + 1) - first) / (n_steps - first), 0.0, 1.0)


def _warmed_up(lr: Array, n_warmup: int) -> Array:
    """The schedule with a linear rise from zero to its rate at the end of the warm-up."""
    if not 0 <= n_warmup < len(lr):
        raise ValueError(f"a warm-up of {n_warmup} steps does not fit into {len(lr) - 1} steps")
    rise = np.arange(n_warmup) / max(n_warmup, 1)
    return np.concatenate([lr[n_warmup] * rise, lr[n_warmup:]])


def _check(lr: Array) -> None:
    bad = np.flatnonzero(~(np.isfinite(lr) & (lr >= 0)))
    if len(bad) or not np.any(lr > 0):
        where = f"step {bad[0]} has {lr[bad[0]]:g}" if len(bad) else "all are zero"
        raise ValueError(f"learning rates must be finite, not negative, not all zero: {where}")
