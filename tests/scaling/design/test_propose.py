# SPDX-License-Identifier: Apache-2.0
"""Designs against the literature's closed forms and against Monte-Carlo refits of a known law."""

import dataclasses
import itertools

import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.stats import t as student

from scaling.design.outlook import Outlook, joined, log_spread, outlook
from scaling.design.posterior import fit_posterior
from scaling.design.prior import NAMES, Prior, log_loss_slopes
from scaling.design.propose import choose, propose, worth
from scaling.design.scatter import MOST_SHARED, Scatter, covariance, effects
from scaling.design.target import Target
from scaling.laws.closed_form_optimum import optimal_params
from scaling.laws.loss_laws import ADDITIVE
from scaling.tables.runs import Runs

# Hoffmann et al. 2022, eq. 10.
E, A, B, ALPHA, BETA = HOFFMANN = (1.69, 406.4, 410.7, 0.34, 0.28)
SD = 0.01
NOTHING = np.zeros(0, int)


def outlook_of(jacobian, target, prior_precision=1e-9, sd=1.0):
    """A linear law y = jacobian theta + noise, of which target theta is asked, and no run yet."""
    J, c = np.asarray(jacobian, float), np.atleast_2d(np.asarray(target, float))
    P = np.eye(J.shape[1]) / prior_precision
    return Outlook.of(
        target=(c @ P @ c.T)[None],
        cross=(c @ P @ J.T)[None],
        shared=(J @ P @ J.T)[None],
        own=np.full((1, len(J)), sd**2),
        noise=np.full((1, len(J)), sd**2),
        config=np.arange(len(J)),
        # Many: Student's t no longer changes.
        seen=frozenset(range(-10000, 0)),
    )


def chosen_counts(start, n, n_rows):
    rows = choose(start, np.ones(n_rows), np.full(n_rows, n), float(n))
    assert len(rows) == n
    return np.bincount(rows, minlength=n_rows)


GRID = np.linspace(-1.0, 1.0, 21)


def test_a_straight_line_is_learned_from_its_two_ends():
    """D-optimal on [-1, 1]: half of the runs at each end (Silvey 1980, sec. 3.2)."""
    line = np.stack([np.ones_like(GRID), GRID], axis=1)
    counts = chosen_counts(outlook_of(line, np.eye(2)), 12, 21)
    assert counts[[0, -1]].tolist() == [6, 6]


def test_a_parabola_is_learned_from_its_ends_and_its_middle():
    """D-optimal for a quadratic on [-1, 1]: a third each at -1, 0, 1 (Fedorov 1972, table 2.1)."""
    parabola = GRID[:, None] ** np.arange(3)
    counts = chosen_counts(outlook_of(parabola, np.eye(3)), 12, 21)
    assert counts[[0, 10, -1]].tolist() == [4, 4, 4]


def test_a_line_extrapolated_to_2_needs_three_of_four_runs_at_the_near_end():
    """c-optimal at x0 > 1: weights (x0 + 1) : (x0 - 1) over 2 x0 (Hoel and Levine 1964)."""
    line = np.stack([np.ones_like(GRID), GRID], axis=1)
    counts = chosen_counts(outlook_of(line, [1.0, 2.0]), 16, 21)
    assert counts[[0, -1]].tolist() == [4, 12]


def test_an_exponential_decay_is_measured_at_its_time_constant():
    """One parameter, y = exp(-k t): the best t is 1/k (Box and Lucas 1959)."""
    k, times = 0.5, np.linspace(0.1, 8.0, 80)
    slopes = (-times * np.exp(-k * times))[:, None]
    counts = chosen_counts(outlook_of(slopes, [1.0]), 5, 80)
    assert np.argmax(counts) == np.argmin(np.abs(times - 1 / k))
    assert counts.max() == 5


def test_what_costs_a_tenth_is_repeated_before_what_tells_twice_as_much():
    """Two points that measure one parameter: information 4 at cost 10, information 1 at cost 1."""
    start = outlook_of([[2.0], [1.0]], [1.0])
    rows = choose(start, np.array([10.0, 1.0]), np.array([5, 5]), 10.0)
    assert sorted(rows) == [1] * 5
    rows = choose(start, np.array([10.0, 1.0]), np.array([5, 1]), 10.0)
    # Alone the dear one is the better use of the whole budget: greedy by cost would miss it.
    assert sorted(rows) == [0]


