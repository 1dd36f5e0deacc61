# SPDX-License-Identifier: Apache-2.0
"""Study files as people write them: usual mistakes are one line with the line of the file."""

import itertools
import sys

import pytest
from command_line import is_one_line

from experiments.cli.opening.load_study import load_study
from experiments.studies.quickstart import STUDY

_BEGIN = """import sys
from dataclasses import replace
from experiments.studies.quickstart import STUDY
from model.data.source import TextFiles
"""
_TUPLE = "must be a tuple of values, with a comma behind a single one: (x,)."
MISTAKES = {
    "a name for a recipe": ("recipe='dense'", "recipe='dense': must be of type Recipe."),
    "a number for a list": ("budgets=1e10", f"budgets=10000000000.0: {_TUPLE}"),
    "a seed for a list": ("seeds=0", f"seeds=0: {_TUPLE}"),
    "a text for a list": ("forecast_budgets='1e13'", f"forecast_budgets='1e13': {_TUPLE}"),
    "widths for a rule": ("sizes=(8, 16)", "sizes=(8, 16): must be of type Ladder or of type LogS"),
    "a width for a list": (
        "sizes=replace(STUDY.sizes, d_models=16)", f"d_models=16: {_TUPLE}"
    ),
    "a path for data": ("data='my.txt'", "data='my.txt': must be of type PepsText or "),
    "a number for a rule": ("evaluation=5", "evaluation=5: must be of type EvalConfig."),
    "a text for an axis": ("axes='seq_len'", "axes='seq_len': must be a tuple of Axis, with a"),
    "a pair for an axis": ("axes=(('seq_len', (1,)),)", "must be a tuple of Axis, with a comma"),
    "no such field": ("budget=(1e10,)", "unexpected keyword argument 'budget'"),
    "no such field of data": (
        "data=TextFiles(path='a.txt')", "argument 'path'; its fields are paths, validation_fraction"
    ),
    "no such name": ("name=nothing", "NameError: name 'nothing' is not defined"),
    "the end of Python": ("name=sys.exit(3)", "the file ends Python (SystemExit(3))"),
    "an error of its own": ("name=1 / 0", "ZeroDivisionError: division by zero"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_usual_mistake_is_one_line_with_the_line_of_the_file(isoflop, tmp_path, name):
    changes, words = MISTAKES[name]
    (tmp_path / "mine.py").write_text(f"{_BEGIN}\nSTUDY = replace(STUDY, {changes})\n")
    code, out, err = isoflop("plan", "mine.py")
    assert (code, out) == (2, "")
    assert is_one_line(err)
    assert err.startswith("isoflop: mine.py, line 6: ")
    assert words in err


def test_a_study_file_may_import_what_lies_beside_it(tmp_path, monkeypatch):
    (tmp_path / "beside_it.py").write_text("NAME = 'beside'\n")
    end = "from beside_it import NAME\nSTUDY = replace(STUDY, name=NAME)\n"
    (tmp_path / "mine.py").write_text(_BEGIN + end)
    monkeypatch.chdir(tmp_path.parent)
    assert load_study(f"{tmp_path.name}/mine.py").name == "beside"


def test_a_file_that_is_called_like_a_module_of_pythons_is_not_taken_for_it(tmp_path, monkeypatch):
    """colorsys stands for any that nothing has imported before the study."""
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    (tmp_path / "colorsys.py").write_text("raise OSError('of the user')\n")
    end = "import colorsys\nSTUDY = replace(STUDY, name=colorsys.hls_to_rgb.__name__)\n"
    (tmp_path / "mine.py").write_text(_BEGIN + end)
    assert load_study(str(tmp_path / "mine.py")).name == "hls_to_rgb"


def test_data_lie_where_they_do_as_seen_from_the_study_file(tmp_path, monkeypatch):
    paths = "('texts', '../more.txt', '/elsewhere/a.txt')"
    end = f"STUDY = replace(STUDY, data=TextFiles(paths={paths}, validation_fraction=0.1))\n"
    (tmp_path / "mine.py").write_text(_BEGIN + end)
    monkeypatch.chdir(tmp_path)
    own = load_study("mine.py").data.paths
    assert own == ("texts", "../more.txt", "/elsewhere/a.txt")
    monkeypatch.chdir(tmp_path.parent)
    seen = load_study(f"{tmp_path.name}/mine.py").data.paths
    assert seen == (f"{tmp_path.name}/texts", "more.txt", "/elsewhere/a.txt")
    held_out = end.replace("validation_fraction=0.1", "validation_paths=('valid',)")
    (tmp_path / "mine.py").write_text(_BEGIN + held_out)
    data = load_study(f"{tmp_path.name}/mine.py").data
    assert (data.paths, data.validation_paths) == (seen, (f"{tmp_path.name}/valid",))
    tokenizers = (
        "HuggingFaceTokenizer(path='t.json', separator='x')",
        "Tiktoken(name='cl100k_base', path='t.json')",
    )
    sources = ("TextFiles(paths=('a',), ", "PepsText(")
    for data, tokenizer in itertools.product(sources, tokenizers):
        changes = f"data={data}validation_fraction=0.1, tokenizer={tokenizer})"
        names = "from model.data.source import PepsText\nfrom model.data.tokenizer import *\n"
        (tmp_path / "mine.py").write_text(f"{_BEGIN}{names}STUDY = replace(STUDY, {changes})\n")
        seen = load_study(f"{tmp_path.name}/mine.py").data.tokenizer.path
        assert seen == f"{tmp_path.name}/t.json"
    axis = f"Axis(field='data.tokenizer', values=(None, {tokenizer}), labels=('bytes', 't'))"
    begin = "STUDY = replace(STUDY, forecast_budgets=(), "
    names += "from experiments.study.study import Axis\n"
    (tmp_path / "mine.py").write_text(f"{_BEGIN}{names}{begin}axes=({axis},))\n")
    none, tokenizer = load_study(f"{tmp_path.name}/mine.py").axes[0].values
    assert (none, tokenizer.path) == (None, f"{tmp_path.name}/t.json")
    assert load_study("quickstart") == STUDY
