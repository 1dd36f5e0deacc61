# SPDX-License-Identifier: Apache-2.0
"""What a person is told first: one sentence, a table that fits, and what matters most."""

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from experiments.ledger.forecasts import Predicted
from experiments.report.answer import as_object, print_answer, sentence, warnings
from experiments.report.build import JudgedForecast, _main
from scaling.answers.frontier import Frontier
from scaling.fit import FitStatus
from scaling.intervals import UNKNOWN, Band, Interval

FLOPS = np.array([2.5e10, 2.5e12])


def band(values, share=0.1):
    values = np.array(values)
    return Band(value=values, lower=values * (1 - share), upper=values * (1 + share))


def fit(name, *, law="power_laws", certified=True):
    status = FitStatus.CONVERGED if certified else FitStatus.AT_BOUND
    return SimpleNamespace(
        name=name,
        law=law,
        is_certified=certified,
        tells_loss=certified,
        status=status,
        exponent_a=0.41,
        exponent_b=0.6,
        intervals=dict.fromkeys(("exponent_b", "gamma"), UNKNOWN)
        | {"exponent_a": Interval(lower=0.318, upper=0.5)},
        fitted_runs=range(49),
        findings=(),
    )


def front(n_params=(14321.0, 98e3), level=0.95):
    return Frontier(
        approach="x",
        flops=FLOPS,
        n_params_opt=band(n_params),
        n_tokens_opt=band([3e5, 3.3e6]),
        tokens_per_param=band([21.0, 33.7]),
        loss_opt=band([2.0, 1.48], 0.02),
        exponent_a=np.array([0.41, 0.41]),
        exponent_b=np.array([0.6, 0.6]),
        is_extrapolated=np.array([False, True]),
        level=level,
        status=FitStatus.CONVERGED,
        findings=(),
    )


def report(fits, *, fronts=None, main="additive", forecasts=(), bad=()):
    runs = SimpleNamespace(not_ok=dict.fromkeys(bad, "diverged"), __len__=lambda: 49)
    analysis = SimpleNamespace(
        sides=(),
        fits=fits,
        frontiers=fronts or {name: front() for name in fits},
        refusals={},
        sweeps={},
        best=None,
        findings=(),
        agreement=None,
        runs=type("Runs", (), {"not_ok": runs.not_ok, "__len__": lambda self: 49})(),
    )
    units = {"unit": "byte", "loss_unit": "nats per byte", "bits_per_nat": None}
    return SimpleNamespace(analysis=analysis, main=main, forecasts=forecasts, **units)


SURFACE = {"additive": fit("surface (additive)", law="additive")}


def shown(asked, width):
    console = Console(file=io.StringIO(), width=width, markup=False, soft_wrap=True)
    print_answer(console, asked)
    return console.file.getvalue()


def test_the_sentence_says_what_to_train_and_how_it_grows():
    assert sentence(report(SURFACE)) == (
        "For 2.5e12 FLOPs train 98k (88.2k to 108k) parameters on 3.3M (2.97M to 3.63M) bytes: "
        "1.480 (1.450 to 1.510) nats per byte. N* grows as C^0.41 (0.32 to 0.50)."
    )


def test_what_is_not_certified_says_so_in_the_sentence():
    fits = {"additive": fit("surface (additive)", law="additive", certified=False)}
    assert sentence(report(fits)).endswith(
        "Not certified: a parameter lies at a bound of its range (surface (additive))."
    )
    assert warnings(report(fits))[0].startswith("no approach is certified")


@pytest.mark.parametrize(
    ("gamma", "certified", "is_told"),
    [
        ((0.31, 0.89), True, True),
        ((0.31, 1.2), True, False),
        ((0.31, 0.89), False, False),
        ((0.05, 0.89), True, False),
    ],
)
def test_an_additive_answer_says_where_the_runs_are_of_the_curved_form(gamma, certified, is_told):
    curved = fit("surface (curved)", law="curved", certified=certified)
    curved.intervals["gamma"] = Interval(lower=gamma[0], upper=gamma[1])
    told = [
        "surface (additive), which answers, is not of the form of these runs: gamma of surface "
        "(curved) is 0.31 to 0.89, not 1. That one is not used, for its E is at a bound; losses of "
        "either may be wrong beyond the runs."
    ]
    said = [one for one in warnings(report(SURFACE | {"curved": curved})) if "gamma" in one]
    assert said == told * is_told


