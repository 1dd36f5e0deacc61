# SPDX-License-Identifier: Apache-2.0
"""isoflop next: the family that is chosen from, what is proposed, written and refused."""

import dataclasses
import json
import math

import numpy as np
import pytest
from rich.console import Console

from experiments.adaptive.choose_points import choose_next, posterior_and_target, runs_of
from experiments.adaptive.family import NEW_SEEDS, family
from experiments.adaptive.next_record import IDLE
from experiments.adaptive.next_runs import Question, propose_next
from experiments.adaptive.prices import price, prices
from experiments.cli import main
from experiments.cli.opening.load_study import load_study
from experiments.files.checked_json import text_of
from experiments.ledger.ledger import Ledger
from experiments.operations.verify import check_file
from experiments.plan.plan import plan
from experiments.plan.point import point_from_json
from experiments.study.study import Axis, LogSpaced
from model.data.manifest import Manifest
from scaling.approaches.surface.fit import fit_surface
from scaling.fit import FitError
from scaling.tables.units import power


def law(point, rng, sd=0.005):
    loss = 1.2 + 40 * point.params.total**-0.45 + 200 * point.n_tokens**-0.45
    return loss * math.exp(sd * rng.standard_normal())


@pytest.fixture(autouse=True)
def quick_fits(monkeypatch):
    """One surface with few replicates: an interval is there, whatever its width."""

    def fit(runs, law):
        if law == "curved":
            raise FitError("not in this test")
        return fit_surface(runs, law, n_bootstrap=60, replicate_starts=1)

    def refuse(*rest):
        raise FitError("not in this test")

    monkeypatch.setattr("experiments.report.fits.fit_once.fit_surface", fit)
    for name in ("fit_envelope", "fit_isoflop"):
        monkeypatch.setattr(f"experiments.report.fits.fit_once.{name}", refuse)


@pytest.fixture
def mine(tmp_path, isoflop, mine_file):
    """The study, its manifest and ledger, in the folder of `isoflop`."""
    assert main.main(["plan", "mine.py"]) is None
    study = load_study(str(tmp_path / "mine.py"))
    ledger = Ledger(tmp_path / "results", "mine")
    return study, Manifest.read(ledger.manifest), ledger


@pytest.fixture
def finish(mine, record):
    """Gives points results that follow a law, and says which are left."""

    def write(keep=lambda point: True):
        study, manifest, ledger = mine
        points = plan(study, manifest).points
        ledger.write_plan("{}", list(points))
        rng = np.random.default_rng(0)
        for point in filter(keep, points):
            ledger.write_result(point.id, record(law(point, rng)))
        return [point for point in points if not keep(point)]

    return write


def written(ledger):
    return json.loads(text_of((ledger.folder / "next.json").read_bytes()))


def test_the_family_goes_beyond_the_study_and_never_below_it(study, manifest):
    points = family(study, manifest, most=1e13)
    budgets = sorted({point.budget for point in points})
    np.testing.assert_allclose(budgets, [1e11, 2e11, 4e11, 8e11, 1.6e12])
    own = {point.id for point in plan(study, manifest).points}
    assert own <= {point.id for point in points}
    assert {point.seed for point in points} == {0, 1, *range(2, 2 + NEW_SEEDS)}
    assert {point.spec.model.d_model for point in points} == {16, 32, 64}
    assert len({point.id for point in points}) == len(points)


def test_nothing_in_the_family_costs_more_than_there_is(study, manifest):
    points = family(study, manifest, most=2e11)
    assert points
    assert all(point.flops[study.flops] <= 2e11 for point in points)


def test_the_family_has_sizes_between_those_of_a_rule(study, manifest):
    rule = LogSpaced(n_sizes=3, tokens_per_param=(5.0, 80.0))
    study = dataclasses.replace(study, sizes=rule, budgets=(1e12,))
    own, wider = ({p.spec.model.d_model for p in points if p.budget == 1e12} for points in (
        plan(study, manifest).points, family(study, manifest, most=1e13)))  # fmt: skip
    assert own < wider
    assert len(wider) == 5


def test_a_budget_whose_data_do_not_suffice_is_left_out(study, make_manifest):
    short = make_manifest(n_train_tokens=3_000_000, n_validation_tokens=100_000)
    points = family(study, short, most=1e14)
    assert points
    assert all(point.n_tokens <= 3_000_000 for point in points)


def test_the_proposal_is_shown_kept_and_drawn(isoflop, mine, finish):
    study, manifest, ledger = mine
    left = finish(lambda point: point.budget < 4e9 or point.seed == 0)
    arguments = ("--budget", "1e10", "--target-flops", "5e10")
    code, out, err = isoflop("next", "mine.py", *arguments)
    assert (code, err) == (0, ""), err
    body = written(ledger)
    assert body["flops"] <= 1e10
    assert body["flops"] == pytest.approx(sum(row["flops"] for row in body["proposed"]))
    assert sum(row["share"] for row in body["proposed"]) == pytest.approx(1.0)
    done = {p.id for p in plan(study, manifest).points} - {p.id for p in left}
    for row in body["proposed"]:
        point = point_from_json(json.dumps(row["point"]))
        assert point.id == row["id"]
        assert point.id not in done
    low, high = body["before"]
    after = body["after"]
    assert low < after[0] < body["estimate"] < after[1] < high
    ratio = math.log(after[1] / after[0]) / math.log(high / low)
    assert ratio == pytest.approx(body["width_after_over_before"])
    assert {row["id"] for row in body["remaining"]} == {p.id for p in left}
    assert all(row["is_idle"] == (row["gain"] < IDLE) for row in body["remaining"])
    for words in ("share of the gain", "95% interval", f"{len(left)} planned runs are not finish"):
        assert words in out
    assert power(body["proposed"][0]["flops"]) in out
    image = ledger.figures / "next.png"
    assert image.stat().st_size > 10_000
    assert (ledger.figures / "next.svg").exists()
    path = ledger.folder / "next.json"
    before = path.read_bytes()
    assert isoflop("next", "mine.py", *arguments)[0] == 0
    assert path.read_bytes() == before
    path.write_bytes(before.replace(b"loss", b"lost", 1))
    assert [one.key for one in check_file(ledger, "next.json")] == ["next.json"]


