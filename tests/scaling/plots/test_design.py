# SPDX-License-Identifier: Apache-2.0
"""Figures of designs show what they were given, and are the same bytes again."""

import numpy as np

from scaling.design.propose import Proposal
from scaling.plots.design import figure_proposal
from scaling.plots.style import save
from scaling.tables.runs import Runs


def runs(n):
    size = np.geomspace(1e7, 1e9, n)
    return Runs.from_columns(n_params=size, n_tokens=20 * size, loss_nats=np.full(n, np.nan))


def proposal_figure():
    proposal = Proposal(
        rows=(3, 1), share=np.array([0.7, 0.3]), cost=1.0, ratio=0.5, findings=("few runs.",)
    )
    return figure_proposal(
        runs(4), runs(6), np.array([0.5, 0.1, 0.01, 0.2, 0.0, 0.3]), proposal, sentence="as now."
    )


def test_a_proposal_shows_every_run_once_and_rings_the_proposed(tmp_path):
    figure = proposal_figure()
    ax = figure.axes[0]
    shown = {c.get_label(): np.asarray(c.get_offsets()) for c in ax.collections}
    assert {name: len(points) for name, points in shown.items()} == {
        "planned": 6, "finished": 4, "proposed": 2
    }  # fmt: skip
    np.testing.assert_allclose(shown["proposed"][:, 1], runs(6).n_params[[3, 1]])
    assert "as now." in figure.get_label()
    assert "few runs." in figure.get_label()
    first = [path.read_bytes() for path in save(figure, tmp_path / "a")]
    assert first == [path.read_bytes() for path in save(proposal_figure(), tmp_path / "b")]
