# SPDX-License-Identifier: Apache-2.0
"""Published schedules and hyper-parameter grids: tables read right; whole cases are slow."""

import numpy as np
import pytest

from scaling.published import multipower, steplaw


def test_every_logged_rate_is_that_of_its_schedule(published):
    for size, n_rows in ((25, 2059), (100, 2103)):
        curves = multipower.read_loss_curves(published / multipower.TABLE, size)
        assert len(curves.loss) == n_rows
        assert len(curves.schedules) == 9


def test_published_parameters_give_nearly_the_published_scores(published):
    """Printed to three decimals, they cannot give the fifth digit of the errors back."""
    for size in (25, 100):
        curves = multipower.read_loss_curves(published / multipower.TABLE, size)
        held_out = curves.of([name for name in curves.schedules if name not in multipower.FITTED])
        found = multipower.scores(held_out, multipower.PARAMETERS[size])
        np.testing.assert_allclose(found, multipower.SCORES[size], atol=4.1e-4)


def test_unknown_schedules_are_refused():
    with pytest.raises(ValueError, match="the table has constant, cosine"):
        multipower.schedule_of("linear_24000")


@pytest.mark.slow(reason="fits every published curve")
@pytest.mark.parametrize("case", [steplaw.CASE, multipower.CASE], ids=lambda case: case.name)
def test_every_comparison_of_the_case_holds(case, published):
    found = case.run(published)
    assert [c.what for c in found.comparisons if not c.holds] == []
    assert found.findings
