# SPDX-License-Identifier: Apache-2.0
"""The same runs are fitted once, by whatever command, and other runs or other code anew."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from experiments.cli import main
from experiments.plan.plan import plan
from experiments.report.fits import fit_once
from experiments.report.fits.analysis import analyse
from experiments.study.study import Ladder
from experiments.train import run_points
from scaling.approaches.isoflop.fit import fit_isoflop
from scaling.approaches.surface.fit import fit_surface
from scaling.fit import FitError

FITTERS = ("fit_envelope", "fit_isoflop", "fit_surface")


@pytest.fixture
def n_fits(monkeypatch):
    """The names of the fits that were made; the curved surface and the envelope give none."""
    made = []

    def surface(runs, form):
        made.append(form)
        if form == "curved":
            raise FitError("not in this test")
        return fit_surface(runs, form, n_bootstrap=20, replicate_starts=1)

    def envelope(runs, curves):
        made.append("envelope")
        raise FitError("not in this test")

    def isoflop(runs):
        made.append("isoflop")
        return fit_isoflop(runs, n_bootstrap=20)

    for name, stand_in in zip(FITTERS, (envelope, isoflop, surface), strict=True):
        monkeypatch.setattr(fit_once, name, stand_in)
    return made


@pytest.fixture
def finish(ledger, study, manifest, record):
    """Gives five sizes at two budgets results that follow a law; study, points."""

    def write(shift=0.0):
        asked = dataclasses.replace(
            study, sizes=Ladder(d_models=(16, 24, 32, 48, 64), tokens_per_param=(1.0, 500.0))
        )
        points = list(plan(asked, manifest).points)
        ledger.write_plan("{}", points)
        for i, point in enumerate(points):
            loss = 1.5 + 26 * point.params.total**-0.4 + 90 * point.n_tokens**-0.4 + 1e-4 * (i % 3)
            path = ledger.folder / "runs" / point.id / "result.json"
            path.unlink(missing_ok=True)
            ledger.write_result(point.id, record(loss + shift * (i == 0)))
        return asked, points

    return write


def test_the_same_runs_are_fitted_once_and_read_back_as_they_were(ledger, finish, n_fits):
    study, points = finish()
    told = []
    first = analyse(ledger, study, points, tell=told.append)
    assert n_fits == ["envelope", "isoflop", "additive", "curved"]
    assert told == [
        "fitting envelope, 1 of 4",
        "fitting isoflop, 2 of 4",
        "fitting additive, 3 of 4",
        "fitting additive, 3 of 4: 20 replicates, 20 of them from the estimate",
        "fitting curved, 4 of 4",
    ]
    again = analyse(ledger, study, points, tell=told.append)
    assert len(told) == 5
    assert len(n_fits) == 4
    assert again.refusals == first.refusals == dict.fromkeys(("envelope", "curved"), REFUSED)
    assert list(again.fits) == list(first.fits) == ["isoflop", "additive"]
    for name, fit in first.fits.items():
        assert again.fits[name].to_json() == fit.to_json()


REFUSED = "not in this test"


def test_of_two_runners_one_fits_and_the_other_waits_and_reads(ledger, finish, n_fits, monkeypatch):
    study, points = finish()
    is_fitting, is_waiting, slow = threading.Event(), threading.Event(), fit_once.fit_isoflop

    def isoflop(runs):
        is_fitting.set()
        assert is_waiting.wait(60)
        return slow(runs)

    def second():
        assert is_fitting.wait(60)

        def tell(said):
            told.append(said)
            is_waiting.set()

        return analyse(ledger, study, points, tell=tell)

    told = []
    monkeypatch.setattr(fit_once, "fit_isoflop", isoflop)
    with ThreadPoolExecutor() as threads:
        waits = threads.submit(second)
        first = analyse(ledger, study, points)
        again = waits.result(60)
    assert told == ["another process fits; waiting for it"]
    assert n_fits == ["envelope", "isoflop", "additive", "curved"]
    for name, fit in first.fits.items():
        assert again.fits[name].to_json() == fit.to_json()


def damage(ledger):
    path = ledger.fits / "additive.json"
    path.write_text(path.read_text().replace("1", "2", 1))


CHANGES = (
    ("another loss", lambda ledger, finish, patch: finish(shift=0.01)),
    ("a damaged fit", lambda ledger, finish, patch: damage(ledger)),
    ("a fit that is gone", lambda ledger, finish, patch: (ledger.fits / "isoflop.json").unlink()),
    ("a damaged list", lambda ledger, finish, patch: (ledger.fits / "made.json").write_text("{}")),
    (
        "other code",
        lambda ledger, finish, patch: patch.setattr(fit_once, "code_facts", lambda: {"git": "x"}),
    ),
)


@pytest.mark.parametrize("change", [c[1] for c in CHANGES], ids=[c[0] for c in CHANGES])
def test_what_is_not_the_same_is_fitted_again(ledger, finish, n_fits, monkeypatch, change):
    study, points = finish()
    analyse(ledger, study, points)
    change(ledger, finish, monkeypatch)
    analyse(ledger, study, points)
    assert len(n_fits) == 8
    analyse(ledger, study, points)
    assert len(n_fits) == 8


@pytest.mark.slow(reason="12 s of fits; that kept fits are read is in the quick suite")
def test_a_study_with_a_forecast_is_fitted_once_and_its_report_not_again(
    mine_file, monkeypatch, capsys, record, n_fits
):
    monkeypatch.chdir(mine_file.parent)

    def run_planned_jobs(ledger, planned_jobs, jobs, executor, view, **_):
        for point in (point for job in planned_jobs for point in job.points):
            loss = 1.5 + 40 * point.params.total**-0.4 + 90 * point.n_tokens**-0.4
            ledger.write_result(point.id, record(loss + int(point.id[:2], 16) / 1e6))
        return []

    monkeypatch.setattr(run_points, "run_planned_jobs", run_planned_jobs)
    monkeypatch.setattr(run_points.calibration, "learn", lambda ledger, points: None)
    main.main(["run", "mine.py", "forecast_budgets=1e11"])
    assert "forecast at 1e11 FLOPs" in capsys.readouterr().err
    assert n_fits == ["envelope", "isoflop", "additive", "curved"]
    (page,) = mine_file.parent.rglob("report.html")
    written = page.read_bytes()
    for command in ("report", "fit", "plot"):
        main.main([command, "mine.py", "forecast_budgets=1e11"])
    assert len(n_fits) == 4
    assert page.read_bytes() == written
