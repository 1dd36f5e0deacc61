# SPDX-License-Identifier: Apache-2.0
"""isoflop laws: what `isoflop fit TABLE --law NAME` can fit."""

import argparse
import json
import textwrap

from rich.console import Console

HELP = "the laws that a table can be fitted with: formula, columns, source"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one object per law, as a list (no)")


def run(options: argparse.Namespace, console: Console) -> None:
    if options.overrides:
        raise ValueError(f"{options.overrides[0]!r}: all laws are listed.")
    from scaling.laws.registry import LAWS

    rows = [
        {
            "name": name,
            "formula": law.formula,
            "predicts": law.target,
            "columns": [column.removeprefix("log_") for column in law.columns],
            "parameters": list(law.names),
            "source": law.source,
            "score": law.score,
        }
        for name, law in LAWS.items()
    ]
    if options.json:
        console.print_json(json.dumps(rows))
        return
    for row in rows:
        said = f"from {', '.join(row['columns'])} to {row['predicts']}; {row['source']}"
        said += f"; {row['score']}" * bool(row["score"])
        for text, indent in ((f"{row['name']}: {row['formula']}", ""), (said, "    ")):
            lines = textwrap.wrap(text, 80, initial_indent=indent, subsequent_indent="    ")
            console.print("\n".join(lines), markup=False, highlight=False)
