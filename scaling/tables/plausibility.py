# SPDX-License-Identifier: Apache-2.0
"""Counts and losses that look like another unit, rows like checkpoints, settings that are mixed:
said, never corrected."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from scaling.tables.arrays import Array

if TYPE_CHECKING:
    from scaling.tables.runs import Runs

# Below this many parameters or tokens a column is more likely in millions or billions.
_FEW = 3e3
# Tokens per parameter: nobody trains with fewer; steps taken for tokens, and billions read as
# millions, are below.
_FEWEST_PER_PARAM = 0.1
# ln of a vocabulary of 3e6: guessing uniformly would do better than a higher loss.
_HIGHEST_LOSS = 15.0
# FLOPs per 6ND beyond this, either way, are no convention but a unit.
_FAR = 100.0
# So many rows of one size, at as many numbers of tokens, are checkpoints rather than runs.
_CHECKPOINTS = 8
# Settings of training by the names that tables give them. A fit takes runs that differ in them for
# repeats of one another.
_SETTINGS = re.compile(r"(^|_)(lr|learning_rate|bs|batch|batch_size|weight_decay|warmup)($|_)")
# Gaps between checkpoints are much alike; those between budgets grow with them.
_EVEN = 4.0


def unit_findings(runs: Runs) -> tuple[str, ...]:
    """Sentences on what a unit that was not stated would explain, and on bounds among losses."""
    ok = runs.select(runs.is_ok)
    if not len(ok):
        return ()
    sentences = []
    for name in ("n_params", "n_tokens"):
        middle = float(np.median(getattr(ok, name)))
        if middle < _FEW:
            sentences.append(
                f"{name} is about {middle:.3g}: if the column is in millions or billions, say so "
                f"({name}=COLUMN:M or :B); all counts below are in its unit."
            )
    per_param = float(np.median(ok.n_tokens / ok.n_params))
    if per_param < _FEWEST_PER_PARAM:
        sentences.append(
            f"there are about {per_param:.2g} tokens per parameter: are n_params and n_tokens in "
            "one unit, or n_tokens steps? Multiply steps by their tokens (n_tokens=COLUMN:524288)."
        )
    if float(np.median(ok.loss_nats)) > _HIGHEST_LOSS:
        sentences.append(
            f"the loss is about {np.median(ok.loss_nats):.3g} nats: worse than a guess from any "
            "vocabulary; is it a perplexity or a sum?"
        )
    if n_bounds := int(np.sum(ok.is_bound)):
        losses = f"{n_bounds} of {len(ok)} losses" if n_bounds < len(ok) else "losses"
        sentences.append(f"{losses} are upper bounds: the true ones are at most these.")
    return (*sentences, *_flops_findings(ok), *_checkpoint_findings(ok), *settings_findings(ok))


def settings_findings(ok: Runs) -> list[str]:
    """Runs of one size and length that differ in their learning rate, batch or the like, of runs
    that are all ok."""
    pairs = np.unique(np.stack([ok.n_params, ok.n_tokens]), axis=1, return_inverse=True)[1]
    varied = {}
    for name, column in ok.extra.items():
        if column.ndim == 1 and _SETTINGS.search(name.lower()):
            kinds = [len(np.unique(column[pairs == pair])) for pair in np.unique(pairs)]
            if np.median(kinds) > 1:
                varied[name] = int(np.median(kinds))
    if not varied:
        return []
    listed = ", ".join(f"{count} of {name}" for name, count in varied.items())
    return [
        f"runs of one n_params and n_tokens differ in their settings ({listed}) and are fitted as "
        "if they were repeats. --best-per n_params,n_tokens keeps the best of each."
    ]


def _checkpoint_findings(ok: Runs) -> list[str]:
    """Rows that count as independent although they are points along the same runs."""
    if len(np.unique(ok.cluster_id)) < len(ok):
        return []
    texts = {n: c for n, c in ok.extra.items() if c.ndim == 1 and c.dtype.kind in "US"}
    named = next((name for name, column in texts.items() if _are_runs(column, ok)), None)
    if named is None and not _are_runs(ok.n_params, ok):
        return []
    n_runs = len(np.unique(ok.n_params if named is None else texts[named]))
    return [
        f"{len(ok)} rows look like checkpoints of {n_runs} runs and are taken for independent: "
        "intervals are too narrow. Say which belong together "
        f"(--columns cluster_id={named or 'COLUMN'})."
    ]


def _are_runs(labels: Shaped[Array, " n"], ok: Runs) -> bool:
    """Whether most rows lie, many to a label, at one size and evenly spaced in tokens."""
    _, label, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if counts[counts >= _CHECKPOINTS].sum() <= len(ok) / 2:
        return False
    spread = []
    for rows in np.split(np.lexsort((ok.n_tokens, label)), np.cumsum(counts)[:-1]):
        gaps = np.diff(ok.n_tokens[rows])
        if np.ptp(ok.n_params[rows]) > 0 or (len(gaps) and gaps.min() == 0):
            return False
        if len(rows) >= _CHECKPOINTS:
            spread.append(np.quantile(gaps, 0.9) / np.quantile(gaps, 0.1))
    return float(np.median(spread)) < _EVEN


def _flops_findings(ok: Runs) -> list[str]:
    ratio = ok.flops / (6.0 * ok.n_params * ok.n_tokens)
    middle = float(np.median(ratio))
    if not 1 / _FAR < middle < _FAR:
        return [
            f"flops are {middle:.3g} times 6 n_params n_tokens: a column is likely in another "
            "unit; state it (flops=COLUMN:P, n_params=COLUMN:M, ...)."
        ]
    off = float(np.max(np.abs(ratio - 1.0)))
    if ok.flops_convention.startswith("6n") and off > 0.02:
        return [
            f"flops differ from 6 n_params n_tokens by up to {100 * off:.2g} % and are used as "
            "they are."
        ]
    return []
