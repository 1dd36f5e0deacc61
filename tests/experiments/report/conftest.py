# SPDX-License-Identifier: Apache-2.0
"""The report of a study whose losses follow a law, fitted with few replicates."""

import dataclasses

import pytest

from experiments.ledger.forecasts import Predicted, write_forecast
from experiments.plan.plan import plan
from experiments.report.build import gather
from experiments.report.fits import fit_once
from experiments.report.fits.analysis import analyse
from experiments.report.page.page import page
from experiments.study.study import Ladder
from model.training.outcome import CurvePoint
from scaling.approaches.envelope.fit import fit_envelope
from scaling.approaches.isoflop.fit import fit_isoflop
from scaling.approaches.surface.fit import fit_surface
from scaling.fit import FitError

N_POINTS = 6


def loss_at(n_params: float, n_tokens: float) -> float:
    return 1.5 + 26 * n_params**-0.4 + 90 * n_tokens**-0.4


@pytest.fixture(scope="session")
def fitted():
    """Fits by the digest of what they are of: each is made once."""
    return {}


@pytest.fixture
def quick_fits(monkeypatch, fitted):
    make = fit_once._fit

    def surface(runs, form):
        if form == "curved":
            raise FitError("not in this test")
        return fit_surface(runs, form, n_bootstrap=20, replicate_starts=1)

    def once(runs, curves, apart, tell):
        asked = fit_once.digest(curves, runs, *apart.values())
        if asked not in fitted:
            fitted[asked] = make(runs, curves, apart, tell)
        return fitted[asked]

    monkeypatch.setattr(fit_once, "_fit", once)
    monkeypatch.setattr(fit_once, "fit_envelope", lambda *on: fit_envelope(*on, n_bootstrap=20))
    monkeypatch.setattr(fit_once, "fit_isoflop", lambda runs: fit_isoflop(runs, n_bootstrap=20))
    monkeypatch.setattr(fit_once, "fit_surface", surface)


@pytest.fixture
def three_by_six(study):
    """A study of three budgets and six sizes."""
    return dataclasses.replace(
        study,
        budgets=(1e11, 4e11, 1.6e12),
        sizes=Ladder(d_models=(16, 24, 32, 48, 64, 96), tokens_per_param=(0.3, 2000.0)),
    )


@pytest.fixture
def planted(ledger, three_by_six, manifest, record, forecast):
    """A study of three budgets and six sizes, two of its runs diverged; study, points."""
    points = list(plan(three_by_six, manifest).points)
    beyond = points.pop()
    beyond = dataclasses.replace(beyond, role="forecast")
    points.append(beyond)
    ledger.write_plan("{}", points)
    for i, point in enumerate(points):
        n_params, noise = point.params.total, 2e-3 * (i % 3 - 1)
        steps = [max(1, point.spec.train.schedule.n_steps * k // N_POINTS) for k in range(1, 7)]
        tokens = [step * point.n_tokens // steps[-1] for step in steps]
        curve = tuple(
            CurvePoint(step=step, n_tokens=d, loss_nats=loss_at(n_params, d) + 0.02 + noise)
            for step, d in zip(steps, tokens, strict=True)
        )
        made = record(loss_at(n_params, point.n_tokens) + noise, curve=curve)
        if i in (3, 10):
            made = record(None, status="diverged", reason="</script><b>at step 3</b>")
        ledger.write_result(point.id, made)
    guess = Predicted(value=2.0, lower=1.9, upper=2.1)
    made = forecast(beyond, budget=1.6e12, forecasts={"additive": guess})
    write_forecast(ledger, "0", made)
    return three_by_six, points


@pytest.fixture
def report(ledger, planted, quick_fits):
    study, points = planted
    return gather(ledger, points, analyse(ledger, study, points), "byte")


@pytest.fixture
def html(planted, manifest, report):
    """The page without its SVG figures."""
    study, points = planted
    return page(study, manifest, points, report, {})
