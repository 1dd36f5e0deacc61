# SPDX-License-Identifier: Apache-2.0
"""What a report shows, as rows of text, for the terminal and for the page."""

from collections.abc import Mapping, Sequence

from experiments.ledger.tables import printable
from experiments.ledger.verdict import Verdict
from experiments.plan.point import Point
from experiments.report.analysis import APPROACHES, Analysis
from experiments.report.build import JudgedForecast
from scaling.answers.frontier import Frontier
from scaling.fit import Fit
from scaling.intervals import Band, Interval


def ordered(analysis: Analysis) -> list[Fit]:
    """The fits in the order of APPROACHES."""
    return [analysis.fits[name] for name in APPROACHES if name in analysis.fits]


def exponent_rows(analysis: Analysis) -> list[tuple[str, ...]]:
    """Approach, a, b, runs and status of every fit."""
    return [_exponent_row(fit) for fit in ordered(analysis)]


def _exponent_row(fit: Fit) -> tuple[str, ...]:
    a = _with_interval(fit.exponent_a, fit.intervals["a"], "{:.3f}")
    b = _with_interval(fit.exponent_b, fit.intervals["b"], "{:.3f}")
    status = "certified" if fit.is_certified else f"NOT CERTIFIED: {fit.status.value}"
    return (fit.name, a, b, str(len(fit.fitted_runs)), status)


def _with_interval(value: float, interval: Interval, form: str) -> str:
    if not interval.is_known:
        return f"{form.format(value)} (no interval)"
    ends = f"{form.format(interval.lower)} to {form.format(interval.upper)}"
    return f"{form.format(value)} ({ends})"


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


def frontier_rows(frontier: Frontier) -> list[dict[str, str]]:
    """The answer, one row per budget, every number with its interval."""
    columns = {
        "N* parameters": (frontier.n_params_opt, "{:.3g}"),
        "D* tokens": (frontier.n_tokens_opt, "{:.3g}"),
        "tokens per parameter": (frontier.tokens_per_param, "{:.3g}"),
        "loss, nats per token": (frontier.loss_opt, "{:.4f}"),
    }
    rows = []
    for i, flops in enumerate(frontier.flops):
        mark = "extrapolated" if frontier.is_extrapolated[i] else ""
        cells = {name: _band_cell(band, i, form) for name, (band, form) in columns.items()}
        rows.append({"C, FLOPs": f"{flops:.3g}", **cells, "": mark})
    return rows


def _band_cell(band: Band, i: int, form: str) -> str:
    found = band.at(i)
    return _with_interval(found.value, found.interval, form)


def forecast_rows(judged: JudgedForecast) -> list[dict[str, str]]:
    """One row per surface: forecast, interval, outcome, in numbers and as a sentence."""
    made, outcome, rows = judged.forecast, judged.outcome, []
    for law, forecast in made.forecasts.items():
        lower, upper = forecast.lower, forecast.upper
        is_known = lower is not None and upper is not None
        interval = f"{lower:.4f} to {upper:.4f}" if is_known else "unknown"
        row = {
            "C, FLOPs": f"{made.budget:.3g}",
            "parameters": f"{made.point.params.total:,}",
            "tokens": f"{made.point.n_tokens:,}",
            "law": law,
            "forecast": f"{forecast.value:.4f}",
            f"{made.level:.0%} interval": interval,
        }
        came = "not trained yet"
        if outcome is not None:
            is_inside = lower is not None and upper is not None and lower <= outcome <= upper
            where = "inside" if is_inside else "OUTSIDE"
            came = f"{outcome:.4f} ({outcome - forecast.value:+.4f}, {where})"
        row["came out"] = came
        text = f"forecast at {row['C, FLOPs']} FLOPs, {law}: {row['forecast']} nats ({interval})"
        rows.append(row | {"sentence": f"{text}; came out: {came}"})
    return rows


def run_rows(points: Sequence[Point], verdicts: Mapping[str, Verdict]) -> list[dict[str, str]]:
    """One row per point that is asked for."""
    return [_run_row(point, verdicts[point.id]) for point in points]


def _run_row(point: Point, verdict: Verdict) -> dict[str, str]:
    loss = None if verdict.result is None else verdict.result.loss_nats
    has_ended = verdict.result is not None or verdict.state == "failed"
    state = "ok" if verdict.state == "done" else verdict.state
    return {
        "run": point.id,
        "role": point.role,
        "C asked": f"{point.budget:.3g}",
        "d_model": str(point.spec.model.d_model),
        "parameters": f"{point.params.total:,}",
        "tokens": f"{point.n_tokens:,}",
        "steps": str(point.spec.train.schedule.n_steps),
        "batch": str(point.spec.train.batch_size),
        "seed": point.seeds,
        "loss": "" if loss is None else f"{loss:.4f}",
        "status": state if has_ended else "missing",
        "flags": " ".join(verdict.result.flags) if verdict.result else "",
        "reason": printable(verdict.reason) if has_ended else "",
    }
