# SPDX-License-Identifier: Apache-2.0
"""make bench-fit: how fast and how surely surfaces are fitted, on Epoch's 240 Chinchilla points.

One process, one thread, one core. Ratios are against the same objective and the same draws solved
by scipy with analytic gradients, in the same process. Writes results/benchmarks/fits.{json,md}.
"""

import os

# Before JAX and numpy are imported: one thread, and no accelerator is woken.
os.environ |= {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

from experiments.benchmarks.record import facts, made_by, write
from experiments.files import markdown
from scaling.laws.loss_laws import ADDITIVE
from scaling.published import chinchilla
from scaling.published.case import TABLES
from scaling.published.chinchilla_bootstrap import N_REPLICATES, epoch_weights
from scaling.published.tables import Table, read_table, select
from scaling.solve.problem import Problem, set_up
from scaling.solve.regression import Estimate, estimate
from scaling.solve.replicates import replicate

Array = np.ndarray
N_SCIPY_REPLICATES = 100


def main() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    everything = read_table(TABLES / chinchilla.TABLE)
    runs = select(everything, everything["fit_240"] == 1)
    problem, first_call = _first_call(runs)
    found = estimate(problem)
    rows = {
        "first_call_s": first_call,
        "certified_fit_ms": 1e3 * _median(lambda: estimate(problem), 21),
        **_bootstrap(found, runs),
        **_ten_thousand(),
    }
    record = facts("make bench-fit", cores=1) | rows
    write("fits", record, _page(record))
    print(_page(record))


def _seconds(action: Callable[[], Any]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _median(action: Callable[[], Any], repeats: int) -> float:
    return statistics.median(_seconds(action) for _ in range(repeats))


def _first_call(runs: Table) -> tuple[Problem, float]:
    """Seconds of the very first fit of the process, compilation and JAX's import included."""
    problem = set_up(ADDITIVE, runs, runs["loss_nats"])
    return problem, _seconds(lambda: estimate(problem))


def _scipy_objective(runs: Table) -> Callable[..., tuple[float, Array]]:
    """Sum of w Huber(1e-3) and its gradient over (a, b, e, alpha, beta), by hand."""
    log_n, log_d, log_l = (np.log(runs[name]) for name in ("n_params", "n_tokens", "loss_nats"))

    def value(theta: Array, w: Array) -> tuple[float, Array]:
        a, b, e, alpha, beta = theta
        terms = np.stack([a - alpha * log_n, b - beta * log_d, np.full_like(log_n, e)])
        total = logsumexp(terms, axis=0)
        share = np.exp(terms - total)
        r = log_l - total
        clipped = np.clip(r, -1e-3, 1e-3)
        slope = -w * clipped
        gradient = np.array(
            [
                slope @ share[0],
                slope @ share[1],
                slope @ share[2],
                -slope @ (share[0] * log_n),
                -slope @ (share[1] * log_d),
            ]
        )
        return float(np.sum(w * clipped * (r - 0.5 * clipped))), gradient

    return value


def _bootstrap(found: Estimate, runs: Table) -> dict[str, Any]:
    """4,000 pairs replicates: ours from one start and from four, scipy's BFGS from one."""
    weights = epoch_weights(found.problem.n_points)
    y = np.broadcast_to(found.problem.y, weights.shape)
    replicate(found, y[:48], weights[:48])
    began = time.perf_counter()
    single = replicate(found, y, weights, n_starts=1)
    single_seconds = time.perf_counter() - began
    began = time.perf_counter()
    several = replicate(found, y, weights, n_starts=4, n_tried=len(y))
    several_seconds = time.perf_counter() - began
    scipy_seconds, scipy_values = _scipy_replicates(found, runs, weights)
    _, A, B, alpha, beta = found.parameters_of(several.z).T
    ours = single.objective[:N_SCIPY_REPLICATES]
    return {
        "replicate_ms": 1e3 * single_seconds / N_REPLICATES,
        "replicate_four_starts_ms": 1e3 * several_seconds / N_REPLICATES,
        "scipy_bfgs_replicate_ms": 1e3 * scipy_seconds / N_SCIPY_REPLICATES,
        "replicate_ratio": scipy_seconds / N_SCIPY_REPLICATES / (single_seconds / N_REPLICATES),
        "replicates": N_REPLICATES,
        "certified_one_start": float(np.mean(single.is_certified)),
        "certified": float(np.mean(several.is_certified)),
        "lower_with_four_starts": float(np.mean(several.objective < single.objective * (1 - 1e-9))),
        "lowest_met_by_one_start_only": several.n_single / N_REPLICATES,
        "scipy_above_ours": float(np.mean(scipy_values > ours * (1 + 1e-8))),
        "scipy_below_ours": float(np.mean(scipy_values < ours * (1 - 1e-8))),
        "scipy_largest_excess": float(np.max(scipy_values / ours - 1)),
        "se_B_one_start": float(np.std(found.parameters_of(single.z)[:, 2], ddof=1)),
        "se_B": float(np.std(B, ddof=1)),
        "se_A": float(np.std(A, ddof=1)),
        "se_a": float(np.std(beta / (alpha + beta), ddof=1)),
    }


def _scipy_replicates(found: Estimate, runs: Table, weights: Array) -> tuple[float, Array]:
    objective = _scipy_objective(runs)
    E, A, B, alpha, beta = found.parameters
    start = np.array([np.log(A), np.log(B), np.log(E), alpha, beta])
    began = time.perf_counter()
    values = [
        minimize(objective, start, args=(w,), jac=True, method="BFGS").fun
        for w in weights[:N_SCIPY_REPLICATES]
    ]
    return time.perf_counter() - began, np.array(values)


def _ten_thousand() -> dict[str, float]:
    rng = np.random.default_rng(0)
    N, D = np.exp(rng.uniform(16, 23, 10_000)), np.exp(rng.uniform(20, 26, 10_000))
    loss = ADDITIVE.loss((1.8, 480.0, 2100.0, 0.35, 0.37), N, D)
    loss = loss * np.exp(0.01 * rng.standard_normal(10_000))
    problem = set_up(ADDITIVE, {"n_params": N, "n_tokens": D}, loss)
    estimate(problem)
    return {"ten_thousand_points_s": _median(lambda: estimate(problem), 5)}


def _page(r: dict[str, Any]) -> str:
    rows = [
        ("first fit of a process, compilation included", f"{r['first_call_s']:.2f} s", "5 s"),
        ("certified fit, warm", f"{r['certified_fit_ms']:.1f} ms", "10 ms"),
        ("converged replicate, one start", f"{r['replicate_ms']:.3f} ms", ""),
        ("scipy BFGS, analytic gradient, one start", f"{r['scipy_bfgs_replicate_ms']:.2f} ms", ""),
        ("ratio per replicate", f"{r['replicate_ratio']:.1f}", "15"),
        ("converged replicate, four starts", f"{r['replicate_four_starts_ms']:.3f} ms", ""),
        ("10,000 points, certified fit, warm", f"{r['ten_thousand_points_s']:.3f} s", "1 s"),
    ]
    certified = [
        ("certified, four starts", f"{r['certified']:.2%}"),
        ("certified, one start", f"{r['certified_one_start']:.2%}"),
        ("lower minimum found with four starts", f"{r['lower_with_four_starts']:.2%}"),
        ("lowest minimum met by one start only", f"{r['lowest_met_by_one_start_only']:.2%}"),
        (f"of {N_SCIPY_REPLICATES}: scipy ends above ours", f"{r['scipy_above_ours']:.0%}"),
        (f"of {N_SCIPY_REPLICATES}: scipy ends below ours", f"{r['scipy_below_ours']:.0%}"),
        ("SE(B), one start", f"{r['se_B_one_start']:.2f}"),
        ("SE(B), four starts", f"{r['se_B']:.2f}"),
        ("SE(A)", f"{r['se_A']:.3f}"),
        ("SE(a)", f"{r['se_a']:.5f}"),
    ]
    return "\n".join(
        [
            "# Fitting: speed and certificates",
            "",
            f"{made_by(r)} Additive law, Huber(1e-3), Epoch's 240 points.",
            "",
            *markdown.table(("what", "measured", "asked"), rows),
            "",
            f"{r['replicates']} pairs replicates (numpy seed 42, as published):",
            "",
            *markdown.table(("what", "measured"), certified),
            "",
        ]
    )


if __name__ == "__main__":
    main()
