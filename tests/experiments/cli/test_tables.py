# SPDX-License-Identifier: Apache-2.0
"""isoflop fit TABLE, compare and optimum, as a person runs them."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.cli.main import main
from experiments.cli.options import values as option_values
from experiments.fit_tables import fit_law
from scaling.fit import Fit
from scaling.laws.closed_form_optimum import optimal_params
from scaling.laws.loss_laws import ADDITIVE
from scaling.laws.registry import LAWS

TRUTH = (1.69, 406.4, 410.7, 0.34, 0.28)
COLUMNS = ("--columns", "n_params=size:M,n_tokens=tokens:B", "--columns", "loss_nats=loss")
# One set of settings for all commands: every (law, objective) is compiled once.
QUICK = (*COLUMNS, "--bootstrap", "32")


def table(folder: Path, name: str, seed: int, gain: float = 1.0) -> str:
    """Four budgets of seven sizes; `gain` times the compute for the same loss."""
    budget = np.repeat([1e18, 1e19, 1e20, 1e21], 7)
    N = optimal_params(TRUTH, budget) * np.tile(np.geomspace(1 / 6, 6, 7), 4)
    D = budget / (6 * N)
    noise = np.exp(0.003 * np.random.default_rng(seed).standard_normal(len(N)))
    loss = ADDITIVE.loss(TRUTH, N / gain**0.5, D / gain**0.5) * noise
    rows = zip(N / 1e6, D / 1e9, loss, budget, strict=True)
    lines = [",".join(repr(float(v)) for v in row) + f",{i % 2}" for i, row in enumerate(rows)]
    path = folder / name
    path.write_text("\n".join(["size,tokens,loss,budget,odd", *lines]) + "\n")
    return str(path)


@pytest.fixture
def run(capsys):
    """Runs a command; gives what it printed."""

    def command(*arguments):
        main(list(arguments))
        return capsys.readouterr().out

    return command


def test_a_table_is_fitted_printed_written_and_drawn(tmp_path, run):
    out, figures = tmp_path / "new" / "fit.json", tmp_path / "figures"
    path = table(tmp_path, "a.csv", 1)
    text = run("fit", path, *QUICK, "--out", str(out), "--figures", str(figures))
    fit = Fit.from_json(out.read_text())
    assert fit.is_certified
    rows = {line.split()[0]: line.split()[1] for line in text.splitlines() if line[:1].isalpha()}
    assert rows["alpha"] == f"{fit.parameters['alpha']:.6g}"
    assert "certified: converged to a certified minimum." in text
    assert "28 of 28 runs, total parameters, 6n_total FLOPs" in text
    assert fit.intervals["alpha"].lower < 0.34 < fit.intervals["alpha"].upper
    names = {p.name for p in figures.iterdir()}
    assert names == {
        f"{name}.{kind}"
        for name in ("fit", "frontier", "surface", "residuals", "bootstrap_pairs")
        for kind in ("png", "svg", "txt")
    }
    assert json.loads(out.read_text())["schema_version"] == 2


def test_a_plain_fit_shows_what_other_approaches_say(tmp_path, run):
    path, out = table(tmp_path, "a.csv", 1), tmp_path / "fit.json"
    text = run("fit", path, *QUICK, "--out", str(out))
    told = text.partition("other approaches (200 replicates):\n")[2].splitlines()
    assert told[0].split() == ["approach", "a", "N*", "at", "1e21", "FLOPs"]
    names = ["surface (additive)", "surface (curved)", "isoflop"]
    assert [line.partition("  ")[0] for line in told[1:4]] == names
    assert told[4] == "their intervals overlap."
    beside = json.loads(out.read_text())["agreement"]
    assert beside["approaches"] == names
    # The truth, alpha = 0.34 and beta = 0.28, by every approach.
    assert all(one["interval"]["lower"] < 0.28 / 0.62 for one in beside["exponent_a"])
    for asked in (("--law", "additive"), ("--bootstrap", "0")):
        assert "other approaches" not in run("fit", path, *QUICK, *asked)


def test_approaches_that_disagree_are_named(tmp_path, run, monkeypatch):
    monkeypatch.setattr("scaling.answers.agreement.are_apart", lambda one, other: True)
    said = run("fit", table(tmp_path, "a.csv", 1), *QUICK).partition("other approaches")[2]
    assert "- N* at 1e21 FLOPs: the intervals do not all overlap (" in said
    assert "their intervals overlap" not in said


def test_what_a_published_approach_2_took_can_be_asked_for(tmp_path, run, refused):
    path, out = table(tmp_path, "a.csv", 1), tmp_path / "fit.json"
    asked = (*COLUMNS, "--approach", "isoflop", "--curve", "parabola", "--out", str(out))
    widths = []
    for noise in ("0.003", "0.03"):
        run("fit", path, *asked, "--bootstrap", "64", "--accept", "any", "--seed-noise", noise)
        settings = json.loads(out.read_text())["settings"]
        assert (settings["accept"], settings["seed_noise"]) == ("any", float(noise))
        ends = Fit.from_json(out.read_text()).intervals["exponent_a"]
        widths.append(ends.upper - ends.lower)
    assert 5 < widths[1] / widths[0] < 20
    run("fit", path, *asked, "--bootstrap", "64", "--weights", "variance")
    assert json.loads(out.read_text())["settings"]["weights"] == "variance"
    line = refused("fit", path, *asked, "--bootstrap", "0", "--weights", "variance")
    assert "needs replicates" in line
    line = refused("fit", path, *COLUMNS, "--approach", "isoflop", "--accept", "any")
    assert "--accept: only with one curve a budget; say --curve parabola" in line


def test_runs_weigh_as_a_column_says(tmp_path, run, refused):
    path, out = table(tmp_path, "a.csv", 1), tmp_path / "fit.json"
    head, *rows = Path(path).read_text().splitlines()
    # A third of the losses is wrong, and weighs nothing to speak of.
    rows = [
        f"{row.rpartition(',')[0]},{1e-9 if i % 3 == 0 else 2},{'' if i else 1}"
        for i, row in enumerate(rows)
    ]
    wrong = [row.split(",") for row in rows]
    for i in range(0, len(wrong), 3):
        wrong[i][2] = repr(1.5 * float(wrong[i][2]))
    Path(path).write_text("\n".join([f"{head},holes", *map(",".join, wrong)]) + "\n")
    asked = (*COLUMNS, "--bootstrap", "32", "--out", str(out))
    text = run("fit", path, *asked, "--weights", "odd")
    assert "sum of Huber(0.001) on residuals of log loss, weighted by odd" in text
    assert "other approaches" not in text
    fit = Fit.from_json(out.read_text())
    assert fit.settings["weights"] == "odd"
    assert fit.intervals["alpha"].lower < 0.34 < fit.intervals["alpha"].upper
    assert fit.parameters["E"] == pytest.approx(1.69, abs=0.2)
    line = refused("fit", path, *asked, "--weights", "holes")
    assert "weights: holes must be positive and finite, and is not for 27 of 28 runs" in line
    for option, said in (
        (("--approach", "envelope"), "--weights: only for --approach surface, not envelope"),
        (("--approach", "isoflop"), "--weights: only with one curve a budget"),
        (("--method", "residual"), "take pairs or wild"),
        (("--target", "loss"), "--weights: for runs, not with --target"),
    ):
        assert said in refused("fit", path, *asked, "--weights", "odd", *option)


def test_as_many_runs_as_parameters_are_fitted_without_intervals_only(tmp_path, run, refused):
    path = Path(table(tmp_path, "a.csv", 1))
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([head, *rows[:6:2], *rows[15::6][:2]]) + "\n")
    line = refused("fit", str(path), *COLUMNS, "--law", "additive", "--fix", "E=1.69")
    assert "needs at least 6" in line
    assert line.endswith("or do without intervals.\n")
    asked = ("--law", "additive", "--fix", "E=1.69", "--no-intervals")
    text = run("fit", str(path), *COLUMNS, *asked)
    assert "5 different runs for 4 parameters: the law passes close to every one" in text
    assert "no intervals" in text
    assert "leave one out" in refused("fit", str(path), *COLUMNS, *asked, "--bootstrap", "9")


def test_a_fit_that_is_not_certified_says_so(tmp_path, run):
    text = run("fit", table(tmp_path, "a.csv", 1), *QUICK, "--bound", "alpha=0.01:0.2")
    assert "not certified, AT_BOUND: a parameter lies at a bound of its range." in text
    assert "alpha at its upper bound" in text


def test_fixed_and_tied_parameters_are_marked(tmp_path, run):
    arguments = ("--fix", "E=1.69", "--tie", "beta=alpha", "--bootstrap", "0")
    text = run("fit", table(tmp_path, "a.csv", 1), *COLUMNS, *arguments)
    assert "1.69  fixed" in text
    assert "tied to alpha" in text
    assert "no intervals: no replicates were drawn" in text


@pytest.mark.usefixtures("no_drawing")
def test_budgets_of_a_table_are_fitted_by_approach_2(tmp_path, run):
    figures = tmp_path / "figures"
    arguments = ("--approach", "isoflop", "--figures", str(figures))
    text = run("fit", table(tmp_path, "a.csv", 1), *QUICK, *arguments)
    assert "a  (N* ~ C^a)" in text
    assert (figures / "isoflop.png").exists()


@pytest.mark.parametrize(
    ("other", "said", "in_bits"),
    [
        ({}, False, False),
        ({"fingerprint": "cd" * 32}, True, False),
        ({"fingerprint": "cd" * 32, "vocab_size": 512}, True, True),
        (None, False, False),
    ],
    ids=["the same", "other text", "other tokens", "a table of others"],
)
def test_studies_of_different_data_are_named_where_recipes_are_compared(
    tmp_path, run, make_manifest, other, said, in_bits
):
    paths = []
    for name, changes in (("a", {}), ("b", other)):
        (tmp_path / name).mkdir()
        paths.append(table(tmp_path / name, "table.csv", 1, 2.0))
        if changes is not None:
            make_manifest(**changes).write(tmp_path / name / "manifest.json")
    asked = (*COLUMNS, "--flops", "1e19", "--bootstrap", "0")
    text = run("compare", *paths, *asked)
    line = "- A and B are of different data (stdlib, abababab; stdlib, cdcdcdcd)"
    assert (line in text) == said
    assert ("in bits per byte, for their tokens differ" in text) == in_bits
    found = json.loads(run("compare", *paths, *asked, "--json"))["findings"]
    assert ("different data" in found[0]) == said


def test_a_table_of_one_budget_gives_its_best_size(tmp_path, run, refused):
    path = table(tmp_path, "a.csv", 1)
    out = tmp_path / "best.json"
    for asked in ((), ("--approach", "isoflop")):
        text = run("fit", path, *COLUMNS, "--where", "budget=1e19", *asked, "--out", str(out))
        sentence = " ".join(text.partition("95 %")[0].split())
        assert sentence.startswith("At 1e19 FLOPs train ")
        assert sentence.endswith("the minimum of a parabola through 7 runs at 7 sizes.")
        assert "C^" not in text
        told = json.loads(out.read_text())["optimum"]
        interval = told["interval_n_params"]
        truth = optimal_params(TRUTH, np.array([1e19]))[0]
        # The law is not symmetric about its minimum: 3 % of bias beside the noise.
        assert interval["lower"] / 1.03 < truth < 1.03 * interval["upper"]
    assert json.loads(run("fit", path, *COLUMNS, "--where", "budget=1e19", "--json"))["is_minimum"]
    line = refused("fit", path, *COLUMNS, "--where", "budget=1e19", "--approach", "isoflop",
                   "--curve", "quartic")  # fmt: skip
    assert "of one budget the parabola over parameters answers" in line


def test_runs_that_were_forecast_are_in_no_fit_unless_asked_for(tmp_path, run):
    path = Path(table(tmp_path, "a.csv", 1))
    head, *rows = path.read_text().splitlines()
    roles = ["grid"] * (len(rows) - 1) + ["forecast"]
    lines = [f"{row},{role}" for row, role in zip(rows, roles, strict=True)]
    path.write_text("\n".join([f"{head},role", *lines]) + "\n")
    out = tmp_path / "fit.json"
    for where, n_runs in (((), 27), (("--where", "role!=none"), 28)):
        text = run("fit", str(path), *QUICK[:-1], "0", *where, "--out", str(out), "--verbose")
        assert ("1 forecast run is left out" in text) == (not where)
        assert len(Fit.from_json(out.read_text()).fitted_runs) == n_runs


def test_rows_and_objectives_are_chosen(tmp_path, run):
    arguments = ("--where", "odd=1", "--law", "power_n_params", "--bootstrap", "0")
    text = run("fit", table(tmp_path, "a.csv", 1), *COLUMNS, *arguments)
    assert "14 of 28 rows are left out: not odd=1." in text
    assert "N* ~ C^a" not in text


def test_curves_of_others_are_mapped_and_filtered(tmp_path, run, refused):
    path, curves = Path(table(tmp_path, "a.csv", 1)), tmp_path / "curves.csv"
    head, *lines = path.read_text().splitlines()
    path.write_text(
        "\n".join([f"{head},called", *(f"{line},run{i}" for i, line in enumerate(lines))])
    )
    rows = []
    for i, line in enumerate(lines):
        size, tokens, _, budget, _ = map(float, line.split(","))
        for share in (0.1, 0.3, 1.0):
            loss = float(ADDITIVE.loss(TRUTH, 1e6 * size, share * 1e9 * tokens))
            numbers = (100 * share, share * 1e9 * tokens, share * budget / 1e9, loss)
            rows.append(f"run{i}," + ",".join(map(repr, numbers)))
            rows.append(f"run{i},{100 * share},1,1,")
    curves.write_text("\n".join(["name,_step,seen,gflops,eval/loss", *rows]) + "\n")
    asked = (*COLUMNS, "--approach", "envelope", "--curves", str(curves), "--bootstrap", "8")
    assert "has no column run_id" in refused("fit", str(path), *asked)
    names = "run_id=name,step=_step,n_tokens=seen,flops=gflops:1e9,loss_nats=eval/loss"
    asked += ("--curves-columns", names, "--curves-where", "_step>20")
    line = refused("fit", str(path), *asked)
    assert "no run has a curve: runs are called line10, line11, line12, curves run0, run1" in line
    text = run("fit", str(path), *asked, "--columns", "run_id=called")
    assert "56 of 168 rows are left out: not _step>20." in text
    assert "56 of 112 rows of the curves have no eval/loss and are left out." in text
    assert "a  (N* ~ C^a)" in text


def test_recipes_may_share_their_exponents(tmp_path, run, refused):
    paths = table(tmp_path, "a.csv", 1), table(tmp_path, "b.csv", 2, 2.0)
    free, shared = (
        json.loads(run("compare", *paths, *QUICK, *asked, "--json"))
        for asked in ((), ("--exponents", "shared"))
    )
    widths = [np.log(np.divide(one["upper"], one["lower"])).max() for one in (free, shared)]
    assert widths[1] < widths[0]
    assert all(low < 0.5 < high for low, high in zip(shared["lower"], shared["upper"], strict=True))
    assert "--law: not for compare with --exponents shared" in refused(
        "compare", *paths, *COLUMNS, "--exponents", "shared", "--law", "curved"
    )


def test_laws_are_compared_by_hold_out(tmp_path, run):
    out = tmp_path / "holdout.json"
    arguments = ("--laws", "additive,power_n_params", "--below", "3e20", "--out", str(out))
    text = run("compare", table(tmp_path, "a.csv", 1), *COLUMNS, *arguments)
    lines = text.splitlines()
    assert lines[2].startswith("additive")
    assert "best" in lines[2]
    assert lines[3].startswith("power_n_params")
    assert json.loads(out.read_text())["below"] == 3e20


def test_two_tables_give_the_compute_multiplier(tmp_path, run):
    out = tmp_path / "multiplier.json"
    a, b = table(tmp_path, "a.csv", 1), table(tmp_path, "b.csv", 2, gain=0.5)
    text = run("compare", a, b, *QUICK, "--out", str(out), "--flops", "1e19,1e20,1e25")
    body = json.loads(out.read_text())
    assert body["ratio"][1] == pytest.approx(2, rel=0.1)
    assert "compute of A over that of B at equal loss (above 1: B needs less):" in text
    assert text.count("extrapolated") == 1


def test_the_optimum_of_a_written_fit_marks_what_is_extrapolated(tmp_path, run):
    out, path = str(tmp_path / "fit.json"), table(tmp_path, "a.csv", 1)
    run("fit", path, *QUICK, "--out", out)
    text = run("optimum", out, "--flops", "1e20,1e24")
    assert text == run("optimum", path, "--flops", "1e20,1e24", *QUICK)
    # In a pipe the last column follows in a table of its own.
    inside, outside, *_ = (line for line in text.splitlines() if line.startswith("1e2"))
    assert inside.startswith("1e20 ")
    assert outside.startswith("1e24* ")
    size = inside.split()[1]
    assert size.endswith("M")
    assert 1e6 * float(size[:-1]) == pytest.approx(optimal_params(TRUTH, 1e20), rel=0.1)


def test_approach_2_states_its_bias_and_takes_its_curves(tmp_path, run):
    settings = (*QUICK, "--approach", "isoflop")
    path = table(tmp_path, "a.csv", 1)
    parabola, quartic = (
        run("fit", path, *settings),
        run("fit", path, *settings, "--curve", "quartic"),
    )
    for text in (parabola, quartic):
        assert "bias of this estimator" in text
    assert parabola.split("bias of this")[1] != quartic.split("bias of this")[1]


@pytest.mark.slow(reason="9 s of profiles, which have tests of their own")
@pytest.mark.usefixtures("no_drawing")
def test_profiles_are_printed_and_drawn(tmp_path, run):
    folder = tmp_path / "figures"
    text = run(
        "fit", table(tmp_path, "a.csv", 1), *QUICK, "--loss", "least_squares",
        "--profile", "alpha,n_params_opt@1e22", "--figures", str(folder),
    )  # fmt: skip
    assert "profile of alpha: " in text
    assert "profile of n_params_opt at 1e22 FLOPs: " in text
    assert {"profiles.png", "bootstrap_pairs.svg"} <= {path.name for path in folder.iterdir()}


def test_a_model_to_be_served_is_smaller_and_trained_longer(tmp_path, run):
    text = run(
        "optimum", table(tmp_path, "a.csv", 1), "--flops", "1e20", "--inference-tokens", "1e12",
        *QUICK,
    )  # fmt: skip
    sizes = {
        name: float(line.removeprefix(name).split()[0])
        for line in text.splitlines()
        for name in ("to train and serve", "to train ")
        if line.startswith(name) and line.removeprefix(name).split()[0][0].isdigit()
    }
    assert sizes["to train and serve"] < 0.6 * sizes["to train "]
    assert "of all FLOPs saved" in text


def test_every_interval_of_an_optimum_has_the_level_that_was_asked(tmp_path, run):
    fit = str(tmp_path / "fit.json")
    run("fit", table(tmp_path, "a.csv", 1), *QUICK, "--out", fit)
    asked = ("--flops", "1e20", "--inference-tokens", "1e12", "--level", "0.5", "--json")
    told = json.loads(run("optimum", fit, *asked))
    assert (told["level"], told["inference"][0]["level"]) == (0.5, 0.5)


def test_an_error_law_is_known_by_the_name_of_its_column(tmp_path, run):
    """Planted: error = .8 - 2 exp(-.9 L)."""
    loss = np.linspace(2.0, 4.0, 16)
    error = 0.8 - 2.0 * np.exp(-0.9 * loss)
    pairs = zip(loss.tolist(), error.tolist(), strict=True)
    rows = [f"1e8,{20 + i}e8,{x!r},{y!r}" for i, (x, y) in enumerate(pairs)]
    path = tmp_path / "tasks.csv"
    path.write_text("\n".join(["n_params,n_tokens,loss_nats,top1", *rows]) + "\n")
    out = tmp_path / "fit.json"
    law = ("--law", "error_exponential:top1", "--loss", "raw-least_squares", "--bootstrap", "0")
    run("fit", str(path), *law, "--out", str(out))
    found = Fit.from_json(out.read_text())
    assert found.parameters == pytest.approx({"eps": 0.8, "k": 2.0, "gamma": 0.9}, rel=1e-5)


def test_a_published_law_needs_no_fit(tmp_path, run):
    path = tmp_path / "two.csv"
    path.write_text("n_params,n_tokens,loss_nats\n1e8,2e9,3.3\n2e8,4e9,3.0\n")
    given = ("--fix", "E=1.69,A=406.4,B=410.7,alpha=0.34,beta=0.28")
    rows = run("optimum", str(path), "--flops", "5.76e23", *given).splitlines()
    row, _ = (line.split() for line in rows if line.startswith("5.76e23"))
    assert (row[0], row[1], row[4], row[7]) == ("5.76e23*", "32.2B", "1.9307", "2.98T")


def no_constant(name):
    raise AssertionError(f"{name} is no JSON")


ASKED_AS_OBJECTS = (
    ("fit", "A", *QUICK),
    ("fit", "A", *COLUMNS, "--bootstrap", "0"),
    ("compare", "A", *COLUMNS, "--laws", "additive,power_n_params"),
    ("compare", "A", "B", *QUICK, "--flops", "1e19,1e26"),
    ("optimum", "A", *QUICK, "--flops", "1e20", "--at", "1e9:2e10", "--inference-tokens", "1e12"),
    ("optimum", "A", *COLUMNS, "--bootstrap", "0", "--at", "1e9:2e10"),
)


@pytest.mark.parametrize("asked", ASKED_AS_OBJECTS, ids=" ".join)
def test_an_answer_as_one_object_is_what_out_writes(tmp_path, capsys, asked):
    out = tmp_path / "out.json"
    tables = {"A": table(tmp_path, "a.csv", 1), "B": table(tmp_path, "b.csv", 2, gain=0.5)}
    main([*(tables.get(word, word) for word in asked), "--json", "--out", str(out)])
    printed, told = capsys.readouterr()
    assert json.loads(printed, parse_constant=no_constant) == json.loads(out.read_text())
    assert "certified" in told
    assert str(out) in told


def test_the_loss_of_a_run_is_that_of_the_law(tmp_path, run):
    """Hoffmann et al. 2022, eq. 10, at Chinchilla's own size and tokens, and beyond the runs."""
    path = tmp_path / "two.csv"
    path.write_text("n_params,n_tokens,loss_nats\n1e8,2e9,3.3\n1e11,2e12,1.9\n")
    given = ("--fix", "E=1.69,A=406.4,B=410.7,alpha=0.34,beta=0.28")
    text = run("optimum", str(path), "--at", "70B:1.4T,7e10:7e12", *given)
    inside, beyond = (line.split() for line in text.splitlines() if line.startswith("7e10"))
    assert inside == [
        "7e10",
        "1.4e12",
        f"{1.69 + 406.4 / 7e10**0.34 + 410.7 / 1.4e12**0.28:.4f}",
        "none",
    ]
    assert beyond[2:] == [
        f"{1.69 + 406.4 / 7e10**0.34 + 410.7 / 7e12**0.28:.4f}",
        "none",
        "extrapolated",
    ]
    assert "N*" not in text


