# SPDX-License-Identifier: Apache-2.0
"""Scaling laws fitted to runs, with certificates and intervals.

    import scaling

    runs = scaling.read_runs("runs.csv")         # or a DataFrame, an Arrow table, a dict of columns
    fit = scaling.fit_surface(runs, "additive")
    fit                                          # law, parameters, exponent
    fit.optimum([1e22, 1e23]).to_dataframe()     # N*, D*, L* with intervals
    fit.predict(7e9, 1.4e11)                     # the loss of a run, with its interval
    fit.plot()

The names of SURFACE, each in the module that says more; they load when they are first used.
"""

import importlib
from typing import Any

SURFACE = {
    "read_runs": "scaling.tables.read_tables",
    "read_curves": "scaling.tables.read_tables",
    "Runs": "scaling.tables.runs",
    "Law": "scaling.laws.law",
    "LAWS": "scaling.laws.registry",
    "fit_surface": "scaling.approaches.surface.fit",
    "fit_isoflop": "scaling.approaches.isoflop.fit",
    "fit_envelope": "scaling.approaches.envelope.fit",
    "Fit": "scaling.fit",
    "frontier": "scaling.answers.frontier",
    "predict_loss": "scaling.answers.loss_forecast",
    "average_loss": "scaling.answers.loss_forecast",
    "hold_out": "scaling.answers.holdout",
    "compute_multiplier": "scaling.answers.compute_multiplier",
    "profile": "scaling.profiles.profile",
    "figure_fit": "scaling.plots.fit",
}
__all__ = list(SURFACE)


def __getattr__(name: str) -> Any:
    if name not in SURFACE:
        raise AttributeError(f"module 'scaling' has no attribute {name!r}")
    return getattr(importlib.import_module(SURFACE[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *SURFACE})