@pytest.mark.usefixtures("no_drawing")
def test_before_any_run_a_first_grid_rests_on_published_fits_and_says_so(isoflop, mine):
    code, out, err = isoflop(
        "next", "mine.py", "--budget", "2e10", "--target-flops", "5e10", "--target", "exponent"
    )
    assert (code, err) == (0, ""), err
    assert "no run is finished: the proposal rests on 6 published fits" in out
    assert "no interval yet" in out
    body = written(mine[2])
    assert body["before"] is None
    assert body["width_after_over_before"] is None
    assert len({(row["budget"], row["d_model"]) for row in body["proposed"]}) >= 8


@pytest.mark.usefixtures("no_drawing")
def test_a_proposed_run_that_is_done_is_fitted_and_not_proposed_again(
    isoflop, mine, finish, record
):
    finish()
    assert isoflop("next", "mine.py", "--budget", "5e9", "--target-flops", "5e10")[0] == 0
    first, ledger = written(mine[2]), mine[2]
    rng = np.random.default_rng(1)
    points = [point_from_json(json.dumps(row["point"])) for row in first["proposed"]]
    ledger.write_plan("{}", [*plan(*mine[:2]).points, *points])
    for point in points:
        ledger.write_result(point.id, record(law(point, rng)))
    assert isoflop("next", "mine.py", "--budget", "5e9", "--target-flops", "5e10")[0] == 0
    second = written(ledger)
    assert second["n_runs_finished"] == first["n_runs_finished"] + len(points)
    assert not {row["id"] for row in second["proposed"]} & {p.id for p in points}
    assert second["remaining"] == []


@pytest.mark.usefixtures("no_drawing")
@pytest.mark.slow(reason="4 s of fits; `--until` does rounds in the quick suite")
def test_rounds_propose_a_part(isoflop, mine, finish):
    finish()
    flops = []
    for rounds in ("1", "4"):
        assert (
            isoflop(
                "next", "mine.py", "--budget", "2e10", "--target-flops", "5e10", "--rounds", rounds
            )[0]
            == 0
        )
        flops.append(written(mine[2])["flops"])
    assert flops[1] <= 5e9 < flops[0]


REFUSED = (
    (("--budget", "1e5", "--target-flops", "5e10"), "pays for no planned run"),
    (("--budget", "nan", "--target-flops", "5e10"), "pays for no planned run"),
    (("--budget", "-1", "--target-flops", "5e10"), "pays for no planned run"),
    (("--budget", "1e10", "--target-flops", "1e3"), "above the lowest budget"),
    (("--budget", "1e10", "--target-flops", "inf"), "finite"),
    (("--budget", "1e10", "--target-flops", "5e10", "--rounds", "0"), "rounds=0"),
    (("--budget", "1e10", "--target-flops", "5e10", "--target", "E"), "invalid choice"),
    (("--budget", "1e10"), "--target-flops"),
    (("--budget", "1e10", "--target-flops", "x"), "--target-flops"),
)


def test_what_cannot_be_is_refused_in_one_line(isoflop, mine, finish):
    finish()
    for arguments, words in REFUSED:
        code, _, err = isoflop("next", "mine.py", *arguments)
        assert code == 2, arguments
        assert err.startswith("isoflop: ")
        assert words in err
        assert err.count("\n") == 1
    assert not (mine[2].folder / "next.json").exists()


def test_a_study_with_axes_is_told_to_choose(study, manifest, ledger):
    study = dataclasses.replace(
        study, axes=(Axis(field="recipe.optimizer.learning_rate", values=(1.0,)),)
    )
    question = Question(budget=1e12, target="loss", target_flops=1e13)
    with pytest.raises(ValueError, match=r"varies recipe\.optimizer\.learning_rate"):
        propose_next(question, study, ledger=ledger, manifest=manifest, console=Console())


def test_what_siblings_of_a_new_trunk_save_is_spent_again(branched, manifest):
    """One by one each would pay for the trunk: a budget would be half spent."""
    asked = list(plan(branched, manifest).points)
    left = [*asked, *family(branched, manifest, most=1e13)]
    left = list({point.id: point for point in left}.values())
    runs, nothing = runs_of(left, branched.flops), runs_of([], branched.flops)
    posterior, target = posterior_and_target(nothing, runs, target="loss", flops=1e13)
    budget = price(branched, (), asked)
    proposal, spends = choose_next(
        posterior,
        target,
        study=branched,
        known=(),
        left=left,
        has_trunk=lambda trunk: False,
        budget=budget,
    )
    chosen = [left[row] for row in proposal.rows]
    assert spends == pytest.approx(price(branched, (), chosen))
    assert 0.9 * budget < spends <= budget
    assert sum(prices(branched, (), chosen)) > 1.1 * budget
