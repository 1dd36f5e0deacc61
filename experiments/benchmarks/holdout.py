# SPDX-License-Identifier: Apache-2.0
"""make bench-holdout: how often forecasts hold what lies beyond the budgets that were fitted.

Every published table of runs is cut at up to four budgets. Surfaces are fitted to what lies below,
and the loss of every run 2 to 20 times beyond is forecast by the additive form, by the curved one,
by the one that the data choose (`choose_forecaster`), by their average (`average_loss`), and by the
average widened where budgets that are left out say so (`conformal.leave_out`). Writes
holdout.{json,md} below results/benchmarks/.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.benchmarks.record import facts, made_by, write
from experiments.files import markdown
from experiments.machine.jax_setup import prepare_to_fit
from scaling.answers.conformal import conformal_loss, leave_out
from scaling.answers.loss_forecast import average_loss, choose_forecaster, predict_loss
from scaling.approaches.surface.fit import fit_surface
from scaling.fit import Fit, FitError
from scaling.intervals import Interval
from scaling.published import chinchilla, gadre, kyotakano, misfitting, muennighoff, olmo, porian
from scaling.published.case import TABLES
from scaling.published.isoflop_sets import isoflop_table
from scaling.published.tables import Table, read_table, select
from scaling.tables.runs import Runs

FORMS = ("additive", "curved")
BY = (*FORMS, "chosen", "average", "widened")
REACHES = {"2 to 5": (2.0, 5.0), "6 to 20": (6.0, 20.0)}
MOST_CUTS, FEWEST_RUNS, N_BOOTSTRAP = 4, 12, 300


def main() -> None:
    prepare_to_fit()
    found = {}
    for name, runs in tables().items():
        found[name] = [row for cut in cuts(runs) for row in judged(runs, cut)]
        print(name, len(found[name]), flush=True)
    reaches = {
        reach: {
            name: summary(inside)
            for name, rows in found.items()
            if (inside := [row for row in rows if low <= row["beyond"] < high])
        }
        for reach, (low, high) in REACHES.items()
    }
    record = facts("make bench-holdout") | {"reaches": reaches}
    write("holdout", record, page(record))
    print(page(record))


def tables() -> dict[str, Runs]:
    """Published runs by table; one row per run, and one learning rate per size and tokens."""
    epoch = read_table(TABLES / chinchilla.TABLE)
    tuned = read_table(TABLES / misfitting.TABLE)
    once = read_table(TABLES / muennighoff.TABLE)
    trained = read_table(TABLES / gadre.TABLE)
    trained["loss_nats"] = trained[gadre.LOSS]
    swept = read_table(TABLES / porian.SWEPT)
    isoflop = ("chinchilla_epoch", "marin_nemotron", "marin_comma", "misfitting")
    return {
        **{f"{name}_isoflop": isoflop_table(TABLES, name, "qc") for name in isoflop},
        "chinchilla_epoch245": _runs(select(epoch, epoch["fit_240"] == 1)),
        "kyotakano_llm": _runs(read_table(TABLES / kyotakano.TABLE)),
        "olmo_ladder_final": _runs(olmo.read_ladder(TABLES)[1]),
        **{
            f"gadre_overtraining, {name}": _runs(select(trained, trained["train_set"] == name))
            for name in np.unique(trained["train_set"])
        },
        "misfitting_final": _runs(select(tuned, misfitting.best_rows(tuned))),
        **{
            f"porian_refinedweb_isoflop, {step.name}": _runs(porian.rows_of(swept, step.key))
            for step in porian.STEPS
            if step.key[3:] == ("standard", "val")
        },
        "muennighoff_data_constrained, one epoch": _runs(select(once, once["epochs"] <= 1.01)),
    }


def _runs(table: Table) -> Runs:
    return Runs.from_columns(
        n_params=table["n_params"],
        n_tokens=table["n_tokens"],
        loss_nats=table["loss_nats"],
        params_convention="total",
        flops_convention="6n_total",
    )


def cuts(runs: Runs) -> list[float]:
    """Up to four budgets with enough runs below, and some 2 to 20 times beyond."""
    values = np.unique(runs.flops)
    legal = [
        float(c)
        for c in values
        if np.sum(runs.flops <= 1.01 * c) >= FEWEST_RUNS and np.any(_beyond(runs, c))
    ]
    places = np.linspace(0, len(legal) - 1, min(MOST_CUTS, len(legal))).astype(int)
    return [legal[i] for i in np.unique(places)] if legal else []


def _beyond(runs: Runs, cut: float) -> np.ndarray:
    """Mask of the runs that are forecast from below a budget."""
    factor = runs.flops / cut
    return np.any([(low <= factor) & (factor < high) for low, high in REACHES.values()], axis=0)


def judged(runs: Runs, cut: float) -> Iterator[dict[str, Any]]:
    """What every way says of each run beyond a cut; nothing where a form cannot be fitted."""
    try:
        below = runs.select(runs.flops <= 1.01 * cut)
        fits = [fit_surface(below, form, n_bootstrap=N_BOOTSTRAP) for form in FORMS]
    except FitError:
        return
    try:
        left_out = leave_out(fits)
    except FitError:  # A form has no answer without one of the budgets.
        left_out = {}
    ways: Mapping[str, Sequence[Fit]] = {
        **{form: [fit] for form, fit in zip(FORMS, fits, strict=True)},
        "chosen": [choose_forecaster(fits)],
        "average": fits,
    }
    for i in np.flatnonzero(_beyond(runs, cut)):
        n, d, loss = (float(c[i]) for c in (runs.n_params, runs.n_tokens, runs.loss_nats))
        said: dict[str, Any] = {"beyond": float(runs.flops[i]) / cut}
        for way, of in ways.items():
            guess = predict_loss(of[0], n, d) if len(of) == 1 else average_loss(of, n, d)
            said[way] = _compared(guess.value, guess.interval, loss)
        said["widened"] = said["average"]
        if left_out:
            found, ends = conformal_loss(fits, left_out, n, d), guess.interval
            wider = Interval(lower=found.widened(ends.lower), upper=found.widened(ends.upper))
            said["widened"] = _compared(guess.value, wider, loss)
        yield said


def _compared(value: float, ends: Interval, loss: float) -> dict[str, Any]:
    """A forecast with its interval, beside what came out."""
    return {
        "inside": bool(ends.lower <= loss <= ends.upper),
        "width": (ends.upper - ends.lower) / loss if ends.is_known else None,
        "error": value / loss - 1.0,
    }


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of the runs of one table: share inside, median width and mean |error| by every way."""
    of: dict[str, Any] = {"runs": len(rows)}
    for by in BY:
        widths = [row[by]["width"] for row in rows if row[by]["width"] is not None]
        of[by] = {
            "inside": float(np.mean([row[by]["inside"] for row in rows])),
            "width": float(np.median(widths)) if widths else None,
            "error": float(np.mean([abs(row[by]["error"]) for row in rows])),
        }
    return of


