# SPDX-License-Identifier: Apache-2.0
"""What a fit says is best at training budgets, and what it says of runs of a given size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.fit_tables.output import Output
from scaling.tables.units import power

if TYPE_CHECKING:
    from scaling.answers.frontier import Frontier
    from scaling.answers.loss_forecast import RunLoss
    from scaling.fit import Fit


def answer_optimum(
    fit: Fit,
    *,
    budgets: Sequence[float],
    sizes: Sequence[tuple[float, float]],
    inference_tokens: Sequence[float],
    level: float | None,
    output: Output,
) -> None:
    """The compute-optimal choice at each budget, and the loss of each run that is named.

    Args:
      budgets: training FLOPs. sizes: (parameters, tokens) of runs. One of the two at least.
      inference_tokens: served over a model's life: for each number and each budget the model of
        the optimum's loss that is cheapest to train and to serve.

    Raises:
      ValueError: for a budget or a size so far away that there is no answer.
    """
    from experiments.fit_tables import display
    from scaling.answers.inference import cheapest_for_loss
    from scaling.fit import SCHEMA_VERSION
    from scaling.json_values import encode
    from scaling.plots.figures import figure_frontier

    front = _frontier(fit, budgets, level) if budgets else None
    losses: list[float] = [] if front is None else front.loss_opt.value.tolist()
    served = [
        cheapest_for_loss(fit, one, tokens, level=level)
        for tokens in inference_tokens
        for one in losses
    ]
    runs = [_run_loss(fit, n_params, n_tokens, level) for n_params, n_tokens in sizes]
    console = output.console
    console.print(f"{fit.name}: {display.status_line(fit)}")
    answer: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "approach": fit.name,
        "status": fit.status,
        "runs": runs,
        "inference": served,
    }
    if front is not None:
        display.print_optimum(console, front, fit.runs)
        answer |= front.to_dict()
    if runs:
        display.print_run_losses(console, runs, fit.runs.loss_unit)
    output.write(encode(answer))
    if front is not None and output.figures:
        output.save(figure_frontier([front], [fit]), "frontier")
    for one in served:
        display.print_inference(console, one)


def _frontier(fit: Fit, budgets: Sequence[float], level: float | None) -> Frontier:
    from scaling.answers.frontier import frontier

    front = frontier(fit, budgets, level=level)
    lost = front.flops[~np.isfinite(front.n_params_opt.value * front.loss_opt.value)]
    if len(lost):
        raise ValueError(
            f"--flops {', '.join(power(flops) for flops in lost)}: {fit.name} has no optimum "
            f"that far away; its runs have {power(fit.fitted_runs.flops.min())} to "
            f"{power(fit.fitted_runs.flops.max())} FLOPs. Ask nearer to them."
        )
    return front


def _run_loss(fit: Fit, n_params: float, n_tokens: float, level: float | None) -> RunLoss:
    from scaling.answers.loss_forecast import run_loss

    try:
        return run_loss(fit, n_params, n_tokens, level=level)
    except ValueError as error:
        raise ValueError(f"--at {power(n_params)}:{power(n_tokens)}: {error}") from None