def test_many_cheap_runs_are_preferred_to_few_dear_ones_that_tell_less():
    start = outlook_of([[2.0], [1.0]], [1.0])
    rows = choose(start, np.array([10.0, 1.0]), np.array([40, 40]), 30.0)
    assert rows == [1] * 30


def test_small_designs_are_the_best_of_all_that_the_budget_pays_for():
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(10):
        J, cost = rng.standard_normal((9, 3)), rng.uniform(0.5, 3.0, 9)
        start = outlook_of(J, rng.standard_normal(3), prior_precision=0.01, sd=0.3)
        best = min(
            start.given(list(rows)).log_width
            for k in range(1, 6)
            for rows in itertools.combinations(range(9), k)
            if cost[list(rows)].sum() <= 5.0
        )
        rows = choose(start, cost, np.ones(9, int), 5.0)
        assert cost[rows].sum() <= 5.0
        ratios.append(np.exp(start.given(rows).log_width - best))
    assert max(ratios) < 1.12, "within 12 % of the best interval, on the worst of 10"
    assert np.mean(ratios) < 1.01


def grid(budgets=(1e17, 1e18, 1e19, 1e20), n_sizes=5, n_seeds=1, sd=SD, seed=0, width=8.0):
    budget = np.repeat(budgets, n_sizes * n_seeds)
    steps = np.tile(np.repeat(np.geomspace(1 / width, width, n_sizes), n_seeds), len(budgets))
    N = optimal_params(np.array(HOFFMANN), budget) * steps
    D = budget / (6 * N)
    noise = sd * np.random.default_rng(seed).standard_normal(len(N))
    loss = ADDITIVE.loss(HOFFMANN, N, D) * np.exp(noise)
    return Runs.from_columns(
        n_params=N, n_tokens=D, loss_nats=loss, budget=budget, flops=budget,
        run_id=[f"s{seed}r{i}" for i in range(len(N))],
    )  # fmt: skip


def target(name="loss", flops=1e21):
    return Target(name=name, flops=flops, low=1e17)


def fixed_scatter(posterior, own=SD**2):
    """The same posterior with the noise that was planted, additive form only."""
    scatter = Scatter(own=own, misfit=0.0)
    return dataclasses.replace(posterior, scatter=scatter, weights=np.ones(len(posterior.runs)))


def test_the_expected_narrowing_is_that_of_refits():
    """Sd of L*, N* and a over 300 least-squares refits with and without the added runs."""
    done, added = grid(), grid(budgets=(3e19, 1e20), n_sizes=3, width=3.0, seed=1)
    prior = dataclasses.replace(Prior.published(done), sd=np.array([9.0, 9, 9, 9, 9, 0.0]))
    clean = grid(sd=0.0)
    posterior = fixed_scatter(fit_posterior(clean, prior, n_draws=4))
    truth = np.log([E, 1, 1, 1, 1, 1])
    truth[1] = np.log(A) - ALPHA * prior.log_n
    truth[2] = np.log(B) - BETA * prior.log_d
    truth[3:] = ALPHA, BETA, 0.0
    posterior = dataclasses.replace(posterior, phi=truth[None], best=truth)
    refits = {False: [], True: []}
    rng = np.random.default_rng(5)
    for more in (False, True):
        runs = joined(clean, added) if more else clean
        log_n, log_d = np.log(runs.n_params), np.log(runs.n_tokens)

        def predicted(theta, log_n=log_n, log_d=log_d):
            e, a, b, alpha, beta = theta
            terms = np.exp(a - alpha * (log_n - 19)), np.exp(b - beta * (log_d - 22))
            return np.log(np.exp(e) + terms[0] + terms[1])

        start = [np.log(E), np.log(A) - 19 * ALPHA, np.log(B) - 22 * BETA, ALPHA, BETA]
        exact = predicted(start)
        for _ in range(300):
            y = exact + SD * rng.standard_normal(len(runs))
            refits[more].append(least_squares(lambda th, y=y, f=predicted: f(th) - y, start).x)
    for name in ("loss", "n_params_opt", "exponent"):
        start = outlook(posterior, target(name), added)
        expected = [
            float(o.target[0, 0, 0]) ** 0.5 for o in (start, start.given(list(range(len(added)))))
        ]
        seen = [np.std([_quantity(name, th) for th in refits[more]]) for more in (False, True)]
        # 300 refits give a standard deviation to 4 %; the law bends a little over its errors.
        np.testing.assert_allclose(expected, seen, rtol=0.15, err_msg=name)


