# SPDX-License-Identifier: Apache-2.0
"""Gadre et al. 2024: loss and task error of over-trained and large runs from five small ones.

The surface has four parameters and five points, the error law three and six: fewer than a fit with
intervals needs, so both are minima without intervals. A second forecast, from all smaller runs,
has them.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from scaling.answers.task_error import TaskForecast, forecast_task
from scaling.approaches.surface.fit import fit_surface
from scaling.laws.error_laws import ERROR_EXPONENTIAL
from scaling.laws.loss_laws import OVER_TRAINING
from scaling.plots.style import caption, new_figure, styled
from scaling.published.case import Case, Comparison, Reproduction, compare, compare_all
from scaling.published.tables import Table, doubts, minimum, named, read_table, select
from scaling.solve.regression import Estimate
from scaling.tables.arrays import Array
from scaling.tables.runs import Runs

TABLE = "gadre_overtraining.csv"
LOSS, ERROR = "loss_c4_val", "err_avg17"
LEAST_SQUARES = "raw-least_squares"
_SMALL = (("d=96_l=8_h=4", 20), ("d=512_l=8_h=4", 20), ("d=576_l=24_h=8", 20))
SURFACE_RUNS = (*_SMALL, ("d=1024_l=24_h=8", 20), ("d=96_l=8_h=4", 320))
ERROR_RUNS = (*SURFACE_RUNS, ("open_lm_1b", 20))
OVER_TRAINED, LARGE = ("open_lm_1b", 640), ("open_lm_7b", 20)

# lambda1, lambda2, eta (the paper's b is -eta), E.
RED_PAJAMA = {"lambda1": "166.211", "lambda2": "366.687", "eta": "0.272851", "E": "1.836648"}
RED_PAJAMA_ERROR = {"k": "2.20649", "gamma": "0.714591", "eps": "0.856992"}
C4 = {"lambda1": "113.693", "lambda2": "189.516", "eta": "0.242472", "E": "1.508261"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Both minima of one training set, and the rows of that set."""

    table: Table
    surface: Estimate
    errors: Estimate

    def errors_at(self, run: tuple[str, float]) -> tuple[float, float]:
        """Relative error, in percent, of the predicted loss and of the predicted task error."""
        row = select(self.table, _rows(self.table, (run,)))
        loss = self.surface.law.predict(self.surface.parameters, row)
        error = self.errors.law.predict(self.errors.parameters, {"loss_nats": loss})
        pairs = ((loss, row["loss_nats"]), (error, row[ERROR]))
        of_loss, of_error = (100 * float(abs(ours / seen - 1)[0]) for ours, seen in pairs)
        return of_loss, of_error


def _rows(table: Table, runs: tuple[tuple[str, float], ...]) -> Array:
    found = [
        np.flatnonzero((table["model"] == model) & (table["token_multiplier"] == multiplier))
        for model, multiplier in runs
    ]
    return np.concatenate(found)


def fit_chain(table: Table, train_set: str) -> Chain:
    """Least squares of the loss on five runs and of the task error on six, one training set."""
    table = select(table, table["train_set"] == train_set)
    table["loss_nats"] = table[LOSS]
    small, known = (select(table, _rows(table, runs)) for runs in (SURFACE_RUNS, ERROR_RUNS))
    return Chain(
        table=table,
        surface=minimum(small, OVER_TRAINING, objective=LEAST_SQUARES),
        errors=minimum(known, ERROR_EXPONENTIAL, objective=LEAST_SQUARES, target=ERROR),
    )


def _red_pajama(chain: Chain) -> list[Comparison]:
    loss_1b, error_1b = chain.errors_at(OVER_TRAINED)
    loss_7b, error_7b = chain.errors_at(LARGE)
    return [
        *compare_all("RedPajama surface", RED_PAJAMA, named(chain.surface)),
        *compare_all("RedPajama error law", RED_PAJAMA_ERROR, named(chain.errors)),
        compare("1.4B at M = 640, error of the loss, %", "0.7103", loss_1b),
        compare("7B at M = 20, error of the loss, %", "0.7320", loss_7b),
        compare("1.4B at M = 640, error of 17 tasks, %", "3.6365", error_1b),
        compare("7B at M = 20, error of 17 tasks, %", "0.0464", error_7b),
    ]


