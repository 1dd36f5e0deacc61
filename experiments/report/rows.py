# SPDX-License-Identifier: Apache-2.0
"""What a report shows, as rows of text, for the terminal and for the page."""

from collections.abc import Mapping, Sequence

from experiments.ledger.forecasts import Conformal, Predicted
from experiments.ledger.tables import printable
from experiments.ledger.verdict import Verdict
from experiments.plan.point import Point
from experiments.report.build import JudgedForecast
from experiments.report.fits.analysis import Analysis
from experiments.report.fits.fit_once import APPROACHES
from experiments.study.study import Label
from scaling.fit import Fit
from scaling.shown import with_interval
from scaling.tables.units import bits_words, count, power

# Before the axes.
_FIRST = ("run", "role", "C asked", "d_model")


def ordered(analysis: Analysis) -> list[Fit]:
    """The fits in the order of APPROACHES."""
    return [analysis.fits[name] for name in APPROACHES if name in analysis.fits]


def exponent_rows(analysis: Analysis) -> list[tuple[str, ...]]:
    """Approach, a, b, runs and status of every fit."""
    return [_exponent_row(fit) for fit in ordered(analysis)]


def _exponent_row(fit: Fit) -> tuple[str, ...]:
    a = with_interval(fit.exponent_a, fit.intervals["exponent_a"], "{:.3f}")
    b = with_interval(fit.exponent_b, fit.intervals["exponent_b"], "{:.3f}")
    status = "certified" if fit.is_certified else f"not certified: {fit.status.value}"
    return (fit.name, a, b, str(len(fit.fitted_runs)), status)


def findings(analysis: Analysis) -> list[str]:
    """Every sentence once, with the approaches that say it."""
    said: dict[str, list[str]] = {sentence: [] for sentence in analysis.findings}
    for name, fit in analysis.fits.items():
        for sentence in (*fit.findings, *analysis.frontiers[name].findings):
            if fit.name not in said.setdefault(sentence, []):
                said[sentence].append(fit.name)
    if analysis.agreement is not None:
        said |= {sentence: [] for sentence in analysis.agreement.findings}
    return [f"{', '.join(names)}: {s}" if names else s for s, names in said.items()]


def is_outside(judged: JudgedForecast) -> bool:
    """Whether the loss came out, outside the interval of the forecast to judge."""
    return _came_out(judged, judged.forecast.judged) == "outside"


def _came_out(judged: JudgedForecast, forecast: Predicted) -> str:
    if judged.outcome is None:
        return judged.ended or "not trained yet"
    return forecast.verdict(judged.outcome)


def forecast_rows(
    judged: JudgedForecast, unit: str, bits_per_nat: float | None
) -> list[dict[str, str]]:
    """One row per surface, their average first, in numbers and as a sentence.

    Args:
      unit: what a token is.
      bits_per_nat: of the losses, as Runs have it.
    """
    made, outcome, bits = judged.forecast, judged.outcome, bits_words(f"nats per {unit}")
    shown: list[dict[str, str]] = []
    for law, forecast in made.forecasts.items():
        lower, upper = forecast.lower, forecast.upper
        is_known = lower is not None and upper is not None
        interval = f"{lower:.3f} to {upper:.3f}" if is_known else "no interval"
        came = _came_out(judged, forecast)
        if outcome is not None:
            came = f"{outcome:.3f}, {came}"
        row = {
            "FLOPs": power(made.budget),
            "parameters": f"{made.point.params.total:,}",
            f"{unit}s": f"{made.point.n_tokens:,}",
            "law": forecast.by(law),
            "forecast": f"{forecast.value:.3f}",
            f"{made.level:.0%} interval": interval,
            "came out": came,
            "conformal": "" if shown else _conformal(made.conformal),
        }
        text = (
            f"Forecast for {count(made.point.params.total)} parameters on "
            f"{count(made.point.n_tokens)} {unit}s ({row['law']}): {row['forecast']} ({interval}); "
        )
        text += f"{came}." if outcome is None else f"came out {came}."
        if bits_per_nat is not None:
            row[bits] = f"{forecast.value * bits_per_nat:.3f}"
            if lower is not None and upper is not None:
                row[bits] += f" ({lower * bits_per_nat:.3f} to {upper * bits_per_nat:.3f})"
            text += f" In {bits}: {row[bits]}"
            text += "." if outcome is None else f"; {outcome * bits_per_nat:.3f}."
        shown.append(row | {"sentence": text})
    return shown


def _conformal(found: Conformal | None) -> str:
    """Its interval and the level that its budgets support."""
    return (
        "none" if found is None else f"{found.lower:.3f} to {found.upper:.3f} ({found.level:.0%})"
    )


def run_rows(points: Sequence[Point], verdicts: Mapping[str, Verdict]) -> list[dict[str, str]]:
    """One row per point that is asked for, with a column for each axis of the study, and for the
    active parameters where they are not all."""
    fields = list(dict.fromkeys(field for point in points for field in point.axes))
    rows = [_run_row(point, verdicts[point.id]) for point in points]
    if all(point.params.active == point.params.total for point in points):
        for row in rows:
            del row["active"]
    # The last part of a path names an axis, unless it names something else already.
    ends = [field.rpartition(".")[2] for field in fields]
    taken = {*(rows[0] if rows else ()), *(end for end in ends if ends.count(end) > 1)}
    names = {f: f if end in taken else end for f, end in zip(fields, ends, strict=True)}
    return [
        {
            **{name: row.pop(name) for name in _FIRST},
            **{name: _setting(point.axes.get(field)) for field, name in names.items()},
            **row,
        }
        for point, row in zip(points, rows, strict=True)
    ]


def _setting(value: Label | None) -> str:
    """Of an axis; empty for a run that has none, such as a forecast's."""
    return "" if value is None else str(value) if isinstance(value, str | bool) else f"{value:g}"


def _run_row(point: Point, verdict: Verdict) -> dict[str, str]:
    measured = None if verdict.result is None else verdict.result.loss
    loss, bits = (measured.nats, measured.bits_per_byte) if measured else (None, None)
    has_ended = verdict.result is not None or verdict.state == "failed"
    state = "ok" if verdict.state == "done" else verdict.state
    return {
        "run": point.id,
        "role": point.role,
        "C asked": power(point.budget),
        "d_model": str(point.spec.model.d_model),
        "parameters": f"{point.params.total:,}",
        "active": f"{point.params.active:,}",
        "tokens": f"{point.n_tokens:,}",
        "tokens per parameter": f"{point.n_tokens / point.params.total:.3g}",
        "steps": str(point.spec.train.schedule.n_steps),
        "batch": str(point.spec.train.batch_size),
        "seed": point.seeds,
        "loss": "" if loss is None else f"{loss:.4f}",
        "bits per byte": "" if bits is None else f"{bits:.4f}",
        "status": state if has_ended else "missing",
        "flags": " ".join(verdict.result.flags) if verdict.result else "",
        "reason": printable(verdict.reason) if has_ended else "",
    }