def page(record: dict[str, Any]) -> str:
    """holdout.md."""
    lines = [
        "# Forecasts of published runs",
        "",
        f"{made_by(record)} Every table is cut at up to {MOST_CUTS} budgets with {FEWEST_RUNS} or "
        "more runs below; surfaces are fitted to those, and every run beyond is forecast: by the "
        "additive form, by the curved one, by the one that the data choose, by their average, and "
        "by the average widened where budgets that are left out ask for it "
        "(`scaling/answers/conformal.py`). "
        "Share of the runs inside the 95 % intervals; median width and mean absolute error in per "
        "cent of the loss, means over the tables. Runs beyond one cut share a fit, so their number "
        "says little of how sure a share is.",
    ]
    for reach, tables in record["reaches"].items():
        lines += ["", f"## {reach} times the largest budget fitted", ""]
        heads = ("", "inside, mean of tables", "of all runs", "width, %", "error, %")
        lines += markdown.table(heads, [_total(tables, by) for by in BY])
        shares = [
            [name, of["runs"], *(f"{of[by]['inside']:.2f}" for by in BY)]
            for name, of in tables.items()
        ]
        lines += ["", *markdown.table(("inside, by table", "runs", *BY), shares)]
    return "\n".join(lines) + "\n"


def _total(tables: Mapping[str, dict[str, Any]], by: str) -> list[str]:
    inside, errors = ([of[by][name] for of in tables.values()] for name in ("inside", "error"))
    widths = [of[by]["width"] for of in tables.values() if of[by]["width"] is not None]
    of_runs = np.average(inside, weights=[of["runs"] for of in tables.values()])
    numbers = (f"{100 * np.mean(values):.2f}" for values in (widths, errors))
    return [by, f"{np.mean(inside):.3f}", f"{of_runs:.3f}", *numbers]


if __name__ == "__main__":
    main()