def _quantity(name, theta, flops=1e21):
    e, a, b, alpha, beta = theta
    parameters = np.array([np.exp(e), np.exp(a + 19 * alpha), np.exp(b + 22 * beta), alpha, beta])
    N = optimal_params(parameters, flops)
    if name == "exponent":
        return beta / (alpha + beta)
    loss = ADDITIVE.loss(parameters, N, flops / (6 * N))
    return float(np.log(N if name == "n_params_opt" else loss))


def test_slopes_are_those_of_the_law():
    rng = np.random.default_rng(1)
    runs = grid()
    prior = Prior.published(runs)
    phi = prior.mean + 0.5 * prior.sd * rng.standard_normal((7, 6))
    h = 1e-6
    numeric = [
        (prior.log_loss(phi + h * step, runs) - prior.log_loss(phi - h * step, runs)) / (2 * h)
        for step in np.eye(6)
    ]
    np.testing.assert_allclose(prior.slopes(phi, runs), np.stack(numeric, -1), atol=1e-8)


def test_at_gamma_1_the_law_is_the_additive_one():
    runs = grid(sd=0.0)
    prior = Prior.published(runs)
    phi = [
        np.log(E), np.log(A) - ALPHA * prior.log_n, np.log(B) - BETA * prior.log_d, ALPHA, BETA, 0.0
    ]  # fmt: skip
    np.testing.assert_allclose(prior.log_loss(np.array(phi), runs), np.log(runs.loss_nats))
    np.testing.assert_allclose(
        target("exponent").values(prior, np.array([phi]), _ladder(runs)),
        [[BETA / (ALPHA + BETA)]],
        rtol=1e-6,
    )
    best = target("n_params_opt").values(prior, np.array([phi]), _ladder(runs))
    np.testing.assert_allclose(np.exp(best), optimal_params(np.array(HOFFMANN), 1e21), rtol=1e-6)


def _ladder(runs):
    from scaling.laws.size_ladder import Ladder

    return Ladder.from_runs(runs)


def test_without_runs_draws_are_the_prior():
    runs = grid()
    prior = Prior.published(runs)
    posterior = fit_posterior(runs.select(NOTHING), prior, n_draws=2000)
    np.testing.assert_allclose(posterior.phi.mean(axis=0), prior.mean, atol=0.1)
    np.testing.assert_allclose(posterior.phi.std(axis=0), prior.sd, rtol=0.06)
    assert posterior.known == 0.0
    assert any("no run is finished" in sentence for sentence in posterior.findings)


def test_with_many_runs_draws_lie_about_the_truth_as_wide_as_they_say():
    """Standard scores of the true exponents over 60 studies of known noise."""
    scores = []
    for seed in range(60):
        runs = grid(seed=seed, n_sizes=7)
        prior = Prior.published(runs, gamma_sd=0.0)
        prior = dataclasses.replace(prior, noise_sd=SD, noise_dof=1e9)
        phi = fit_posterior(runs, prior, n_draws=40).phi
        scores.append((phi[:, 3:5].mean(axis=0) - [ALPHA, BETA]) / phi[:, 3:5].std(axis=0))
    # An sd of 60 scores is known to 9 %; 40 draws and robust weights make each score wider.
    assert np.all(np.abs(np.mean(scores, axis=0)) < 0.4)
    assert np.all((np.std(scores, axis=0) > 0.75) & (np.std(scores, axis=0) < 1.35))


def test_few_runs_say_that_the_prior_decides():
    few = grid().select(np.arange(3))
    found = fit_posterior(few, Prior.published(few))
    assert np.all(np.isfinite(found.phi))
    text = " ".join(found.findings)
    assert "for the rest the proposal rests on the prior" in text
    assert "mostly the prior's" in text
    assert fit_posterior(grid(n_sizes=9), Prior.published(few)).findings == ()


