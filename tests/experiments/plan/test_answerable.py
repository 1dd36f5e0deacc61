# SPDX-License-Identifier: Apache-2.0
"""What a plan says cannot answer is what the fits refuse, and nothing else."""

import dataclasses
import re

import numpy as np
import pytest

from experiments.plan.answerable import answers
from experiments.plan.plan import plan
from experiments.study.study import Axis, Ladder
from scaling.answers.best_size import best_size
from scaling.approaches.isoflop.curves import fewest
from scaling.approaches.isoflop.fit import fit_isoflop
from scaling.approaches.surface.fit import fit_surface
from scaling.fit import FitError
from scaling.laws import fewest as least
from scaling.laws.registry import law_named
from scaling.tables.runs import Runs


def runs_of(points):
    """Losses of a law at these points."""
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
    return dataclasses.replace(runs, budget=np.array([point.budget for point in points]))


def refused(points):
    """Approaches that find too few of them."""
    runs = runs_of(points)
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
    ((1e11, 3e11, 1e12), (8, 16), (0, 1, 2)),
)


AS_TOO_FEW = pytest.mark.slow(reason="4 s of fits; grids that are too small are quick")


@pytest.mark.parametrize("grid", [pytest.param(GRIDS[0], marks=AS_TOO_FEW), *GRIDS[1:]], ids=str)
def test_what_cannot_answer_is_what_the_fits_refuse(study, manifest, grid):
    budgets, d_models, seeds = grid
    sizes = Ladder(d_models=d_models, tokens_per_param=(1e-3, 1e6))
    study = dataclasses.replace(study, budgets=budgets, sizes=sizes, seeds=seeds)
    points = plan(study, manifest).points
    found = answers(study, points)
    said = found.cannot
    named = {line.partition(":")[0] for line in said if "no parabola at" not in line}
    assert named - {"envelope"} == refused(points)
    assert ("envelope" in named) == (len(d_models) < 4)
    assert bool(found.refusal) == (len(named) == 4)


@pytest.mark.parametrize(
    ("d_models", "seeds"),
    [((8, 16, 24, 32, 48, 64), (0,)), ((8, 16, 24, 32), (0, 1)), ((8, 16, 24, 32), (0,)),
     ((8, 16, 24), (0, 1))],
    ids=str,
)  # fmt: skip
def test_of_one_budget_the_best_size_is_what_is_asked(study, manifest, d_models, seeds):
    """As the answer finds it; what lies beyond is not known."""
    sizes = Ladder(d_models=d_models, tokens_per_param=(1e-3, 1e6))
    study = dataclasses.replace(study, budgets=(1e11,), sizes=sizes, seeds=seeds)
    points = plan(study, manifest).points
    found = answers(study, points)
    reason = best_size(runs_of(points)).optimum.reason
    is_short = "a parabola needs" in reason
    assert bool(found.refusal) == is_short
    assert [line.partition(":")[0] for line in found.cannot] == ["the best size"] * is_short
    study = dataclasses.replace(study, forecast_budgets=(1e12,))
    assert "a forecast: one budget tells nothing of others" in answers(study, points).cannot


@pytest.mark.parametrize(
    ("changes", "is_refused"),
    [
        ({"d_models": (8, 16, 24)}, True),
        ({"d_models": (8,)}, False),
        ({"d_models": (8, 16, 24, 32)}, False),
        ({"budgets": (1e11, 3e11, 1e12)}, False),
        ({"values": (0.5, 1.0, 2.0)}, False),
        ({"values": (1.0,)}, True),
    ],
    ids=str,
)
def test_only_what_asks_for_a_law_and_has_too_few_runs_is_refused(
    study, manifest, changes, is_refused
):
    grid = {"budgets": (1e11, 3e11), "d_models": (8, 16, 24), "values": ()} | changes
    rates = [grid["values"]] if grid["values"] else []
    study = dataclasses.replace(
        study,
        budgets=grid["budgets"],
        sizes=Ladder(d_models=grid["d_models"], tokens_per_param=(1e-3, 1e6)),
        axes=tuple(Axis(field="recipe.optimizer.learning_rate", values=one) for one in rates),
    )
    refusal = answers(study, plan(study, manifest).points).refusal
    assert bool(refusal) == is_refused
    assert ("--anyway" in refusal) == is_refused


FEW, EDGE = "2 values, a minimum needs 3", "does not reach both sides of the study's 1"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0.5, 1.0, 2.0), ()),
        ((0.5, 2.0, 4.0), ()),
        ((1.0,), ()),
        ((0.5, 2.0), (FEW,)),
        ((1.0, 2.0, 4.0), (f"1 to 4 {EDGE}",)),
        ((0.25, 0.5, 0.7), (f"0.25 to 0.7 {EDGE}",)),
        ((2.0, 3.0), (FEW, f"2 to 3 {EDGE}")),
    ],
    ids=str,
)
def test_an_axis_that_may_not_hold_its_best_value_is_named(study, manifest, values, said):
    axis = Axis(field="recipe.optimizer.learning_rate", values=values)
    study = dataclasses.replace(study, axes=(axis,))
    assert study.recipe.optimizer.learning_rate == 1.0
    lines = answers(study, plan(study, manifest).points).may_not
    whole = [f"axis {axis.field}: {'; '.join(said)}: the best may lie beyond"] if said else []
    assert list(lines) == whole


