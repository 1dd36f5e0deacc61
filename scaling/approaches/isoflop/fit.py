# SPDX-License-Identifier: Apache-2.0
"""Approach 2 (Hoffmann et al. 2022, sec. 3.2), its curves fitted together over all budgets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from scaling.approaches import diagnostics
from scaling.approaches.isoflop.budgets import some_reasons
from scaling.approaches.isoflop.checks import curvature_interval, enclosed
from scaling.approaches.isoflop.curves import TOKENS, fit_curve
from scaling.approaches.isoflop.joint import JointFit, draw, fit_joint, replicate
from scaling.approaches.isoflop.law import JOINT
from scaling.approaches.power_laws import power_law_fields, power_laws, replicates_of
from scaling.fit import Bootstrap, Fit, FitError, FitStatus, Optimum
from scaling.intervals import UNKNOWN, Interval
from scaling.laws.fewest import JUDGED_BUDGETS, PARABOLA_BUDGETS, PARABOLA_RUNS, PARABOLA_SIZES
from scaling.laws.size_ladder import Ladder
from scaling.tables.arrays import Array
from scaling.tables.runs import Runs
from scaling.tables.units import power


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Used:
    """Runs that are fitted, and their budgets by ascending FLOPs.

    asked: the budgets, [B]. label: of each run's, [n]. log_c: log of the geometric mean of the
    FLOPs done at each, [B].
    """

    runs: Runs
    asked: Float[Array, " B"]
    label: Int[Array, " n"]
    log_c: Float[Array, " B"]

    @property
    def n_budgets(self) -> int:
        return len(self.asked)

    def over(self, size: Float[Array, " n"]) -> JointFit:
        """The joint law over ln size."""
        scale = self.log_c - self.log_c.mean()
        return fit_joint(size, self.label, scale, self.runs.loss_nats)

    def sizes(self, budget: int) -> Float[Array, " S"]:
        """Distinct ln N at a budget, ascending."""
        return np.unique(np.log(self.runs.n_params[self.label == budget]))


def fit_isoflop(
    runs: Runs,
    *,
    tokens: str = "ladder",
    n_bootstrap: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    bootstrap: str = "auto",
) -> Fit:
    """Power laws N*(C), D*(C) from the losses of all budgets together, with intervals.

    Each budget has a minimum of its own; its place is N* = N_ref (C/C_ref)^a and its curvature a
    power of C, with the shape that the additive law has about it, see `isoflop_law`: weighted
    least squares on log loss. A budget weighs by what it resolves, and none falls out that has
    two sizes. D* = D_ref (C/C_ref)^b, L* = E + K (C/C_ref)^-c through the minima. C is the
    geometric mean of the FLOPs done at a budget. Weights are those of a noise that is log-linear
    in the loss (`noise.local_scale`); intervals are percentiles of replicates.

    `optima` hold the parabola of each budget by itself, to be looked at. Whether optima and
    curvatures of single budgets depart from power laws is tested; where they do, it is said, and
    intervals hold how far budgets wander, see departure.py. Certified: the minimum
    is, the curvature is above zero with its whole interval, and four budgets or more that could
    have a parabola hold N* one size inside their sizes at least.

    Args:
      runs: rows whose status is not ok are left out and listed.
      tokens: "ladder": D* = C / flops_per_token(N*), along the runs' size ladder; "curve": from a
        fit over ln D, for tables whose budgets no ladder explains.
      n_bootstrap: replicates; 0 for none. level: of all intervals. seed: of the bootstrap.
      bootstrap: "auto", "pairs", "residual", "components" or "wild", see `bootstrap_choice`.

    Raises:
      FitError: when fewer than two budgets have the runs that a parabola needs.
      ValueError: for an unknown choice.
    """
    diagnostics.require_choice("tokens", tokens, TOKENS)
    usable, left_out = diagnostics.usable(runs)
    used, left = _used(usable)
    fitted, ladder = used.runs, Ladder.from_runs(used.runs)
    joint = used.over(fitted.n_params)
    drawn = draw(joint, fitted, n_bootstrap, seed=seed, bootstrap=bootstrap)
    found, n_drawn = replicate(joint, drawn), len(drawn.losses)
    log_n = joint.places(found)
    log_d = used.log_c - ladder.log_cost(log_n)
    if tokens == "curve":
        over_d = used.over(fitted.n_tokens)
        log_d = over_d.places(replicate(over_d, drawn))
    optima = (log_n, log_d, found.minima)
    values = power_laws(used.log_c, *optima)
    values |= {"curvature": found.kappa, "curvature_exponent": -found.theta[:, 2]}
    replicates = replicates_of(values, used.n_budgets)
    n_failed = int(np.sum(~np.isfinite(replicates["exponent_a"])))
    status, doubts = _judged(joint, used, log_n[0], level)
    findings = (
        *runs.findings,
        *(f"budget {power(b)} FLOPs is left out: {why}." for b, why in left.items()),
        *ladder.findings,
        *diagnostics.certificate_findings(joint.certificate),
        *diagnostics.residual_findings(fitted, joint.residuals),
        *doubts,
        *drawn.findings,
        *diagnostics.replicate_findings(n_failed, n_drawn, "no certified minimum"),
        *_NO_REPLICATES * bool(n_bootstrap and not n_drawn),
    )
    fields = power_law_fields(values, replicates, used.log_c.mean(), level)
    return Fit(
        approach="isoflop",
        **fields | {"certificate": joint.certificate},
        status=status,
        findings=findings,
        runs=runs,
        left_out=left_out | diagnostics.of_budgets(usable, left),
        optima=_reported(usable, used, left, optima, joint, level),
        noise=drawn.noise,
        bootstrap=Bootstrap(
            method=drawn.method, level=level, n_replicates=n_drawn, n_failed=n_failed, seed=seed
        ),
        settings={"curve": JOINT, "tokens": tokens},
    )


_NO_REPLICATES = ("no degrees of freedom are left over: the data give no intervals.",)


def _used(runs: Runs) -> tuple[_Used, dict[float, str]]:
    """Budgets with two sizes or more, and why others are left out.

    Raises:
      FitError: when fewer than two of them have the runs that a parabola needs.
    """
    n_sizes = [len(np.unique(runs.n_params[runs.budget == b])) for b in runs.budgets]
    n_runs = [int(np.sum(runs.budget == b)) for b in runs.budgets]
    counts = dict(zip(runs.budgets.tolist(), zip(n_sizes, n_runs, strict=True), strict=True))
    if len(counts) < PARABOLA_BUDGETS:
        raise FitError(
            f"a frontier needs at least two budgets, these {len(runs)} usable runs have "
            f"{len(counts)}; name the column of budgets, or train at another one."
        )
    few = {b: n for b, n in counts.items() if not _has_parabola(*n)}
    if len(counts) - len(few) < PARABOLA_BUDGETS:
        reasons = [f"{power(b)} FLOPs: {r} at {s}" for b, (s, r) in few.items()]
        raise FitError(
            f"{len(counts) - len(few)} of {len(counts)} budgets have enough runs, at least two "
            f"are needed: a curve needs {PARABOLA_RUNS} runs at {PARABOLA_SIZES} sizes "
            f"{some_reasons(reasons, runs)}"
        )
    left = {b: "its runs have one size" for b, (s, _) in counts.items() if s < 2}
    kept = runs.select(~np.isin(runs.budget, list(left)))
    asked, label = np.unique(kept.budget, return_inverse=True)
    label = label.reshape(-1)
    log_c = np.bincount(label, np.log(kept.flops)) / np.bincount(label)
    return _Used(runs=kept, asked=asked, label=label, log_c=log_c), left


def _has_parabola(n_sizes: int, n_runs: int) -> bool:
    return n_sizes >= PARABOLA_SIZES and n_runs >= PARABOLA_RUNS


def _judged(
    joint: JointFit, used: _Used, log_n: Array, level: float
) -> tuple[FitStatus, list[str]]:
    """Status, and a sentence on each doubt of the fit; log_n: of the optima, [B]."""
    is_inside = [enclosed(used.sizes(i), x) for i, x in enumerate(log_n)]
    counts = [(len(used.sizes(i)), int(np.sum(used.label == i))) for i in range(used.n_budgets)]
    both = zip(is_inside, counts, strict=True)
    n_judging = sum(inside and _has_parabola(*n) for inside, n in both)
    doubts: list[str] = []
    beyond = [power(b) for b, inside in zip(used.asked, is_inside, strict=True) if not inside]
    if beyond:
        doubts.append(
            f"N* is not one size inside the sizes at {', '.join(beyond)} FLOPs: other budgets "
            "tell where it lies there."
        )
    status = FitStatus.CONVERGED
    if n_judging < JUDGED_BUDGETS:
        status = FitStatus.TOO_FEW_POINTS
        doubts.append(
            f"N* is inside the sizes of {n_judging} budgets with a parabola; {JUDGED_BUDGETS} or "
            "more are needed to judge a power law."
        )
    bend = curvature_interval(float(joint.best.kappa[0]), *joint.weighted, level)
    if not bend.lower > 0:
        doubts.append(
            f"the curvature is not resolved from 0 ({bend.lower:.3g} to {bend.upper:.3g} at "
            f"{100 * level:.0f} %): add sizes on both sides of the optimum, or seeds."
        )
        status = FitStatus.NOT_CONVEX
    return (status if joint.status is FitStatus.CONVERGED else joint.status), doubts


def _reported(
    runs: Runs,
    used: _Used,
    left: dict[float, str],
    optima: tuple[Array, Array, Array],
    joint: JointFit,
    level: float,
) -> tuple[Optimum, ...]:
    """Every budget with its N*, D*, L*, its joint curve and its own parabola."""
    found = [_optimum(used, i, [c[:, i] for c in optima], joint, level)
            for i in range(used.n_budgets)]  # fmt: skip
    unused = [
        _blank(b, float(np.exp(np.log(runs.flops[runs.budget == b]).mean())), why)
        for b, why in left.items()
    ]
    return tuple(sorted([*found, *unused], key=lambda o: o.budget))


def _optimum(
    used: _Used, i: int, columns: Sequence[Array], joint: JointFit, level: float
) -> Optimum:
    """Of one budget; columns: log N*, log D* and L*, [1 + R] each."""
    log_n, log_d, loss = columns
    kappa = joint.best.kappa[0] * joint.grid.curvatures(joint.best.theta)[0, i]
    curve = (log_n[0], loss[0], kappa, *joint.best.theta[0, 1:])
    here, sizes = used.label == i, used.sizes(i)
    own = fit_curve("parabola", used.runs.n_params[here], used.runs.loss_nats[here]).stored
    is_inside = enclosed(sizes, float(log_n[0]))
    return Optimum(
        budget=float(used.asked[i]),
        flops=float(np.exp(used.log_c[i])),
        n_params_opt=float(np.exp(log_n[0])),
        n_tokens_opt=float(np.exp(log_d[0])),
        loss_opt=float(loss[0]),
        interval_n_params=Interval.of(np.exp(log_n[1:]), level),
        interval_n_tokens=Interval.of(np.exp(log_d[1:]), level),
        interval_loss=Interval.of(loss[1:], level),
        curve=tuple(float(v) for v in curve),
        own_curve=own if len(sizes) > 2 else (),
        note="" if is_inside else "not one size inside the sizes of this budget",
    )


def _blank(budget: float, flops: float, reason: str) -> Optimum:
    return Optimum(
        budget=budget,
        flops=flops,
        n_params_opt=np.nan,
        n_tokens_opt=np.nan,
        loss_opt=np.nan,
        interval_n_params=UNKNOWN,
        interval_n_tokens=UNKNOWN,
        reason=reason,
    )
