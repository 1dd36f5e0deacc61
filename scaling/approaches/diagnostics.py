# SPDX-License-Identifier: Apache-2.0
"""What the data can and cannot tell: refusals, and findings in words."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from scaling.fit import Certificate, Fit, FitError
from scaling.intervals import Interval
from scaling.laws.fewest import SPARE_CONFIGURATIONS
from scaling.laws.law import Law
from scaling.laws.registry import law_named
from scaling.solve.problem import Problem
from scaling.tables.arrays import Array
from scaling.tables.runs import Runs
from scaling.tables.units import power

# Scatter of ln(D/N), or of the direction across the best line in (ln N, ln D), below which the
# two exponents of a surface cannot be told apart.
_MIN_SPREAD = 0.1
# Scatter about the law, in log loss, that no noise of one recipe explains.
_WIDE = 0.05
# In fewer residuals noise has gaps, too.
_FEWEST_IN_GROUPS = 20
# An exponent is open where the ends of its interval differ by this factor, and it is known together
# with an amplitude where they correlate as closely as this.
_OPEN, _TOGETHER = 2.0, 0.9


def usable(runs: Runs, reasons: dict[str, str] | None = None) -> tuple[Runs, dict[str, str]]:
    """Runs that may be fitted, and run_id -> reason for the others."""
    left_out = dict(reasons or {})
    for i in np.flatnonzero(~runs.is_ok):
        left_out.setdefault(str(runs.run_id[i]), f"status {runs.status[i]}")
    keep = np.array([run_id not in left_out for run_id in runs.run_id], bool)
    return runs.select(keep), left_out


def of_budgets(runs: Runs, reasons: Mapping[float, str]) -> dict[str, str]:
    """run_id -> why its budget is not used."""
    return {
        str(i): f"budget {power(b)} FLOPs: {reasons[b]}"
        for i, b in zip(runs.run_id, runs.budget.tolist(), strict=True)
        if b in reasons
    }


def require_choice(what: str, value: str, legal: Sequence[str]) -> None:
    """Raises ValueError for what is none of them."""
    if value not in legal:
        raise ValueError(f"unknown {what}={value!r}; choose one of {', '.join(legal)}")


def require_points(problem: Problem, n_spare: int = SPARE_CONFIGURATIONS) -> list[str]:
    """Refuses when there are fewer configurations than free parameters and spare ones; else what
    there is to say of a fit to few.

    Raises:
      FitError: with the counts.
    """
    law, n_free = problem.law, len(problem.lower)
    n_configurations = 0
    if problem.n_points:
        rows = np.stack([np.reshape(v, (problem.n_points, -1))[:, 0] for v in problem.x.values()])
        n_configurations = len(np.unique(rows, axis=1).T)
    needed = n_free + n_spare
    if n_configurations >= n_free + SPARE_CONFIGURATIONS:
        return []
    if n_configurations < needed:
        read = ", ".join(name.removeprefix("log_") for name in law.columns)
        raise FitError(
            f"the {law.name} law has {n_free} free parameters and needs at least {needed} "
            f"different ({read}); these {problem.n_points} usable runs have {n_configurations}. "
            "Add sizes or budgets, fix or tie parameters, or fit a law with fewer"
            + (", or do without intervals." if n_configurations >= n_free else ".")
        )
    return [
        f"{n_configurations} different runs for {n_free} parameters: the law passes close to every "
        "one whether it is right or not."
    ]


def require_numbers(runs: Runs, law: Law) -> None:
    """Refuses columns of the law with holes, or without logarithm where it takes one.

    Raises:
      ValueError: naming the column and the runs.
    """
    for name in (law.target, *law.columns):
        plain = name.removeprefix("log_")
        values = np.asarray(runs.numeric.get(plain, runs.flops), float)
        is_bad = ~np.isfinite(values) | ((values <= 0) if plain != name else False)
        rows = is_bad.any(axis=tuple(range(1, values.ndim)))
        if rows.any():
            raise ValueError(
                f"law {law.name} needs {plain}, which is missing or not "
                f"{'positive' if plain != name else 'finite'} for {int(rows.sum())} of "
                f"{len(runs)} runs: {', '.join(runs.run_id[rows][:5])}"
            )


def require_identifiable(runs: Runs) -> None:
    """Refuses when all points lie on one line in (ln N, ln D).

    On one ray D = rN the terms A/N^alpha and B/D^beta are both power laws of N, and nothing tells
    them apart; likewise when N or D never changes.

    Raises:
      FitError: saying which line.
    """
    log_n, log_d = np.log(runs.n_params), np.log(runs.n_tokens)
    centred = np.stack([log_n - log_n.mean(), log_d - log_d.mean()], axis=1)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    across = singular[-1] / np.sqrt(len(runs))
    if across >= _MIN_SPREAD:
        return
    direction = axes[0] / np.max(np.abs(axes[0]))
    ratio = np.exp(log_d - log_n)
    if min(abs(direction)) < 0.1:
        still = "n_params" if abs(direction[0]) < abs(direction[1]) else "n_tokens"
        where = f"at one value of {still}"
    elif np.ptp(np.log(ratio)) < 0.5:
        where = f"on one ray of {np.exp(np.mean(np.log(ratio))):.3g} tokens per parameter"
    else:
        where = f"on one line, n_tokens ~ n_params^{direction[1] / direction[0]:.2f}"
    raise FitError(
        f"all {len(runs)} usable runs lie {where} (scatter across it {across:.3f} in natural "
        f"logarithm, at least {_MIN_SPREAD} is needed), so the effects of n_params and n_tokens "
        "cannot be told apart. Add runs that change one while the other is kept."
    )


def certificate_findings(certificate: Certificate) -> list[str]:
    """Sentences on what the certificate shows amiss."""
    sentences = []
    if certificate.bounds_touched:
        sentences.append(
            f"{'; '.join(certificate.bounds_touched)}: the data do not determine it, and the "
            "other parameters depend on the bound."
        )
    elif certificate.at_bound:
        sentences.append(
            f"{' and '.join(certificate.at_bound)} is zero at the minimum, and the rest of the law "
            "is certified without it. It tells the optimum; losses far beyond the runs will not "
            "fall as far as it says."
        )
    for direction in certificate.flat_directions:
        sentences.append(f"the objective is nearly flat along {direction}.")
    gap = certificate.next_best_excess
    if gap is not None and gap < 0.01:
        sentences.append(
            f"another local minimum lies only {100 * gap:.2g} % above the best one; its "
            "parameters would be nearly as good."
        )
    if certificate.n_starts_agree < 2:
        sentences.append(
            f"only {certificate.n_starts_agree} of {certificate.n_starts} starts reached the "
            "best objective; a lower one may exist."
        )
    return sentences


def residual_findings(runs: Runs, residuals: Float[Array, " n"]) -> list[str]:
    """Runs that fall into two groups, or that lie far from the law compared with the others (6
    robust standard deviations)."""
    if groups := _two_groups(runs, residuals):
        return [groups]
    spread = 1.4826 * float(np.median(np.abs(residuals - np.median(residuals))))
    if spread > _WIDE:
        return [
            f"the runs scatter about the law by {100 * spread:.0f} % of their loss (robust "
            "standard deviation); those of one recipe scatter by about 1 %. Do all have one unit "
            "(a loss in bits is 1.44 times that in nats), one set of data and one recipe?"
        ]
    # Below this the residuals are rounding error of noise-free data, and nothing is far.
    far = np.flatnonzero(np.abs(residuals) > 6.0 * max(spread, 1e-9))
    if not len(far):
        return []
    shown = ", ".join(f"{runs.run_id[i]} ({residuals[i]:+.3f})" for i in far[:5])
    more = f" and {len(far) - 5} more" if len(far) > 5 else ""
    return [
        f"{len(far)} of {len(runs)} runs lie more than 6 robust standard deviations "
        f"({spread:.4f} in log loss) from the law: {shown}{more}."
    ]


def _two_groups(runs: Runs, residuals: Float[Array, " n"]) -> str:
    """Which runs lie apart from the others as a group, as losses in another unit do; or nothing.

    A quarter of the runs or more lie on either side of a gap three times as wide as the scatter
    within the groups.
    """
    order = np.argsort(residuals)
    few = len(order) // 4
    gaps = np.diff(residuals[order])[few - 1 : len(order) - few]
    if len(order) < _FEWEST_IN_GROUPS:
        return ""
    split = few + int(np.argmax(gaps))
    low, high = order[:split], order[split:]
    within = max(float(np.std(residuals[low])), float(np.std(residuals[high])), 1e-9)
    if gaps.max() <= 3.0 * within:
        return ""
    apart = float(np.median(residuals[high]) - np.median(residuals[low]))
    smaller = np.sort(min(low, high, key=len))
    shown = ", ".join(runs.run_id[smaller][:5]) + ", ..." * (len(smaller) > 5)
    return (
        f"the residuals fall into two groups, of {len(low)} and {len(high)} runs, {apart:.3f} "
        "apart (losses in nats and in bits are 0.367 apart, in log loss). Have "
        f"{shown} the unit and the data of the others?"
    )


def sloppy_findings(
    law: Law, replicates: Mapping[str, Float[Array, " R"]], level: float
) -> list[str]:
    """Exponents that the runs leave open, each with the amplitude that makes up for it.

    The term B D^-beta is known where the runs are, however little is known of B and beta: along
    log B = c + k beta the loss hardly changes, and exp(k) is the D at which the term is known best.
    """
    is_known = np.all(np.isfinite([replicates[name] for name in law.names]), axis=0)
    if is_known.sum() < 2:
        return []
    draws = {p.name: replicates[p.name][is_known] for p in law.parameters}
    amplitudes = {p.name: np.log(draws[p.name]) for p in law.parameters if p.is_positive}
    sentences = []
    for name in (p.name for p in law.parameters if not p.is_positive):
        values, interval = draws[name], Interval.of(draws[name], level)
        if interval.lower <= 0 or interval.upper < _OPEN * interval.lower:
            continue
        alike = {n: _correlation(values, logs) for n, logs in amplitudes.items()}
        partner = max(alike, key=lambda n: abs(alike[n]), default="")
        if abs(alike.get(partner, 0.0)) < _TOGETHER:
            sentences.append(f"{name} is hardly known from these runs: {interval}.")
            continue
        slope = float(np.polyfit(values, amplitudes[partner], 1)[0])
        together = Interval.of(amplitudes[partner] - slope * values, level)
        sentences.append(
            f"{name} ({interval}) and {partner} ({Interval.of(draws[partner], level)}) are known "
            f"only together: log {partner} {'-' if slope > 0 else '+'} {abs(slope):.3g} {name} is "
            f"{together}."
        )
    if sentences and law.is_surface:
        sentences[-1] += f" For all that, a is {Interval.of(replicates['exponent_a'], level)}."
    return sentences


def _correlation(one: Float[Array, " R"], other: Float[Array, " R"]) -> float:
    if not np.ptp(one) * np.ptp(other) > 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def replicate_findings(n_failed: int, n_replicates: int, why: str) -> list[str]:
    """A sentence on failed replicates, when there are any."""
    if not n_failed:
        return []
    sentence = f"{n_failed} of {n_replicates} bootstrap replicates are left out: {why}."
    # Those that fail are not a random choice: their absence narrows what remains.
    doubtful = " The intervals are likely too narrow." if n_failed > 0.05 * n_replicates else ""
    return [sentence + doubtful]


def residuals(fit: Fit) -> Float[Array, " n"]:
    """log of observed minus log of predicted, of the fitted runs, in their order.

    Raises:
      ValueError: for a fit of power laws: they give the loss at the optimum only.
    """
    if fit.law == "power_laws":
        raise ValueError(f"{fit.approach} predicts no loss away from the optimum; fit a surface")
    law, table = law_named(fit.law), fit.fitted_runs.numeric
    values = [fit.parameters[name] for name in law.names]
    return np.log(table[law.target]) - np.log(law.predict(values, table))
