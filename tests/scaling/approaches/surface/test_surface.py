# SPDX-License-Identifier: Apache-2.0
"""The loss surface: planted laws, a published minimum, coverage, refusals."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from scaling.answers.frontier import frontier
from scaling.answers.loss_forecast import predict_loss
from scaling.approaches.diagnostics import residual_findings, sloppy_findings
from scaling.approaches.surface.findings import form_findings, resolves_gamma
from scaling.approaches.surface.fit import fit_surface
from scaling.fit import Fit, FitError, FitStatus
from scaling.intervals import Interval
from scaling.laws.loss_laws import ADDITIVE, CURVED
from scaling.laws.registry import law_named
from scaling.tables.read_tables import read_runs
from scaling.tables.runs import Runs


def test_noise_free_law_is_recovered(planted):
    fit = fit_surface(planted.runs(), planted.law, n_bootstrap=0)
    found = [fit.parameters[name] for name in law_named(planted.law).names]
    np.testing.assert_allclose(found, planted.parameters, rtol=1e-6)
    assert fit.status is FitStatus.CONVERGED


def test_published_huber_minimum_is_reached(published):
    """Besiroglu et al. 2024, 240 points, Huber(1e-3): results/published/README.md."""
    columns = {"n_params": "params", "n_tokens": "tokens", "loss_nats": "loss", "flops": "flops"}
    table = read_runs(published / "chinchilla_epoch245.csv", flops="6n_total", columns=columns)
    fit = fit_surface(
        table.select(table.extra["fit_240"] == 1), objective="huber:1e-3", n_bootstrap=0
    )
    assert fit.certificate is not None
    assert fit.certificate.objective == pytest.approx(0.001018274017801, abs=1e-15)
    published_values = {
        "A": (477.8259, 5e-5),
        "B": (2143.417, 5e-4),
        "E": (1.817218, 5e-7),
        "alpha": (0.347310, 6e-7),
        "beta": (0.367172, 6e-7),
    }
    for name, (value, digits) in published_values.items():
        assert fit.parameters[name] == pytest.approx(value, abs=digits)
    assert fit.exponent_a == pytest.approx(0.51390, abs=5e-6)
    assert fit.certificate.gradient_norm < 1e-10
    assert fit.certificate.n_starts_agree >= 8


def test_noisy_law_lies_within_its_interval(planted_named):
    fit = fit_surface(planted_named("quickstart").runs(sd=0.01, seed=3), n_bootstrap=200)
    for name, truth in zip(("E", "alpha", "beta"), (0.86, 0.50, 0.41), strict=True):
        interval = fit.intervals[name]
        assert interval.lower < truth < interval.upper
    assert fit.bootstrap.method == "residual"
    assert fit.bootstrap.n_failed < 10


def test_an_interval_of_gamma_that_ends_at_its_bound_is_said_to_tell_nothing():
    box = SimpleNamespace(at_bounds=lambda z: (z < -9.0, z > 9.0))
    found = SimpleNamespace(problem=box, law=CURVED)
    draws = SimpleNamespace(z=np.zeros((100, 1)))
    gamma = np.concatenate([np.linspace(2, 19, 90), np.full(10, 20.0)])
    (said,) = form_findings(found, {"gamma": gamma}, draws, 0.95)
    assert said.startswith("the interval of gamma (2.47 to 20.00) ends at its bound")
    (said,) = form_findings(found, {"gamma": gamma[:85]}, draws, 0.95)
    assert said.startswith("gamma is resolved from 1 (2.40 to 17.64)")
    (said,) = form_findings(found, {"gamma": gamma / 10}, draws, 0.95)
    assert said.startswith("gamma is not resolved from 1 (0.25 to 2.00)")


def test_an_exponent_that_is_open_is_named_with_what_is_known_of_it():
    """Everything but beta is known to a thousandth, and B D^-beta is at D = exp(21.4)."""
    rng = np.random.default_rng(0)
    draws = {name: 1 + 1e-3 * rng.standard_normal(400) for name in (*ADDITIVE.names, "exponent_a")}
    assert sloppy_findings(ADDITIVE, draws, 0.95) == []
    draws["beta"] = np.linspace(0.37, 0.94, 400)
    draws["B"] = 0.5 * draws["B"] * np.exp(21.4 * draws["beta"])
    (said,) = sloppy_findings(ADDITIVE, draws, 0.95)
    assert said.startswith("beta (0.3843 to 0.9257) and B (1864 to 2.0")
    assert "only together: log B - 21.4 beta is -0.69" in said
    assert said.endswith("For all that, a is 0.9982 to 1.002.")
    draws["B"] = rng.permutation(draws["B"])
    (said,) = sloppy_findings(ADDITIVE, draws, 0.95)
    assert said.startswith("beta is hardly known from these runs: 0.3843 to 0.9257.")


def test_a_law_may_call_its_own_parameters_a_and_b(planted_named):
    """As Hoffmann et al. in other letters: a is an exponent of the loss, not that of N*."""
    parameters = tuple(
        replace(one, name={"alpha": "a", "beta": "b"}.get(one.name, one.name))
        for one in ADDITIVE.parameters
    )
    runs = planted_named("quickstart").runs(sd=0.01, seed=3)
    renamed = replace(ADDITIVE, name="renamed", parameters=parameters)
    own, same = (fit_surface(runs, law, n_bootstrap=50) for law in (renamed, ADDITIVE))
    for name, other in (("a", "alpha"), ("b", "beta"), ("exponent_a", "exponent_a")):
        ends = (own.intervals[name].lower, own.intervals[name].upper)
        # Each law is compiled by itself, its sums may come in another order, and where a step more
        # or less is taken minima differ by 1e-8.
        expected = (same.intervals[other].lower, same.intervals[other].upper)
        assert ends == pytest.approx(expected, rel=1e-6)
    assert own.intervals["a"].lower < 0.50 < own.intervals["a"].upper
    values = [predict_loss(fit, 1e5, 1e7).value for fit in (own, same)]
    assert values[0] == pytest.approx(values[1], rel=1e-6)


def test_no_parameter_has_the_name_of_an_exponent():
    parameters = (replace(ADDITIVE.parameters[0], name="exponent_b"), *ADDITIVE.parameters[1:])
    with pytest.raises(ValueError, match="law mine has a parameter exponent_b"):
        replace(ADDITIVE, name="mine", parameters=parameters)


@pytest.mark.parametrize(
    ("lower", "upper", "resolves"),
    [(2.0, 10.0, True), (2.0, 20.0, False), (0.8, 1.2, False), (0.3, 0.7, True)],
)
def test_gamma_is_resolved_by_an_interval_without_1_that_ends_inside_its_bounds(
    lower, upper, resolves
):
    assert resolves_gamma(Interval(lower=lower, upper=upper)) == resolves


@pytest.mark.slow(reason="simulated coverage")
def test_intervals_cover_the_planted_exponent(planted_named):
    """90 % intervals over 24 simulated studies: 21.6 +- 1.5 expected, below 18 is a defect."""
    problem = planted_named("quickstart")
    truth = fit_surface(problem.runs(), n_bootstrap=0).exponent_a
    hits = 0
    for seed in range(24):
        fit = fit_surface(problem.runs(sd=0.01, seed=seed), n_bootstrap=96, level=0.9)
        hits += fit.intervals["exponent_a"].lower <= truth <= fit.intervals["exponent_a"].upper
    assert hits >= 18


def test_interval_width_grows_with_the_noise(planted_named):
    problem = planted_named("quickstart")
    widths = []
    for sd in (0.003, 0.012):
        interval = fit_surface(problem.runs(sd=sd, seed=1), n_bootstrap=128).intervals["alpha"]
        widths.append(interval.upper - interval.lower)
    assert 2.0 < widths[1] / widths[0] < 8.0


def test_one_ray_is_refused():
    N = np.geomspace(1e6, 1e9, 12)
    runs = Runs.from_columns(n_params=N, n_tokens=20 * N, loss_nats=2 + 100 * N**-0.3)
    with pytest.raises(FitError, match="one ray of 20 tokens per parameter"):
        fit_surface(runs)


def test_one_size_is_refused():
    D = np.geomspace(1e6, 1e9, 12)
    runs = Runs.from_columns(n_params=np.full(12, 1e6), n_tokens=D, loss_nats=2 + 100 * D**-0.3)
    with pytest.raises(FitError, match="one value of n_params"):
        fit_surface(runs)


def test_too_few_configurations_are_refused(planted_named):
    runs = planted_named("chinchilla").runs().select(np.arange(6))
    with pytest.raises(FitError, match="needs at least 7 different"):
        fit_surface(runs)


def test_runs_that_are_not_ok_are_listed_and_not_fitted(planted_named):
    runs = planted_named("chinchilla").runs()
    status = runs.status.astype("U10")
    status[4] = "diverged"
    loss = runs.loss_nats.copy()
    loss[4] = np.nan
    marked = Runs(
        **{
            name: getattr(runs, name)
            for name in ("run_id", "budget", "n_params", "n_tokens", "flops", "cluster_id")
        },
        loss_nats=loss,
        status=status,
        params_convention="total",
        flops_convention="6n_total",
    )
    fit = fit_surface(marked, n_bootstrap=0)
    assert fit.left_out == {str(runs.run_id[4]): "status diverged"}
    assert f"{runs.run_id[4]} (diverged)" in fit.findings[0]
    assert len(fit.fitted_runs) == len(runs) - 1
    assert fit.parameters["alpha"] == pytest.approx(0.34, rel=1e-6)


def test_data_without_an_irreducible_loss_touch_the_bound(planted_named):
    runs = planted_named("chinchilla").runs()
    loss = law_named("additive").loss(
        (1e-9, 406.4, 410.7, 0.34, 0.28), runs.n_params, runs.n_tokens
    )
    bare = Runs.from_columns(n_params=runs.n_params, n_tokens=runs.n_tokens, loss_nats=loss)
    fit = fit_surface(bare, n_bootstrap=0)
    assert fit.status is FitStatus.AT_BOUND
    assert any("log E at its lower bound" in sentence for sentence in fit.findings)


def test_the_same_runs_give_other_exponents_under_other_counts(planted_named):
    """Counting only some of the parameters of small models moves a (Pearce and Song 2024)."""
    runs = planted_named("chinchilla").runs()
    hidden = 1e7 * (runs.n_params / 1e7) ** 0.4
    fewer = Runs.from_columns(
        n_params=runs.n_params - np.minimum(hidden, 0.8 * runs.n_params),
        n_tokens=runs.n_tokens, loss_nats=runs.loss_nats, params_convention="non_embedding",
        flops_convention="6n_non_embedding",
    )  # fmt: skip
    total, non_embedding = (fit_surface(counted, n_bootstrap=0) for counted in (runs, fewer))
    assert total.exponent_a == pytest.approx(0.28 / 0.62, abs=1e-6)
    assert non_embedding.exponent_a > total.exponent_a + 0.01
    assert non_embedding.runs.flops_convention == "6n_non_embedding"


def test_a_law_whose_every_parameter_is_given_is_taken_as_it_is():
    """The optimum of Hoffmann et al. 2022, eq. 4, for Gopher's compute, in closed form."""
    given = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
    # Of two runs, by which no law could be fitted, on one ray.
    runs = Runs.from_columns(n_params=[1e8, 2e8], n_tokens=[2e9, 4e9], loss_nats=[3.3, 3.0])
    fit = fit_surface(runs, fixed=given)
    assert (dict(fit.parameters), fit.certificate) == (given, None)
    assert "every parameter is given: nothing is fitted to the runs." in fit.findings
    front = frontier(Fit.from_json(fit.to_json()), [5.76e23])
    G = (0.34 * 406.4 / (0.28 * 410.7)) ** (1 / 0.62)
    n_params, n_tokens = G * (5.76e23 / 6) ** (0.28 / 0.62), (5.76e23 / 6) ** (0.34 / 0.62) / G
    assert front.n_params_opt.value[0] == pytest.approx(n_params, rel=1e-6)
    assert front.n_tokens_opt.value[0] == pytest.approx(n_tokens, rel=1e-6)
    loss = 1.69 + 406.4 / n_params**0.34 + 410.7 / n_tokens**0.28
    assert front.loss_opt.value[0] == pytest.approx(loss, rel=1e-9)
    assert np.isnan(front.loss_opt.lower[0])
    tied = {name: value for name, value in given.items() if name != "beta"}
    assert fit_surface(runs, fixed=tied, tied={"beta": "alpha"}).parameters["beta"] == 0.34
    with pytest.raises(ValueError, match="cannot be fixed at -1"):
        fit_surface(runs, fixed=given | {"E": -1.0})


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.3, "fall into two groups, of 24 and 11 runs, 0.36"),
        (0.5, "scatter about the law by 22 %"),
    ],
)
def test_losses_of_which_a_share_is_in_bits_are_seen(planted_named, share, words):
    """Of few the law keeps clear; between two halves it bends, and the scatter is what is left."""
    runs = planted_named("symmetric").runs(sd=0.003, seed=1)
    in_bits = np.random.default_rng(2).permutation(len(runs)) < share * len(runs)
    loss = np.where(in_bits, runs.loss_nats / np.log(2), runs.loss_nats)
    said = fit_surface(replace(runs, loss_nats=loss), n_bootstrap=0).findings
    assert any(words in text for text in said)
    clean = fit_surface(runs, n_bootstrap=0).findings
    assert not any("two groups" in text or "scatter" in text for text in clean)


def test_noise_falls_into_no_two_groups():
    """In none of a thousand tables of each size, of normal noise and of noise with long tails."""
    rng = np.random.default_rng(0)
    for n in (6, 20, 28, 100):
        runs = Runs.from_columns(n_params=np.ones(n), n_tokens=np.ones(n), loss_nats=np.ones(n))
        for draw in (*rng.standard_normal((1000, n)), *rng.standard_t(3, (1000, n))):
            assert not any("two groups" in text for text in residual_findings(runs, draw))