def test_the_interval_of_a_runs_loss_holds_the_scatter_of_one_run(tmp_path, capsys):
    path = table(tmp_path, "a.csv", 1)
    main(["optimum", path, *QUICK, "--flops", "1e20", "--at", "1e9:1.6e10", "--json"])
    found = json.loads(capsys.readouterr().out)
    (one,) = found["runs"]
    ends = one["loss_nats"]["interval"]
    truth = float(ADDITIVE.loss(TRUTH, 1e9, 1.6e10))
    assert ends["lower"] < truth < ends["upper"]
    # The scatter has a standard deviation of 0.3 %; the law alone is known far better.
    law = (found["loss_opt"]["upper"][0] - found["loss_opt"]["lower"][0]) / 2
    assert law < 0.003 * truth < (ends["upper"] - ends["lower"]) / 2
    assert not one["is_extrapolated"]


def test_a_name_of_a_column_may_hold_a_comma():
    found = option_values.pairs("--columns", ["n_params=Size, all (M):M,loss_nats=loss"], str)
    assert found == {"n_params": "Size, all (M):M", "loss_nats": "loss"}


@pytest.mark.parametrize("flag", ["--out", "--figures"])
def test_a_bad_place_is_refused_before_anything_is_fitted(tmp_path, refused, monkeypatch, flag):
    monkeypatch.setattr(fit_law, "fit_table", lambda *_: pytest.fail("it was fitted"))
    path = table(tmp_path, "a.csv", 1)
    for command in (("fit",), ("optimum", "--flops", "1e20")):
        told = (command[0], path, *command[1:], *COLUMNS)
        assert "t.csv" in refused(*told, flag, f"{table(tmp_path, 't.csv', 1)}/below/x")
    if flag == "--out":
        assert "is a folder. Name a file in it." in refused(
            "fit", path, *COLUMNS, flag, str(tmp_path)
        )