def test_scatter_is_drawn_from_the_prior_to_that_of_the_runs():
    few, many = grid(n_sizes=2, sd=0.05), grid(n_sizes=12, sd=0.05, n_seeds=2)
    prior = Prior.published(many)
    assert prior.noise_sd < fit_posterior(few, prior).scatter.one_run_sd < 0.055
    assert fit_posterior(many, prior).scatter.one_run_sd == pytest.approx(0.05, rel=0.2)
    sure = dataclasses.replace(prior, noise_dof=1e9)
    assert fit_posterior(many, sure).scatter.one_run_sd == pytest.approx(prior.noise_sd, rel=1e-3)


def test_repeats_never_lose_their_lack_of_fit():
    many = grid(n_sizes=9, n_seeds=6)
    scatter = fit_posterior(many, Prior.published(many)).scatter
    assert 0.099 <= scatter.misfit / scatter.one_run_sd**2 < 0.2


@pytest.mark.parametrize(("power", "sign"), [(3.0, 1), (-3.0, 0)])
def test_noise_may_grow_with_the_loss_and_not_fall(power, sign):
    clean = grid(n_sizes=15, sd=0.0)
    noise = SD * np.random.default_rng(2).standard_normal(len(clean))
    noise *= (clean.loss_nats / clean.loss_nats.mean()) ** power
    runs = dataclasses.replace(clean, loss_nats=clean.loss_nats * np.exp(noise))
    slope = fit_posterior(runs, Prior.published(runs)).scatter.slope
    assert np.sign(slope) == sign


def test_an_outlier_hardly_moves_the_belief():
    runs = grid(n_sizes=7)
    loss = runs.loss_nats.copy()
    loss[10] *= 1.2
    prior = Prior.published(runs)
    clean, spoilt = (
        fit_posterior(r, prior) for r in (runs, dataclasses.replace(runs, loss_nats=loss))
    )
    moved = np.abs(spoilt.best - clean.best)[3:5]
    assert np.all(moved < 2.5 * clean.phi.std(axis=0)[3:5])
    assert spoilt.weights[10] < 0.05


def test_repeats_saturate_where_configurations_do_not():
    """The mean of ten repeats keeps the lack of fit: variance misfit + own/10, by hand."""
    scatter = Scatter(own=8e-5, misfit=2e-5)
    one = grid(budgets=(1e18,), n_sizes=1)
    ten = one.select(np.zeros(10, int))
    ten = dataclasses.replace(ten, run_id=np.arange(10).astype(str), cluster_id=ten.run_id)
    V = covariance(
        dataclasses.replace(ten, cluster_id=np.arange(10).astype(str)), scatter,
        np.log(ten.loss_nats), np.ones(10),
    )  # fmt: skip
    assert np.mean(V) == pytest.approx(2e-5 + 8e-5 / 10)


def test_branches_of_one_trunk_share_noise_and_tell_less():
    runs = grid(budgets=(1e18, 1e19), n_sizes=2)
    branched = dataclasses.replace(runs, cluster_id=np.array(["t", "u", "t", "u"]))
    scatter = Scatter(own=1e-4, misfit=0.0)
    together, own = effects(branched, scatter)
    # What they share is the part of the longer one's tokens that both have seen.
    d = runs.n_tokens
    first, second = d[0] / d[2], d[1] / d[3]
    expected = np.array([[1, 0, first, 0], [0, 1, 0, second], [first, 0, 1, 0], [0, second, 0, 1]])
    assert 0.05 < first < 0.8
    np.testing.assert_allclose(together, MOST_SHARED * 1e-4 * expected)
    np.testing.assert_allclose(together.diagonal() + own, 1e-4)
    # A cluster of its own, or of repeats only, is no trunk.
    together, own = effects(runs, scatter)
    np.testing.assert_allclose(together, 0.0)
    np.testing.assert_allclose(own, 1e-4)


