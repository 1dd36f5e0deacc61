# SPDX-License-Identifier: Apache-2.0
"""Hold-out by compute: laws are fitted below C, predict above it, and are ranked by the error.

Errors within the grid reward freedom; what a law is wanted for lies beyond it. Every law sees the
same runs below C, and is judged on the same runs above.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from scaling.approaches.diagnostics import usable
from scaling.approaches.surface.fit import fit_surface
from scaling.fit import SCHEMA_VERSION, Fit, FitError
from scaling.intervals import Interval
from scaling.json_values import encode
from scaling.laws.law import Law
from scaling.laws.registry import law_named
from scaling.shown import with_interval
from scaling.tables.arrays import Array
from scaling.tables.read_tables import as_runs
from scaling.tables.runs import Runs
from scaling.tables.short_repr import ShortRepr, aligned
from scaling.tables.units import power
from scaling.uncertainty import bootstrap_draws
from scaling.uncertainty.groups import clusters

DEFAULT_LAWS = ("additive", "curved", "kaplan", "over_training")
# Share of the runs that the default split holds out.
_HELD_OUT = 0.2
_N_RESAMPLES = 4000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Prediction(ShortRepr):
    """One law on the runs held out.

    Fields:
      fit: to the runs below C. predicted: loss in nats of the runs above, [n].
      error: mean of |predicted - observed| / observed; interval: of it, runs resampled by cluster.
      bias: mean of (predicted - observed) / observed: positive where the law expects too much.
      excess: error minus that of the best law, with its paired interval; zero for the best.
    """

    law: str
    fit: Fit
    predicted: Float[Array, " n"]
    error: float
    interval: Interval
    bias: float
    excess: float
    excess_interval: Interval

    def relative_error(self, observed: Float[Array, " n"]) -> Float[Array, " n"]:
        """(predicted - observed) / observed of every run held out."""
        return self.predicted / observed - 1.0

    @property
    def is_beaten(self) -> bool:
        """Whether the best law is better by more than chance: the interval excludes zero."""
        return self.excess_interval.is_known and self.excess_interval.lower > 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; the fit by its parameters and its status."""
        names = ("law", "error", "interval", "bias", "excess", "excess_interval", "predicted")
        of_fit = {"parameters": self.fit.parameters, "status": self.fit.status}
        return encode({name: getattr(self, name) for name in names} | of_fit)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class HoldOut(ShortRepr):
    """Laws by ascending error above C, and those that could not be fitted.

    Fields:
      below: C, FLOPs. train, held: the runs on either side.
      predictions: best first. refusals: law -> why it has none.
    """

    below: float
    train: Runs
    held: Runs
    level: float
    predictions: tuple[Prediction, ...]
    refusals: Mapping[str, str]
    findings: tuple[str, ...]

    def _told(self) -> list[str]:
        """A line per law."""
        head = (
            f"fitted to {len(self.train)} runs below {power(self.below)} FLOPs, "
            f"judged on {len(self.held)}"
        )
        rows: list[tuple[str, ...]] = [
            ("law", "mean error %", "worse than the best by %", "status")
        ]
        for one in self.predictions:
            errors = (
                with_interval(100 * value, ends.times(100), "{:.2f}")
                for value, ends in ((one.error, one.interval), (one.excess, one.excess_interval))
            )
            rows.append((one.law, *errors, "certified" * one.fit.is_certified or "not certified"))
        return [head, *aligned(rows), *(f"{law}: no answer" for law in self.refusals)]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, schema versioned; runs by their id."""
        return {
            "schema_version": SCHEMA_VERSION,
            "below": self.below,
            "level": self.level,
            "train": self.train.run_id.tolist(),
            "held": self.held.run_id.tolist(),
            "predictions": [prediction.to_dict() for prediction in self.predictions],
            "refusals": dict(self.refusals),
            "findings": list(self.findings),
        }


def hold_out(
    runs: Runs | Any,
    laws: Sequence[str | Law] = DEFAULT_LAWS,
    *,
    below: float | None = None,
    level: float = 0.95,
    seed: int = 0,
    **settings: Any,
) -> HoldOut:
    """Laws ranked by how well they predict the runs above C from those below.

    The score is the mean absolute relative error of the loss. Its uncertainty, and that of the
    differences between laws, comes from resampling the held-out runs by cluster: the same draws
    for every law, so that what makes a run hard for all laws cancels (a paired bootstrap). It is
    conditional on the fits: other training runs would move all laws, and that is not in it. Nor is
    noise that held-out runs share with training runs (branches of one trunk): the fits have seen
    it, and the errors are those of the same trunks; the findings say so.

    Args:
      runs: or a table that `read_runs` reads; rows whose status is not ok are left out.
      laws: names in `registry.LAWS` or laws of your own, each with loss_nats as its target.
      below: C in FLOPs; by default the split that leaves about a fifth of the runs above.
      level: of the intervals. seed: of the resampling.
      settings: for `fit_surface`: objective, fixed, tied, bounds, ...

    Raises:
      FitError: when no law can be fitted, with the reason of each.
      ValueError: when C leaves nothing on one side, or a law is named twice or predicts no loss.
    """
    known = [law_named(law) if isinstance(law, str) else law for law in laws]
    _check_laws(known)
    good, _ = usable(as_runs(runs))
    below = _split(good.flops) if below is None else below
    train, held = _sides(good, below)
    fits, refusals = _fits(train, below, known, {"n_bootstrap": 0} | settings)
    predicted = [_predict(law, fits[law.name], held) for law in known if law.name in fits]
    found = _ranked(fits, predicted, held, level, seed)
    return HoldOut(
        below=float(below),
        train=train,
        held=held,
        level=level,
        predictions=found,
        refusals=refusals,
        findings=_findings(train, held, found),
    )


def _ranked(
    fits: Mapping[str, Fit], predicted: Sequence[Array], held: Runs, level: float, seed: int
) -> tuple[Prediction, ...]:
    """Predictions by ascending error, each compared with the best."""
    relative = np.array(predicted) / held.loss_nats - 1.0
    sizes, draws = np.abs(relative), _resampled(np.abs(relative), held, seed)
    order = np.argsort(sizes.mean(axis=1), kind="stable")
    best, named = int(order[0]), list(fits.items())
    return tuple(
        Prediction(
            law=named[i][0],
            fit=named[i][1],
            predicted=predicted[i],
            error=float(sizes[i].mean()),
            interval=Interval.of(draws[i], level),
            bias=float(relative[i].mean()),
            excess=float((sizes[i] - sizes[best]).mean()),
            excess_interval=Interval.of(draws[i] - draws[best], level),
        )
        for i in order
    )


def _check_laws(laws: Sequence[Law]) -> None:
    names = [law.name for law in laws]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"laws to compare must be named once each, these are {names}")
    others = [f"{law.name} ({law.target})" for law in laws if law.target != "loss_nats"]
    if others:
        raise ValueError(f"hold-out compares predictions of loss_nats; {', '.join(others)} do not")


def _split(flops: Array) -> float:
    """C between two values of FLOPs, with about a fifth of the runs above it.

    The widest gap nearby, in logarithm: budgets stay whole.
    """
    values = np.unique(flops)
    if len(values) < 2:
        raise ValueError(f"{len(flops)} usable runs at one value of FLOPs: nothing to hold out")
    share = 1.0 - np.searchsorted(np.sort(flops), values[1:]) / len(flops)
    near = np.abs(share - _HELD_OUT) <= max(0.1, np.min(np.abs(share - _HELD_OUT)))
    gaps = np.where(near, np.diff(np.log(values)), -1.0)
    widest = int(np.argmax(gaps))
    return float(np.sqrt(values[widest] * values[widest + 1]))


def _sides(runs: Runs, below: float) -> tuple[Runs, Runs]:
    is_train = runs.flops < below
    if not is_train.any() or is_train.all():
        raise ValueError(
            f"{power(below, 4)} FLOPs leave {int(is_train.sum())} runs below and "
            f"{int((~is_train).sum())} above; take C within {power(runs.flops.min(), 4)} to "
            f"{power(runs.flops.max(), 4)}"
        )
    return runs.select(is_train), runs.select(~is_train)


def _fits(
    train: Runs, below: float, laws: Sequence[Law], settings: Mapping[str, Any]
) -> tuple[dict[str, Fit], dict[str, str]]:
    fits, refusals = {}, {}
    for law in laws:
        try:
            fits[law.name] = fit_surface(train, law, **settings)
        except (FitError, ValueError) as error:
            refusals[law.name] = str(error)
    if not fits:
        reasons = "; ".join(f"{name}: {why}" for name, why in refusals.items())
        raise FitError(
            f"no law can be fitted to the {len(train)} runs below {power(below, 4)}: {reasons}"
        )
    return fits, refusals


def _predict(law: Law, fit: Fit, runs: Runs) -> Array:
    return law.predict([fit.parameters[name] for name in law.names], runs.numeric)


def _resampled(errors: Array, held: Runs, seed: int) -> Array:
    """Mean error of each law in each resample of clusters, [laws, R]; the same draws for all."""
    labels = clusters(held)
    if labels.max() == 0:
        return np.full((len(errors), 0), np.nan)
    weights = bootstrap_draws.pairs_weights(labels, _N_RESAMPLES, np.random.default_rng(seed))
    return (errors @ weights.T) / weights.sum(axis=1)


def _findings(train: Runs, held: Runs, found: Sequence[Prediction]) -> tuple[str, ...]:
    reach = held.flops.max() / train.flops.max()
    sentences = [
        f"fitted to {len(train)} runs up to {power(train.flops.max())} FLOPs, judged on "
        f"{len(held)} up to {power(held.flops.max())} ({reach:.3g} times as many)."
    ]
    n_clusters = int(clusters(held).max()) + 1
    if n_clusters < 8:
        sentences.append(
            f"only {n_clusters} independent runs are held out: the ranking may be chance."
        )
    n_seen = int(np.sum(np.isin(held.cluster_id, train.cluster_id)))
    if n_seen:
        sentences.append(
            f"{n_seen} of {len(held)} held-out runs share noise (cluster_id) with runs that were "
            "fitted: their errors are smaller than those of new trunks, and no interval holds that."
        )
    equal = [p.law for p in found[1:] if not p.is_beaten]
    if equal:
        sentences.append(f"not told apart from {found[0].law}: {', '.join(equal)}.")
    doubtful = [p.law for p in found if not p.fit.is_certified]
    if doubtful:
        sentences.append(f"not certified: {', '.join(doubtful)}.")
    return tuple(sentences)