MISTAKES = (
    (("fit", "TABLE"), "has no column n_params, n_tokens, loss_nats; it has size"),
    (("fit", "TABLE"), '--columns "n_params=COLUMN:M,n_tokens=COLUMN:B,loss_nats=COLUMN"'),
    (
        ("compare", "TABLE", "TABLE", *COLUMNS, "--where", "budget=1e18"),
        "t.csv: all 7 usable runs lie",
    ),
    (("optimum", "quickstart", "--flops", "1e20"), "those of a study are results/STUDY/fits/"),
    (("fit", "TABLE", *COLUMNS, "--law", "none"), "unknown law 'none'"),
    (("fit", "TABLE", *COLUMNS, "--loss", "hubert"), "unknown objective 'hubert'"),
    (("fit", "TABLE", *COLUMNS, "--fix", "E"), "'E' is not of the form NAME=VALUE"),
    (("fit", "TABLE", *COLUMNS, "--fix", "E=low"), "'low' is not a number"),
    (("fit", "TABLE", *COLUMNS, "--fix", "F=1"), "has no parameter F"),
    (("fit", "TABLE", *COLUMNS, "--bound", "E=2:1"), "bounded by 2 to 1"),
    (("fit", "TABLE", *COLUMNS, "--bootstrap", "0", "--profile", "delta"), "delta"),
    (("fit", "TABLE", *COLUMNS, "--level", "95"), "must lie between 0 and 1"),
    (("fit", "TABLE", *COLUMNS, "--bootstrap", "-1"), "must be 0 or more"),
    (("fit", "TABLE", *COLUMNS, "--method", "magic"), "unknown bootstrap 'magic'"),
    (("fit", "TABLE", *COLUMNS, "--where", "budget=1e18", "--law", "additive"), "told apart"),
    (("fit", "TABLE", *COLUMNS, "--where", "budget=7"), "none of 28 rows meets budget=7"),
    (("fit", "TABLE", *COLUMNS, "seeds=0"), "takes no overrides"),
    (("fit", "TABLE", *COLUMNS, "--law", "additive", "--approach", "isoflop"), "only for"),
    (("fit", "TABLE", *COLUMNS, "--curve", "akima"), "--curve: only for --approach isoflop"),
    (("fit", "TABLE", *COLUMNS, "--approach", "envelope"), "needs --curves"),
    (("fit", "none.csv"), "none.csv: No such file"),
    (("fit", "quickstart", "--law", "additive"), "--law: for tables"),
    (("compare", "TABLE", *COLUMNS, "--flops", "1e20"), "--flops: not for compare with one"),
    (("compare", "TABLE", "TABLE", *COLUMNS, "--below", "1e20"), "not for compare with two"),
    (("compare", "TABLE", *COLUMNS, "--below", "1e9"), "leave 0 runs below"),
    (
        ("optimum", "TABLE", *COLUMNS, "--bootstrap", "0", "--flops", "1e60"),
        "has no optimum that far",
    ),
    (("optimum", "TABLE", "--flops", "much"), "is not a list of positive numbers"),
    (("optimum", "TABLE"), "no budget: give --flops"),
    (
        ("optimum", "TABLE", *COLUMNS, "--where", "budget=1e19", "--flops", "1e19"),
        "its runs are of one budget, 1e19 FLOPs, and tell no optimum at others. `isoflop fi",
    ),
    (
        ("fit", "TABLE", *COLUMNS, "--flops", "1e22"),
        "unknown option --flops; it is one of isoflop compare and isoflop optimum (see isoflop fit",
    ),
    (("fit", "TABLE", *COLUMNS, "--boot=0"), "unknown option --boot (see isoflop fit --help)"),
    (
        ("optimum", "TABLE", "--at", "1e9:1e10", "--inference-tokens", "1e12", "--figures", "x"),
        "no budget for --inference-tokens, --figures: give --flops",
    ),
    *(
        (("optimum", "TABLE", "--at", text), f"argument --at: {why}")
        for text, why in (
            ("1e9", "'1e9': must be N:D, such as"),
            ("1e9:2e10:3", "'1e9:2e10:3': must be N:D, such as"),
            ("1e9:nan", "'nan': must be a positive number"),
            ("0:2e10", "'0': must be a positive number"),
        )
    ),
    (
        ("optimum", "TABLE", *COLUMNS, "--bootstrap", "0", "--fix", "alpha=5", "--at", "1e-300:1"),
        "--at 1e-300:1: surface (additive) has no loss that far away; its runs have",
    ),
    (
        ("optimum", "TABLE", *QUICK, "--approach", "isoflop", "--at", "1e9:2e10"),
        "--at 1e9:2e10: isoflop gives the loss along the optimum only; fit a surface",
    ),
    (("compare", "my_study.py", "TABLE"), "there is no file 'my_study.py'"),
    (("compare", "nothing", "TABLE"), "unknown study 'nothing'"),
    (("optimum", "JSON", "--flops", "1e20"), "is no fit that `isoflop fit --out` wrote"),
    (("optimum", "ANSWER", "--flops", "1e20"), "is no fit that `isoflop fit --out` wrote"),
    (("optimum", "JSON", "--flops", "1e20", "--law", "additive"), "is a fit already"),
)


