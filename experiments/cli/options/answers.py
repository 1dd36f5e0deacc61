# SPDX-License-Identifier: Apache-2.0
"""How the answer of a study is shown."""

import argparse

from rich.console import Console

from experiments.ledger.ledger import Ledger
from experiments.terminal.consoles import stderr


def add_answer(parser: argparse.ArgumentParser) -> None:
    """``--verbose`` and ``--json``."""
    group = parser.add_argument_group("answer")
    group.add_argument("--verbose", action="store_true", help="every approach and every finding")
    add_json(group)


def add_json(parser: argparse._ActionsContainer) -> None:
    """``--json``, for whatever has an answer."""
    text = "the answer as one JSON object; what else is told goes to stderr"
    parser.add_argument("--json", action="store_true", help=text)


def where(ledger: Ledger) -> str:
    """Where everything else is."""
    return (
        f"report {ledger.report}\nfigures {ledger.figures}\ntable {ledger.table}\n"
        f"findings {ledger.findings} (--verbose)"
    )


def show_answer(options: argparse.Namespace, ledger: Ledger, answer: str, console: Console) -> None:
    """The answer, and what was asked for beside it, as it was written with it."""
    (stderr() if options.json else console).print(answer)
    if options.verbose:
        console.print(ledger.findings.read_text(encoding="utf-8").rstrip())
    if options.json:
        console.print(ledger.answer.read_text(encoding="utf-8").rstrip())
