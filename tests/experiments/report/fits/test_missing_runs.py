# SPDX-License-Identifier: Apache-2.0
"""Runs that diverged, failed or were never trained: in the table, out of the fits, and counted."""

import csv
import dataclasses

import pytest
from command_line import is_one_line
from small_studies import mine

from experiments.executors.worker_settings import MAX_ATTEMPTS
from experiments.ledger.ledger import Ledger
from experiments.ledger.owner import this_process
from experiments.report.fits.analysis import analyse
from experiments.report.fits.missing_runs import TooManyMissing, require_enough
from experiments.study.study import Axis
from experiments.train import run_points
from model.data.manifest import Manifest
from scaling.fit import FitError

COUNTS = (  # Missing, asked for, allowed, whether it is refused.
    *((0, 0, 0.1, False), (0, 10, 0.0, False), (1, 10, 0.1, False), (2, 10, 0.1, True)),
    *((1, 100, 0.0, True), (29, 100, 0.29, False), (30, 100, 0.29, True), (10, 10, 1.0, False)),
    *((3, 30, 0.1, False), (7, 10, 0.7, False), (52, 52, 0.99, True)),
)


@pytest.mark.parametrize(("n_missing", "n", "allowed", "is_refused"), COUNTS)
def test_the_rule_and_that_its_own_advice_passes_it(n_missing, n, allowed, is_refused):
    missing = {f"r{i}": "diverged" for i in range(n_missing)}
    if not is_refused:
        return require_enough(missing, n, allowed, "Wait.")
    with pytest.raises(TooManyMissing) as caught:
        require_enough(missing, n, allowed, "Wait.")
    text = str(caught.value)
    assert text.startswith(f"{n_missing} of {n} runs are missing, more than the {allowed:.0%}")
    assert "r0 (diverged)" in text
    assert text.isprintable()
    assert ("r9 (diverged)" in text, "r10 (" in text) == (n_missing > 9, False)
    assert (f"and {n_missing - 10} more" in text) == (n_missing > 10)
    advice = float(text.rpartition("--allow-missing ")[2].partition(" ")[0])
    require_enough(missing, n, advice, "Wait.")
    with pytest.raises(TooManyMissing):
        require_enough(missing, n, advice - 0.02, "Wait.")


@pytest.fixture
def fill(ledger, record):
    """Gives the points of a plan results that follow a law; some diverge, fail or are missing."""

    def write(points, diverged=(), failed=(), untrained=()):
        ledger.write_plan("{}", points)
        for point in points:
            loss = 1.7 + 60 * point.params.total**-0.5 + 100 * point.n_tokens**-0.4
            if point.id in failed:
                for _ in range(MAX_ATTEMPTS):
                    job = ledger.job(point.id)
                    number = job.claim(this_process(), lease_seconds=0.0, max_attempts=99)
                    job.end(number, "oom", "out of <memory>", 0)
            elif point.id in diverged:
                ledger.write_result(point.id, record(None, status="diverged", reason="step 3"))
            elif point.id not in untrained:
                ledger.write_result(point.id, record(loss))

    return write


@pytest.fixture
def quick_fits(monkeypatch):
    """No fit is needed to see which rows one would get."""
    given = []

    def refuse(runs, *rest):
        given.append(runs)
        raise FitError("not in this test")

    for name in ("fit_envelope", "fit_isoflop", "fit_surface"):
        monkeypatch.setattr(f"experiments.report.fits.fit_once.{name}", refuse)
    return given