def test_what_runs_tell_is_generalised_least_squares():
    """Posterior variance of the target by information matrices, with trunks, repeats, weights."""
    done, planned = grid(), grid(budgets=(3e19, 1e20), n_sizes=3, seed=3)
    planned = joined(planned, done.select([7, 8]))
    planned = dataclasses.replace(planned, run_id=np.array(list("abcdefgh")))
    done = dataclasses.replace(done, cluster_id=np.array(["t"] * 3 + list(done.run_id[3:])))
    planned = dataclasses.replace(planned, cluster_id=np.array(list("tuuuefgh")))
    posterior = fit_posterior(done, Prior.published(done), n_draws=3)
    weights = np.linspace(0.3, 1.0, len(done))
    scatter = Scatter(own=8e-5, misfit=2e-5, slope=0.4, at=0.9, span=(0.5, 1.5))
    posterior = dataclasses.replace(posterior, scatter=scatter, weights=weights)
    both = joined(done, planned)
    same_trunk = both.cluster_id[:, None] == both.cluster_id
    same_point = (both.n_params[:, None] == both.n_params) & (
        both.n_tokens[:, None] == both.n_tokens
    )
    is_branch = np.isin(both.cluster_id, ["t", "u"])
    d = both.n_tokens
    in_common = np.minimum(d, d[:, None]) / np.maximum(d, d[:, None])
    found = outlook(posterior, target(), planned).given(list(range(len(planned))))
    for r, phi in enumerate(posterior.phi):
        sd = np.exp(0.4 * (np.clip(posterior.prior.log_loss(phi, both), 0.5, 1.5) - 0.9))
        sd[: len(done)] /= np.sqrt(weights)
        V = 2e-5 * same_point + MOST_SHARED * 8e-5 * in_common * (same_trunk & is_branch)
        np.fill_diagonal(V, 1e-4)
        V = V * sd * sd[:, None]
        J = posterior.prior.slopes(phi, both)
        c = target().slopes(posterior.prior, phi[None], _ladder(both))[0, 0]
        information = J.T @ np.linalg.solve(V, J) + np.diag(posterior.prior.sd**-2)
        expected = c @ np.linalg.solve(information, c)
        assert found.target[r, 0, 0] == pytest.approx(expected, rel=1e-5)


def test_a_branch_alone_surprises_as_a_run_alone_and_less_after_its_sister():
    done = grid()
    planned = grid(budgets=(3e19, 1e20), n_sizes=1, seed=3)
    branches = dataclasses.replace(planned, cluster_id=np.array(["t", "t"]))
    posterior = fit_posterior(done, Prior.published(done))
    alone, shared = (outlook(posterior, target(), runs) for runs in (planned, branches))
    np.testing.assert_allclose(shared.surprises(), alone.surprises())
    assert shared.given([0]).surprises()[1] < alone.given([0]).surprises()[1]


def test_a_run_that_repeats_a_finished_one_knows_it():
    done = grid()
    posterior = fit_posterior(done, Prior.published(done))
    ids = np.array([f"x{i}" for i in range(len(done))])
    again = dataclasses.replace(done, run_id=ids, cluster_id=ids)
    beside = dataclasses.replace(again, n_params=again.n_params * 1.0001)
    told = [outlook(posterior, target(), runs).gains() for runs in (again, beside)]
    assert np.all(told[0] < told[1])


def test_one_at_a_time_and_all_at_once_agree():
    done = grid()
    start = outlook(fit_posterior(done, Prior.published(done)), target(), grid(seed=9, n_sizes=4))
    rows = [1, 6, 1, 0]  # The last repeats a finished run.
    step = start
    for row in rows:
        before = step.log_width
        gain = step.gains()[row]
        step = step.given([row])
        assert before - step.log_width == pytest.approx(0.5 * gain, rel=1e-6)
    whole = start.given(rows)
    np.testing.assert_allclose(step.target, whole.target, rtol=1e-6)
    np.testing.assert_allclose(step.cross, whole.cross, atol=1e-9)
    assert step.seen == whole.seen
    assert whole.log_width == pytest.approx(step.log_width)
    assert start.given([]) is start


def test_the_spread_is_students_and_goes_on_below_one_degree_of_freedom():
    assert log_spread(25) == pytest.approx(np.log(student.ppf(0.975, 20)))
    steps = -np.diff([log_spread(k) for k in range(9)])
    np.testing.assert_allclose(steps[:7], np.log(12.7062 / 4.3027), rtol=1e-4)


