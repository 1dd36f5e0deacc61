# SPDX-License-Identifier: Apache-2.0
"""A forecast beyond the grid: written down before the run that it speaks of is trained."""

import hashlib
import json
import math
import time
from collections.abc import Sequence

import numpy as np

from experiments.ledger.forecasts import (
    PROBABILITIES,
    Conformal,
    Forecast,
    Predicted,
    Trajectory,
    read_forecast,
    write_forecast,
)
from experiments.ledger.ledger import Ledger
from experiments.ledger.result import VERSION
from experiments.machine.provenance import code_facts
from experiments.plan.point import to_json
from experiments.plan.resolve import resolve
from experiments.plan.widths import width_for
from experiments.report.fits.analysis import Analysis
from experiments.study.study import Study
from model.data.manifest import Manifest
from scaling.answers import conformal
from scaling.answers.collapse import Collapse
from scaling.answers.frontier import frontier
from scaling.answers.loss_forecast import average_loss, choose_forecaster, loss_quantiles
from scaling.fit import Fit, FitError


def make_forecast(
    ledger: Ledger, study: Study, manifest: Manifest, analysis: Analysis, budget: float
) -> Forecast:
    """The forecast at a budget: made now, or the one that was made before.

    The point is the recipe's network whose tokens per parameter are nearest to the fitted
    optimum's. Its loss is forecast by every surface and by their average, which is the one to judge
    and comes first; its interval is widened where the budgets, left out one after another, were
    missed by more than the intervals that they got.

    Raises:
      FitError: if no surface could be fitted.
    """
    key = _key(study, manifest)
    if (made := read_forecast(ledger, budget, key)) is not None:
        return made
    chosen = choose_forecaster(list(analysis.fits.values()))
    optimum = frontier(chosen, budget)
    ratio = float(optimum.tokens_per_param.value[0])
    point = resolve(
        study,
        manifest,
        budget=budget,
        d_model=width_for(study, manifest, budget, ratio),
        seed=min(study.seeds_per_budget[0]),
        axes={},
        role="forecast",
    )
    surfaces = [fit for fit in analysis.fits.values() if fit.law != "power_laws"]
    at = (point.params.total, point.n_tokens)
    left_out = _left_out(surfaces, *at)
    judged = surfaces[0].law if len(surfaces) == 1 else "average"
    forecasts = {judged: _predicted(surfaces, *at, left_out)}
    forecasts |= {fit.law: _predicted([fit], *at) for fit in surfaces if fit.law != judged}
    made = Forecast(
        version=VERSION,
        budget=budget,
        level=chosen.level,
        n_params_opt=float(optimum.n_params_opt.value[0]),
        n_tokens_opt=float(optimum.n_tokens_opt.value[0]),
        n_runs_fitted=len(chosen.fitted_runs),
        forecasts=forecasts,
        point=point,
        conformal=_conformal(left_out),
        trajectory=_trajectory(analysis.collapse, forecasts[judged], chosen.level),
        made_at=time.time(),
        grid_budget=max(study.budgets),
        **code_facts(),
    )
    write_forecast(ledger, key, made)
    # Of two runners the first one's words stand.
    return read_forecast(ledger, budget, key) or made


def _key(study: Study, manifest: Manifest) -> str:
    """What a forecast is about besides its budget: another recipe or other data is another one.

    The grid is not in it: runs that are added later do not replace a forecast that was made.
    """
    about = [to_json(study.recipe), study.seq_len, study.flops, manifest.fingerprint]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:8]


def _left_out(
    surfaces: Sequence[Fit], n_params: float, n_tokens: float
) -> conformal.Conformal | None:
    try:
        left_out = conformal.leave_out(surfaces)
    except FitError:  # Too few runs are left without one of the budgets.
        return None
    return conformal.conformal_loss(surfaces, left_out, n_params, n_tokens)


def _conformal(found: conformal.Conformal | None) -> Conformal | None:
    if found is None or not found.interval.is_known:
        return None
    ends = found.interval
    return Conformal(
        level=found.level, lower=ends.lower, upper=ends.upper, n_budgets=len(found.scores)
    )


def _trajectory(found: Collapse | None, end: Predicted, level: float) -> Trajectory | None:
    if found is None or not end.quantiles:
        return None
    band = found.trajectory(np.array(end.quantiles), end.value, level)
    return Trajectory(
        level=level,
        share=tuple(found.share.tolist()),
        value=tuple(band.value.tolist()),
        lower=tuple(band.lower.tolist()),
        upper=tuple(band.upper.tolist()),
    )


def _predicted(
    surfaces: Sequence[Fit],
    n_params: float,
    n_tokens: float,
    left_out: conformal.Conformal | None = None,
) -> Predicted:
    """By the average of the surfaces; of one, by itself. As wide as what was left out asks."""
    found = average_loss(surfaces, n_params, n_tokens)
    drawn = loss_quantiles(surfaces, n_params, n_tokens, PROBABILITIES).tolist()
    ends, ratio = [found.interval.lower, found.interval.upper], 1.0
    if left_out is not None:
        ends, drawn = ([left_out.widened(loss) for loss in losses] for losses in (ends, drawn))
        ratio = left_out.birge_ratio
    lower, upper = (end if math.isfinite(end) else None for end in ends)
    return Predicted(
        value=found.value,
        lower=lower,
        upper=upper,
        quantiles=tuple(drawn) if all(map(math.isfinite, drawn)) else (),
        widened=ratio,
    )
