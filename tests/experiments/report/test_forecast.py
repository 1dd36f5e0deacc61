# SPDX-License-Identifier: Apache-2.0
"""The interval of a forecast is as wide as the budgets ask that were left out."""

import pytest

from experiments.report import forecast, rows
from experiments.report.build import JudgedForecast
from experiments.report.fits.analysis import analyse
from scaling.answers.conformal import Conformal
from scaling.intervals import Interval


def test_the_interval_to_judge_is_widened_and_says_so(
    ledger, planted, quick_fits, manifest, monkeypatch
):
    study, points = planted
    analysis = analyse(ledger, study, points)
    budget = 10 * max(study.budgets)

    def made(scores):
        left_out = Conformal(
            value=middle, interval=Interval(lower=1.0, upper=2.0), level=0.75, scores=scores
        )
        monkeypatch.setattr(forecast.conformal, "conformal_loss", lambda *_: left_out)
        for path in (ledger.folder / "forecasts").glob("*.json"):
            path.unlink()
        return forecast.make_forecast(ledger, study, manifest, analysis, budget)

    middle = forecast.make_forecast(ledger, study, manifest, analysis, budget).judged.value
    plain, wide = made({1.0: 0.5}), made({1.0: 2.0, 2.0: 2.0})
    assert (plain.judged.widened, wide.judged.widened) == (1.0, 2.0)
    assert plain.judged.value == wide.judged.value == middle
    assert middle - wide.judged.lower == pytest.approx(2 * (middle - plain.judged.lower))
    assert wide.judged.upper - middle == pytest.approx(2 * (plain.judged.upper - middle))
    assert wide.judged.quantiles[0] - middle == pytest.approx(
        2 * (plain.judged.quantiles[0] - middle)
    )
    for record, said in ((plain, "(additive)"), (wide, "(additive, widened 2.0 times)")):
        judged = JudgedForecast(forecast=record, outcome=None, ended="")
        assert said in rows.forecast_rows(judged, "token", None)[0]["sentence"]
