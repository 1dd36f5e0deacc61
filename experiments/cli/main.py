# SPDX-License-Identifier: Apache-2.0
"""isoflop COMMAND: each is a file of this folder, with HELP, add_arguments(parser) and
run(options, console)."""

import argparse
import errno
import importlib
import importlib.metadata
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from experiments.executors import exit_codes
from experiments.executors.local import DiskError
from experiments.files.storage import DISK_ERRORS
from experiments.terminal.consoles import PipeClosed, stdout
from experiments.train.run_points import Preempted, RunsFailed
from model.field_checks import one_line

DEFAULTS = "In parentheses: what holds where an option is not given."
WHAT = "Scaling-law experiments: from FLOP budgets to a compute-optimal frontier with intervals."
BEGIN = (
    "Begin with isoflop init my_study.py, then isoflop plan my_study.py, isoflop run my_study.py."
)
COMMANDS = (
    *("init", "data", "plan", "run", "lr-check", "next"),
    *("status", "retry", "gc", "export", "doctor"),
    *("evaluate", "sample", "export-model"),
    *("fit", "laws", "compare", "optimum", "rates", "plot", "report", "scoreboard"),
    *("check", "calibrate", "coordinate-check", "recipe", "reproduce"),
)
# Commands that are named where another is given an option of theirs.
_FEW = 3


class _Help(argparse.HelpFormatter):
    """Usage in a line, and the default of each option in parentheses."""

    def add_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[argparse._MutuallyExclusiveGroup],
        prefix: str | None = None,
    ) -> None:
        needed = [action for action in actions if action.required or not action.option_strings]
        super().add_usage(usage, needed, groups, prefix)

    def _get_help_string(self, action: argparse.Action) -> str:
        found = action.default
        values = found if isinstance(found, tuple) else (found,)
        texts = [
            f"{value:g}" if isinstance(value, int | float) else str(value)
            for value in values
            if isinstance(value, int | float | str | Path) and not isinstance(value, bool)
        ]
        is_shown = any(texts) and action.option_strings and found is not argparse.SUPPRESS
        return f"{action.help} ({','.join(texts)})" if is_shown else action.help or ""


class _Parser(argparse.ArgumentParser):
    """One line for a user's mistake; options in full: a short one may mean another, --flops."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=_Help, allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        self.exit(exit_codes.REFUSED, f"isoflop: {message} (see {self.prog} --help)\n")


def main(arguments: list[str] | None = None) -> None:
    try:
        options = _options(sys.argv[1:] if arguments is None else arguments)
        options.run(options, stdout())
    except KeyboardInterrupt:
        again = "stopped. Finished runs are kept; the same command goes on."
        _end(again, exit_codes.INTERRUPTED)
    except Preempted:
        again = "asked to stop. Finished runs are kept; the same command goes on."
        _end(again, exit_codes.PREEMPTED)
    except PipeClosed:
        sys.exit(exit_codes.PIPE_CLOSED)
    except RunsFailed as error:
        _end(str(error), exit_codes.FAILED)
    except DiskError as error:
        _end(f"{error} Free space there; finished runs are kept.", exit_codes.DISK)
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        code = exit_codes.DISK if error.errno in DISK_ERRORS else exit_codes.REFUSED
        what = f"{error.filename}: " if error.filename else ""
        way_out = "Free space there; finished runs are kept." if is_full else "Check the path."
        _end(f"{what}{error.strerror}. {way_out}", code)
    except ValueError as error:
        _end(str(error), exit_codes.REFUSED)
    except Exception as error:
        # FitError lives in scaling/, which is not imported for the sake of this line.
        if type(error).__name__ != "FitError":
            raise
        _end(str(error), exit_codes.REFUSED)


def _end(message: str, code: int) -> NoReturn:
    line = one_line(" ".join(message.split()), most=2000)
    print(f"isoflop: {line}", file=sys.stderr)
    sys.exit(code)


def _options(arguments: list[str]) -> argparse.Namespace:
    """Parsed arguments; overrides may stand before or after flags, which argparse alone refuses."""
    named = [name for name in COMMANDS if arguments[:1] == [name]]
    parser = _parser(named or COMMANDS)
    options, rest = parser.parse_known_args(arguments)
    unknown = [text for text in rest if text.startswith("-")]
    if unknown:
        _refuse_unknown(arguments[0], unknown[0].partition("=")[0])
    options.overrides = [*options.overrides, *rest]
    return options


def _refuse_unknown(command: str, option: str) -> NoReturn:
    """Ends with an option that the command does not have, and the few that have it."""
    parser = _parser(COMMANDS)
    (commands,) = (one.choices for one in parser._actions if isinstance(one.choices, dict))
    having = [
        f"isoflop {name}"
        for name, one in commands.items()
        if any(option in action.option_strings for action in one._actions)
    ]
    known = f"; it is one of {' and '.join(having)}" * (0 < len(having) <= _FEW)
    asked: argparse.ArgumentParser = commands.get(command, parser)
    asked.error(f"unknown option {option}{known}")


def _parser(names: Sequence[str]) -> argparse.ArgumentParser:
    """Of these commands only: others need not be imported."""
    parser = _Parser(prog="isoflop", description=WHAT, epilog=BEGIN)
    version = f"isoflop {importlib.metadata.version('isoflop')}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    for name in names:
        module = importlib.import_module(f"experiments.cli.{name.replace('-', '_')}")
        sub = commands.add_parser(
            name, help=module.HELP, description=f"{module.HELP}.", epilog=DEFAULTS
        )
        module.add_arguments(sub)
        sub.set_defaults(run=module.run, overrides=[])
    return parser


if __name__ == "__main__":
    main()
