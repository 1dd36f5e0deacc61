# SPDX-License-Identifier: Apache-2.0
"""Fits, hold-outs, multipliers and optima of tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from experiments.report.frontier_table import print_frontier
from experiments.terminal.table import plain_table
from scaling.answers.compute_multiplier import Multiplier
from scaling.answers.frontier import Frontier
from scaling.answers.holdout import HoldOut, Prediction
from scaling.fit import Certificate, Fit
from scaling.intervals import Interval
from scaling.laws.registry import law_named
from scaling.tables.units import power

if TYPE_CHECKING:
    from scaling.answers.inference import InferenceOptimum
    from scaling.answers.loss_forecast import RunLoss
    from scaling.hyperparameters.fit import HyperparameterFit
    from scaling.profiles.profile import Profile
    from scaling.schedules.fit import ScheduleFit
    from scaling.tables.runs import Runs


def print_fit(console: Console, fit: Fit) -> None:
    """Parameters with intervals, exponents, how far the fit can be trusted, and findings."""
    console.print(_heading(fit))
    console.print(_parameter_table(fit))
    console.print(status_line(fit))
    if fit.certificate is not None:
        console.print(certificate_line(fit.certificate))
    console.print(_interval_line(fit))
    print_findings(console, fit.findings)


def print_profile(console: Console, found: Profile) -> None:
    """One line with the interval and where its threshold comes from; then the findings."""
    where = "" if found.flops is None else f" at {power(found.flops)} FLOPs"
    console.print(
        f"profile of {found.quantity}{where}: {found.estimate:.6g}, {found.level:.0%} "
        f"{interval_text(found.interval)} ({found.calibration})" + ", flat" * found.flat
    )
    print_findings(console, found.findings)


def print_findings(console: Console, findings: tuple[str, ...]) -> None:
    for sentence in dict.fromkeys(findings):
        console.print(f"- {sentence}")


def _heading(fit: Fit) -> str:
    n, runs = len(fit.fitted_runs), fit.runs
    what = fit.settings.get("formula", "power laws through optima")
    by = f"; {fit.settings['minimised']}" if "minimised" in fit.settings else ""
    return (
        f"{fit.name}: {what}{by}\n{n} of {len(runs)} runs, "
        f"{runs.params_convention.replace('_', '-')} parameters, {runs.flops_convention} FLOPs"
    )


def _parameter_table(fit: Fit) -> Table:
    table = plain_table("parameter")
    table.add_column("value", justify="right")
    table.add_column(f"{100 * fit.level:g} % interval")
    fixed, tied = fit.settings.get("fixed", {}), fit.settings.get("tied", {})
    for name, value in fit.parameters.items():
        note = "fixed" if name in fixed else f"tied to {tied[name]}" if name in tied else ""
        known = fit.intervals.get(name)
        table.add_row(name, f"{value:.6g}", note or interval_text(known))
    if fit.law == "power_laws" or law_named(fit.law).is_surface:
        table.add_row(
            "a  (N* ~ C^a)", f"{fit.exponent_a:.4f}", interval_text(fit.intervals["exponent_a"])
        )
        table.add_row(
            "b  (D* ~ C^b)", f"{fit.exponent_b:.4f}", interval_text(fit.intervals["exponent_b"])
        )
    return table


def interval_text(interval: Interval | None, form: str = "{:.4g}") -> str:
    """ "1.2 to 1.4", or that there is none."""
    if interval is None or not interval.is_known:
        return "none"
    return f"{form.format(interval.lower)} to {form.format(interval.upper)}"


def status_line(fit: Fit) -> str:
    """How the fit ended."""
    if fit.is_certified:
        if fit.certificate:
            return f"certified: {fit.status.value}."
        return "status: no doubts." if fit.optima else "nothing is fitted: all is given."
    return f"not certified, {fit.status.name}: {fit.status.value}."


def certificate_line(certificate: Certificate) -> str:
    """The evidence in words."""
    gap = certificate.next_best_excess
    others = "no other minimum met" if gap is None else f"next minimum {100 * gap:.2g} % above"
    condition = certificate.condition
    return (
        f"objective {certificate.objective:.10g}, gradient {certificate.gradient_norm:.1g}, "
        f"condition {'infinite' if condition is None else f'{condition:.2g}'}; "
        f"{certificate.n_starts_agree} of {certificate.n_starts} starts agree, {others}."
    )


def print_law(console: Console, found: HyperparameterFit | ScheduleFit, form: str) -> None:
    """Parameters with intervals, each in a form such as "{:.4g}", and how the fit ended."""
    table = plain_table("parameter", "value", f"{100 * found.bootstrap.level:g} % interval")
    for name, value in found.parameters.items():
        table.add_row(name, form.format(value), interval_text(found.intervals[name]))
    console.print(table)
    said = "certified" if found.is_certified else f"not certified, {found.status.name}"
    console.print(f"{said}: {found.status.value}.")
    console.print(certificate_line(found.certificate))


def _interval_line(fit: Fit) -> str:
    drawn = fit.bootstrap
    if not drawn.n_replicates:
        return "no intervals: no replicates were drawn."
    if drawn.method == "sandwich":
        return (
            f"intervals: {drawn.n_replicates} normal draws of the sandwich covariance, seed "
            f"{drawn.seed}; the runs are so many that resampling says the same."
        )
    return (
        f"intervals: {drawn.method} bootstrap, {drawn.n_replicates} replicates, seed {drawn.seed}, "
        f"{drawn.n_failed} failed."
    )


def print_hold_out(console: Console, found: HoldOut) -> None:
    """Laws by error above C."""
    console.print(f"laws fitted below {power(found.below, 4)} FLOPs, errors of the loss above it:")
    level = f"{100 * found.level:g} %"
    columns = ("law", "mean error %", level, "bias %", "excess %", f"{level} (paired)", "status")
    table = plain_table(*columns)
    for prediction in found.predictions:
        table.add_row(*_hold_out_row(prediction))
    console.print(table)
    for name, reason in found.refusals.items():
        console.print(f"{name}: no answer: {reason}")
    print_findings(console, found.findings)


def _hold_out_row(one: Prediction) -> tuple[str, ...]:
    is_best = one.excess == 0.0
    return (
        one.law,
        f"{100 * one.error:.3f}",
        interval_text(one.interval.times(100), "{:.3f}"),
        f"{100 * one.bias:+.3f}",
        "best" if is_best else f"{100 * one.excess:+.3f}",
        "" if is_best else interval_text(one.excess_interval.times(100), "{:+.3f}"),
        "certified" if one.fit.is_certified else f"not certified: {one.fit.status.name}",
    )


def print_multiplier(console: Console, found: Multiplier) -> None:
    """C_A/C_B along the loss, some levels of the curve."""
    console.print("compute of A over that of B at equal loss (above 1: B needs less):")
    level = f"{100 * found.level:g} %"
    table = plain_table("loss", "FLOPs of A", "FLOPs of B", "C_A/C_B", level, "")
    for i in found.shown:
        interval = Interval(lower=float(found.lower[i]), upper=float(found.upper[i]))
        # An end at infinity is an answer here: the level may be out of reach.
        shown = "none" if interval.lower != interval.lower else (
            f"{interval.lower:.3g} to {interval.upper:.3g}"
        )  # fmt: skip
        table.add_row(
            f"{found.loss[i]:.4f}",
            power(found.flops_a[i]),
            power(found.flops_b[i]),
            f"{found.ratio[i]:.4g}",
            shown,
            "extrapolated" if found.is_extrapolated[i] else "",
        )
    console.print(table)
    print_findings(console, found.findings)


def print_optimum(console: Console, front: Frontier, runs: Runs) -> None:
    """N*, D* and L* at each budget."""
    print_frontier(console, front, "token", runs.loss_unit, runs.bits_per_nat)
    print_findings(console, front.findings)


def _loss(name: str, loss_unit: str) -> str:
    """The head of a column: "L* nats" or "L* bits"."""
    return f"{name} {loss_unit.partition(' ')[0]}"


def print_run_losses(console: Console, runs: Sequence[RunLoss], loss_unit: str) -> None:
    """The loss of each run that was named, with the scatter of a single run in its interval."""
    level = f"{100 * runs[0].level:g} %"
    table = plain_table("N parameters", "D tokens", _loss("loss", loss_unit), level, "")
    for one in runs:
        table.add_row(
            power(one.n_params),
            power(one.n_tokens),
            f"{one.loss_nats.value:.4f}",
            interval_text(one.loss_nats.interval, "{:.4f}"),
            "extrapolated" if one.is_extrapolated else "",
        )
    console.print(table)


def print_inference(console: Console, found: InferenceOptimum) -> None:
    """The cheapest model of one loss when inference is counted, beside the training optimum."""
    names = ("cheapest", "N parameters", "D tokens", "training FLOPs", "with inference")
    table = plain_table(*names)
    for label, one in (("to train", found.training_only), ("to train and serve", found.best)):
        values = (one.n_params, one.n_tokens, one.training_flops, one.total_flops)
        table.add_row(label, *(f"{v.value:.3g} ({interval_text(v.interval)})" for v in values))
    saved = found.flops_saved.times(100)
    console.print(
        f"loss {found.best.loss_nats.value:.4f}, {found.inference_tokens:.3g} tokens of inference: "
        f"{saved.value:.3g} % ({interval_text(saved.interval, '{:.3g}')}) of all FLOPs saved"
        + (", extrapolated" if found.is_extrapolated else "")
    )
    console.print(table)
    print_findings(console, found.findings)
