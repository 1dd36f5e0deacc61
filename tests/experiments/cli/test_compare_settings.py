# SPDX-License-Identifier: Apache-2.0
"""isoflop compare TABLE --by COLUMN: settings of one table against planted gains."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.cli.main import main
from scaling.laws.closed_form_optimum import optimal_params
from scaling.laws.loss_laws import ADDITIVE

TRUTH = (1.69, 406.4, 410.7, 0.34, 0.28)
QUICK = ("--bootstrap", "32", "--flops-convention", "6n_total")
# By name how much more compute is needed for the same loss: half of a gain of two.
NEEDS = {"old": 1.0, "new": 0.5}


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Four budgets of seven sizes of each setting, and one run of a third, too few for a fit."""
    budget = np.repeat([1e18, 1e19, 1e20, 1e21], 7)
    N = optimal_params(TRUTH, budget) * np.tile(np.geomspace(1 / 6, 6, 7), 4)
    lines = ["n_params,n_tokens,loss_nats,budget,kind"]
    for seed, (name, needs) in enumerate(NEEDS.items()):
        D = budget / (6 * N)
        noise = np.exp(0.001 * np.random.default_rng(seed).standard_normal(len(N)))
        loss = ADDITIVE.loss(TRUTH, N / needs**0.5, D / needs**0.5) * noise
        rows = zip(N, D, loss, budget, strict=True)
        lines += [",".join(repr(float(v)) for v in row) + f",{name}" for row in rows]
    lines.append("1e9,2e10,2.5,1.2e20,alone")
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_each_setting_has_its_optimum_and_its_gain_over_the_first(path, tmp_path, capsys):
    out, figures = tmp_path / "out.json", tmp_path / "figures"
    arguments = ("--by", "kind", *QUICK, "--out", str(out), "--figures", str(figures))
    main(["compare", path, *arguments])
    said = capsys.readouterr().out
    found = json.loads(out.read_text())
    assert found["against"] == "old"
    assert found["settings"].keys() == NEEDS.keys()
    assert "alone has no fit" in said
    assert "compute of old over its own at equal loss (above 1:" in said
    for name, needs in NEEDS.items():
        one = found["settings"][name]
        assert one["front"]["flops"][-1] == pytest.approx(1e21)
        if name == "old":
            assert one["gain"] is None
            continue
        gain = one["gain"]
        np.testing.assert_allclose(gain["ratio"], 1 / needs, rtol=0.1)
        inside = np.array(gain["lower"]) <= 1 / needs
        assert np.mean(inside & (1 / needs <= np.array(gain["upper"]))) > 0.5
    assert (figures / "side_by_side.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--by", "colour"), "'colour' is no column to compare by: there are"),
        (("--by", "kind", "--against", "none"), "--against none: kind has old, new, alone"),
        (("--by", "kind", "--where", "kind=old"), "all runs have old; there is nothing beside"),
        (("--against", "old"), "--against: not for compare with no --by"),
        (("--by", "kind", "--flops", "1e20"), "--flops: not for compare with --by"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(path, capsys, arguments, words):
    with pytest.raises(SystemExit) as caught:
        main(["compare", path, *QUICK, *arguments])
    assert caught.value.code == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert words in line


def test_one_table_only_is_compared_by_its_settings(path, capsys):
    with pytest.raises(SystemExit):
        main(["compare", path, path, "--by", "kind"])
    assert "--by: of one table" in capsys.readouterr().err