@pytest.mark.parametrize(("arguments", "why"), MISTAKES, ids=[why for _, why in MISTAKES])
def test_a_mistake_is_one_line(tmp_path, refused, arguments, why):
    path, other = table(tmp_path, "t.csv", 1), tmp_path / "x.json"
    other.write_text("[1, 2]")
    answer = tmp_path / "answer.json"  # As a study's folder has one.
    answer.write_text('{"study": "mine", "n_params_opt": [1e5]}')
    names = {"TABLE": path, "JSON": str(other), "ANSWER": str(answer)}
    assert why in refused(*(names.get(a, a) for a in arguments))


def test_rows_that_meet_one_of_two_conditions(tmp_path, run):
    path = table(tmp_path, "runs.csv", seed=1)
    said = run("fit", path, *COLUMNS, "--bootstrap", "0", "--where", "budget<5e18 or budget>5e20")
    assert "14 of 14 runs" in said
    assert "14 of 28 rows are left out: not (budget<5e18 or budget>5e20)." in said


def test_of_several_settings_the_best_is_fitted(tmp_path, run, refused):
    path = Path(table(tmp_path, "runs.csv", seed=1))
    head, *rows = path.read_text().splitlines()
    worse = [",".join([*(c := row.split(","))[:2], str(float(c[2]) + 0.5), *c[3:]]) for row in rows]
    lines = [f"{head},lr", *(f"{row},1e-3" for row in rows), *(f"{row},1e-1" for row in worse)]
    mixed = tmp_path / "mixed.csv"
    mixed.write_text("\n".join(lines) + "\n")
    asked = (*COLUMNS, "--bootstrap", "0", "--json")
    alone = json.loads(run("fit", str(path), *asked))
    best = json.loads(run("fit", str(mixed), *asked, "--best-per", "n_params,n_tokens"))
    assert best["parameters"] == pytest.approx(alone["parameters"], rel=1e-9)
    together = json.loads(run("fit", str(mixed), *asked))
    assert any("--best-per n_params,n_tokens keeps" in one for one in together["findings"])
    assert "no column 'rate'" in refused("fit", str(mixed), *COLUMNS, "--best-per", "rate")


