# SPDX-License-Identifier: Apache-2.0
"""When a number counts as met, and which cases there are."""

import pytest

from scaling.published.case import Case, Comparison, compare, compare_all, last_digit
from scaling.published.cases import NAMES, case_named


@pytest.mark.parametrize(
    ("text", "unit"), [("482.01", 0.01), ("0.347310", 1e-6), ("12846", 1.0), ("4.675e5", 100.0)]
)
def test_the_last_digit_of_a_printed_number_is_its_unit(text, unit):
    assert last_digit(text) == pytest.approx(unit, rel=1e-12)


def test_a_reference_without_digits_is_refused():
    with pytest.raises(ValueError, match="'nan' is no finite number"):
        last_digit("nan")


@pytest.mark.parametrize(
    ("printed", "ours", "holds"),
    [
        ("482.01", 482.0051, True),
        ("482.01", 482.0049, False),
        ("482.01", 482.0149, True),
        ("482.01", 482.0151, False),
        ("4.675e5", 467475.7, True),
        ("4.675e5", 467449.0, False),
        ("0.1370", 0.13695, True),
        ("0.1370", 0.1371, False),
    ],
)
def test_a_checked_number_holds_where_ours_rounds_to_it(printed, ours, holds):
    assert compare("x", printed, ours).holds is holds


def test_a_published_number_is_shown_and_not_judged():
    row = compare("x", "1.00", 7.0, kind="published")
    assert row.holds
    assert row.difference == pytest.approx(6.0)


@pytest.mark.parametrize(("ours", "holds"), [(1.0, True), (0.5, True), (1.1, False)])
def test_an_objective_may_be_lower_but_not_higher(ours, holds):
    row = Comparison(what="f", reference=1.0, ours=ours, kind="not higher", tolerance=1e-6)
    assert row.holds is holds


def test_every_printed_number_gets_a_line():
    rows = compare_all("fit", {"A": "1.0", "B": "2.0"}, {"B": 2.01, "A": 1.2, "C": 3.0})
    assert [(row.what, row.holds) for row in rows] == [("fit, A", False), ("fit, B", True)]


def test_cases_are_found_by_name_and_others_are_refused():
    assert {"chinchilla", "gadre", "muennighoff", "olmo"} <= set(NAMES)
    assert case_named("gadre").name == "gadre"
    with pytest.raises(ValueError, match=r"unknown case 'godre'; choose one of chinchilla"):
        case_named("godre")


@pytest.mark.parametrize("name", NAMES)
def test_a_case_is_called_like_its_module_and_names_its_paper(name):
    case = case_named(name)
    assert isinstance(case, Case)
    assert case.name == name
    assert case.title
    assert case.paper
