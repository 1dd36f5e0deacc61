# SPDX-License-Identifier: Apache-2.0
"""Surfaces of weighted runs against scipy, repeated rows and a planted table."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import least_squares

from scaling.approaches.surface.fit import fit_surface
from scaling.laws.law import Law, amplitude, exponent
from scaling.laws.loss_laws import ADDITIVE
from scaling.profiles.profile import profile
from scaling.tables.runs import Runs
from scaling.uncertainty.bootstrap_choice import choose_method

pytestmark = pytest.mark.usefixtures("quick_to_compile")

THETA = (1.69, 406.4, 410.7, 0.34, 0.28)
SHARED = Law(
    name="shared for weights",
    formula="L = E + K / (N^w D^(1-w))^c",
    source="an example",
    columns=("log_n_params", "log_n_tokens"),
    parameters=(amplitude("E"), amplitude("K"), exponent("c"), exponent("w", 0.01, 0.99)),
    value=lambda xp, p, x: (
        p[0] + p[1] * xp.exp(-p[2] * (p[3] * x["log_n_params"] + (1 - p[3]) * x["log_n_tokens"]))
    ),
)  # fmt: skip


def planted(seed=0, n=48, sd=0.003, times=12.0):
    """Runs of which every second one has so many times the noise of the others."""
    rng = np.random.default_rng(seed)
    N = np.exp(rng.uniform(np.log(2e7), np.log(5e9), n))
    D = N * np.exp(rng.uniform(np.log(4.0), np.log(200.0), n))
    own = sd * np.where(np.arange(n) % 2, times, 1.0)
    loss = ADDITIVE.loss(THETA, N, D) * np.exp(own * rng.standard_normal(n))
    runs = Runs.from_columns(n_params=N, n_tokens=D, loss_nats=loss)
    columns = {"precision": 1 / own**2, "sharpness": 1 / own, "copies": np.arange(n) % 3 + 1.0}
    return replace(runs, extra=columns)


@pytest.mark.parametrize("law", [ADDITIVE, SHARED], ids=lambda law: law.name)
def test_least_squares_are_those_of_scipy(law):
    runs = planted()
    ours = fit_surface(runs, law, objective="least_squares", weights="precision", n_bootstrap=0)
    root = np.sqrt(runs.extra["precision"] / np.mean(runs.extra["precision"]))

    def residuals(z):
        p = [np.exp(v) if one.is_positive else v for v, one in zip(z, law.parameters, strict=True)]
        return root * (np.log(runs.loss_nats) - np.log(law.loss(p, runs.n_params, runs.n_tokens)))

    begin = law.to_coordinates(list(ours.parameters.values())) * 1.02
    theirs = least_squares(residuals, begin, xtol=1e-15, ftol=1e-15, gtol=1e-15, x_scale="jac")
    assert ours.certificate.objective == pytest.approx(theirs.cost, rel=1e-9)
    at = law.to_parameters(theirs.x)
    np.testing.assert_allclose(list(ours.parameters.values()), at, rtol=1e-4)


def test_a_weight_of_three_is_the_run_written_three_times():
    runs = planted(times=1.0)
    rows = np.repeat(np.arange(len(runs)), runs.extra["copies"].astype(int))
    thrice = replace(runs.select(rows), run_id=np.arange(len(rows)).astype(str))
    weighted = fit_surface(runs, weights="copies", n_bootstrap=0)
    repeated = fit_surface(thrice, n_bootstrap=0)
    for name in ADDITIVE.names:
        assert weighted.parameters[name] == pytest.approx(repeated.parameters[name], rel=1e-6)


def test_weights_that_know_the_noise_find_more_and_hold_the_truth():
    runs = planted(1)
    plain, weighted = (
        fit_surface(runs, objective="least_squares", weights=column, n_bootstrap=100)
        for column in (None, "precision")
    )
    assert weighted.settings["weights"] == "precision"
    assert weighted.bootstrap.method == "wild"
    for name, truth in zip(ADDITIVE.names, THETA, strict=True):
        of_plain, of_weighted = plain.intervals[name], weighted.intervals[name]
        assert of_weighted.lower < truth < of_weighted.upper, name
        narrower = (of_plain.upper - of_plain.lower) / (of_weighted.upper - of_weighted.lower)
        assert narrower > 2.0, name


def test_weighted_runs_take_pairs_where_they_are_many_and_the_sandwich_agrees():
    runs = planted(n=300)
    settings = {"objective": "least_squares", "weights": "precision", "replicate_starts": 1}
    assert choose_method("auto", runs, 5, is_weighted=True) == "pairs"
    drawn, resampled = (
        fit_surface(runs, bootstrap=one, n_bootstrap=200, **settings)
        for one in ("sandwich", "auto")
    )
    ratio = np.std(drawn.replicates["exponent_a"]) / np.std(resampled.replicates["exponent_a"])
    assert ratio == pytest.approx(1.0, abs=0.25)  # Of 200 draws each: sd 0.07.


@pytest.mark.parametrize("quantity", ["alpha", "a"])
def test_a_profile_weighs_as_its_fit_did(quantity):
    fit = fit_surface(
        planted(2), objective="least_squares", weights="precision", n_bootstrap=100, seed=1
    )
    found = profile(fit, quantity, n_points=7, n_bootstrap=60)
    assert found.minimum == pytest.approx(fit.certificate.objective, rel=1e-8)
    assert "wild replicates" in found.calibration
    own = fit.intervals[{"a": "exponent_a"}.get(quantity, quantity)]
    width = found.interval.upper - found.interval.lower
    assert 0.6 < width / (own.upper - own.lower) < 1.6


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("precision", None, "no column of numbers; those are"),
        ("precision", ["a"] * 48, "no column of numbers"),
        ("precision", [0.0, np.nan, *[1.0] * 46], r"for 2 of 48 runs: run0 \(0\), run1 \(nan\)"),
        ("precision", [-1.0] * 48, r"run4 \(-1\), ...; leave them out \(--where 'precision>0'\)"),
    ],
)
def test_weights_that_are_none_are_refused(column, values, said):
    extra = {} if values is None else {column: np.array(values)}
    with pytest.raises(ValueError, match=said):
        fit_surface(replace(planted(), extra=extra), weights=column, n_bootstrap=0)


def test_what_cannot_weigh_is_refused():
    with pytest.raises(
        ValueError, match=r"bootstrap residual draws the noise .* take pairs or wild"
    ):
        fit_surface(planted(), weights="copies", bootstrap="residual", n_bootstrap=8)
    given = dict(zip(ADDITIVE.names, THETA, strict=True))
    with pytest.raises(ValueError, match="weights copies: every parameter is given"):
        fit_surface(planted(), weights="copies", fixed=given)
