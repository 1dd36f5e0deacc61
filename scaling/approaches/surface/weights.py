# SPDX-License-Identifier: Apache-2.0
"""How much each run counts in the objective of a surface, by a column of its table."""

import numpy as np
from jaxtyping import Float

from scaling.tables.arrays import Array
from scaling.tables.runs import Runs

_SHOWN = 5


def weights_of(runs: Runs, column: str | None) -> Float[Array, " n"] | None:
    """Weights [n] with a mean of 1; None where no column is named, and all runs count alike.

    Only ratios count. Where the noise has the variance v, 1/v is the best weight for least squares
    and 1/sqrt(v) for least absolute deviations, to which Huber's loss at 1e-3 is close.

    Raises:
      ValueError: for a column that is missing, or holds what is not positive and finite.
    """
    if column is None:
        return None
    values = np.asarray(runs.numeric.get(column, np.empty(0)), float)
    if values.shape != (len(runs),):
        known = ", ".join(name for name, of in runs.numeric.items() if np.ndim(of) == 1)
        raise ValueError(f"weights: {column!r} is no column of numbers; those are {known}")
    bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
    if len(bad):
        shown = ", ".join(f"{runs.run_id[i]} ({values[i]:g})" for i in bad[:_SHOWN])
        more = ", ..." * (len(bad) > _SHOWN)
        raise ValueError(
            f"weights: {column} must be positive and finite, and is not for {len(bad)} of "
            f"{len(runs)} runs: {shown}{more}; leave them out (--where '{column}>0')"
        )
    return values / np.mean(values)
