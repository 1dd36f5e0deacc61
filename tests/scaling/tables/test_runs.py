# SPDX-License-Identifier: Apache-2.0
"""Reading and validating tables of runs and curves."""

import dataclasses
import gzip

import numpy as np
import pytest

from scaling.plots.labels import tokens_label
from scaling.tables.best_settings import best_kind, best_settings
from scaling.tables.read_tables import read_curves, read_runs
from scaling.tables.runs import Runs

HEADER = (
    "run_id,budget,n_params,n_params_non_embedding,n_tokens,flops_6n_total,"
    "flops_6n_non_embedding,flops_matmul_full,flops_matmul_causal,loss_nats,cluster_id,status,"
    "d_model,seed\n"
)
GOOD = "r1,1e11,20000,12000,800000,9.6e10,5.8e10,1e11,9e10,1.9,k1,ok,16,0\n"
BAD = "r2,1e11,30000,20000,500000,9.0e10,6.0e10,1e11,9e10,,k2,diverged,24,1\n"


def table(tmp_path, body, name="table.csv"):
    path = tmp_path / name
    path.write_text(HEADER + body)
    return path


@pytest.mark.parametrize(
    ("flops", "params", "n_params", "expected"),
    [
        ("matmul_full", "total", 20000, 1e11),
        ("matmul_causal", "total", 20000, 9e10),
        ("6n_total", "total", 20000, 9.6e10),
        ("6n_non_embedding", "non_embedding", 12000, 5.8e10),
    ],
)
def test_conventions_choose_the_columns(tmp_path, flops, params, n_params, expected):
    runs = read_runs(table(tmp_path, GOOD), flops=flops, params=params)
    assert runs.n_params[0] == n_params
    assert runs.flops[0] == expected
    assert runs.flops_per_token[0] == expected / 800000
    assert (runs.params_convention, runs.flops_convention) == (params, flops)
    assert runs.extra["d_model"][0] == 16


def test_diverged_runs_are_kept_and_named(tmp_path):
    runs = read_runs(table(tmp_path, GOOD + BAD))
    assert runs.is_ok.tolist() == [True, False]
    assert runs.findings == ("1 of 2 runs are not ok and are not fitted: r2 (diverged).",)


def test_a_failed_run_may_lack_what_it_did_not_reach(tmp_path):
    empty = BAD.replace("500000", "").replace("1e11,9e10,,", ",,,")
    runs = read_runs(table(tmp_path, GOOD + empty))
    assert np.isnan(runs.n_tokens[1])
    assert runs.is_ok.tolist() == [True, False]


def test_all_bad_rows_are_reported_at_once_with_line_numbers(tmp_path):
    bad = (
        GOOD
        + GOOD.replace("20000", "-3")
        + GOOD.replace("r1", "r3").replace("800000", "many")
        + GOOD.replace("r1", "r4").replace("1.9,", "nan,")
    )
    with pytest.raises(ValueError, match="3 bad rows") as caught:
        read_runs(table(tmp_path, bad))
    message = str(caught.value)
    assert "line 3: n_params is -3" in message
    assert "line 3: run_id r1 repeats line 2" in message
    assert "line 4: n_tokens is 'many', not a number" in message
    assert "line 5: loss_nats is nan" in message


