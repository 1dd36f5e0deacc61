# SPDX-License-Identifier: Apache-2.0
"""Tables of every form: read right, or refused in one clear line."""

import gzip
import json
import re
import shlex

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scaling.plots.loss_curves import figure_sizes
from scaling.tables.loss_curves import loss_curves
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
    "semicolons": (HEAD + ROWS).replace(",", ";"),
    "tabs": (HEAD + ROWS).replace(",", "\t"),
    "a separator that is stated": "sep=|\n" + (HEAD + ROWS).replace(",", "|"),
    "comments above": '# of 2 March, "quick"\n# nats, per token\n' + HEAD + ROWS,
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
    "a decimal comma": (HEAD + '1e6,2e7,"3,5"\n', "'3,5', not a number .*decimal point"),
    "a word among decimal commas": (
        (HEAD + ROWS).replace(",", ";").replace(".", ",") + "3e6;2e7;about 3\n",
        "(?s)has 1 bad row.*line 4: loss is 'about 3', not a number",
    ),
    "no header": ("# params tokens loss\n1e6,2e7,3.5\n", "no header: line 2 holds numbers only"),
    "a label for a count": (HEAD + "pythia-12.3M,2e7,3\n", "'pythia-12.3M', not a number"),
    "a dash for a number": (
        HEAD + "1e6,2e7,\u2014\n",
        "drop them: line 2: loss is '\u2014', not a number",
    ),
    "ragged rows": (HEAD + "1,2\n1,2,3\n1,2,3,4\n", "lines 2, 4 have more or fewer cells"),
    "an open quote": (HEAD + '"1e6,2e7,3\n1,2,3\n', "is no CSV"),
    "null bytes": (HEAD + "1\x00,2,3\n", "null bytes"),
    "binary": (bytes(range(256)), "not UTF-8 text"),
    "another encoding": ((HEAD + ROWS).encode("utf-16"), "not UTF-8 text"),
    "thousands or decimals": (HEAD + '"1,000",2e7,3\n', "'1,000', not a number .* decimal point"),
    "a letter and a unit": (
        HEAD + "12.3M,2e7,3\n",
        "'12.3M', not a number .it has a letter, and the column a unit: leave one of them out.",
        {"n_params": "params:M"},
    ),
    "a letter in some cells only": (
        HEAD + "65M,2e7,3\n32,2e7,3\n",
        "'65M', not a number .other cells have no letter, and are a thousand times smaller",
    ),
    "zero and below": (HEAD + "0,-2,3\n", "line 2: params is 0, must be positive"),
    "infinity": (HEAD + "1e6,2e7,inf\n", "line 2: loss is inf, must be positive and finite"),
    "not a number": (HEAD + "1e6,2e7,NaN\n", "line 2: loss is NaN, must be positive and finite"),
    "more than a number holds": (HEAD + "1e200,1e200,3\n", "6 n_params n_tokens is beyond all"),
    "nothing": (HEAD + "1e6,2e7,\n", "line 2: loss is empty"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_a_table_that_cannot_be_read_right_is_refused(tmp_path, case):
    body, why, *columns = case
    with pytest.raises(ValueError, match=why):
        read_runs(written(tmp_path, body), columns=COLUMNS | dict(*columns))


SPELT = {
    "letters": ("124M", "1.2B", "letters are read as thousands, .*: 124M is 1.24e.08"),
    "blanks and small letters": ("124 m", "1.2 b", "124 m is 1.24e.08"),
    "some plain": ("124e6", "1.2B", "1.2B is 1.2e.09"),
    "thousands": (
        '"124,000,000"',
        '"1,200,000,000"',
        "marks of thousands: 124,000,000 is 1.24e.08",
    ),
    "thousands and a point": ('"124,000,000.0"', "1200000000", "marks of thousands"),
}


@pytest.mark.parametrize(("one", "two", "said"), SPELT.values(), ids=SPELT.keys())
def test_counts_are_read_as_people_write_them_and_it_is_said(tmp_path, one, two, said):
    runs = read_runs(written(tmp_path, f"{HEAD}{one},2e7,3.5\n{two},2e7,3.2\n"), columns=COLUMNS)
    assert runs.n_params.tolist() == [124e6, 1.2e9]
    assert any(re.search(f"^params: .*{said}", note) for note in runs.notes)
    label = f"{HEAD[:-1]},model\n1e6,2e7,3,124M\n"
    assert read_runs(written(tmp_path, label), columns=COLUMNS).extra["model"] == "124M"


class Frame:
    """What pandas and polars offer: the protocol that Arrow's tables have."""

    def __init__(self, table):
        self.__arrow_c_stream__ = table.__arrow_c_stream__


def test_tables_in_memory_are_read_like_files():
    columns = {"params": [1e6, 2e6], "tokens": np.array([2e7, 2e7]), "loss": ["3.5", "3.2"]}
    arrow = pa.table({**columns, "__index_level_0__": [7, 8]})
    for source in (columns, arrow, Frame(arrow)):
        runs = read_runs(source, columns=COLUMNS, where=["loss<3.4"])
        assert runs.n_params.tolist() == [2e6]
        assert runs.loss_nats.tolist() == [3.2]
        assert runs.run_id.tolist() == ["row2"]
        assert not runs.extra
    with pytest.raises(ValueError, match=r"the table has 1 bad row.*: row 1: loss is empty"):
        read_runs({**columns, "loss": [None, 3.2]}, columns=COLUMNS)
    with pytest.raises(
        ValueError, match=r"columns differ in length: .'params': 2, 'tokens': 2, 'los"
    ):
        read_runs({**columns, "loss": [3.2]}, columns=COLUMNS)
    with pytest.raises(TypeError, match="int is no table: give a path, a dict of columns"):
        read_runs(3)


JSON = {
    "objects": [{"params": 1e6, "tokens": 2e7, "loss": 3.5}, {"params": 2e6, "tokens": 2e7,
                                                              "loss": 3}],
    "columns": {"params": [1e6, 2e6], "tokens": [2e7, 2e7], "loss": [3.5, 3]},
    "columns by row": {"params": {"0": 1e6, "1": 2e6}, "tokens": {"0": 2e7, "1": 2e7},
                       "loss": {"0": 3.5, "1": 3}},
}  # fmt: skip


@pytest.mark.parametrize("body", JSON.values(), ids=JSON.keys())
def test_json_of_runs_or_of_columns(tmp_path, body):
    runs = read_runs(written(tmp_path, json.dumps(body), "t.json"), columns=COLUMNS)
    assert runs.n_params.tolist() == [1e6, 2e6]
    assert runs.loss_nats.tolist() == [3.5, 3.0]


@pytest.mark.parametrize("body", ["[1, 2]", "{}", '{"a": [1], "b": [1, 2]}', '{"a": 1}'])
def test_json_of_anything_else_is_refused(tmp_path, body):
    with pytest.raises(ValueError, match=r"t.json must hold a list of objects, one per run, or an"):
        read_runs(written(tmp_path, body, "t.json"))
    with pytest.raises(ValueError, match=r"t.json is no JSON: "):
        read_runs(written(tmp_path, body + "]", "t.json"))


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
    with pytest.raises(ValueError, match="row 2: params is empty; row 2: loss is nan"):
        read_runs(path, columns=COLUMNS)


def test_of_many_bad_rows_three_are_told_and_the_others_counted(tmp_path):
    with pytest.raises(ValueError, match="1000 bad rows") as caught:
        read_runs(written(tmp_path, HEAD + "x,2,3\n" * 1000), columns=COLUMNS)
    assert "line 4: params is 'x', not a number; and 997 more: lines 5-1001" in str(caught.value)
    assert str(caught.value).count("not a number") == 3
    body = HEAD + "x,2,3\n1,2,3\n" * 1000
    with pytest.raises(ValueError, match=r"and 997 more: lines 8, 10, 12, \.\.\. up to 2000$"):
        read_runs(written(tmp_path, body), columns=COLUMNS)


@pytest.mark.parametrize(
    ("field", "given", "cell", "expected"),
    [
        ("n_params", "x:M", "124", 124e6),
        ("n_params", "x:K", "5", 5e3),
        ("n_tokens", "x:B", "0.3", 3e8),
        ("n_tokens", "x:T", "2", 2e12),
        ("flops", "x:P", "4", 4e15),
        ("flops", "x:PF-days", "1", 8.64e19),
        ("loss_nats", "x:bits", "0.7", 0.7),
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
        read_runs(path, columns={"n_param": "params", "n_tokens": "tokens", "loss_nats": "loss"})


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
    assert curves.loss_nats[0] == 1.0


@pytest.mark.parametrize(
    ("given", "unit"), [("bpb:bits", "bits per byte"), ("bpb", "nats per token")]
)
def test_losses_in_bits_stay_so_and_are_named_so(tmp_path, given, unit):
    path = written(tmp_path, "p,t,bpb\n1e6,1e9,0.9\n2e6,1e9,0.8\n")
    columns = {"n_params": "p", "n_tokens": "t", "loss_nats": given}
    runs = read_runs(path, columns=columns)
    assert runs.loss_nats.tolist() == [0.9, 0.8]
    assert runs.loss_unit == runs.select([0]).loss_unit == unit
    curve = figure_sizes(runs, loss_curves(runs, "n_params", ("budget",)))
    assert curve.axes[0].get_ylabel() == f"loss ({unit})"


OBJECTIVES = "n_params,n_tokens,loss_nats,loss_per,loss_kind,objective\n"
OF_MASKS = "1e6,1e9,2.5,masked token,measured,masked\n"
OF_TIMES = "2e6,1e9,2.4,token,upper bound,diffusion\n"


def test_a_table_says_what_its_losses_are_per_and_which_are_bounds(tmp_path):
    of_masks = read_runs(written(tmp_path, OBJECTIVES + OF_MASKS))
    assert (of_masks.loss_unit, of_masks.is_bound.tolist()) == ("nats per masked token", [False])
    assert of_masks.bits_per_nat is None
    exact = OF_TIMES.replace("upper bound", "measured")
    bounds = read_runs(written(tmp_path, OBJECTIVES + OF_TIMES))
    assert (bounds.loss_unit, bounds.loss_name) == ("nats per token", "nats per token, upper bound")
    both = read_runs(written(tmp_path, OBJECTIVES + OF_TIMES + exact))
    assert both.is_bound.tolist() == [True, False]
    assert both.loss_name == "nats per token"
    assert any("1 of 2 losses are upper bounds" in said for said in both.findings)
    curve = figure_sizes(bounds, loss_curves(bounds, "n_params", ("budget",)))
    assert curve.axes[0].get_ylabel() == "loss (nats per token, upper bound)"


def test_losses_of_hidden_and_of_next_tokens_are_not_read_together(tmp_path):
    path = written(tmp_path, OBJECTIVES + OF_MASKS + OF_TIMES)
    with pytest.raises(ValueError, match="nats per masked token and nats per token, which do not"):
        read_runs(path)
    assert len(read_runs(path, where=["loss_per=masked token"])) == 1
    foreign = written(tmp_path, OBJECTIVES + OF_MASKS.replace("masked token", "banana"))
    assert read_runs(foreign).loss_unit == "nats per token"


def test_a_row_that_is_commented_out_is_no_run_and_is_named(tmp_path):
    path = written(tmp_path, "run," + HEAD + "a,1e6,2e7,3.5\n#b,3e6,2e7,9\nc,2e6,2e7,3.2\n")
    runs = read_runs(path, columns=COLUMNS | {"run_id": "run"})
    assert runs.run_id.tolist() == ["a", "c"]
    assert runs.findings[0] == "line 3 begins with # and is left out as a comment."


def test_names_that_all_begin_with_a_number_sign_are_names(tmp_path):
    path = written(tmp_path, "run," + HEAD + "#1,1e6,2e7,3.5\n#2,2e6,2e7,3.2\n")
    assert read_runs(path, columns=COLUMNS | {"run_id": "run"}).run_id.tolist() == ["#1", "#2"]


def test_line_numbers_count_what_stands_above_the_header(tmp_path):
    with pytest.raises(ValueError, match="line 4: loss is 'x'"):
        read_runs(written(tmp_path, "# a\n\n" + HEAD + "1e6,2e7,x\n"), columns=COLUMNS)


SPREADSHEET = "Params (M);Tokens (B);Val loss\n22,82;1,5;3,512\n\u2013;2;3,1\n45;3,25;2,907\n"
TITLES = {
    "one": ("Runs of team X, exported 2026-11-20\n", [1]),
    "two, a blank line and a comment": ("Team X\n# of May\nRuns, 2026\n\n", [1, 3]),
    "filled up with empty cells": ("Runs of team X;;\n", [1]),
}


@pytest.mark.parametrize(("above", "passed_over"), TITLES.values(), ids=TITLES.keys())
def test_titles_above_a_header_are_passed_over_and_named(tmp_path, above, passed_over):
    header = above.count("\n") + 1
    columns = {"n_params": "Params (M):M", "n_tokens": "Tokens (B):B", "loss_nats": "Val loss"}
    runs = read_runs(
        written(tmp_path, above + SPREADSHEET), columns=columns, where=["Params (M)>0"]
    )
    np.testing.assert_allclose(runs.n_params, [22.82e6, 45e6], rtol=1e-15)
    np.testing.assert_allclose(runs.n_tokens, [1.5e9, 3.25e9], rtol=1e-15)
    assert runs.loss_nats.tolist() == [3.512, 2.907]
    assert [note.split(",")[0] for note in runs.findings[: len(passed_over)]] == [
        f"line {number}" for number in passed_over
    ]
    assert f"as a title: the header is line {header}." in runs.findings[0]
    assert runs.findings[len(passed_over)] == (
        "Commas are read as decimal points in Params (M), Tokens (B), Val loss: 22,82 is 22.82."
    )


NO_TITLES = {
    "rows of more cells": (HEAD + "1,2,3,4\n1,2,3,4\n", "lines 2-3 have more or fewer cells"),
    "rows of fewer words": (HEAD + "a,b\nc,d\n", "lines 2-3 have more or fewer cells"),
    "a name on two lines": (
        '"params\n(M)",tokens,loss\n1,2,3\n',
        "no column params; it has params",
    ),
    "one name": ("loss\n0,b\n1e6,2e7\n", "lines 2-3 have more or fewer cells"),
}


@pytest.mark.parametrize(("body", "why"), NO_TITLES.values(), ids=NO_TITLES.keys())
def test_a_header_is_not_taken_for_a_title(tmp_path, body, why):
    with pytest.raises(ValueError, match=why):
        read_runs(written(tmp_path, body), columns=COLUMNS)


def test_a_small_network_without_a_letter_is_no_mistake(tmp_path):
    body = HEAD + "50000,2e7,3.5\n1.2B,2e7,3.2\n"
    runs = read_runs(written(tmp_path, body), columns=COLUMNS)
    assert runs.n_params.tolist() == [5e4, 1.2e9]


def test_decimal_commas_may_have_letters(tmp_path):
    body = "params;tokens;loss\n124M;15,5B;3,5\n1,2B;2e7;2,25\n"
    runs = read_runs(written(tmp_path, body), columns=COLUMNS)
    assert runs.n_params.tolist() == [1.24e8, 1.2e9]
    assert runs.n_tokens.tolist() == [1.55e10, 2e7]
    assert runs.loss_nats.tolist() == [3.5, 2.25]


THOUSANDS = {"1.026": ("1026", "1,0260"), "1.026,5": ("1026,5",), "1.026.000": ("1026000",)}


@pytest.mark.parametrize(("cell", "legal"), THOUSANDS.items(), ids=THOUSANDS.keys())
@pytest.mark.parametrize("other", ["75", "75,5", "75.5"])
@pytest.mark.parametrize(("letter", "factor"), [("", 1), (" K", 1e3)])
def test_points_beside_decimal_commas_may_mark_thousands(
    tmp_path, cell, legal, other, letter, factor
):
    body = f"params;tokens;loss;lr\n{{}}{letter};1e9;3,124;0.001\n{{}}{letter};1e9;2,9;0.002\n"
    with pytest.raises(
        ValueError, match=r"t.csv has decimal commas, and line 3: params is"
    ) as told:
        read_runs(written(tmp_path, body.format(other, cell)), columns=COLUMNS)
    way_out = " or ".join(f"{text}{letter}" for text in legal)
    said = f"is '{cell}{letter}', whose point may mark thousands; write {way_out}"
    assert str(told.value).endswith(said)
    for text in legal:
        plain = body.format(other.replace(".", ","), text)
        found = read_runs(written(tmp_path, plain), columns=COLUMNS).n_params
        meant = [float(one.replace(",", ".")) * factor for one in (other, text)]
        np.testing.assert_allclose(found, meant, rtol=1e-15)


def test_points_that_may_mark_thousands_are_counted(tmp_path):
    body = "params;tokens;loss\n7,5;1.234;3,1\n1.026;1.620;3,124\n"
    with pytest.raises(ValueError, match=r"line 2: tokens is '1.234'.*\(2 more cells are spelt so"):
        read_runs(written(tmp_path, body), columns=COLUMNS)


def test_points_that_may_mark_thousands_are_seen_in_the_only_column_with_commas(tmp_path):
    path = written(tmp_path, "params;tokens;loss\n75,5;1e9;3.12\n1.026;1e9;2.9\n")
    with pytest.raises(ValueError, match=r"line 3: params is '1.026', whose point may mark thou"):
        read_runs(path, columns=COLUMNS)


def test_points_without_decimal_commas_are_decimal(tmp_path):
    for mark in ";,\t":
        body = "params,tokens,loss\n1.026,2.1,3.124\n".replace(",", mark)
        assert read_runs(written(tmp_path, body), columns=COLUMNS).loss_nats.tolist() == [3.124]


COMMAS = {
    "a point as well": ("3,5", "3.5"),
    "thousands": ("1,234,567", "3,5"),
    "thousands or decimals": ("1,234", "999"),
    "the same of millions": ("1,234M", "999M"),
}


@pytest.mark.parametrize("cells", COMMAS.values(), ids=COMMAS.keys())
def test_commas_that_may_be_no_decimal_points_are_refused(tmp_path, cells):
    body = "params;tokens;loss\n" + "".join(f"1e6;2e7;{cell}\n" for cell in cells)
    with pytest.raises(ValueError, match=r"not a number .write it with a decimal point"):
        read_runs(written(tmp_path, body), columns=COLUMNS)


NESTED = [{"net": {"params": 1e6, "of": {"x": 1}}, "tokens": 2e7, "loss": 3.5}]


def test_values_within_objects_have_dotted_names(tmp_path):
    columns = COLUMNS | {"n_params": "net.params"}
    lines = "\n".join(map(json.dumps, NESTED))
    pq.write_table(pa.Table.from_pylist(NESTED), tmp_path / "t.parquet")
    for path in (written(tmp_path, lines, "t.jsonl"), tmp_path / "t.parquet"):
        runs = read_runs(path, columns=columns)
        assert runs.n_params.tolist() == [1e6]
        assert runs.extra["net.of.x"].tolist() == [1.0]


def test_a_name_that_is_there_twice_once_written_out_is_refused(tmp_path):
    path = written(tmp_path, '{"a": {"b": 1}, "a.b": 2}', "t.jsonl")
    with pytest.raises(ValueError, match="line 1: a key occurs twice"):
        read_runs(path)


def test_a_field_is_a_sum_of_columns_and_steps_times_a_number(tmp_path):
    body = "body,head,x+y,steps,loss\n1e6,5e5,3,100,3\n2e6,5e5,3,200,2.9\n"
    columns = {"n_params": "body + head:K", "n_tokens": "steps:524288", "loss_nats": "loss"}
    runs = read_runs(written(tmp_path, body), columns=columns | {"d_model": "x+y"})
    assert runs.n_params.tolist() == [1.5e9, 2.5e9]
    assert runs.n_tokens.tolist() == [52428800.0, 104857600.0]
    assert runs.extra["d_model"].tolist() == [3.0, 3.0]
    with pytest.raises(ValueError, match="units of n_tokens are: K, M, B, G, T, or a positive num"):
        read_runs(written(tmp_path, body), columns=columns | {"n_tokens": "steps:-2"})
    bad = written(tmp_path, body.replace("5e5", "x", 1))
    with pytest.raises(ValueError, match=r"line 2: body\+head is '1e6 \+ x', not a number"):
        read_runs(bad, columns=columns | {"n_params": "body+head"})


TWO_OF_THREE = {
    "no tokens": ("params,C,loss", "1e6,1.2e14,3", {"n_params": "params", "flops": "C"}),
    "no parameters": ("tokens,C,loss", "2e7,1.2e14,3", {"n_tokens": "tokens", "flops": "C"}),
    "a budget alone": ("tokens,budget,loss", "2e7,1.2e14,3", {"n_tokens": "tokens"}),
}


@pytest.mark.parametrize(("head", "row", "columns"), TWO_OF_THREE.values(), ids=TWO_OF_THREE)
def test_of_parameters_tokens_and_compute_two_are_enough(tmp_path, head, row, columns):
    path = written(tmp_path, f"{head}\n{row}\n")
    runs = read_runs(path, columns={**columns, "loss_nats": "loss"})
    assert (runs.n_params[0], runs.n_tokens[0]) == pytest.approx((1e6, 2e7), rel=1e-12)
    assert runs.flops.tolist() == [1.2e14]
    assert "C = 6 n_params n_tokens is solved for it" in runs.findings[0]
    with pytest.raises(ValueError, match="has no column"):
        read_runs(path, flops="matmul_full", columns={**columns, "loss_nats": "loss"})


def test_usual_words_of_a_status_count_and_others_are_named(tmp_path):
    body = "params,tokens,loss,state\n1e6,2e7,3,finished\n2e6,2e7,,crashed\n3e6,2e7,2.9,Cached\n"
    path = written(tmp_path, body)
    runs = read_runs(path, columns=COLUMNS | {"status": "state"})
    assert runs.is_ok.tolist() == [True, False, False]
    assert runs.findings[0] == "runs whose state is finished count as ok."
    assert "line3 (crashed), line4 (Cached)" in runs.findings[-1]
    runs = read_runs(path, columns=COLUMNS | {"status": "state:cached|finished"})
    assert runs.is_ok.tolist() == [True, False, True]


def test_a_column_that_a_law_names_is_no_field_misspelt(tmp_path):
    path = written(tmp_path, "params,tokens,U_D,loss\n1e6,2e7,1e7,3\n")
    runs = read_runs(path, columns=COLUMNS | {"unique_tokens": "U_D"})
    assert runs.extra["unique_tokens"].tolist() == [1e7]


@pytest.mark.parametrize("word", ["\u2014", "\u2013", "-", "N/A", "null", "None", "NaN", ""])
def test_words_for_a_missing_number_meet_no_condition(tmp_path, word):
    path = written(tmp_path, HEAD + ROWS + f"3e6,2e7,{word}\n")
    runs = read_runs(path, columns=COLUMNS, where=["loss>0"])
    assert runs.loss_nats.tolist() == [3.5, 3.2]


BAD_CELLS = {
    "missing": (["NaN", ""], "--where 'loss>0'"),
    "zero and below": (["0", "-3.2"], "--where 'loss>0'"),
    "a word": (["failed"], "--where 'loss!=failed'"),
    "a word beside a missing number": (["failed", "\u2014", ""],
        "--where 'loss!=failed' --where 'loss!=\u2014' --where 'loss!='"),
    "without end": (["inf", "0"], "--where 'loss!=inf' --where 'loss>0'"),
    "a word with blanks": (["out of memory", "0"],
        "--where 'loss!=out of memory' --where 'loss!=0'"),
}  # fmt: skip


@pytest.mark.parametrize(("cells", "hint"), BAD_CELLS.values(), ids=BAD_CELLS.keys())
def test_conditions_that_are_suggested_leave_the_bad_rows_out(tmp_path, cells, hint):
    path = written(tmp_path, HEAD + ROWS + "".join(f"3e6,2e7,{cell}\n" for cell in cells))
    with pytest.raises(ValueError, match="mend or drop them ") as caught:
        read_runs(path, columns=COLUMNS)
    assert f"drop them ({hint} leaves them out): line 4: loss is " in str(caught.value)
    conditions = shlex.split(hint)[1::2]
    assert read_runs(path, columns=COLUMNS, where=conditions).loss_nats.tolist() == [3.5, 3.2]


NO_CONDITIONS = {
    "four words": ["a", "b", "c", "d"],
    "a number to be mended": ["3.5 M,5"],
    "a condition could not be read": ["1 or 2", "it's", ">3"],
}


@pytest.mark.parametrize("cells", NO_CONDITIONS.values(), ids=NO_CONDITIONS.keys())
def test_no_condition_is_suggested_where_none_is_short_and_plain(tmp_path, cells):
    path = written(tmp_path, HEAD + ROWS + "".join(f'3e6,2e7,"{cell}"\n' for cell in cells))
    with pytest.raises(ValueError, match="mend or drop them: line 4: loss is"):
        read_runs(path, columns=COLUMNS)


def test_conditions_leave_out_some_of_the_bad_rows_and_say_how_many(tmp_path):
    body = f"run,{HEAD}a,1e6,2e7,3.5\na,2e6,2e7,3\nb,2e6,2e7,failed\n"
    with pytest.raises(ValueError, match=r"\(--where 'loss!=failed' leaves 1 of them out\)"):
        read_runs(written(tmp_path, body), columns=COLUMNS | {"run_id": "run"})


def test_conditions_on_curves_have_an_option_of_their_own(tmp_path):
    body = "run_id,step,n_tokens,flops,loss_nats\nr,1,0,1,3.5\nr,2,-1,1,3.4\n"
    with pytest.raises(ValueError, match=r"\(--curves-where 'n_tokens>=0' leaves them out\)"):
        read_curves(written(tmp_path, body))


def test_a_cell_that_spoils_a_condition_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"'loss>0': 'soon' \(loss, line 4\) is no number"):
        read_runs(written(tmp_path, HEAD + ROWS + "3e6,2e7,soon\n"), where=["loss>0"])


def test_steps_taken_for_tokens_are_seen(tmp_path):
    path = written(tmp_path, HEAD + "1e8,4500,3.5\n2e8,4000,3.2\n")
    said = read_runs(path, columns=COLUMNS).findings
    assert any("e-05 tokens per parameter: are n_params and n_tokens in" in one for one in said)
    # Parameters in millions, tokens read as millions that are in billions.
    path = written(tmp_path, HEAD + "1e8,2e6,3.5\n2e8,4e6,3.2\n")
    said = read_runs(path, columns=COLUMNS).findings
    assert any("0.02 tokens per parameter: are" in one for one in said)
    assert not any(
        "per parameter" in one
        for one in read_runs(
            written(tmp_path, HEAD + "1e8,2e7,3.5\n2e8,4e7,3.2\n"), columns=COLUMNS
        ).findings
    )
