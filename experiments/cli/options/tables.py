# SPDX-License-Identifier: Apache-2.0
"""Options of the commands that read a table of runs, and what they say.

`isoflop fit TABLE --columns n_params=size:M,n_tokens=tokens,loss_nats=loss --law additive`
"""

import argparse
import math
from pathlib import Path

from rich.console import Console

from experiments.cli.opening.python_file import run_file
from experiments.cli.options.argument_types import file_path
from experiments.cli.options.columns import add_by_column, add_schedules
from experiments.cli.options.values import finite, numbers, pairs, span
from experiments.fit_tables.output import Output
from experiments.fit_tables.settings import (
    APPROACHES,
    Approach,
    Fitting,
    Intervals,
    Profiled,
    Reading,
)
from experiments.terminal.consoles import stderr

_ONLY_FOR = {
    "surface": ("law", "loss", "fix", "tie", "bound", "profile", "weights"),
    "isoflop": ("curve", "tokens", "accept", "seed_noise", "weights"),
    "envelope": ("curves", "curves_columns", "curves_where", "select"),
}


def add_table(parser: argparse.ArgumentParser) -> None:
    """Options on how a table is read and how a law is fitted to it."""
    for group in (add_reading, _add_fitting, _add_approaches, _add_intervals):
        group(parser)


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Options on how a table is read."""
    add = parser.add_argument_group("table (CSV, TSV, JSONL, Parquet)").add_argument
    add("--columns", action="append", metavar="FIELD=COLUMN[:UNIT],...",
        help="n_params=size:M,n_tokens=steps:524288,loss_nats=bpb:bits; K M B T or a number "
        "multiply, P E PF-days for FLOPs, bits for losses; a+b adds columns; budget=C says which "
        "runs were meant to cost the same; status=state:done says what counts (columns of our "
        "names)")  # fmt: skip
    text = "rows to use, or 'A=1 or B<2'; may be repeated (all)"
    add("--where", action="append", metavar="COLUMN=VALUE", help=text)
    add("--best-per", metavar="FIELD,...",
        help="n_params,n_tokens: of rows alike in these the lowest loss (all)")  # fmt: skip
    add("--flops-convention", help="how the table counts FLOPs (as it says, or 6n_total)")
    add("--params-convention", help="total or non_embedding (total)")


def _add_fitting(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("fit").add_argument
    text = "how optima are found (surface; fit: of one budget its parabola)"
    add("--approach", choices=APPROACHES, help=text)
    add("--law", help="by its name in `isoflop laws`, or a Python file with a LAW (additive)")
    text = "huber:x, lad, least_squares, quantile:q, student_t[:nu], raw-... (huber:1e-3)"
    add("--loss", metavar="KIND[:NUMBER]", help=text)
    add("--fix", action="append", metavar="NAME=VALUE", help="keep a parameter at a value (none)")
    add("--tie", action="append", metavar="NAME=NAME", help="keep two parameters equal (none)")
    text = "keep a parameter in a range (that of the law)"
    add("--bound", action="append", metavar="NAME=LOW:HIGH", help=text)
    add("--weights", metavar="COLUMN", help="how much each run counts in the sum, relative; of one "
        "curve a budget its optima, equal or variance (all alike)")  # fmt: skip


def _add_approaches(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("approach isoflop").add_argument
    add("--curve", help="joint, or one a budget: parabola, cubic, quartic, akima (joint)")
    add("--tokens", help="D* from the size ladder, or from a curve of its own (ladder)")
    add("--accept", help="one curve a budget: minima that are resolved, or any (resolved)")
    add("--seed-noise", type=float, metavar="SD",
        help="one curve a budget: of one run, in nats, known from elsewhere (from the "
        "scatter about the curves)")  # fmt: skip
    add = parser.add_argument_group("approach envelope").add_argument
    add("--curves", type=file_path, help="table of training curves (none; needed)")
    add("--curves-columns", action="append", metavar="FIELD=COLUMN[:UNIT],...",
        help="of that table: run_id, step, n_tokens, flops, loss_nats (our names)")  # fmt: skip
    add("--curves-where", action="append", metavar="COLUMN=VALUE", help="its rows to use (all)")
    add("--select", help="lowest curve, hull, or final_hull (lowest)")


def _add_intervals(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("intervals").add_argument
    text = "replicates; 0 for no intervals (1000; envelope 300)"
    add("--bootstrap", type=int, metavar="N", help=text)
    add("--no-intervals", action="store_true", default=None,
        help="--bootstrap 0; as many runs as parameters then suffice (intervals)")  # fmt: skip
    add("--seed", type=int, help="of the bootstrap (0)")
    add("--level", type=float, help="share of the truth that they are to hold (0.95)")
    add("--method", help="auto, pairs, residual, components, wild; sandwich for surfaces (auto)")
    add("--profile", metavar="QUANTITY[@FLOPS],...",
        help="intervals by profile: E,a,n_params_opt@1e24,loss_opt@1e24 (none)")  # fmt: skip


def add_output(parser: argparse.ArgumentParser) -> None:
    """Options on where results go."""
    add = parser.add_argument_group("files").add_argument
    add("--out", type=file_path, metavar="FILE", help="the answer as one JSON object (none)")
    add("--figures", type=file_path, metavar="DIR", help="figures (none)")


def given(options: argparse.Namespace) -> list[str]:
    """Flags of a table that were used, as on the command line."""
    probe = argparse.ArgumentParser()
    add_table(probe)
    add_by_column(probe)
    add_schedules(probe)
    add_output(probe)
    names = [action.dest for action in probe._actions if action.dest != "help"]
    return used(options, *names)


def used(options: argparse.Namespace, *names: str) -> list[str]:
    """Those of the options that were given, as flags; not every command has all of them."""
    return [f"--{n.replace('_', '-')}" for n in names if getattr(options, n, None) is not None]


def refuse_overrides(options: argparse.Namespace) -> None:
    if options.overrides:
        raise ValueError(f"a table takes no overrides: {' '.join(options.overrides)}")


def reading(options: argparse.Namespace) -> Reading:
    """How the table is read."""
    return Reading(
        columns=pairs("--columns", options.columns, str),
        where=tuple(options.where or ()),
        best_per=tuple(filter(None, (options.best_per or "").split(","))),
        flops_convention=options.flops_convention,
        params_convention=options.params_convention or "total",
        allow_missing=options.allow_missing,
    )


def fitting(options: argparse.Namespace) -> Fitting:
    """How a law is fitted.

    Raises:
      ValueError: for an option of another approach, or a value that cannot be.
    """
    is_surface = bool(used(options, *_ONLY_FOR["surface"]))
    approach: Approach | None = options.approach or ("surface" if is_surface else None)
    chosen = approach or "surface"
    for other, names in _ONLY_FOR.items():
        unused = used(options, *(name for name in names if name not in _ONLY_FOR[chosen]))
        if unused:
            raise ValueError(f"{', '.join(unused)}: only for --approach {other}, not {chosen}")
    return Fitting(
        approach=approach,
        law=law(options.law or "additive"),
        objective=options.loss,
        fixed=pairs("--fix", options.fix, finite),
        tied=pairs("--tie", options.tie, str),
        bounds=pairs("--bound", options.bound, span),
        curve=options.curve or "joint",
        tokens=options.tokens or "ladder",
        accept=options.accept,
        seed_noise=_seed_noise(options, chosen),
        weights=options.weights,
        curves=options.curves,
        curves_convention=options.flops_convention or "matmul_full",
        curves_columns=pairs("--curves-columns", options.curves_columns, str),
        curves_where=tuple(options.curves_where or ()),
        select=options.select or "lowest",
        intervals=intervals(options),
        n_spare=0 if options.no_intervals else None,
    )


def _seed_noise(options: argparse.Namespace, approach: Approach) -> float | None:
    if options.seed_noise is not None and not 0 < options.seed_noise < math.inf:
        raise ValueError(f"--seed-noise {options.seed_noise:g}: must be positive, like 0.004")
    for flag in used(options, "accept", "seed_noise", "weights"):
        if approach == "isoflop" and (options.curve or "joint") == "joint":
            raise ValueError(f"{flag}: only with one curve a budget; say --curve parabola")
    return options.seed_noise


def law(text: str) -> str:
    """The name of a law; that of a Python file is known by its own from now on.

    Raises:
      ValueError: if the file has none, or is wrong.
    """
    if not text.endswith(".py"):
        return text
    from scaling.laws.law import Law
    from scaling.laws.registry import register

    if not Path(text).is_file():
        raise ValueError(f"there is no file {text!r}; `isoflop laws` lists the laws that are here")
    found = getattr(run_file(Path(text), "LAW"), "LAW", None)
    if not isinstance(found, Law):
        raise ValueError(f"{text}: defines no LAW of type scaling.laws.law.Law")
    return register(found).name


def intervals(options: argparse.Namespace) -> Intervals:
    """How intervals are found.

    Raises:
      ValueError: for a number that cannot be.
    """
    if options.bootstrap is not None and options.bootstrap < 0:
        raise ValueError(f"--bootstrap {options.bootstrap}: must be 0 or more replicates")
    if options.no_intervals and options.bootstrap:
        raise ValueError(f"--bootstrap {options.bootstrap} with --no-intervals: leave one out")
    if options.seed is not None and options.seed < 0:
        raise ValueError(f"--seed {options.seed}: must be 0 or more")
    if options.level is not None and not 0 < options.level < 1:
        raise ValueError(f"--level {options.level:g}: must lie between 0 and 1, like 0.95")
    return Intervals(
        n_bootstrap=0 if options.no_intervals else options.bootstrap,
        seed=options.seed,
        level=options.level,
        bootstrap=options.method,
    )


def profiled(options: argparse.Namespace) -> list[Profiled]:
    """The quantities of --profile, such as E,a,n_params_opt@1e24."""
    found = []
    for text in options.profile.split(",") if options.profile else ():
        quantity, _, flops = text.strip().partition("@")
        at = numbers("--profile", flops)[0] if flops else None
        found.append(Profiled(quantity=quantity, flops=at))
    return found


def output(options: argparse.Namespace, console: Console) -> Output:
    """Where results go; that it can be written is seen before anything is fitted."""
    asked = Output(
        console=stderr() if options.json else console,
        program=console if options.json else None,
        out=options.out,
        figures=options.figures,
    )
    asked.prepare()
    return asked