def test_missing_column_is_named(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("n_params,n_tokens,flops\n1,2,3\n")
    with pytest.raises(ValueError, match="has no column loss_nats; it has n_params"):
        read_runs(path)


def test_unknown_convention_names_the_legal_ones(tmp_path):
    with pytest.raises(ValueError, match="choose one of 6n_total"):
        read_runs(table(tmp_path, GOOD), flops="6nd")


def test_any_table_is_read_through_a_mapping(tmp_path):
    path = tmp_path / "theirs.csv.gz"
    with gzip.open(path, "wt") as stream:
        stream.write("params,tokens,loss\n1e6,2e7,3.5\n2e6,2e7,3.2\n")
    columns = {"n_params": "params", "n_tokens": "tokens", "loss_nats": "loss"}
    runs = read_runs(path, flops="6n_total", columns=columns)
    np.testing.assert_allclose(runs.flops, [1.2e14, 2.4e14])
    assert runs.run_id.tolist() == ["line2", "line3"]


def test_a_history_as_trackers_export_it_gives_curves(tmp_path):
    """Names with slashes, another unit, and a loss at every second step alone."""
    path = tmp_path / "history.csv"
    rows = [
        f"a,{step},{10 * step},{step},{3 - step / 10 if step % 2 else ''}" for step in range(1, 8)
    ]
    path.write_text("\n".join(["run,_step,seen/tokens,gflops,eval/loss", *rows]) + "\n")
    columns = {"run_id": "run", "step": "_step", "n_tokens": "seen/tokens",
               "flops": "gflops:1e9", "loss_nats": "eval/loss"}  # fmt: skip
    curves = read_curves(path, columns=columns, where=["_step>2"])
    assert curves.loss_nats.tolist() == [2.7, 2.5, 2.3]
    assert curves.flops.tolist() == [3e9, 5e9, 7e9]
    assert curves.notes == (
        "2 of 7 rows are left out: not _step>2.",
        "2 of 5 rows of the curves have no eval/loss and are left out.",
    )


def test_curves_are_read_and_ordered(tmp_path):
    path = tmp_path / "curves.csv"
    path.write_text(
        "run_id,step,n_tokens,flops_matmul_full,loss_nats\nb,1,10,1,3\na,2,20,2,2.5\na,1,10,1,3.1\n"
    )
    assert read_curves(path).of("a").loss_nats.tolist() == [3.1, 2.5]
    with pytest.raises(ValueError, match=r"has no column loss; .* --curves-columns \"run_id="):
        read_curves(path, columns={"loss_nats": "loss"})


def test_best_setting_has_the_lowest_mean_over_repeats():
    runs = Runs.from_columns(n_params=[1e6] * 4, n_tokens=[1e7] * 4, loss_nats=[3.0, 3.2, 2.9, 3.6])
    runs = Runs(
        **{name: getattr(runs, name) for name in ("run_id", "budget", "n_params", "n_tokens")},
        **{name: getattr(runs, name) for name in ("flops", "loss_nats", "cluster_id", "status")},
        params_convention="total",
        flops_convention="6n_total",
        extra={"learning_rate": np.array([0.1, 0.1, 0.2, 0.2])},
    )
    best, findings = best_settings(runs, ["learning_rate"])
    assert best.run_id.tolist() == ["run0", "run1"]
    assert findings[0].startswith("2 of 4 runs are left out")
    with pytest.raises(ValueError, match="no column batch"):
        best_settings(runs, ["batch"])


# (budget, N, loss, status, architecture): RNNs are best at the smallest budget, and by a run that
# failed; of the largest budget the lowest mean is an attention's, the lowest single run an RNN's.
KINDS = (
    (1e11, 1e5, 2.0, "ok", "rnn"),
    (1e11, 1e5, 3.0, "ok", "attention"),
    (1e12, 1e5, 2.2, "ok", "rnn"),
    (1e12, 1e5, 2.8, "ok", "rnn"),
    (1e12, 1e5, 2.4, "ok", "attention"),
    (1e12, 1e5, 2.5, "ok", "attention"),
    (1e12, 2e5, 1.0, "diverged", "rnn"),
)


def test_of_kinds_the_best_at_the_largest_budget_is_fitted():
    budget, n_params, loss, status, kind = map(np.array, zip(*KINDS, strict=True))
    runs = Runs.from_columns(n_params=n_params, n_tokens=budget / n_params / 6, loss_nats=loss)
    extra = {"kind": kind, "gated": np.array([False] * 7)}
    runs = dataclasses.replace(runs, budget=budget, status=status, extra=extra)
    best, findings = best_kind(runs, ["kind", "gated"])
    assert best.run_id.tolist() == ["run1", "run4", "run5"]
    assert findings[0].startswith("fitted are the runs of kind, gated = attention; False,")
    assert findings[0].endswith("fits the others: rnn; False.")
    same, findings = best_kind(best, ["kind", "gated"])
    assert (len(same), findings) == (3, ())


def test_bits_per_nat_are_known_where_one_number_makes_bits_of_all_losses():
    losses, status = np.array([2.0, 3.0, np.nan]), ["ok", "ok", "diverged"]
    runs = Runs.from_columns(
        n_params=[1, 2, 3], n_tokens=[1, 2, 3], loss_nats=losses, status=status
    )
    assert runs.bits_per_nat is None

    def with_bits(bits, unit="nats per token"):
        extra = {"bits_per_byte": np.array(bits)}
        return dataclasses.replace(runs, extra=extra, loss_unit=unit).bits_per_nat

    assert with_bits([0.7, 1.05, np.nan]) == pytest.approx(0.35)
    assert with_bits([0.7, 1.2, np.nan]) is None, "of two vocabularies"
    assert with_bits([np.nan] * 3) is None
    assert with_bits(["0.7", "?", ""]) is None
    assert with_bits([0.7, 1.05, np.nan], "bits per byte") is None


@pytest.mark.parametrize(
    ("bits", "unit", "name"),
    [
        (1 / np.log(2), "nats per token", "nats per byte"),
        (0.35, "nats per token", "nats per token"),
        (None, "nats per token", "nats per token"),
        (1 / np.log(2), "nats per masked token", "nats per masked token"),
    ],
)
def test_losses_and_axes_are_per_byte_where_each_token_is_one(bits, unit, name):
    losses = np.array([2.0, 3.0])
    runs = Runs.from_columns(n_params=[1, 2], n_tokens=[1, 2], loss_nats=losses)
    extra = {} if bits is None else {"bits_per_byte": losses * bits}
    runs = dataclasses.replace(runs, extra=extra, loss_unit=unit)
    assert runs.loss_name == name
    per = "bytes" if name == "nats per byte" else "tokens"
    assert tokens_label(runs) == f"training {per}"
