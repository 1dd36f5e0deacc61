# SPDX-License-Identifier: Apache-2.0
"""What `isoflop plan` says beside the grid."""

import pytest
from small_studies import mine

BOTH = "final weights of 2 runs are kept, {} MB (keep={})"
AUTO = "auto, networks of at most {:,} parameters"


@pytest.mark.parametrize(
    ("keep", "most", "said"),
    [
        ("auto", 10_000_000, BOTH.format("0.0325", AUTO.format(10_000_000))),
        ("auto", 1600, "final weights of 1 runs are kept, 0.0064 MB"),
        ("final", 1600, BOTH.format("0.0325", "final")),
        ("none", 10_000_000, "final weights of 0 runs are kept, 0 MB (keep=none)"),
    ],
)
def test_it_says_of_how_many_runs_the_weights_are_kept(
    isoflop, tmp_path, monkeypatch, keep, most, said
):
    """Of two runs, with 1,600 and 6,528 parameters of four bytes."""
    for module in ("experiments.study.study", "experiments.cli.plan"):
        monkeypatch.setattr(f"{module}.MOST_KEPT_PARAMS", most)
    (tmp_path / "mine.py").write_text(mine())
    code, out, err = isoflop("plan", "mine.py", f"keep={keep}")
    assert (code, err) == (0, "")
    assert said in out