def _c4(chain: Chain) -> list[Comparison]:
    loss, error = chain.errors_at(LARGE)
    return [
        *compare_all("C4 surface", C4, named(chain.surface)),
        compare("C4, 7B at M = 20, error of the loss, %", "4.2952", loss),
        compare("C4, 7B at M = 20, error of 17 tasks, %", "0.1370", error),
    ]


def forecast_with_intervals(table: Table) -> TaskForecast:
    """Loss and task error of the 7B run from all smaller runs of one training set."""
    small, row = select(table, table["model"] != LARGE[0]), select(table, _rows(table, (LARGE,)))
    bare = Runs.from_columns(
        n_params=small["n_params"], n_tokens=small["n_tokens"], loss_nats=small["loss_nats"]
    )
    runs = replace(bare, extra={ERROR: small[ERROR]})
    return forecast_task(
        fit_surface(runs),
        fit_surface(runs, f"error_exponential:{ERROR}"),
        n_params=float(row["n_params"][0]),
        n_tokens=float(row["n_tokens"][0]),
    )


def _forecast_sentence(label: str, chain: Chain) -> str:
    cast, row = forecast_with_intervals(chain.table), _rows(chain.table, (LARGE,))
    loss, error = cast.interval_loss, cast.interval_error
    return (
        f"{label}, 7B run from all smaller runs: loss {cast.loss_nats:.3f} ({loss.lower:.3f} to "
        f"{loss.upper:.3f}), seen {chain.table[LOSS][row][0]:.3f}; task error "
        f"{cast.task_error:.4f} ({error.lower:.4f} to {error.upper:.4f}), seen "
        f"{chain.table[ERROR][row][0]:.4f}; 95 % intervals of the laws, without noise of the run."
    )


def _run(folder: Path) -> Reproduction:
    table = read_table(folder / TABLE)
    chains = {"RedPajama": fit_chain(table, "rpj"), "C4": fit_chain(table, "c4_original")}
    sentences = []
    for label, chain in chains.items():
        sentences += doubts(f"{label} surface", chain.surface)
        sentences += doubts(f"{label} error law", chain.errors)
        sentences.append(_forecast_sentence(label, chain))
    return Reproduction(
        comparisons=(*_red_pajama(chains["RedPajama"]), *_c4(chains["C4"])),
        figure=_figure(chains),
        findings=(
            *sentences,
            "The two 7B errors, 0.73 % and 4.3 % of the loss, come from one procedure on two "
            "training sets: five runs and four parameters leave one degree of freedom.",
        ),
    )


@styled()
def _figure(chains: dict[str, Chain]) -> Figure:
    """Left: predicted against observed loss. Right: task error against loss, with the laws."""
    drawn, (left, right) = new_figure(2, width=9.0, height=4.0)
    styles = zip(chains.items(), ("#0072b2", "#d55e00"), ("o", "s"), strict=True)
    for (label, chain), colour, marker in styles:
        table, used = chain.table, _rows(chain.table, SURFACE_RUNS)
        predicted = chain.surface.law.predict(chain.surface.parameters, table)
        loss = table["loss_nats"]
        plain: Any = {"linestyle": "none", "marker": marker, "color": colour, "markersize": 4}
        left.plot(loss, 100 * (predicted / loss - 1), mfc="none", **plain)
        left.plot(loss[used], 100 * (predicted / loss - 1)[used], label=label, **plain)
        known = _rows(table, ERROR_RUNS)
        right.plot(loss, table[ERROR], mfc="none", **plain)
        right.plot(loss[known], table[ERROR][known], **plain)
        grid = np.linspace(loss.min(), loss.max(), 80)
        law = chain.errors.law.predict(chain.errors.parameters, {"loss_nats": grid})
        right.plot(grid, law, color=colour, lw=1)
    left.axhline(0.0, color="#444444", lw=0.8)
    left.set(xlabel="observed loss (nats per token)", ylabel="predicted minus observed loss (%)")
    right.set(xlabel="observed loss (nats per token)", ylabel="mean error of 17 tasks")
    left.legend()
    caption(drawn, ["filled: fitted; hollow: predicted."])
    return drawn


CASE = Case(
    name="gadre",
    title="Over-training and task error, predicted from five and six small runs",
    paper="Gadre et al. 2024, arXiv:2403.08540",
    run=_run,
)
