# SPDX-License-Identifier: Apache-2.0
"""What a fit says is best at training budgets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from experiments.fit_tables.output import Output

if TYPE_CHECKING:
    from scaling.fit import Fit


def answer_optimum(
    fit: Fit,
    budgets: Sequence[float],
    *,
    inference_tokens: Sequence[float],
    level: float | None,
    output: Output,
    console: Console,
) -> None:
    """The compute-optimal choice at each budget.

    Args:
      inference_tokens: served over a model's life: for each number the model of the same loss that
        is cheapest to train and to serve.

    Raises:
      ValueError: for a budget so far away that no optimum is found.
    """
    from experiments.fit_tables.display import print_inference, print_optimum, status_line
    from scaling.answers.frontier import frontier
    from scaling.answers.inference import cheapest_for_loss
    from scaling.plots.figures import figure_frontier

    front = frontier(fit, budgets, level=level)
    lost = front.flops[~np.isfinite(front.n_params_opt.value * front.loss_opt.value)]
    if len(lost):
        raise ValueError(
            f"--flops {', '.join(f'{flops:g}' for flops in lost)}: {fit.name} has no optimum that "
            f"far away; its runs have {fit.fitted_runs.flops.min():.3g} to "
            f"{fit.fitted_runs.flops.max():.3g} FLOPs. Ask nearer to them."
        )
    console.print(f"{fit.name}: {status_line(fit)}")
    print_optimum(console, front)
    output.write(front.to_dict(), console)
    if output.figures:
        output.save(figure_frontier([front], [fit]), "frontier", console)
    for tokens in inference_tokens:
        for loss in front.loss_opt.value:
            print_inference(console, cheapest_for_loss(fit, float(loss), tokens))