def test_an_axis_of_what_the_study_has_none_of_is_judged_by_its_values_alone(study, manifest):
    axis = Axis(field="recipe.horizon_tokens_per_param", values=(10.0, 20.0, 40.0))
    study = dataclasses.replace(study, axes=(axis,), budgets=(1e12,))
    assert answers(study, plan(study, manifest).points).may_not == ()


def test_a_budget_without_a_parabola_is_named(study, manifest):
    sizes = Ladder(d_models=(8, 16, 24, 32, 48), tokens_per_param=(4.0, 1e4))
    study = dataclasses.replace(study, budgets=(1e10, 3e11, 1e12), sizes=sizes, seeds=(0,))
    (line,) = answers(study, plan(study, manifest).points).cannot
    assert line.startswith("isoflop: no parabola at 1 of 3 budgets, which needs 5 runs at 4 sizes")
    assert "(1e10 has " in line


@pytest.mark.parametrize(("n_budgets", "said"), [(1, 0), (2, 1), (3, 1), (4, 0)])
def test_parabolas_at_too_few_budgets_to_be_certified_are_named(study, manifest, n_budgets, said):
    budgets = (1e11, 2e11, 4e11, 8e11)[:n_budgets]
    sizes = Ladder(d_models=(8, 16, 24, 32, 48, 64), tokens_per_param=(1e-3, 1e6))
    study = dataclasses.replace(study, budgets=budgets, sizes=sizes, seeds=(0,))
    may_not = answers(study, plan(study, manifest).points).may_not
    sentence = f"isoflop: parabolas at {n_budgets} budgets; it is certified from 4 on"
    assert may_not == (sentence,) * said


@pytest.mark.parametrize(("n_sizes", "said"), [(4, True), (5, True), (6, False)])
def test_sizes_too_few_for_a_certified_envelope_are_named(study, manifest, n_sizes, said):
    """The smallest and the largest are never on it, and four must be."""
    sizes = Ladder(d_models=(8, 16, 24, 32, 48, 64)[:n_sizes], tokens_per_param=(1e-3, 1e6))
    study = dataclasses.replace(study, budgets=(1e11, 2e11, 4e11, 8e11), sizes=sizes, seeds=(0, 1))
    may_not = answers(study, plan(study, manifest).points).may_not
    sentence = (
        f"envelope: {n_sizes} sizes; it is certified from 6 on, for the smallest and the largest "
        "are never on it"
    )
    assert may_not == (sentence,) * said


def test_an_envelope_that_cannot_be_certified_does_not_make_a_grid_answerable(study, manifest):
    """Three sizes at each of two budgets, four in all: six different (N, D)."""
    sizes = Ladder(d_models=(8, 16, 24, 32, 48), tokens_per_param=(2.0, 150.0))
    study = dataclasses.replace(study, budgets=(1e10, 4e10), sizes=sizes, seeds=(0,))
    points = plan(study, manifest).points
    assert [sum(p.budget == budget for p in points) for budget in study.budgets] == [3, 3]
    assert len({p.params.total for p in points}) == 4
    found = answers(study, points)
    assert "envelope" not in " ".join((*found.cannot, *found.may_not))
    assert "no approach can answer" in found.refusal


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
    found = answers(study, plan(study, manifest).points)
    assert found.no_law == "3 sizes at 2 budgets: no law is fitted, losses are compared."
    assert found.cannot == ()


@pytest.mark.parametrize("values", [(1.0,), (0.5, 1.0, 2.0)])
def test_of_several_settings_one_is_fitted_at_each_budget_and_size(study, manifest, values):
    """Four runs, and as many of each other rate: a parabola needs five of one."""
    axis = Axis(field="recipe.optimizer.learning_rate", values=values)
    sizes = Ladder(d_models=(8, 16, 24, 32), tokens_per_param=(1e-3, 1e6))
    study = dataclasses.replace(study, budgets=(1e11, 3e11), sizes=sizes, seeds=(0,), axes=(axis,))
    (line,) = answers(study, plan(study, manifest).points).cannot
    assert "isoflop: 0 of 2 budgets have a parabola, it needs 2 that have" in line
    assert "(1e11 has 4 at 4, 3e11 has 4 at 4)" in line


def test_the_numbers_are_those_of_the_fits():
    assert fewest("parabola", exact=False) == (least.PARABOLA_SIZES, least.PARABOLA_RUNS)
    for law, n_parameters in least.SURFACE_PARAMETERS.items():
        assert len(law_named(law).names) == n_parameters
