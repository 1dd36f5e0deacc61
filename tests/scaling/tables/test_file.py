# SPDX-License-Identifier: Apache-2.0
"""Tables of every form: read right, or refused in one clear line."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scaling.tables.read_tables import read_curves, read_runs
from scaling.tables.runs import Runs

COLUMNS = {"n_params": "params", "n_tokens": "tokens", "loss_nats": "loss"}
HEAD = "params,tokens,loss\n"
ROWS = "1e6,2e7,3.5\n2E+06,20000000,3.2\n"


def written(tmp_path, body, name="t.csv"):
    path = tmp_path / name
    path.write_bytes(body if isinstance(body, bytes) else body.encode())
    return path


def parquet(tmp_path, name="t.parquet", **columns):
    pq.write_table(pa.table(columns), tmp_path / name)
    return tmp_path / name


SAME = {
    "plain": HEAD + ROWS,
    "byte order mark": "\ufeff" + HEAD + ROWS,
    "line ends of other systems": (HEAD + ROWS).replace("\n", "\r\n"),
    "blank lines": "\n" + HEAD + "\n" + ROWS + ",,\n\n",
    "blanks about cells": "params, tokens , loss\n 1e6 , 2e7,3.5\n2e6,2e7, 3.2\n",
    "quoted cells": HEAD + '"1e6","2e7","3.5"\n2e6,2e7,3.2\n',
    "an unnamed column": "n,params,tokens,loss,\n1,1e6,2e7,3.5,\n2,2e6,2e7,3.2,\n",
}


@pytest.mark.parametrize("body", SAME.values(), ids=SAME.keys())
def test_the_same_runs_are_read_from_every_spelling_of_a_table(tmp_path, body):
    runs = read_runs(written(tmp_path, body), columns=COLUMNS)
    np.testing.assert_array_equal(runs.n_params, [1e6, 2e6])
    np.testing.assert_array_equal(runs.n_tokens, [2e7, 2e7])
    np.testing.assert_array_equal(runs.loss_nats, [3.5, 3.2])
    np.testing.assert_array_equal(runs.flops, [1.2e14, 2.4e14])
    assert runs.flops_convention == "6n_total"
    assert "C = 6 n_params n_tokens is assumed" in runs.findings[0]


def test_every_format_gives_the_same_runs(tmp_path):
    values = {"params": [1e6, 2e6], "tokens": [20_000_000, 20_000_000], "loss": ["3.5", "3.2"]}
    rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    lines = "\n".join(json.dumps(row) for row in rows)
    paths = [
        parquet(tmp_path, **values),
        written(tmp_path, lines, "t.jsonl"),
        written(tmp_path, gzip.compress(lines.encode()), "t.jsonl.gz"),
        written(tmp_path, gzip.compress((HEAD + ROWS).encode()), "t.csv.gz"),
    ]
    for path in paths:
        runs = read_runs(path, columns=COLUMNS)
        np.testing.assert_array_equal(runs.n_params, [1e6, 2e6])
        np.testing.assert_array_equal(runs.loss_nats, [3.5, 3.2])


REFUSED = {
    "empty file": ("", "holds no rows"),
    "header only": (HEAD, "holds no rows"),
    "a repeated column": ("params,tokens,loss,loss\n1,2,3,4\n", "names the column loss more than"),
    "semicolons": ((HEAD + ROWS).replace(",", ";"), "separate columns by commas, not ';'"),
    "ragged rows": (HEAD + "1,2\n1,2,3\n1,2,3,4\n", "lines 2, 4 have more or fewer cells"),
    "an open quote": (HEAD + '"1e6,2e7,3\n1,2,3\n', "is no CSV"),
    "null bytes": (HEAD + "1\x00,2,3\n", "null bytes"),
    "binary": (bytes(range(256)), "not UTF-8 text"),
    "another encoding": ((HEAD + ROWS).encode("utf-16"), "not UTF-8 text"),
    "thousands": (HEAD + '"1,000,000",2e7,3\n', "'1,000,000', not a number .write it without"),
    "zero and below": (HEAD + "0,-2,3\n", "line 2: params is 0, must be positive"),
    "infinity": (HEAD + "1e6,2e7,inf\n", "line 2: loss is inf, must be positive and finite"),
    "not a number": (HEAD + "1e6,2e7,NaN\n", "line 2: loss is NaN, must be positive and finite"),
    "more than a number holds": (HEAD + "1e200,1e200,3\n", "6 n_params n_tokens is beyond all"),
    "nothing": (HEAD + "1e6,2e7,\n", "line 2: loss is empty"),
}


@pytest.mark.parametrize(("body", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_a_table_that_cannot_be_read_right_is_refused(tmp_path, body, why):
    with pytest.raises(ValueError, match=why):
        read_runs(written(tmp_path, body), columns=COLUMNS)


OTHERS = {
    "no gzip": ("t.csv.gz", b"hello", "no whole gzip file"),
    "half a gzip": ("t.csv.gz", gzip.compress(HEAD.encode() * 9)[:-9], "no whole gzip file"),
    "no parquet": ("t.parquet", b"PAR1 something PAR1", "no Parquet file"),
    "no JSON": ("t.jsonl", b'{"params": 1\n[2]\n', "line 1: Expecting.*line 2: no object"),
    "a key twice": ("t.jsonl", b'{"loss": 1, "loss": 2}\n', "a key occurs twice"),
    "JSON of other kinds": (
        "t.jsonl",
        b'{"params":true,"tokens":[1],"loss":null}',
        "'true', not a",
    ),
}


@pytest.mark.parametrize(("name", "body", "why"), OTHERS.values(), ids=OTHERS.keys())
def test_damaged_files_are_named(tmp_path, name, body, why):
    with pytest.raises(ValueError, match=f"(?s){name}.*{why}"):
        read_runs(written(tmp_path, body, name), columns=COLUMNS)


def test_a_missing_file_and_a_folder_are_errors_of_the_system(tmp_path):
    for name in ("none.csv", "none.parquet", "none.jsonl"):
        with pytest.raises(FileNotFoundError):
            read_runs(tmp_path / name)
    with pytest.raises(IsADirectoryError):
        read_runs(tmp_path)


def test_rows_of_parquet_are_numbered_by_row(tmp_path):
    path = parquet(tmp_path, params=[1e6, None], tokens=[1, 2], loss=[3.0, float("nan")])
    with pytest.raises(ValueError, match="row 2: params is empty\n  row 2: loss is nan"):
        read_runs(path, columns=COLUMNS)


def test_many_bad_rows_are_all_named_in_a_bounded_message(tmp_path):
    with pytest.raises(ValueError, match="1000 bad rows") as caught:
        read_runs(written(tmp_path, HEAD + "x,2,3\n" * 1000), columns=COLUMNS)
    assert "line 2: params is 'x'" in str(caught.value)
    assert "and 960 more in lines 42-1001" in str(caught.value)
    assert len(str(caught.value)) < 4000


@pytest.mark.parametrize(
    ("field", "given", "cell", "expected"),
    [
        ("n_params", "x:M", "124", 124e6),
        ("n_params", "x:K", "5", 5e3),
        ("n_tokens", "x:B", "0.3", 3e8),
        ("n_tokens", "x:T", "2", 2e12),
        ("flops", "x:P", "4", 4e15),
        ("flops", "x:PF-days", "1", 8.64e19),
        ("loss_nats", "x:bits", "1", 0.6931471805599453),
        ("loss_nats", "x", "1", 1.0),
    ],
)
def test_stated_units_multiply(tmp_path, field, given, cell, expected):
    columns = {"n_params": "p", "n_tokens": "t", "loss_nats": "l"} | {field: given}
    path = written(tmp_path, f"p,t,l,x\n1e6,1e9,3,{cell}\n")
    runs = read_runs(path, flops="6n_total", columns=columns)
    assert getattr(runs, field)[0] == pytest.approx(expected, rel=1e-15)


def test_unknown_units_and_misspelt_fields_are_refused(tmp_path):
    path = written(tmp_path, HEAD + ROWS)
    with pytest.raises(ValueError, match="units of n_params are: K, M, B, G, T"):
        read_runs(path, columns=COLUMNS | {"n_params": "params:bits"})
    with pytest.raises(ValueError, match="did you mean n_params"):
        read_runs(path, columns=COLUMNS | {"n_param": "params"})


def test_a_column_whose_name_ends_like_a_unit_is_taken_as_named(tmp_path):
    path = written(tmp_path, "params:M,tokens,loss\n7,2e7,3\n")
    assert read_runs(path, columns=COLUMNS | {"n_params": "params:M"}).n_params[0] == 7.0


def test_columns_of_other_laws_can_be_named_too(tmp_path):
    path = written(tmp_path, "params,tokens,loss,width\n1e6,2e7,3,64\n")
    assert read_runs(path, columns=COLUMNS | {"d_model": "width"}).extra["d_model"][0] == 64.0


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ("keep=1", [1e6, 3e6]),
        ("params<=2e6", [1e6, 2e6]),
        ("name!=b", [1e6, 3e6]),
        ("tokens > 2.5e7", [3e6]),
    ],
)
def test_conditions_choose_rows_and_say_so(tmp_path, condition, kept):
    """The row that is left out may even be bad."""
    body = "params,tokens,loss,keep,name\n1e6,2e7,3,1,a\n2e6,2e7,3,0,b\n3e6,3e7,3,1,c\n"
    runs = read_runs(written(tmp_path, body), columns=COLUMNS, where=[condition])
    assert runs.n_params.tolist() == kept
    assert f"of 3 rows are left out: not {condition}" in runs.findings[0]


def test_conditions_that_are_none_are_refused(tmp_path):
    path = written(tmp_path, HEAD + ROWS)
    for condition, why in (
        ("loss", "not of the form"),
        ("los=1", "no column los"),
        ("loss<x", "is no number"),
        ("loss=9", "none of 2 rows"),
    ):
        with pytest.raises(ValueError, match=why):
            read_runs(path, columns=COLUMNS, where=[condition])
    bad = written(tmp_path, HEAD + ROWS + "x,y,z\n", "bad.csv")
    assert len(read_runs(bad, columns=COLUMNS, where=["tokens!=y"])) == 2


def budget_table(tmp_path, budgets):
    rows = "".join(f"1e6,2e7,3,{budget}\n" for budget in budgets)
    return written(tmp_path, "params,tokens,loss,budget\n" + rows)


def test_budgets_that_differ_by_rounding_are_one_and_it_is_said(tmp_path):
    budgets = ["1e18", "1.0000001e18", "1e18", "3e18", "3.001e18"]
    runs = read_runs(budget_table(tmp_path, budgets), columns=COLUMNS | {"flops": "budget"})
    assert runs.budgets.tolist() == [1e18, 3e18]
    assert runs.flops.tolist() == [float(b) for b in budgets]
    assert any("4 budgets that differ by rounding" in s for s in runs.findings)


@pytest.mark.parametrize("budgets", [["1e18", "1.005e18", "1.01e18"], ["1e18", "1.002e18", "3e18"]])
def test_budgets_near_each_other_are_kept_apart_and_it_is_said(tmp_path, budgets):
    """Half a per cent is no rounding, and no gap says where one budget ends."""
    runs = read_runs(budget_table(tmp_path, budgets), columns=COLUMNS)
    assert len(runs.budgets) == 3
    assert any("are kept apart" in s for s in runs.findings)


def test_flops_that_repeat_stand_in_for_budgets(tmp_path):
    """Six runs at two values of FLOPs; six runs at six values stay six budgets."""
    body = "".join(f"{N:.6e},{C / (6 * N):.6e},3\n" for C in (1e18, 1e19) for N in (1e7, 2e7, 3e7))
    runs = read_runs(written(tmp_path, HEAD + body), columns=COLUMNS)
    assert len(runs.budgets) == 2
    assert any("its flops are taken as 2 budgets" in s for s in runs.findings)
    body = "".join(f"{N},2e8,3\n" for N in np.geomspace(1e7, 3e7, 6))
    runs = read_runs(written(tmp_path, HEAD + body), columns=COLUMNS)
    np.testing.assert_array_equal(runs.budget, runs.flops)


def test_flops_that_are_not_6nd_are_the_tables_own(tmp_path):
    body = "params,tokens,loss,c\n1e6,2e7,3,1.5e14\n2e6,2e7,3,2.9e14\n"
    runs = read_runs(written(tmp_path, body), columns=COLUMNS | {"flops": "c"})
    assert runs.flops_convention == "table"
    named = read_runs(written(tmp_path, body), flops="6n_total", columns=COLUMNS | {"flops": "c"})
    assert "differ from 6 n_params n_tokens by up to 25 %" in named.findings[0]


@pytest.mark.parametrize(
    ("scale", "word"),
    [
        ({"n_params": 1e-6}, "n_params is about 100"),
        ({"n_tokens": 1e-9}, "n_tokens is about 2"),
        ({"loss_nats": 10.0}, "the loss is about 30"),
        ({"flops": 1e-15}, "flops are 1e-15 times 6 n_params n_tokens"),
    ],
)
def test_counts_in_another_unit_are_suspected(scale, word):
    values = {"n_params": 1e8, "n_tokens": 2e9, "loss_nats": 3.0, "flops": 1.2e18}
    columns = {name: np.full(3, value * scale.get(name, 1.0)) for name, value in values.items()}
    assert any(word in sentence for sentence in Runs.from_columns(**columns).findings)
    assert Runs.from_columns(**{k: np.full(3, v) for k, v in values.items()}).findings == ()


def test_a_hundred_thousand_rows_are_read(tmp_path):
    N = np.geomspace(1e6, 1e9, 100_000)
    path = parquet(tmp_path, params=N, tokens=20 * N, loss=2 + 100 * N**-0.3)
    np.testing.assert_array_equal(read_runs(path, columns=COLUMNS).n_params, N)


def test_curves_are_read_from_jsonl_with_units(tmp_path):
    line = '{"run_id":"a","step":1,"tok":2,"flops":1e12,"bpb":1}'
    columns = {"n_tokens": "tok:M", "loss_nats": "bpb:bits"}
    curves = read_curves(written(tmp_path, line, "c.jsonl"), columns=columns)
    assert curves.n_tokens[0] == 2e6
    assert curves.loss_nats[0] == pytest.approx(np.log(2))
