# SPDX-License-Identifier: Apache-2.0
"""Where the loss of the true source is known: whether the E of a fit holds it."""

from collections.abc import Mapping

import numpy as np

from scaling.fit import Fit
from scaling.intervals import UNKNOWN
from scaling.tables.runs import Runs


def true_loss(runs: Runs) -> float | None:
    """What the true source loses on the same validation set, nats, where all runs say one number.

    Its mean over validation sets is the entropy of the source.
    """
    if not runs.loss_unit.startswith("nats") or "oracle_loss_nats" not in runs.numeric:
        return None
    told = np.unique(np.asarray(runs.extra["oracle_loss_nats"], float)[runs.is_ok])
    return float(told[0]) if len(told) == 1 and np.isfinite(told[0]) else None


def true_loss_findings(fits: Mapping[str, Fit]) -> tuple[str, ...]:
    """A sentence for each fit whose E has an interval, where its runs tell the true loss."""
    said = []
    for name, fit in fits.items():
        runs = fit.fitted_runs
        truth = true_loss(runs)
        interval = fit.intervals.get("E", UNKNOWN)
        if truth is None or not interval.is_known:
            continue
        shown = f"E {fit.parameters['E']:.4f} ({interval.lower:.4f} to {interval.upper:.4f})"
        is_held = interval.lower <= truth <= interval.upper
        verb = "holds" if is_held else "does not hold"
        sentence = f"{name}: {shown} {verb} the true source's loss, {truth:.4f} nats"
        if not is_held:
            nearest = float(np.min(runs.loss_nats)) / truth - 1
            sentence += f"; the lowest of its losses is {nearest:.1%} above that"
            if not fit.is_certified:
                sentence += f", and the fit is not certified: {fit.status.value}"
        said.append(f"{sentence}.")
    return tuple(said)