@pytest.mark.parametrize("name", ["loss", "n_params_opt", "exponent", "all"])
def test_a_proposal_keeps_its_budget_narrows_and_is_the_same_again(name):
    done = grid()
    planned = grid(budgets=(1e18, 1e19, 3e19, 1e20), n_sizes=7, n_seeds=2, seed=4)
    planned = dataclasses.replace(planned, loss_nats=np.full(len(planned), np.nan))
    cost = planned.flops.copy()
    cost[::5] *= 0.3
    found = [
        propose(
            fit_posterior(done, Prior.published(planned)), target(name), planned, cost, budget=3e20
        )
        for _ in range(2)
    ]
    one = found[0]
    assert one.cost == pytest.approx(cost[list(one.rows)].sum())
    assert one.cost <= 3e20
    assert len(set(one.rows)) == len(one.rows)
    assert 0.1 < one.ratio < 1.0
    assert one.share.sum() == pytest.approx(1.0)
    assert one.rows == found[1].rows
    assert one.share.tobytes() == found[1].share.tobytes()


def test_what_is_taken_in_any_case_comes_first_and_is_known_to_the_choice():
    done = grid()
    planned = grid(budgets=(1e18, 1e19, 3e19, 1e20), n_sizes=7, n_seeds=2, seed=4)
    posterior, cost = fit_posterior(done, Prior.published(planned)), planned.flops
    whole = propose(posterior, target(), planned, cost, budget=3e20)
    taken = whole.rows[:3]
    rest = 3e20 - cost[list(taken)].sum()
    found = propose(posterior, target(), planned, cost, budget=rest, taken=taken)
    assert found.rows[:3] == taken
    assert len(set(found.rows)) == len(found.rows)
    assert found.cost <= 3e20
    # The choice within the rest is no better than that within all, and nearly as good.
    assert whole.ratio <= found.ratio * 1.001 < 1.05 * whole.ratio
    # Who does not know of them spends the rest on other runs.
    alone = propose(posterior, target(), planned, cost, budget=rest)
    assert set(alone.rows) != set(found.rows[3:])


def test_what_costs_less_is_chosen_instead_of_its_equal():
    """A decay branch of a trunk that exists is the same evidence for less."""
    done = grid()
    planned = grid(budgets=(1e20,), n_sizes=5, seed=4)
    both = joined(planned, dataclasses.replace(planned, run_id=np.array(list("abcde"))))
    cost = np.concatenate([planned.flops, 0.4 * planned.flops])
    posterior = fit_posterior(done, Prior.published(done))
    found = propose(posterior, target(), both, cost, budget=0.9e20)
    assert found.rows
    assert all(row >= 5 for row in found.rows)


def test_the_first_of_several_rounds_is_its_cheapest_part():
    done = grid()
    planned = grid(budgets=(1e18, 1e19, 1e20), n_sizes=5, seed=4)
    posterior = fit_posterior(done, Prior.published(done))
    whole, part = (
        propose(posterior, target(), planned, planned.flops, budget=4e20, rounds=n) for n in (1, 4)
    )
    assert set(part.rows) < set(whole.rows)
    assert part.cost <= 1e20
    rest = set(whole.rows) - set(part.rows)
    assert max(planned.flops[list(part.rows)]) <= min(planned.flops[list(rest)])
    assert part.ratio > whole.ratio


def test_far_off_the_valley_nothing_is_worth_its_flops_for_the_loss():
    done = grid(n_sizes=7)
    near = grid(budgets=(1e20,), n_sizes=3, width=2.0, seed=2)
    far = dataclasses.replace(near, n_params=near.n_params * 300, n_tokens=near.n_tokens / 300)
    gains = worth(fit_posterior(done, Prior.published(done)), target(), joined(near, far))
    assert np.all(gains > 0)
    assert gains[:3].min() > 2 * gains[3:].max()


def test_the_only_planned_run_is_worth_all_there_is_to_gain():
    done = grid()
    one = grid(budgets=(1e20,), n_sizes=1, seed=2)
    posterior = fit_posterior(done, Prior.published(done))
    assert worth(posterior, target(), one) == pytest.approx([1.0])


