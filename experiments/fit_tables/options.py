# SPDX-License-Identifier: Apache-2.0
"""Options of the commands that read a table of runs, and what they say; nothing heavy is imported.

`isoflop fit TABLE --columns n_params=size:M,n_tokens=tokens,loss_nats=loss --law additive`
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from experiments.report.missing_runs import require_enough

if TYPE_CHECKING:
    from scaling.fit import Fit
    from scaling.tables.runs import Runs

T = TypeVar("T")
APPROACHES = ("surface", "isoflop", "envelope")
_ONLY_FOR = {
    "surface": ("law", "loss", "fix", "tie", "bound", "profile"),
    "isoflop": ("curve", "tokens"),
    "envelope": ("curves", "select"),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options on how a table is read and how a law is fitted to it."""
    add = parser.add_argument_group("tables (CSV, JSONL, Parquet)").add_argument
    add("--columns", action="append", metavar="FIELD=COLUMN[:UNIT],...",
        help="n_params=size:M,n_tokens=tokens,loss_nats=bpb:bits; K M B T multiply, P E PF-days "
        "for FLOPs, bits for losses")  # fmt: skip
    add("--where", action="append", metavar="COLUMN=VALUE", help="rows to use; may be repeated")
    add("--flops-convention", help="how the table counts FLOPs")
    add("--params-convention", help="total or non_embedding")
    add("--approach", choices=APPROACHES, help="surface unless said otherwise")
    add("--curves", type=Path, help="table of training curves, for the envelope")
    add("--select", help="envelope: lowest curve, hull, or final_hull")
    add("--curve", help="isoflop: parabola, quartic or akima")
    add("--tokens", help="isoflop: D* from the size ladder, or from a curve of its own")
    add("--law", help="additive unless said otherwise; also a law in other columns")
    add("--loss", metavar="KIND[:NUMBER]",
        help="huber:1e-3, lad, least_squares, quantile:q, student_t[:nu], raw-...")  # fmt: skip
    add("--fix", action="append", metavar="NAME=VALUE", help="keep a parameter at a value")
    add("--tie", action="append", metavar="NAME=NAME", help="keep two parameters equal")
    add("--bound", action="append", metavar="NAME=LOW:HIGH", help="keep a parameter in a range")
    add("--bootstrap", type=int, metavar="N", help="replicates; 0 for no intervals")
    add("--seed", type=int, help="of the bootstrap")
    add("--level", type=float, help="of the intervals, 0.95 unless said otherwise")
    add("--method", help="auto, pairs, residual, components or wild")
    add("--profile", metavar="QUANTITY[@FLOPS],...",
        help="intervals by profile: E,a,n_params_opt@1e24,loss_opt@1e24")  # fmt: skip


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """Options on where results go."""
    parser.add_argument("--out", type=Path, help="file for the result as JSON")
    parser.add_argument("--figures", type=Path, metavar="DIR", help="folder for figures")


def given(options: Any) -> list[str]:
    """Flags of a table that were used, as on the command line."""
    probe = argparse.ArgumentParser()
    add_options(probe)
    add_outputs(probe)
    names = [action.dest for action in probe._actions if action.dest != "help"]
    return [f"--{n.replace('_', '-')}" for n in names if getattr(options, n, None) is not None]


def read(options: Any, path: str) -> Runs:
    """The runs of a table as the options describe it.

    Raises:
      TooManyMissing: if more of its rows than --allow-missing diverged, failed or have no loss.
    """
    from scaling.tables.runs import read_runs

    runs = read_runs(
        path,
        flops=options.flops_convention,
        params=options.params_convention or "total",
        columns=pairs("--columns", options.columns, str),
        where=options.where or (),
    )
    way_out = "--where status=ok reads the others only."
    require_enough(runs.not_ok, len(runs), options.allow_missing, way_out)
    return runs


