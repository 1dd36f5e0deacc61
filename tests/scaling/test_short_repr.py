# SPDX-License-Identifier: Apache-2.0
"""What results show where they are printed: short, legible, and nothing that a page would run."""

import dataclasses

import numpy as np
import pytest

from scaling.answers.agreement import agreement
from scaling.answers.best_size import best_size
from scaling.answers.compute_multiplier import compute_multiplier
from scaling.answers.frontier import frontier
from scaling.answers.holdout import hold_out
from scaling.answers.loss_forecast import run_loss
from scaling.approaches.isoflop.fit import fit_isoflop
from scaling.approaches.surface.fit import fit_surface
from scaling.fit import Fit, FitStatus
from scaling.tables.short_repr import ShortRepr, aligned


@pytest.fixture(scope="module")
def runs(planted_named):
    return planted_named("chinchilla").runs(sd=0.002)


@pytest.fixture(scope="module")
def surface(runs):
    return fit_surface(runs, n_bootstrap=30)


@pytest.fixture(scope="module")
def shown(runs, surface):
    """A result of each kind that people print, by its type."""
    isoflop = fit_isoflop(runs, n_bootstrap=30)
    one_budget = runs.select(runs.budget == runs.budget[0])
    ranking = hold_out(runs, ["additive"], below=5e19)
    results = (
        *(runs, surface, best_size(one_budget), ranking, ranking.predictions[0]),
        *(frontier(surface, np.geomspace(1e17, 1e23, 9)), agreement([surface, isoflop], 1e21)),
        *(compute_multiplier(surface, surface), run_loss(surface, 1e8, 1e9)),
    )
    return {type(result).__name__: result for result in results} | {"isoflop": isoflop}


def test_each_result_is_short_and_has_no_replicates(shown):
    for name, result in shown.items():
        lines = repr(result).splitlines()
        assert 1 < len(lines) <= 15, name
        assert max(map(len, lines)) <= 80, name
        assert "array(" not in repr(result), name
        assert result._repr_html_() == f"<pre>{repr(result).replace('&', '&amp;')}</pre>", name


def test_a_fit_tells_status_law_parameters_and_exponents_with_intervals(surface):
    head, formula, *rows, end = repr(surface).splitlines()
    assert head == "surface (additive): certified; 35 of 35 runs"
    assert formula == surface.settings["formula"]
    told = {row.split()[0].strip(","): row for row in rows}
    assert set(told) == {"E", "A", "B", "alpha", "beta", "a", "b"}
    for label, name in (("alpha", "alpha"), ("a", "exponent_a")):
        value = surface.parameters.get(name, surface.exponent_a)
        low, high = surface.intervals[name].lower, surface.intervals[name].upper
        assert told[label].endswith(f"{value:.4g}  ({low:.4g} to {high:.4g})")
    assert end.startswith("95 % intervals; ")
    for findings, words in (((), "0 findings"), (("a",), "1 finding"), (("a", "b"), "2 findings")):
        said = repr(dataclasses.replace(surface, findings=findings)).splitlines()[-1]
        assert said == f"95 % intervals; {words}"
    doubtful = dataclasses.replace(surface, status=FitStatus.AT_BOUND)
    assert "not certified: a parameter lies at a bound" in repr(doubtful).splitlines()[0]


def test_a_fit_that_was_read_back_prints_the_same_lines(surface):
    again = Fit.from_json(surface.to_json())
    assert sorted(repr(again).splitlines()) == sorted(repr(surface).splitlines())


def test_what_a_table_says_is_escaped_and_cut_in_a_notebook(runs):
    evil = dataclasses.replace(
        runs, notes=("<script>alert(1)</script>" + "x" * 200,), extra={"<b>": runs.budget}
    )
    html = evil._repr_html_()
    assert "<script>" not in html
    assert "<b>" not in html
    assert "&lt;script&gt;" in html
    assert max(map(len, repr(evil).splitlines())) <= 80


def test_more_lines_than_may_be_shown_are_counted():
    @dataclasses.dataclass(repr=False)
    class Long(ShortRepr):
        def _told(self):
            return [f"line {i}" for i in range(20)]

    lines = repr(Long()).splitlines()
    assert (len(lines), lines[13], lines[14]) == (15, "line 13", "... 6 more lines")


def test_columns_are_dropped_from_the_right_and_no_cell_is_cut():
    rows = [("a" * 30, "b" * 30, "c" * 17), ("x", "y", "z")]
    assert aligned(rows) == [f"{'a' * 30}  {'b' * 30}", f"x{' ' * 31}y"]
    assert aligned([(*row[:2], "c" * 16) for row in rows])[0].endswith("c" * 16)
