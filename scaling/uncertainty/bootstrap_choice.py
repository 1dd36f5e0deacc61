# SPDX-License-Identifier: Apache-2.0
"""Which bootstrap suits which runs, and what to know of its intervals.

* "pairs" where there are at least PAIRS_PER_PARAMETER clusters per parameter: of five sizes at a
  budget a resample often holds fewer than three, and no parabola fits;
* "components" where a cluster spans several configurations (branches of one trunk);
* "residual" otherwise;
* "wild" where the runs are weighted and too few for pairs: the others draw the noise of all from
  one pool, and weights say that it differs. Else never by itself: it asks for many clusters.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from scaling.fit import Noise
from scaling.laws.objectives import Objective
from scaling.tables.arrays import Array
from scaling.tables.runs import Runs
from scaling.uncertainty.groups import clusters, configurations
from scaling.uncertainty.variance_components import VariancePosterior

METHODS = ("auto", "pairs", "residual", "components", "wild")
# Those whose replicates hold for runs that differ in noise.
OF_UNLIKE_RUNS = ("pairs", "wild")


PAIRS_PER_PARAMETER = 10


# With fewer clusters than this at a budget, resampling them leaves too few sizes too often.
PAIRS_PER_BUDGET = 8


# Student's t with fewer degrees of freedom than this is half as wide again as the normal, or more.
_FEW_TRUNKS = 4


def choose_method(asked: str, runs: Runs, n_parameters: int, *, is_weighted: bool = False) -> str:
    """The bootstrap to use, as the module's docstring says, unless one was asked for.

    Raises:
      ValueError: for an unknown name, or one that does not suit weighted runs.
    """
    if asked not in METHODS:
        raise ValueError(f"unknown bootstrap {asked!r}; choose one of {', '.join(METHODS)}")
    if is_weighted and asked not in ("auto", *OF_UNLIKE_RUNS):
        raise ValueError(
            f"bootstrap {asked} draws the noise of all runs from one pool, and weights say that it "
            f"differs; take {' or '.join(OF_UNLIKE_RUNS)}"
        )
    if asked != "auto":
        return asked
    labels, configs = clusters(runs), configurations(runs)
    is_many = labels.max() + 1 >= PAIRS_PER_PARAMETER * n_parameters
    if is_many and clusters_per_budget(runs, labels) >= PAIRS_PER_BUDGET:
        return "pairs"
    if is_weighted:
        return "wild"
    return "residual" if np.array_equal(labels, configs) else "components"


def clusters_per_budget(runs: Runs, labels: Int[Array, " n"]) -> int:
    """Fewest clusters at any budget; all of them where runs do not share budgets."""
    budget = np.unique(runs.budget, return_inverse=True)[1].reshape(-1)
    n_clusters = int(labels.max()) + 1
    if 2 * (int(budget.max()) + 1) > n_clusters:
        return n_clusters
    pairs = np.unique(np.stack([budget, labels], axis=1), axis=0)
    return int(np.bincount(pairs[:, 0]).min())


def passes_through_points(objective: Objective, noise: Noise) -> bool:
    """Whether a fit absorbs points whole, as one of least absolute deviations does."""
    is_narrow = objective.kind == "huber" and objective.parameter < noise.one_run_sd
    return objective.kind == "lad" or is_narrow


def can_resample(method: str, noise: Noise) -> bool:
    """Whether replicates would tell anything: residual methods need a degree of freedom."""
    return method == "pairs" or noise.dof > 0


def cluster_findings(
    runs: Runs, method: str, n_parameters: int, shared: VariancePosterior | None = None
) -> Sequence[str]:
    """What shared noise does to the intervals; a warning where clusters are too few for them."""
    n_clusters = int(clusters(runs).max()) + 1
    if method == "wild" and n_clusters < 2 * n_parameters:
        return [
            f"only {n_clusters} independent clusters for {n_parameters} parameters: intervals "
            "are likely too narrow; repeat the grid with other seeds."
        ]
    if shared is None:
        return []
    if method == "residual":
        return [
            "runs share noise (cluster_id), and the bootstrap that was asked for, residual, takes "
            "them for independent: its intervals are likely too narrow; take components."
        ]
    return component_findings(runs, shared) if method == "components" else []


def component_findings(runs: Runs, shared: VariancePosterior) -> list[str]:
    """How much of the noise trunks carry, or that nothing tells."""
    n_trunks = int(shared.trunks.max()) + 1
    if not shared.trunk_dof:
        return [
            f"the fit follows each of the {n_trunks} trunks (cluster_id), so that nothing tells "
            "what their shared noise does: no intervals; add sizes, or a second seed."
        ]
    share, low, high = (100.0 * value for value in shared.shares)
    sentences = [
        f"{len(runs)} runs are branches of {n_trunks} trunks (cluster_id) and share their noise: "
        f"{share:.0f} % of its variance ({low:.0f} to {high:.0f}, 80 % interval), told by "
        f"{shared.trunk_dof} degrees of freedom. Intervals draw both parts."
    ]
    if shared.trunk_dof < _FEW_TRUNKS:
        sentences.append(
            "trunks are few: their noise is hardly known, and the intervals are as wide as that; "
            "a second seed per size narrows them."
        )
    return sentences