def fitted(options: Any, runs: Runs) -> Fit:
    """The fit that the options ask for."""
    approach = options.approach or "surface"
    for other, names in _ONLY_FOR.items():
        unused = [f"--{name}" for name in names if getattr(options, name) is not None]
        if unused and other != approach:
            raise ValueError(f"{', '.join(unused)}: only for --approach {other}, not {approach}")
    if approach == "surface":
        from scaling.approaches.surface import fit_surface

        return fit_surface(
            runs, options.law or "additive", **surface_settings(options), **intervals(options)
        )
    return (_isoflop if approach == "isoflop" else _envelope)(options, runs)


def _isoflop(options: Any, runs: Runs) -> Fit:
    """Approach 2, with its bias beside the exponents where a surface can tell it."""
    from scaling.approaches.isoflop import fit_isoflop
    from scaling.approaches.isoflop_bias import with_bias
    from scaling.approaches.surface import fit_surface
    from scaling.fit import FitError

    chosen = {k: v for k in _ONLY_FOR["isoflop"] if (v := getattr(options, k)) is not None}
    found = fit_isoflop(runs, **chosen, **intervals(options))
    try:
        return with_bias(found, fit_surface(runs, n_bootstrap=0))
    except FitError:
        return found


def _envelope(options: Any, runs: Runs) -> Fit:
    from scaling.approaches.envelope import fit_envelope
    from scaling.tables.runs import read_curves

    if options.curves is None:
        raise ValueError("--approach envelope needs --curves, a table of losses along training")
    if options.method is not None:
        raise ValueError("--method: an envelope resamples its curves, and has no other method")
    curves = read_curves(options.curves, flops=options.flops_convention or "matmul_full")
    chosen = {} if options.select is None else {"select": options.select}
    return fit_envelope(runs, curves, **chosen, **intervals(options))


def surface_settings(options: Any) -> dict[str, Any]:
    """Objective and constraints, as `fit_surface` takes them."""
    from scaling.laws.objectives import HUBER, objective_named

    return {
        "objective": objective_named(options.loss) if options.loss else HUBER,
        "fixed": pairs("--fix", options.fix, _number),
        "tied": pairs("--tie", options.tie, str),
        "bounds": pairs("--bound", options.bound, _range),
    }


def intervals(options: Any) -> dict[str, Any]:
    """Bootstrap settings that were given; estimators have defaults of their own."""
    if options.bootstrap is not None and options.bootstrap < 0:
        raise ValueError(f"--bootstrap {options.bootstrap}: must be 0 or more replicates")
    if options.seed is not None and options.seed < 0:
        raise ValueError(f"--seed {options.seed}: must be 0 or more")
    if options.level is not None and not 0 < options.level < 1:
        raise ValueError(f"--level {options.level:g}: must lie between 0 and 1, like 0.95")
    names = {"n_bootstrap": "bootstrap", "seed": "seed", "level": "level", "bootstrap": "method"}
    chosen = {name: getattr(options, option) for name, option in names.items()}
    return {name: value for name, value in chosen.items() if value is not None}


def pairs(flag: str, texts: list[str] | None, parse: Callable[[str], T]) -> dict[str, T]:
    """NAME=VALUE,NAME=VALUE of a flag that may be repeated.

    Raises:
      ValueError: for text that is no such list, or a name that occurs twice.
    """
    found: dict[str, T] = {}
    for item in (item.strip() for text in texts or () for item in text.split(",")):
        name, sign, value = (part.strip() for part in item.partition("="))
        if not (name and sign and value):
            raise ValueError(f"{flag} {item!r} is not of the form NAME=VALUE")
        if name in found:
            raise ValueError(f"{flag} names {name} twice")
        try:
            found[name] = parse(value)
        except ValueError:
            raise ValueError(f"{flag} {item}: {value!r} is not a number or a range") from None
    return found


def numbers(flag: str, text: str | None) -> list[float]:
    """Positive numbers from text like 1e20,1e21."""
    try:
        found = [_number(item) for item in (text or "").split(",")]
    except ValueError:
        found = []
    if not found or not all(value > 0 for value in found):
        raise ValueError(f"{flag} {text!r} is not a list of positive numbers like 1e20,1e21")
    return found


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _range(text: str) -> tuple[float, float]:
    low, sign, high = text.partition(":")
    if not sign:
        raise ValueError(text)
    return _number(low), _number(high)
