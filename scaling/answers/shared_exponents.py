# SPDX-License-Identifier: Apache-2.0
"""Two recipes under one law: exponents and irreducible loss in common, amplitudes of their own.

Fits of two recipes, each with exponents of its own, wander along the flat valleys of their laws,
and so does the compute multiplier that comes out of them. With common exponents a recipe is a
multiplier of parameters and one of tokens (arXiv:2602.07712), and the band narrows. It is right
only where the recipes do share them: the hold-out of either table says.
"""

import numpy as np

from scaling.approaches import diagnostics
from scaling.approaches.surface.optimum import chord_exponents
from scaling.fit import Bootstrap, Fit
from scaling.intervals import Interval
from scaling.laws.loss_laws import ADDITIVE
from scaling.laws.objectives import HUBER, Objective, objective_named
from scaling.laws.pair_laws import PAIR
from scaling.solve.problem import set_up
from scaling.solve.regression import Estimate, estimate, slopes
from scaling.solve.replicates import replicate
from scaling.tables.arrays import Array
from scaling.tables.runs import Runs
from scaling.uncertainty import bootstrap_draws
from scaling.uncertainty.bootstrap_choice import choose_method, passes_through_points
from scaling.uncertainty.noise import estimate_noise, shared_variances

# Of the seven parameters, those that the runs of one recipe take up: two and half of three.
_PARAMETERS_EACH = 4


# The additive law's parameters, in its order, of either recipe.
_OF_A = ADDITIVE.names
_OF_B = tuple(f"{name}_b" if name in "AB" else name for name in _OF_A)


def fit_shared_exponents(
    a: Runs,
    b: Runs,
    *,
    objective: str | Objective = HUBER,
    n_bootstrap: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    bootstrap: str = "auto",
) -> tuple[Fit, Fit]:
    """The additive law of both recipes, alpha, beta and E in common.

    Replicate r of one fit belongs to replicate r of the other. Noise that runs of A and of B share
    is taken for independent.

    Args:
      a, b: their runs, in one convention and one unit. The others: as `surface.fit_surface`.

    Raises:
      FitError: when the runs of one are too few for a law of their own.
      ValueError: for columns that are missing or not positive.
    """
    objective = objective_named(objective) if isinstance(objective, str) else objective
    usable = [diagnostics.usable(runs) for runs in (a, b)]
    tables = [runs for runs, _ in usable]
    for runs in tables:
        diagnostics.require_numbers(runs, ADDITIVE)
        diagnostics.require_identifiable(runs)
        own = set_up(ADDITIVE, runs.numeric, runs.loss_nats, objective=objective)
        diagnostics.require_points(own)
    columns = {
        "n_params": np.concatenate([runs.n_params for runs in tables]),
        "n_tokens": np.concatenate([runs.n_tokens for runs in tables]),
        "is_b": np.repeat([0.0, 1.0], [len(runs) for runs in tables]),
    }
    losses = np.concatenate([runs.loss_nats for runs in tables])
    found = estimate(set_up(PAIR, columns, losses, objective=objective))
    y, weights, methods = _draws(found, tables, n_bootstrap, seed, bootstrap)
    rows = found.parameters_of(replicate(found, y, weights).z)
    rows = np.concatenate([found.parameters[None], rows])
    first, second = (
        _fit_of(found, runs, rows[:, [PAIR.names.index(n) for n in names]],
                left_out=left_out,
                bootstrap=Bootstrap(
                    method=method, level=level, n_replicates=n_bootstrap, seed=seed,
                    n_failed=int(np.sum(~np.isfinite(rows[1:, 0]))),
                ))
        for (_, left_out), runs, names, method in zip(
            usable, (a, b), (_OF_A, _OF_B), methods, strict=True
        )
    )  # fmt: skip
    return first, second


def _draws(
    found: Estimate, tables: list[Runs], n_replicates: int, seed: int, bootstrap: str
) -> tuple[Array, Array, list[str]]:
    """Replicates of the observed values and their weights, [R, n], each recipe's drawn by itself,
    and how."""
    rng, of_points = np.random.default_rng(seed), slopes(found)
    parts, methods, first = [], [], 0
    for runs in tables:
        rows = slice(first, first + len(runs))
        first += len(runs)
        residuals = found.residuals[rows]
        # The other recipe's amplitudes move nothing here.
        own = of_points[rows][:, np.any(of_points[rows] != 0, axis=0)]
        shared = shared_variances(runs, residuals, own)
        noise = estimate_noise(runs, residuals, _PARAMETERS_EACH, shared)
        methods.append(choose_method(bootstrap, runs, _PARAMETERS_EACH))
        parts.append(
            bootstrap_draws.draw_data(
                methods[-1],
                runs,
                found.problem.y[rows] - residuals,
                residuals,
                _PARAMETERS_EACH,
                n_replicates,
                rng,
                absorbs=passes_through_points(found.problem.objective, noise),
                slopes=own,
            )
        )
    y, weights = (np.concatenate(both, axis=1) for both in zip(*parts, strict=True))
    return y, weights, methods


def _fit_of(
    found: Estimate, runs: Runs, rows: Array, *, left_out: dict[str, str], bootstrap: Bootstrap
) -> Fit:
    """One recipe's law: parameters [1 + R, 5] of the additive form."""
    values = dict(zip(ADDITIVE.names, rows.T, strict=True))
    usable, _ = diagnostics.usable(runs)
    values["exponent_a"], values["exponent_b"] = chord_exponents(ADDITIVE, rows, usable)
    replicates = {name: column[1:] for name, column in values.items()}
    return Fit(
        approach="surface",
        law=ADDITIVE.name,
        parameters={name: float(values[name][0]) for name in ADDITIVE.names},
        intervals={n: Interval.of(column, bootstrap.level) for n, column in replicates.items()},
        exponent_a=float(values["exponent_a"][0]),
        exponent_b=float(values["exponent_b"][0]),
        status=found.status,
        certificate=found.certificate,
        findings=(*runs.findings, *diagnostics.certificate_findings(found.certificate)),
        runs=runs,
        left_out=left_out,
        optima=(),
        noise=None,
        bootstrap=bootstrap,
        replicates=replicates,
        settings={"formula": PAIR.formula, "shared": ["E", "alpha", "beta"]},
    )
