# SPDX-License-Identifier: Apache-2.0
"""The domains of a study's validation set: a fit for each, and the loss of each setting on each."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.study.study import Label, Study, shown_axes
from scaling.answers.frontier import frontier
from scaling.fit import Fit
from scaling.shown import counted, loss_text, with_interval
from scaling.tables.runs import Runs
from scaling.tables.units import BITS, loss_words, power

LAW = "additive"
"""Which law is fitted to each domain."""
_COLUMN = "loss_nats_"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SettingLosses:
    """Of a budget and setting the losses by domain, at the size with the lowest loss of all.

    Attributes:
      losses: means over repeats, in the unit of the runs.
      bits: the same in bits per byte; none where they are not known, or are what losses are.
    """

    budget: float
    axes: Mapping[str, Label]
    losses: Mapping[str, float]
    bits: Mapping[str, float]

    @property
    def name(self) -> str:
        return " ".join(filter(None, (f"{power(self.budget)} FLOPs", shown_axes(self.axes))))


def by_domain(runs: Runs) -> dict[str, Runs]:
    """By name the runs with their losses on that domain, in the unit of theirs."""
    names = [name.removeprefix(_COLUMN) for name in runs.extra if name.startswith(_COLUMN)]
    column = "bits_per_byte_" if runs.loss_unit == BITS else _COLUMN
    return {
        name: dataclasses.replace(
            runs,
            loss_nats=np.asarray(runs.extra[column + name], float),
            extra={**runs.extra, "bits_per_byte": runs.extra[f"bits_per_byte_{name}"]},
        )
        for name in names
    }


def loss_matrix(study: Study, runs: Runs) -> list[SettingLosses]:
    """A row for each budget and setting that has runs; none where there are no domains."""
    domains = by_domain(runs)
    fields = [axis.field for axis in study.axes]
    groups: dict[tuple, dict[float, list[int]]] = {}
    for i in np.flatnonzero(runs.is_ok) if domains else ():
        setting = tuple(_plain(runs.extra[field][i]) for field in fields)
        sizes = groups.setdefault((float(runs.budget[i]), *setting), {})
        sizes.setdefault(runs.n_params[i], []).append(int(i))
    found = []
    for (budget, *labels), sizes in groups.items():
        rows = min(sizes.values(), key=lambda rows: np.mean(runs.loss_nats[rows]))
        losses = {name: float(np.mean(own.loss_nats[rows])) for name, own in domains.items()}
        bits = {
            name: float(np.mean(np.asarray(own.extra["bits_per_byte"])[rows]))
            for name, own in domains.items()
            if own.bits_per_nat is not None
        }
        axes = dict(zip(fields, labels, strict=True))
        found.append(SettingLosses(budget=budget, axes=axes, losses=losses, bits=bits))
    return found


def _plain(value: object) -> Label:
    return str(value) if isinstance(value, str) else float(value)  # type: ignore[arg-type]


def domain_rows(fits: Mapping[str, Fit], budget: float, unit: str) -> list[dict[str, str]]:
    """Of each domain what is best at a budget, by the law fitted to its losses alone."""
    return [_row(name, fit, budget, unit) for name, fit in fits.items()]


def _row(name: str, fit: Fit, budget: float, unit: str) -> dict[str, str]:
    front = frontier(fit, [budget])
    floor = with_interval(fit.parameters["E"], fit.intervals["E"], "{:.3f}")
    loss, bits_per_nat = front.loss_opt.at(0), fit.runs.bits_per_nat
    return {
        "domain": name,
        "FLOPs": power(budget),
        "parameters N*": counted(front.n_params_opt.at(0)),
        loss_words(fit.runs.loss_name, unit): loss_text(loss),
        **({} if bits_per_nat is None else {BITS: loss_text(loss.times(bits_per_nat))}),
        "a, N* ~ C^a": with_interval(fit.exponent_a, fit.intervals["exponent_a"], "{:.3f}"),
        "E": floor,
        "status": "certified" if fit.is_certified else f"not certified: {fit.status.value}",
    }


def matrix_rows(matrix: Sequence[SettingLosses]) -> list[dict[str, str]]:
    """The losses as rows of text."""
    return [
        {
            "setting": one.name,
            **{name: f"{loss:.4f}" for name, loss in one.losses.items()},
            **{f"{name}, {BITS}": f"{loss:.4f}" for name, loss in one.bits.items()},
        }
        for one in matrix
    ]
