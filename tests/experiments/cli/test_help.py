# SPDX-License-Identifier: Apache-2.0
"""Whoever asks a command for help sees what matters first, and every default."""

import argparse
import dataclasses
import re
from pathlib import Path

import pytest

from experiments.cli import main
from experiments.cli.options import tables as table_options
from scaling.answers.holdout import DEFAULT_LAWS

MOST_OF_A_GROUP = 8  # Options that a person reads at a glance.


def parser_of(command):
    parser = main._parser([command])
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return commands.choices[command]


def options_of(parser):
    return [action for action in parser._actions if action.option_strings]


def shown(parser, action):
    """What the help says of an option, in a line."""
    formatter = parser._get_formatter()
    formatter.add_argument(action)
    return " ".join(formatter.format_help().split())


def said_defaults(default):
    """The ways in which a default may be written."""
    if isinstance(default, tuple):
        return [re.escape(",".join(f"{value:g}" for value in default))]
    is_number = isinstance(default, int | float)
    return [re.escape(str(default)), *([f"{default:g}"] if is_number else [])]


@pytest.mark.parametrize("command", main.COMMANDS)
def test_every_option_says_what_holds_without_it(command):
    parser = parser_of(command)
    silent = []
    for action in options_of(parser):
        text, default = shown(parser, action), action.default
        words = text.partition(action.option_strings[-1])[2]
        is_flag = action.nargs == 0 and default in (False, argparse.SUPPRESS)
        if default is None or default in ("", []):
            says = text.endswith(")") or "may be repeated" in text
        else:
            says = any(re.search(rf"\({one}\)$", text) for one in said_defaults(default))
        if not (says or is_flag or action.required) or len(words.split()) < 2:
            silent.append(text)
        assert not re.search(r"(\([^()]*\)) \1", text), f"said twice: {text}"
    assert silent == []


@pytest.mark.parametrize("command", main.COMMANDS)
def test_no_group_of_options_is_too_long_to_read(command):
    parser = parser_of(command)
    sizes = {group.title: len(group._group_actions) for group in parser._action_groups}
    assert None not in sizes
    assert {title: n for title, n in sizes.items() if n > MOST_OF_A_GROUP} == {}


def test_all_commands_are_listed_and_three_are_named_to_begin_with(isoflop):
    code, out, _ = isoflop("--help")
    assert code == 0
    listed = re.findall(r"^    ([a-z-]+)(?:  |$)", out, re.MULTILINE)
    assert tuple(listed) == main.COMMANDS
    end = " ".join(out.split())[-120:]
    assert re.findall(r"isoflop ([a-z-]+) my_study.py", end) == ["init", "plan", "run"]


def test_usage_names_what_must_be_given(isoflop):
    code, out, _ = isoflop("next", "--help")
    usage = " ".join(out.partition("\n\n")[0].split())
    assert (code, usage) == (
        0,
        "usage: isoflop next --budget BUDGET --target-flops C study [overrides ...]",
    )


def test_defaults_that_are_written_by_hand_are_those_of_the_fits():
    """Of a table they are None: whether an option was given matters."""
    parser = parser_of("compare")
    options = parser.parse_args(["runs.csv"])
    used = dataclasses.asdict(table_options.fitting(options))
    wanted = {name: used[name] for name in ("law", "curve", "tokens", "select")}
    wanted |= {"laws": ",".join(DEFAULT_LAWS), "params_convention": "total"}
    wanted |= {"approach": "surface; fit: of one budget its parabola"}
    helps = {action.dest: shown(parser, action) for action in options_of(parser)}
    wrong = [name for name, value in wanted.items() if not helps[name].endswith(f"({value})")]
    assert wrong == []


def test_a_default_is_that_of_the_option():
    parser = main._Parser(prog="x")
    for flag, default in (
        ("--a", 3), ("--b", 0.125), ("--c", (1, 0.5)), ("--d", Path("here")), ("--e", "word"),
        ("--f", 0), ("--g", None), ("--h", ""), ("--i", []),
    ):  # fmt: skip
        parser.add_argument(flag, default=default, help="of it")
    parser.add_argument("--j", action="store_true", help="of it")
    found = [shown(parser, action).partition("of it")[2] for action in options_of(parser)[1:]]
    assert found == [" (3)", " (0.125)", " (1,0.5)", " (here)", " (word)", " (0)", "", "", "", ""]


def test_a_command_asks_for_no_more_than_it_needs(capsys):
    with pytest.raises(SystemExit):
        main.main(["run"])
    assert "the following arguments are required: study (see isoflop run" in capsys.readouterr().err