def test_every_law_is_listed_with_its_formula_and_source(run):
    said = run("laws")
    assert max(map(len, said.splitlines())) <= 80
    for name, law in LAWS.items():
        assert f"{name}: {law.formula[:20]}" in said
        assert law.source[:20] in " ".join(said.split())
    listed = {row["name"]: row for row in json.loads(run("laws", "--json"))}
    assert listed["curved"]["parameters"] == ["E", "A", "B", "alpha", "beta", "gamma"]
    assert listed["width_depth"]["columns"] == ["d_model", "n_layers", "n_params", "n_tokens"]


def test_a_law_of_ones_own_is_fitted_from_its_file(tmp_path, run, refused):
    path = table(tmp_path, "runs.csv", seed=1)
    asked = ("fit", path, *COLUMNS, "--bootstrap", "0")
    own = tmp_path / "mine.py"
    own.write_text(
        "import dataclasses\n"
        "from scaling.laws.loss_laws import ADDITIVE\n"
        "LAW = dataclasses.replace(ADDITIVE, name='mine', formula='L = mine')\n"
    )
    mine = json.loads(run(*asked, "--json", "--law", str(own)))
    known = json.loads(run(*asked, "--json"))
    assert mine["law"] == "mine"
    assert mine["parameters"] == pytest.approx(known["parameters"], rel=1e-9)
    assert "mine" in run("compare", path, *COLUMNS, "--laws", f"additive,{own}")
    own.write_text("LAW = 1 / 0\n")
    assert f"{own}, line 1: ZeroDivisionError" in refused(*asked, "--law", str(own))
    own.write_text("LAW = 'additive'\n")
    assert "defines no LAW of type scaling.laws.law.Law" in refused(*asked, "--law", str(own))
    assert "there is no file 'none.py'; `isoflop laws`" in refused(*asked, "--law", "none.py")
