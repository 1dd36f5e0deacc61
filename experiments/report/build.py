# SPDX-License-Identifier: Apache-2.0
"""Ledger -> everything that the report of a study shows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from experiments.cost import planned_cost, planned_vs_real
from experiments.cost.planned_cost import Planned
from experiments.cost.planned_vs_real import Compared, Real
from experiments.files.checked_json import intact
from experiments.ledger.forecasts import Forecast, read_forecasts
from experiments.ledger.ledger import Ledger
from experiments.ledger.result import Result, Trunk
from experiments.ledger.verdict import Judge, Verdict
from experiments.plan.point import Point
from experiments.plan.settings import compares_vocabularies
from experiments.report.fits.analysis import Analysis, analyse
from experiments.report.fits.contexts import context_curves
from experiments.report.fits.missing_runs import ALLOWED
from experiments.study.study import Study
from model.data.source import IMAGE_KINDS, is_bytes
from scaling.answers.loss_forecast import choose_forecaster
from scaling.tables.loss_curves import ContextCurve
from scaling.tables.units import NATS, loss_words


@dataclass(frozen=True, kw_only=True)
class JudgedForecast:
    """A forecast beside the loss that came out.

    Attributes:
      outcome: None while its run is not finished, and where it ended without a loss.
      ended: then how, "diverged" or "stopped".
    """

    forecast: Forecast
    outcome: float | None
    ended: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """Everything that a report shows.

    Attributes:
      analysis: fits and frontiers.
      main: name of the approach whose frontier is the answer.
      unit: what a token of the data is: "byte", "pixel" or "token"; runs with different
        vocabularies have tokens.
      forecasts: of the runs beyond the grid.
      verdicts: what became of each point, by its id.
      trunks: what several points begin with, by id.
      planned: what was planned to be spent; None where nothing was, or it is damaged.
      compared: the finished runs of which it told the time.
      contexts: losses by how much is seen (contexts.py); none where units of tokens differ.
    """

    analysis: Analysis
    main: str | None
    unit: str
    forecasts: tuple[JudgedForecast, ...] = ()
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    trunks: Mapping[str, Trunk] = field(default_factory=dict)
    planned: Planned | None = None
    compared: tuple[Compared, ...] = ()
    contexts: tuple[ContextCurve, ...] = ()

    @property
    def loss_unit(self) -> str:
        """Of the losses that are fitted, in words."""
        return loss_words(self.analysis.runs.loss_name, self.unit)

    @property
    def bits_per_nat(self) -> float | None:
        """What these losses times are bits per byte, where one number is (scaling's Runs)."""
        return self.analysis.runs.bits_per_nat

    @property
    def results(self) -> dict[str, Result]:
        """Of the points that have one."""
        found = {name: verdict.result for name, verdict in self.verdicts.items()}
        return {name: result for name, result in found.items() if result is not None}

    @property
    def records(self) -> list[Result | Trunk]:
        """All that was trained."""
        return [*self.results.values(), *self.trunks.values()]


def build(
    ledger: Ledger,
    study: Study,
    points: Sequence[Point],
    *,
    allow_missing: float = ALLOWED,
    tell: Callable[[str], None] = lambda said: None,
) -> Report:
    """Fits what is finished; ``tell`` as ``analyse`` has it.

    Raises:
      FitError: if nothing is.
      TooManyMissing: if less than ``allow_missing`` asks for.
    """
    analysis = analyse(ledger, study, points, allow_missing=allow_missing, tell=tell)
    is_of_bytes = is_bytes(study.data) and not compares_vocabularies(study)
    unit = "byte" if is_of_bytes else "pixel" if study.data.kind in IMAGE_KINDS else "token"
    return gather(ledger, points, analysis, unit)


def gather(ledger: Ledger, points: Sequence[Point], analysis: Analysis, unit: str) -> Report:
    """The report of an analysis; raises Damaged if a result or a forecast is."""
    judge = Judge(ledger)
    verdicts = {point.id: judge.outcome(point.id) for point in points}
    forecasts = [
        JudgedForecast(
            forecast=forecast,
            outcome=result.loss_nats if result else None,
            ended=result.status if result and result.loss_nats is None else "",
        )
        for forecast in read_forecasts(ledger)
        if forecast.point.id in verdicts
        for result in [verdicts[forecast.point.id].result]
    ]
    trunks = ledger.trunks({point.cluster_id for point in points})
    planned = intact(planned_cost.read, ledger)
    return Report(
        analysis=analysis,
        main=_main(analysis),
        unit=unit,
        forecasts=tuple(forecasts),
        verdicts=verdicts,
        trunks=trunks,
        planned=planned,
        compared=() if planned is None else compare(planned, points, verdicts, trunks),
        contexts=context_curves(points, verdicts) if analysis.runs.loss_unit == NATS else (),
    )


def compare(
    planned: Planned,
    points: Sequence[Point],
    verdicts: Mapping[str, Verdict],
    trunks: Mapping[str, Trunk],
) -> tuple[Compared, ...]:
    """The finished runs, and trunks, of which the plan told the time."""
    done = [
        Real(
            run_id=point.id,
            role=point.role,
            budget=point.budget,
            d_model=point.spec.model.d_model,
            device_seconds=result.costs.device_seconds,
            joules=result.costs.joules,
            joules_source=result.costs.joules_source,
        )
        for point in points
        for result in [verdicts[point.id].result]
        if result is not None and result.status == "ok" and result.costs.device_seconds > 0
    ]
    sizes = {point.cluster_id: (point.budget, point.spec.model.d_model) for point in points}
    done += planned_vs_real.of_trunks(trunks, sizes)
    return tuple(planned_vs_real.compare(planned, done))


def _main(analysis: Analysis) -> str | None:
    """The first that is certified of: the surface to forecast with, the other surfaces, the
    parabolas, the envelope; where none is, the first that gave an answer.

    The order is fixed: the narrower interval is no better an answer.
    """
    surfaces = [fit for fit in analysis.fits.values() if fit.law != "power_laws"]
    first = [choose_forecaster(surfaces).law] if surfaces else []
    order = (*first, "additive", "curved", "isoflop", "envelope")
    given = [name for name in order if name in analysis.fits]
    certified = [name for name in given if analysis.fits[name].is_certified]
    return next(iter([*certified, *given]), None)