def by_id(path):
    with path.open(newline="") as file:
        return {row["run_id"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize("has_axis", [False, True])
def test_every_missing_run_is_in_the_words_by_number_and_id(
    ledger, study, points, fill, quick_fits, has_axis
):
    if has_axis:
        study = dataclasses.replace(
            study, axes=(Axis(field="recipe.optimizer.learning_rate", values=(1.0,)),)
        )
        points = [
            dataclasses.replace(p, axes={"recipe.optimizer.learning_rate": 1.0}) for p in points
        ]
    diverged, failed, untrained = (points[i].id for i in (1, 3, 5))
    fill(points, (diverged,), (failed,), (untrained,))
    found = analyse(ledger, study, points, allow_missing=0.5)
    rows = by_id(ledger.table)
    assert (rows[diverged]["status"], rows[diverged]["loss_nats"]) == ("diverged", "")
    assert (rows[failed]["status"], rows[failed]["loss_nats"]) == ("failed", "")
    assert rows[failed]["reason"] == "out of <memory>"
    assert untrained not in rows
    fitted = {str(run_id) for run_id in found.runs.select(found.runs.is_ok).run_id}
    assert fitted == {p.id for p in points} - {diverged, failed, untrained}
    words = " ".join({*found.findings, *quick_fits[0].findings})
    for run_id, why in ((diverged, "diverged"), (failed, "failed"), (untrained, "not trained")):
        assert words.count(f"{run_id} ({why})") == 1
    n = len(points)
    assert f"1 of {n} runs of the grid are not fitted" in words
    assert f"2 of {n - 1} runs are not ok" in words


def test_a_grid_with_nothing_missing_says_nothing(ledger, study, points, fill, quick_fits):
    fill(points)
    assert analyse(ledger, study, points, allow_missing=0.0).findings == ()


def test_forecast_runs_are_no_part_of_the_grid(ledger, study, points, fill, quick_fits):
    beyond = [dataclasses.replace(p, role="forecast") for p in points[:4]]
    fill([*beyond, *points[4:]], untrained={p.id for p in beyond})
    analyse(ledger, study, [*beyond, *points[4:]], allow_missing=0.0)


@pytest.fixture
def on_mine(isoflop, tmp_path):
    """Runs a command on a study of at least ten runs, too few sizes for any law."""
    changes = "budgets=(3e8, 6e8), seeds=(0, 1), forecast_budgets=(1e10,), "
    changes += "sizes=Ladder(d_models=(8, 16, 24), tokens_per_param=(0.1, 1e5))"
    (tmp_path / "mine.py").write_text(mine(changes))
    anyway = {"run": ("--anyway",)}
    return lambda command, *rest: isoflop(command, "mine.py", *anyway.get(command, ()), *rest)


@pytest.fixture
def trained(monkeypatch, record):
    """A stand-in for training in which the points of ``bad`` diverge."""
    bad = set()

    def run_planned_jobs(ledger, planned_jobs, jobs, executor, view, **_):
        points = [point for planned_job in planned_jobs for point in planned_job.points]
        assert Manifest.read(ledger.manifest).kind == "zipf"
        for i, point in enumerate(points):
            diverges = i in bad
            status = "diverged" if diverges else "ok"
            loss, reason = (None, "step 3") if diverges else (2.0 + point.seed / 10, "")
            ledger.write_result(point.id, record(loss, status=status, reason=reason))
        return []

    monkeypatch.setattr(run_points, "run_planned_jobs", run_planned_jobs)
    return bad


def is_refusal(code, err, n_bad, n):
    return (
        code == 2
        and is_one_line(err)
        and f"{n_bad} of {n} runs are missing, more than the 10%" in err
    )


def test_run_fit_plot_and_report_refuse_alike_and_lose_nothing(on_mine, trained, tmp_path):
    trained |= {0, 3, 4}
    code, out, err = on_mine("run")
    ledger = Ledger(tmp_path / "results", "mine")
    n = len(ledger.read_plan())
    assert n >= 10
    assert is_refusal(code, err, 3, n), (code, out, err)
    assert len(by_id(ledger.table)) == n
    assert not ledger.report.exists()
    assert not (ledger.folder / "forecasts").exists()
    before = ledger.table.read_bytes()
    for command in ("fit", "plot", "report", "run"):
        code, out, err = on_mine(command)
        assert is_refusal(code, err, 3, n), (command, code, err)
        for row in by_id(ledger.table).values():
            assert (f"{row['run_id']} (diverged)" in err) == (row["status"] == "diverged")
    assert ledger.table.read_bytes() == before
    code, out, err = on_mine("fit", "--allow-missing", "0.3")
    assert (code, err) == (0, "")
    assert f"- 3 of {n} runs are in no fit: diverged." in out
    code, out, err = on_mine("run", "--allow-missing", "0.3")
    assert code == 0, err
    assert ledger.report.exists()
    assert is_refusal(*on_mine("run")[::2], 3, n), "what was allowed once is not allowed for ever"


@pytest.mark.parametrize("text", ["-0.1", "1.1", "nan", "inf", "x", "", "10%"])
def test_a_fraction_that_is_none_is_refused(on_mine, text):
    for command in ("run", "fit", "plot", "report"):
        code, _, err = on_mine(command, f"--allow-missing={text}")
        assert code == 2
        assert "give 0 to 1" in err
        assert err.count("\n") == 1


ROWS = [(n, d) for n in (1e6, 2e6, 4e6, 8e6, 1.6e7) for d in (2e7, 4e7, 8e7, 1.6e8)]


@pytest.fixture
def table(tmp_path):
    def write(statuses):
        lines = ["run_id,n_params,n_tokens,loss_nats,status"]
        for i, ((n, d), status) in enumerate(zip(ROWS, statuses, strict=True)):
            loss = 1.7 + 400 * n**-0.34 + 410 * d**-0.28 if status == "ok" else ""
            lines.append(f"r{i},{n},{d},{loss},{status}")
        path = tmp_path / "runs.csv"
        path.write_text("\n".join(lines) + "\n")
        return str(path)

    return write


@pytest.mark.parametrize(
    ("command", "rest"),
    [
        ("fit", ("--bootstrap", "0")),
        ("compare", ("--laws", "additive", "--below", "1.5e15")),
        ("optimum", ("--flops", "1e15", "--bootstrap", "0")),
    ],
)
def test_a_table_obeys_the_same_rule(table, isoflop, command, rest):
    def run(statuses, *flags):
        return isoflop(command, table(statuses), *rest, *flags)

    two = ["ok"] * 18 + ["diverged", "failed"]
    assert run(two)[0] == 0
    five = ["ok"] * 15 + ["diverged", "failed", "diverged", "crashed", "failed"]
    code, _, err = run(five)
    assert is_refusal(code, err, 5, 20), err
    for i, status in enumerate(five):
        assert (f"r{i} ({status})" in err) == (status != "ok")
    assert "--allow-missing 0.25" in err
    assert run(five, "--allow-missing", "0.25")[0] == 0
    assert run(five, "--where", "status=ok")[0] == 0