@pytest.mark.parametrize(("width", "n_columns"), [(160, 4), (80, 4), (56, 3), (20, 1)])
def test_a_narrow_terminal_shows_fewer_columns_and_cuts_no_number(width, n_columns):
    names = ("FLOPs", "parameters N*", "nats per byte", "bytes D*", "bytes per parameter")
    text = shown(report(SURFACE), width)
    head, *further = [line for line in text.splitlines() if line.startswith("FLOPs")]
    assert [name in head for name in names] == [i < n_columns for i in range(5)]
    # In a pipe nothing is left out; what has no room in 80 columns follows.
    assert [line.split("  ")[-1] for line in further] == ["bytes per parameter"] * (width > 80)
    rows = [line for line in text.splitlines() if line.startswith(("2.5e10", "2.5e12*"))]
    assert len(rows) == 2 * (1 + len(further))
    assert max(len(row.rstrip()) for row in (head, *rows)) <= min(width, 80)
    assert ("14.3k (12.9k to 15.8k)" in rows[0]) == (n_columns > 1)
    assert ("21 (18.9 to 23.1)" in rows[-2]) == (width > 80)
    assert "* beyond the budgets or the sizes that were trained" in text


def test_all_but_the_table_fits_eighty_columns():
    assert max(map(len, shown(report(SURFACE), 80).splitlines())) <= 80


FITS = {
    "additive": ("surface (additive)", "additive"),
    "curved": ("surface (curved)", "curved"),
    "isoflop": ("isoflop", "power_laws"),
    "envelope": ("envelope", "power_laws"),
}


@pytest.mark.parametrize(
    ("certified", "expected"),
    [
        (("additive", "curved", "isoflop", "envelope"), "additive"),
        (("curved", "isoflop", "envelope"), "curved"),
        (("isoflop", "envelope"), "isoflop"),
        (("envelope",), "envelope"),
        ((), "additive"),
    ],
)
def test_a_certified_approach_is_preferred_in_a_fixed_order(certified, expected):
    fits = {n: fit(*FITS[n][:1], law=FITS[n][1], certified=n in certified) for n in FITS}
    fits["curved"].intervals["gamma"] = Interval(lower=0.5, upper=1.5)
    assert _main(report(fits).analysis) == expected


def test_warnings_name_what_matters_worst_first():
    fits = {n: fit(*FITS[n][:1], law=FITS[n][1], certified=n != "curved") for n in FITS}
    fronts = {name: front() for name in fits}
    fronts["isoflop"] = front(n_params=(30e3, 98e3))
    fronts["envelope"] = front(n_params=(14e3, 1e9))  # Apart where nothing was trained.
    found = warnings(report(fits, fronts=fronts, bad=("r1", "r2")))
    assert [line.split(":")[0] for line in found] == [
        "isoflop finds another N*, 30k (27k to 33k)",
        "2 of 49 runs are in no fit",
        "surface (curved) is not certified, and not used; surface (additive) answers",
    ]


def test_intervals_that_are_too_narrow_are_told_with_the_answer():
    lost = "597 of 1000 bootstrap replicates are left out. The intervals are likely too narrow."
    fits = {"additive": fit("surface (additive)", law="additive")}
    fits["additive"].findings = ("another.", lost)
    assert warnings(report(fits)) == [f"surface (additive), which answers: {lost}"]


@pytest.mark.parametrize(
    ("outcome", "ended", "lower", "said"),
    [
        (1.5, "", 1.3, ["the loss that was forecast came out outside of its interval."]),
        (1.35, "", 1.3, []),
        (None, "", 1.3, []),
        (1.5, "", None, []),
        (None, "stopped", 1.3, ["the run whose loss was forecast has none: it stopped."]),
    ],
    ids=["outside", "inside", "not trained yet", "no interval", "stopped"],
)
def test_only_a_forecast_that_failed_is_a_warning(outcome, ended, lower, said):
    predicted = Predicted(value=1.35, lower=lower, upper=1.4)
    made = SimpleNamespace(forecasts={"additive": predicted}, judged=predicted)
    judged = JudgedForecast(forecast=made, outcome=outcome, ended=ended)
    assert warnings(report(SURFACE, forecasts=(judged,))) == said


def test_the_object_is_strict_json_with_every_approach():
    fits = {n: fit(*FITS[n][:1], law=FITS[n][1]) for n in FITS}
    found = json.loads(json.dumps(as_object(report(fits)), allow_nan=False))
    assert found["approach"] == "additive"
    assert found["is_certified"] is True
    assert found["answer"] == sentence(report(fits))
    assert found["frontier"]["n_params_opt"]["value"] == [14321.0, 98e3]
    assert found["exponents"]["envelope"]["a_interval"] == {"lower": 0.318, "upper": 0.5}
    assert found["exponents"]["envelope"]["b_interval"] == {"lower": None, "upper": None}
