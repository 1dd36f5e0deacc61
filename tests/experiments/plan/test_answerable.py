# SPDX-License-Identifier: Apache-2.0
"""What a plan says cannot answer is what the fits refuse, and nothing else."""

import dataclasses
import re

import numpy as np
import pytest

from experiments.plan.answerable import unanswerable
from experiments.plan.plan import plan
from experiments.study.study import Axis, Ladder
from scaling.approaches.isoflop import fit_isoflop
from scaling.approaches.isoflop_curves import fewest
from scaling.approaches.surface import fit_surface
from scaling.fit import FitError
from scaling.laws import fewest as least
from scaling.laws.registry import law_named
from scaling.tables.runs import Runs


def refused(points):
    """Approaches that find too few of losses of a law at these points."""
    n_params, n_tokens = (
        np.array([getattr(point, name) if name == "n_tokens" else point.params.total
                  for point in points], float)
        for name in ("n_params", "n_tokens")
    )  # fmt: skip
    runs = Runs.from_columns(
        n_params=n_params,
        n_tokens=n_tokens,
        loss_nats=1.2 + 40 * n_params**-0.45 + 200 * n_tokens**-0.45,
    )
    runs = dataclasses.replace(runs, budget=np.array([point.budget for point in points]))
    fits = {
        "isoflop": lambda: fit_isoflop(runs, n_bootstrap=0),
        "surface (additive)": lambda: fit_surface(runs, "additive", n_bootstrap=0),
        "surface (curved)": lambda: fit_surface(runs, "curved", n_bootstrap=0),
    }
    found = set()
    for name, fit in fits.items():
        try:
            fit()
        except FitError as error:
            if re.search(r"needs (at least|\d+ runs at)", str(error)):
                found.add(name)
    return found


GRIDS = (
    ((1e11, 3e11, 1e12), (8, 16, 24, 32, 48, 64), (0, 1)),
    ((1e11, 3e11), (8, 16, 24, 32), (0, 1)),
    ((1e11, 3e11), (8, 16, 24), (0, 1)),
    ((1e11,), (8, 16, 24, 32, 48, 64), (0,)),
    ((1e11, 3e11, 1e12), (8, 16), (0, 1, 2)),
)


AS_TOO_FEW = pytest.mark.slow(reason="4 s of fits; grids that are too small are quick")


@pytest.mark.parametrize("grid", [pytest.param(GRIDS[0], marks=AS_TOO_FEW), *GRIDS[1:]], ids=str)
def test_what_cannot_answer_is_what_the_fits_refuse(study, manifest, grid):
    budgets, d_models, seeds = grid
    sizes = Ladder(d_models=d_models, tokens_per_param=(1e-3, 1e6))
    study = dataclasses.replace(study, budgets=budgets, sizes=sizes, seeds=seeds)
    points = plan(study, manifest).points
    said = unanswerable(study, points)
    named = {line.partition(":")[0] for line in said if "no parabola at" not in line}
    assert named - {"envelope"} == refused(points)
    assert ("envelope" in named) == (len(d_models) < 4)


def test_a_budget_without_a_parabola_is_named(study, manifest):
    sizes = Ladder(d_models=(8, 16, 24, 32, 48), tokens_per_param=(4.0, 1e4))
    study = dataclasses.replace(study, budgets=(1e10, 3e11, 1e12), sizes=sizes, seeds=(0,))
    (line,) = unanswerable(study, plan(study, manifest).points)
    assert line.startswith("isoflop: no parabola at 1 of 3 budgets, which needs 5 runs at 4 sizes")
    assert "(1e+10 has " in line


def test_of_kinds_that_are_fitted_apart_the_one_with_most_runs_counts(study, manifest):
    """Three sizes each of two kinds are no six sizes."""
    sizes, others = (
        Ladder(d_models=d_models, tokens_per_param=(1e-3, 1e6))
        for d_models in ((16, 32, 64), (8, 24, 48))
    )
    axis = Axis(field="sizes", values=(sizes, others), labels=("a", "b"))
    study = dataclasses.replace(
        study, budgets=(1e11, 3e11), sizes=sizes, axes=(axis,), forecast_budgets=()
    )
    said = unanswerable(study, plan(study, manifest).points)
    assert [line.partition(":")[0] for line in said][:2] == ["isoflop", "envelope"]


def test_the_numbers_are_those_of_the_fits():
    assert fewest("parabola", exact=False) == (least.PARABOLA_SIZES, least.PARABOLA_RUNS)
    for law, n_parameters in least.SURFACE_PARAMETERS.items():
        assert len(law_named(law).names) == n_parameters
