# SPDX-License-Identifier: Apache-2.0
"""isoflop fit TABLE | compare TABLE [TABLE] | optimum FIT.json: laws on tables of others' runs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from experiments.files.storage import replace_text
from experiments.fit_tables import options as table_options
from experiments.report import missing_runs

if TYPE_CHECKING:
    from scaling.fit import Fit
    from scaling.profiles.profile import Profile

# Replicates times runs beyond which a person should know why nothing happens.
_LONG = 5_000_000


def add_compare(parser: argparse.ArgumentParser) -> None:
    """Options of compare."""
    parser.add_argument("tables", nargs="+", metavar="TABLE", help="one: laws; two: recipes A, B")
    parser.add_argument("--laws", help="names, comma separated; one table")
    parser.add_argument("--below", type=float, metavar="C", help="fit below these FLOPs; one table")
    parser.add_argument("--flops", metavar="C,...", help="of A, where A and B are compared")
    _add_common(parser)


def add_optimum(parser: argparse.ArgumentParser) -> None:
    """Options of optimum."""
    parser.add_argument(
        "source", metavar="FIT.json|TABLE", help="what `isoflop fit` wrote, or runs"
    )
    parser.add_argument("--flops", metavar="C,...", required=True, help="training budgets")
    parser.add_argument("--inference-tokens", metavar="D", help="tokens served over its life")
    _add_common(parser)


def _add_common(parser: argparse.ArgumentParser) -> None:
    table_options.add_options(parser)
    table_options.add_outputs(parser)
    missing_runs.add_option(parser)
    parser.set_defaults(overrides=[])


def is_table(options: Any) -> bool:
    """Whether the first argument of fit is a table; a study must not have a table's options.

    Raises:
      ValueError: if it has, or if a table comes with overrides.
    """
    from scaling.tables.file import is_table

    if is_table(options.study):
        if options.overrides:
            raise ValueError(f"a table takes no overrides: {' '.join(options.overrides)}")
        return True
    if used := table_options.given(options):
        raise ValueError(f"{', '.join(used)}: for tables (.csv, .jsonl, .parquet), not for a study")
    return False


def fit(options: Any, console: Console) -> None:
    """Fits a table, prints the result, writes JSON and figures where asked."""
    from experiments.fit_tables.display import print_fit

    runs = table_options.read(options, options.study)
    n_replicates = 1000 if options.bootstrap is None else options.bootstrap
    if n_replicates * len(runs) > _LONG:
        console.print(
            f"{n_replicates} replicates of {len(runs)} runs take minutes; --bootstrap N for fewer"
        )
    found = table_options.fitted(options, runs)
    print_fit(console, found)
    profiles = _profiles(found, options.profile, console)
    _write(options.out, found.to_json(), console)
    if options.figures:
        from experiments.fit_tables.figures import draw

        for path in draw(found, options.figures, profiles):
            console.print(str(path))


def _profiles(found: Fit, asked: str | None, console: Console) -> list[Profile]:
    """Profiles of the quantities named, printed as they are found."""
    if not asked:
        return []
    from experiments.fit_tables.display import print_profile
    from scaling.profiles.profile import profile

    profiles = []
    for text in asked.split(","):
        quantity, _, flops = text.strip().partition("@")
        at = table_options.numbers("--profile", flops)[0] if flops else None
        profiles.append(profile(found, quantity, flops=at))
        print_profile(console, profiles[-1])
    return profiles


def compare(options: Any, console: Console) -> None:
    """One table: laws by hold-out. Two: the compute multiplier of B over A."""
    _refuse_overrides(options)
    if len(options.tables) > 2:
        raise ValueError(f"compare takes one table or two, not {len(options.tables)}")
    (_compare_laws if len(options.tables) == 1 else _compare_recipes)(options, console)


def _compare_laws(options: Any, console: Console) -> None:
    from experiments.fit_tables.display import print_hold_out
    from scaling.answers.holdout import DEFAULT_LAWS, hold_out

    _refuse(options, "one table", "flops", "law", "approach", "curves", "bootstrap", "method")
    settings = table_options.intervals(options) | table_options.surface_settings(options)
    laws = options.laws.split(",") if options.laws else DEFAULT_LAWS
    runs = table_options.read(options, options.tables[0])
    found = hold_out(runs, laws, below=options.below, **settings)
    print_hold_out(console, found)
    _write(options.out, _json(found.to_dict()), console)
    if options.figures:
        from scaling.plots.holdout import figure_hold_out

        _save(figure_hold_out(found), options.figures, "holdout", console)


def _compare_recipes(options: Any, console: Console) -> None:
    from experiments.fit_tables.display import print_multiplier, status_line
    from scaling.answers.compute_multiplier import compute_multiplier

    _refuse(options, "two tables", "laws", "below")
    tables = [table_options.read(options, path) for path in options.tables]
    a, b = (table_options.fitted(options, runs) for runs in tables)
    for name, path, one in zip("AB", options.tables, (a, b), strict=True):
        console.print(
            f"{name}: {path}, {one.name}, {len(one.fitted_runs)} runs; {status_line(one)}"
        )
    at = table_options.numbers("--flops", options.flops) if options.flops else None
    found = compute_multiplier(a, b, flops=at)
    print_multiplier(console, found)
    _write(options.out, _json(found.to_dict()), console)
    if options.figures:
        from scaling.plots.holdout import figure_multiplier

        _save(figure_multiplier(found), options.figures, "multiplier", console)


def optimum(options: Any, console: Console) -> None:
    """The compute-optimal choice at each budget.

    With inference: the model of the same loss that is cheapest to train and to serve.
    """
    from experiments.fit_tables.display import print_optimum, status_line
    from scaling.answers.frontier import frontier

    _refuse_overrides(options)
    table_options.intervals(options)
    budgets = table_options.numbers("--flops", options.flops)
    served = []
    if options.inference_tokens:
        from experiments.fit_tables.display import print_inference
        from scaling.answers.inference import cheapest_for_loss

        served = table_options.numbers("--inference-tokens", options.inference_tokens)
    found = _source(options)
    front = frontier(found, budgets, level=options.level)
    console.print(f"{found.name}: {status_line(found)}")
    print_optimum(console, front)
    _write(options.out, _json(front.to_dict()), console)
    if options.figures:
        from scaling.plots.figures import figure_frontier

        _save(figure_frontier([front], [found]), options.figures, "frontier", console)
    for tokens in served:
        for loss in front.loss_opt.value:
            print_inference(console, cheapest_for_loss(found, float(loss), tokens))


def _source(options: Any) -> Fit:
    if Path(options.source).suffix.lower() == ".json":
        if used := [flag for flag in table_options.given(options) if flag not in _OUTPUTS]:
            raise ValueError(f"{', '.join(used)}: {options.source} is a fit already")
        return read_fit(Path(options.source))
    return table_options.fitted(options, table_options.read(options, options.source))


_OUTPUTS = ("--out", "--figures", "--level")


def read_fit(path: Path) -> Fit:
    """A fit from a file that `isoflop fit --out` wrote.

    Raises:
      ValueError: if it is another file.
    """
    from scaling.fit import Fit

    try:
        return Fit.from_json(path.read_text(encoding="utf-8"))
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} is no fit that `isoflop fit --out` wrote ({type(error).__name__}: {error})"
        ) from None


def _refuse(options: Any, what: str, *names: str) -> None:
    used = [f"--{name}" for name in names if getattr(options, name) is not None]
    if used:
        raise ValueError(f"{', '.join(used)}: not for compare with {what}")


def _refuse_overrides(options: Any) -> None:
    if options.overrides:
        raise ValueError(f"a table takes no overrides: {' '.join(options.overrides)}")


def _json(body: dict[str, Any]) -> str:
    return json.dumps(body, allow_nan=False, sort_keys=True)


def _write(path: Path | None, text: str, console: Console) -> None:
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, text)
    console.print(str(path))


def _save(figure: Any, folder: Path, name: str, console: Console) -> None:
    from scaling.plots.style import save

    folder.mkdir(parents=True, exist_ok=True)
    for path in save(figure, folder / name):
        console.print(str(path))
