# SPDX-License-Identifier: Apache-2.0
"""The study that is written can be planned as it is."""

import importlib.metadata
from pathlib import Path

from command_line import is_one_line

from experiments.cli.opening.load_study import load_study


def test_what_is_written_is_a_study_that_can_be_planned(isoflop, tmp_path):
    """On one file of text, which is one document."""
    lines = (f"Once upon a time, there was line {i}.\n" for i in range(300_000))
    (tmp_path / "my_text").mkdir()
    (tmp_path / "my_text" / "story.txt").write_text("".join(lines))
    code, out, err = isoflop("init", "my study.py")
    assert (code, err) == (0, "")
    assert "`isoflop plan 'my study.py'`" in out
    assert "`isoflop plan 'my study.py'`" in Path("my study.py").read_text()
    study = load_study("my study.py")
    assert study.name == "my_study"
    code, out, err = isoflop("plan", "my study.py")
    assert (code, err) == (0, ""), err
    assert "54 runs" in out


def test_nothing_is_overwritten(isoflop, tmp_path):
    (tmp_path / "a.py").write_text("mine")
    for name, words in (
        ("a.py", "a.py is there already"),
        ("a.txt", "ends in .py"),
        ("sub/dir/x.py", "there is no folder sub/dir. Make it first."),
    ):
        code, out, err = isoflop("init", name)
        assert (code, out) == (2, "")
        assert is_one_line(err)
        assert words in err
    assert (tmp_path / "a.py").read_text() == "mine"
    assert not (tmp_path / "a.txt").exists()


def test_the_version_is_that_of_the_package(isoflop, capsys):
    assert isoflop("--version") == (0, f"isoflop {importlib.metadata.version('isoflop')}\n", "")
