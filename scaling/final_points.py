# SPDX-License-Identifier: Apache-2.0
"""Runs from a table of training curves alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from scaling.compute import SIX_N
from scaling.runs import Curves, Runs


def runs_from_curves(
    curves: Curves,
    *,
    n_params: Mapping[str, float] | None = None,
    params_convention: str = "total",
    flops_convention: str = "6n_total",
) -> Runs:
    """One run per curve: its last row by tokens, with status ok.

    A foreign table with run_id, step, n_tokens, flops and loss is then enough for every estimator.
    A curve that ends in a loss that is not finite has status "diverged".

    Args:
      n_params: run_id -> parameters; without it N = C/(6 D) at the last row, which holds only
        where the table's FLOPs are 6ND.

    Raises:
      ValueError: for runs without parameters, rows without tokens or FLOPs at the end of a run,
        or sizes asked from FLOPs that are not 6ND.
    """
    if n_params is None and SIX_N.get(flops_convention) != params_convention:
        raise ValueError(
            f"the FLOPs are {flops_convention}, from which no {params_convention} size follows; "
            "give n_params, run_id -> parameters"
        )
    ids = list(dict.fromkeys(curves.run_id.tolist()))
    last = np.array([_last_row(curves, run_id) for run_id in ids])
    tokens, flops = curves.n_tokens[last], curves.flops[last]
    _require_positive(ids, tokens, flops)
    if n_params is None:
        sizes = flops / (6.0 * tokens)
    else:
        missing = [run_id for run_id in ids if run_id not in n_params]
        if missing:
            raise ValueError(f"n_params names no size for {', '.join(missing)}; add them")
        sizes = np.array([float(n_params[run_id]) for run_id in ids])
    loss = curves.loss_nats[last]
    return Runs.from_columns(
        n_params=sizes,
        n_tokens=tokens,
        flops=flops,
        loss_nats=loss,
        run_id=ids,
        status=["ok" if np.isfinite(value) else "diverged" for value in loss],
        params_convention=params_convention,
        flops_convention=flops_convention,
    )


def _last_row(curves: Curves, run_id: str) -> int:
    rows = np.flatnonzero(curves.run_id == run_id)
    return int(rows[np.argmax(curves.n_tokens[rows])])


def _require_positive(ids: list[str], tokens: np.ndarray, flops: np.ndarray) -> None:
    bad = [
        f"{run_id} (n_tokens {d:g}, flops {c:g})"
        for run_id, d, c in zip(ids, tokens, flops, strict=True)
        if not (np.isfinite(d) and np.isfinite(c) and d > 0 and c > 0)
    ]
    if bad:
        raise ValueError(
            f"the last row of {', '.join(bad)} must have positive, finite tokens and FLOPs; mend "
            "or drop these runs"
        )