def test_uncertain_curvature_makes_runs_near_the_target_worth_more():
    """A prior that is sure of the additive form spends less at the largest budget."""
    done = grid()
    planned = grid(budgets=(1e17, 1e18, 1e19, 1e20), n_sizes=7, n_seeds=3, seed=4)
    spent = []
    for gamma_sd in (0.0, 0.5):
        posterior = fit_posterior(done, Prior.published(done, gamma_sd=gamma_sd))
        start = outlook(posterior, target(), planned)
        gains = start.gains()
        is_top = planned.budget == 1e20
        spent.append(gains[is_top].max() / gains[~is_top].max())
    assert spent[1] > spent[0]


def test_without_runs_a_first_grid_is_proposed_and_says_that_it_has_no_interval():
    planned = grid(budgets=(1e17, 1e18, 1e19), n_sizes=5, n_seeds=2)
    posterior = fit_posterior(planned.select(NOTHING), Prior.published(planned))
    found = propose(posterior, target(), planned, planned.flops, budget=3e19)
    chosen = planned.select(np.array(found.rows))
    assert np.isnan(found.ratio)
    assert len(set(zip(chosen.n_params, chosen.n_tokens, strict=True))) >= 8
    assert len(chosen.budgets) == 3
    assert "no run is finished" in found.findings[0]


def test_runs_that_are_not_ok_tell_nothing():
    runs = grid()
    prior = Prior.published(runs)
    bad = dataclasses.replace(
        runs,
        loss_nats=np.where(np.arange(len(runs)) == 3, np.nan, runs.loss_nats),
        status=np.where(np.arange(len(runs)) == 3, "diverged", "ok"),
    )
    kept = runs.select(np.arange(len(runs)) != 3)
    assert fit_posterior(bad, prior).phi.tobytes() == fit_posterior(kept, prior).phi.tobytes()


def test_what_cannot_be_is_refused_in_a_sentence():
    done = grid()
    posterior = fit_posterior(done, Prior.published(done))
    planned = grid(budgets=(1e20,), seed=4)
    for cost, budget, rounds, words in (
        (planned.flops, 1e19, 1, "pays for no planned run: the cheapest costs 1e20"),
        (planned.flops, np.nan, 1, "pays for no planned run"),
        (planned.flops * 0, 1e21, 1, "positive, finite cost"),
        (planned.flops[:2], 1e21, 1, "positive, finite cost"),
        (planned.flops, 1e21, 0, "rounds=0"),
    ):
        with pytest.raises(ValueError, match=words.replace("+", r"\+")):
            propose(posterior, target(), planned, cost, budget=budget, rounds=rounds)
    with pytest.raises(ValueError, match="pays for no planned run: there is none"):
        propose(posterior, target(), planned.select(NOTHING), np.zeros(0), budget=1.0)
    with pytest.raises(ValueError, match="no planned runs"):
        worth(posterior, target(), planned.select(NOTHING))
    for name, flops, words in (("N", 1e21, "unknown target"), ("loss", 1e16, "above the lowest"),
                               ("loss", np.inf, "finite")):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            target(name, flops)


def test_names_and_slopes_have_one_order():
    assert len(NAMES) == log_loss_slopes(np.zeros((6, 1)), np.zeros(3), np.zeros(3)).shape[-1]


def test_draws_in_which_nothing_moves_the_target_are_left_out_and_counted(monkeypatch):
    runs, planned = grid(), grid(budgets=(3e18, 1e21), seed=1)
    posterior, aim, real = (
        fit_posterior(runs, Prior.published(runs), n_draws=8),
        target(),
        Target.slopes,
    )
    n_stuck = 3

    def stuck(self, prior, phi, ladder):
        found = real(self, prior, phi, ladder)
        found[:n_stuck] = 0.0  # As where N* sits on a corner of the ladder.
        return found

    monkeypatch.setattr(Target, "slopes", stuck)
    proposal = propose(posterior, aim, planned, planned.flops, budget=2e21)
    assert proposal.rows
    assert any(f"{n_stuck} of 8 draws" in finding for finding in proposal.findings)
    n_stuck = 8
    with pytest.raises(ValueError, match="does not depend on the law in any draw"):
        propose(posterior, aim, planned, planned.flops, budget=2e21)
