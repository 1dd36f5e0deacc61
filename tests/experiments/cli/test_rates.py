# SPDX-License-Identifier: Apache-2.0
"""isoflop rates: planted laws of the best rate and batch are printed, and what lacks is named."""

import itertools
import json
import math

import pytest


@pytest.fixture
def table(tmp_path):
    """lr* = 0.4 N^-0.3 D^0.1, batch* = 2 D^0.5 tokens; three sizes, three lengths."""
    rows = ["size,tokens,lr,batch,loss"]
    for size, tokens in itertools.product((1e7, 4e7, 2e8), (1e9, 5e9, 3e10)):
        lr, batch = 0.4 * size**-0.3 * tokens**0.1, 2.0 * tokens**0.5
        floor = 1.7 + 400 * size**-0.34 + 400 * tokens**-0.28
        for k, m in itertools.product((-2, -1, 0, 1, 2), (-2, -1, 0, 1)):
            off = (0.3 + 0.5 * k, 0.1 + 0.6 * m)
            loss = floor + 0.004 * off[0] ** 2 + 0.002 * off[1] ** 2
            cells = (size / 1e6, tokens, lr * math.exp(off[0]), batch * math.exp(off[1]), loss)
            rows.append(",".join(map(repr, cells)))
    path = tmp_path / "sweep.csv"
    path.write_text("\n".join(rows) + "\n")
    return str(path)


NAMES = "n_params=size:M,n_tokens=tokens,loss_nats=loss"


def test_planted_laws_are_found_and_advice_is_given(isoflop, table):
    asked = ("rates", table, "--columns", f"{NAMES},learning_rate=lr,batch_tokens=batch")
    code, out, _ = isoflop(*asked, "--bootstrap", "8", "--at", "1e8:1e10", "--json")
    assert code == 0
    told = json.loads(out)
    law = told["law"]["parameters"]
    assert [law[name] for name in "pqr"] == pytest.approx([-0.3, 0.1, 0.5], abs=3e-3)
    (best,) = told["recommended"]
    assert best["lr"] == pytest.approx(0.4 * 1e8**-0.3 * 1e10**0.1, rel=1e-3)
    assert best["batch_tokens"] == pytest.approx(2e5, rel=1e-3)
    # 0.001 nats: ln of the factor is sqrt(0.001 / curvature).
    assert best["lr_slack"] == pytest.approx(math.exp(math.sqrt(0.001 / 0.004)), rel=0.02)
    code, out, _ = isoflop(*asked, "--bootstrap", "8", "--at", "1e8:1e10,1e9:1e10")
    assert "certified: converged to a certified minimum." in out
    assert [line.endswith("extrapolated") for line in out.splitlines()[-3:-1]] == [False, True]


def test_a_table_without_a_batch_says_how_to_name_it(isoflop, table):
    code, _, err = isoflop("rates", table, "--columns", f"{NAMES},learning_rate=lr")
    assert code == 2
    assert "the table has no batch_tokens: name the columns (--columns learning_rate=lr," in err
