# SPDX-License-Identifier: Apache-2.0
"""The command `reproduce`: what it prints, where figures go, how it ends."""

import pytest
from matplotlib.figure import Figure

from experiments.cli.main import main
from scaling.published import cases
from scaling.published.case import Case, Comparison, Reproduction


def case(name, ours):
    row = Comparison(what="slope", reference=1.25, ours=ours, kind="checked", tolerance=5e-3)
    found = Reproduction(comparisons=(row,), figure=Figure(), findings=("one sentence.",))
    return Case(name=name, title=f"Case {name}", paper="A et al. 2020", run=lambda folder: found)


@pytest.fixture
def planted(monkeypatch):
    """Two cases in place of the real ones: `good` meets its number, `bad` does not."""
    made = {"good": case("good", 1.251), "bad": case("bad", 1.26)}
    monkeypatch.setattr(cases, "NAMES", tuple(made))
    monkeypatch.setattr(cases, "case_named", lambda name: made[name])


def test_a_case_whose_numbers_are_met_is_printed_and_drawn(planted, tmp_path, capsys):
    main(["reproduce", "good", "--results", str(tmp_path)])
    out = capsys.readouterr().out
    assert out.split("holds")[1].split()[:6] == [
        "slope",
        "1.25",
        "checked",
        "1.251",
        "+0.001",
        "yes",
    ]
    assert "- one sentence." in out
    assert (tmp_path / "published/figures/good.png").stat().st_size > 0


def test_a_checked_number_that_is_not_met_ends_with_one(planted, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["reproduce", "--all", "--results", str(tmp_path)])
    assert stopped.value.code == 1
    out = capsys.readouterr().out
    assert "[1 of 2, 0:00] good" in out
    assert "[2 of 2, 0:00] bad" in out
    assert out.rstrip().endswith("checked numbers not met: bad (1).")


def test_without_a_name_the_cases_are_listed(planted, capsys):
    main(["reproduce"])
    out = capsys.readouterr().out
    assert "good" in out
    assert "Case bad (A et al. 2020)" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["godre"], "unknown case 'godre'"), (["--all", "gadre"], "leave out gadre")],
)
def test_a_mistake_ends_with_two_and_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["reproduce", *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
