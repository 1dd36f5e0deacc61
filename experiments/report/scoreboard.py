# SPDX-License-Identifier: Apache-2.0
"""Every forecast of a results folder beside what came out, and how often intervals held it.

A forecast counts where it was written before its run began, by the times in its own record and in
the first claim of the run's job. A file that says no time has that of the file system: where it was
copied since, it does not count.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from experiments.files.checked_json import Damaged, text_sha256
from experiments.ledger.forecasts import PROBABILITIES, Forecast, read_forecast_at
from experiments.ledger.ledger import Ledger
from experiments.ledger.result import OtherVersion
from experiments.ledger.verdict import Judge
from scaling.answers.calibration import Calibration, calibration, coverage
from scaling.intervals import Estimated
from scaling.json_values import encode

# Factors beyond the grid are told apart: [1, 2), [2, 5), ...
BANDS = ((1.0, 2.0), (2.0, 5.0), (5.0, 20.0), (20.0, math.inf))

Verdict = Literal["inside", "outside", "no interval", "not trained yet", "late"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """A forecast and what came of it.

    Attributes:
      folder: of its study. run: id of the point that it speaks of.
      forecast: as it was written. sha256: of its record.
      made_at: Unix seconds, of the record or else of the file; is_dated: whether the record has it.
      began_at: when the first attempt at the run began; None where nobody can tell.
      factor: its budget over the largest of the grid.
      came_out: nats per token; infinite where the run ended without a loss, None without a result.
      ended: "ok", "diverged" or "stopped"; "" without a result.
      verdict: "late" where it is not known to be older than its run: it does not count.
    """

    folder: Path
    run: str
    forecast: Forecast
    sha256: str
    made_at: float
    is_dated: bool
    began_at: float | None
    factor: float
    came_out: float | None
    ended: str
    verdict: Verdict

    @property
    def study(self) -> str:
        return self.folder.name

    @property
    def counts(self) -> bool:
        return self.verdict in ("inside", "outside", "no interval")

    @property
    def error(self) -> float | None:
        """What came out less what was forecast, nats."""
        return None if self.came_out is None else self.came_out - self.forecast.judged.value


def scoreboard(folders: Iterable[Path]) -> tuple[list[Scored], list[str]]:
    """The forecasts of every study in folders of results, and a sentence of each damaged file.

    Args:
      folders: each a folder with a folder for each study, or that of one study.
    """
    found: list[Scored] = []
    damaged: list[str] = []
    for folder in folders:
        is_study = (folder / "study.json").is_file()
        inside = [path.parent for path in sorted(folder.glob("*/forecasts"))]
        for study in [folder.resolve()] if is_study else inside:
            of_study, bad = scores(Ledger(study.parent, study.name))
            found += of_study
            damaged += bad
    return found, damaged


def scores(ledger: Ledger) -> tuple[list[Scored], list[str]]:
    """The forecasts of one study, by budget, and a sentence of each that cannot be judged."""
    found, damaged = [], []
    for name in ledger.storage.names("forecasts"):
        try:
            forecast = read_forecast_at(ledger, f"forecasts/{name}")
            if forecast is not None and forecast.forecasts:
                found.append(_scored(ledger, f"forecasts/{name}", forecast))
        except (Damaged, OtherVersion) as error:
            damaged.append(str(error))
    return sorted(found, key=lambda one: one.forecast.budget), damaged


def _scored(ledger: Ledger, key: str, forecast: Forecast) -> Scored:
    result = ledger.read_result(forecast.point.id)
    job_id = result.provenance.job_id if result else Judge(ledger).job_id(forecast.point.id)
    claim = f"jobs/{job_id}/claims/000001.json"
    owner = ledger.job(job_id).owner(1) if ledger.storage.exists(claim) else None
    began_at = owner.time if owner else None
    made_at = forecast.made_at or (ledger.folder / key).stat().st_mtime
    came_out = None
    if result is not None:
        came_out = math.inf if result.loss_nats is None else result.loss_nats
    is_early = made_at <= began_at if began_at is not None else result is None
    verdict: Verdict = "not trained yet" if came_out is None else forecast.judged.verdict(came_out)
    return Scored(
        folder=ledger.folder,
        run=forecast.point.id,
        forecast=forecast,
        sha256=text_sha256(ledger.storage.read(key) or b""),
        made_at=made_at,
        is_dated=forecast.made_at is not None,
        began_at=began_at,
        factor=forecast.budget / (forecast.grid_budget or _grid_budget(ledger)),
        came_out=came_out,
        ended="" if result is None else result.status,
        verdict=verdict if is_early else "late",
    )


def _grid_budget(ledger: Ledger) -> float:
    return max(point.budget for point in ledger.read_plan() if point.role == "grid")


@dataclass(frozen=True, kw_only=True, slots=True)
class Covered:
    """Coverage of the forecasts of one level and range of factors.

    Attributes:
      level: of their intervals. factors: lowest, and the one below which they are.
      n_inside, n_forecasts, n_studies: that count; a forecast without an interval is not inside.
      share: one trial per study (scaling/answers/calibration.py).
      median_error: of |error|, nats.
    """

    level: float
    factors: tuple[float, float]
    n_inside: int
    n_forecasts: int
    n_studies: int
    share: Estimated
    median_error: float


def covered(found: Sequence[Scored]) -> list[Covered]:
    """Coverage by level and range of factors, of those that count."""
    rows = []
    good = [one for one in found if one.counts]
    for level in sorted({one.forecast.level for one in good}):
        for low, high in BANDS:
            own = [o for o in good if o.forecast.level == level and low <= o.factor < high]
            if not own:
                continue
            inside = np.array([one.verdict == "inside" for one in own])
            studies = np.array([str(one.folder) for one in own])
            rows.append(
                Covered(
                    level=level,
                    factors=(low, high),
                    n_inside=int(inside.sum()),
                    n_forecasts=len(own),
                    n_studies=len(np.unique(studies)),
                    share=coverage(inside, studies),
                    median_error=float(np.median([abs(one.error or 0.0) for one in own])),
                )
            )
    return rows


def calibrated(found: Sequence[Scored]) -> Calibration | None:
    """Coverage at every level, of those that count and have quantiles; None without any."""
    own = [one for one in found if one.counts and one.forecast.judged.quantiles]
    if not own:
        return None
    return calibration(
        PROBABILITIES,
        np.array([one.forecast.judged.quantiles for one in own]),
        np.array([one.came_out for one in own], float),
        np.array([str(one.folder) for one in own]),
    )


def as_object(found: Sequence[Scored], damaged: Sequence[str]) -> dict[str, Any]:
    """The scoreboard for a program; null for what is not known."""
    curve = calibrated(found)
    body = {
        "forecasts": [_as_object(one) for one in found],
        "coverage": [
            {
                "level": one.level,
                "factor_from": one.factors[0],
                "factor_below": one.factors[1],
                "inside": one.n_inside,
                "forecasts": one.n_forecasts,
                "studies": one.n_studies,
                "share": one.share.value,
                "lower": one.share.interval.lower,
                "upper": one.share.interval.upper,
                "median_error_nats": one.median_error,
            }
            for one in covered(found)
        ],
        "calibration": None
        if curve is None
        else {
            "forecasts": curve.n_forecasts,
            "studies": curve.n_groups,
            "levels": curve.levels,
            "observed": curve.observed.value,
            "lower": curve.observed.lower,
            "upper": curve.observed.upper,
        },
        "damaged": damaged,
    }
    return encode(body)


def _as_object(one: Scored) -> dict[str, Any]:
    made = one.forecast
    law, guess = next(iter(made.forecasts.items()))
    return {
        "study": one.study,
        "run": one.run,
        "flops": made.budget,
        "factor": one.factor,
        "law": law,
        "level": made.level,
        "forecast_nats": guess.value,
        "lower": guess.lower,
        "upper": guess.upper,
        "ended": one.ended,
        "came_out_nats": one.came_out,
        "error_nats": one.error,
        "verdict": one.verdict,
        "made_at": one.made_at,
        "is_dated_by_its_record": one.is_dated,
        "began_at": one.began_at,
        "git_commit": made.git_commit,
        "git_dirty_sha256": made.git_dirty_sha256,
        "sha256": one.sha256,
    }
