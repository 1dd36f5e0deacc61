# SPDX-License-Identifier: Apache-2.0
"""What a grid can be answered with, before anything of it is trained. No JAX."""

import collections
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from experiments.plan.point import Point
from experiments.study.changes import leaves
from experiments.study.study import Axis, Study
from model.field_checks import is_real
from scaling.laws import fewest
from scaling.tables.units import power

_APPROACHES = 2 + len(fewest.SURFACE_PARAMETERS)
_FEWEST_VALUES = 3  # One on each side of a minimum.


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """What is known of a grid's answer before anything is trained, in words.

    Attributes:
      no_law: of a grid that asks for none and is too small for any, what it gives instead; else
        empty.
      cannot: of each approach that the runs are too few for, what they are and what it needs.
      may_not: approaches that answer from too little to be certified; of each axis of numbers, why
        its best value may lie beyond those that are tried.
      refusal: why nothing can be answered, and the way out; empty where something can.
    """

    no_law: str
    cannot: tuple[str, ...]
    may_not: tuple[str, ...]
    refusal: str

    @property
    def notices(self) -> list[str]:
        """A line for each sentence but the refusal."""
        return [
            *([self.no_law] if self.no_law else []),
            *(f"cannot answer: {sentence}." for sentence in self.cannot),
            *(f"may not answer: {sentence}." for sentence in self.may_not),
        ]


def answers(study: Study, points: Sequence[Point]) -> Answers:
    """What a study's grid can answer.

    One budget asks for its best size alone. One size alone, or settings to be compared, ask for
    no law: they are never refused.
    """
    fitted = fitted_points(points)
    is_one = len(study.budgets) == 1
    found = list(_no_minimum(study, fitted) if is_one else _too_few(study, fitted))
    compared = [axis for axis in study.axes if len(axis.values) > 1]
    n_sizes, n_budgets = len({point.params.total for point in fitted}), len(study.budgets)
    extent = f"{n_sizes} size{'s' * (n_sizes > 1)} at {n_budgets} budget{'s' * (n_budgets > 1)}"
    n_lost, n_approaches = sum(is_all for is_all, _ in found), 1 if is_one else _APPROACHES
    is_asked = n_sizes > 1 and not compared
    # An envelope that cannot be certified, and may have no interior at all, is no answer by itself.
    is_unsure = is_asked and not is_one and bool(_unsure_envelope(fitted))
    is_lost = n_lost + is_unsure == n_approaches
    has_no_law = is_lost and not is_asked
    return Answers(
        no_law=f"{extent}: no law is fitted, losses are compared." if has_no_law else "",
        cannot=() if has_no_law else tuple(sentence for _, sentence in found),
        may_not=(
            *(_unjudged(study, fitted) if is_asked and not (is_one or is_lost) else ()),
            *_one_sided(study, [axis for axis in compared if axis.is_numbers]),
        ),
        refusal=_refusal(extent, is_one=is_one) if is_lost and is_asked else "",
    )


def forecast_budgets(study: Study) -> tuple[float, ...]:
    """Budgets at which a loss is forecast and then trained: none where one budget tells nothing."""
    return study.forecast_budgets if len(study.budgets) > 1 else ()


def fitted_points(points: Sequence[Point]) -> list[Point]:
    """As many as will be: of axes without numbers one kind, of numbers one setting of each budget
    and size; those with the most runs."""
    kinds = collections.defaultdict(list)
    for point in points:
        kinds[tuple(v for v in point.axes.values() if not is_real(v))].append(point)
    cells: dict[tuple, dict[tuple, list[Point]]] = {}
    for point in max(kinds.values(), key=len):
        settings = cells.setdefault((point.budget, point.params.total), {})
        settings.setdefault(tuple(point.axes.values()), []).append(point)
    return [point for settings in cells.values() for point in max(settings.values(), key=len)]


def _refusal(extent: str, *, is_one: bool) -> str:
    if is_one:
        return (
            f"{extent}: no approach can answer. The best size at a budget needs "
            f"{fewest.PARABOLA_RUNS} runs at {fewest.PARABOLA_SIZES} sizes. Ask for more sizes; "
            "--anyway trains these, and tells the best of them."
        )
    least = fewest.SPARE_CONFIGURATIONS + min(fewest.SURFACE_PARAMETERS.values())
    return (
        f"{extent}: no approach can answer. An envelope needs "
        f"{fewest.CERTIFIED_ENVELOPE_SIZES} sizes, a "
        f"surface {least} different (N, D), parabolas {fewest.PARABOLA_RUNS} runs at "
        f"{fewest.PARABOLA_SIZES} sizes of {fewest.PARABOLA_BUDGETS} budgets. Ask for more sizes "
        "or budgets; --anyway trains these."
    )


def _one_sided(study: Study, axes: Sequence[Axis]) -> Iterator[str]:
    """A sentence for each axis that cannot show a minimum between its values."""
    for axis in axes:
        low, high, own = min(axis.values), max(axis.values), leaves(study)[axis.field]
        faults = []
        if len(axis.values) < _FEWEST_VALUES:
            faults.append(f"{len(axis.values)} values, a minimum needs {_FEWEST_VALUES}")
        if is_real(own) and not low < own < high:
            faults.append(f"{low:g} to {high:g} does not reach both sides of the study's {own:g}")
        if faults:
            yield f"axis {axis.field}: {'; '.join(faults)}: the best may lie beyond"


def _few(study: Study, points: Sequence[Point]) -> dict[float, str]:
    """Budgets with too few runs for a parabola, and how many they have."""
    sizes: dict[float, set[int]] = collections.defaultdict(set)
    n_runs: dict[float, int] = collections.Counter()
    for point in points:
        sizes[point.budget].add(point.params.total)
        n_runs[point.budget] += 1
    return {
        budget: f"{power(budget)} has {n_runs[budget]} at {len(sizes[budget])}"
        for budget in study.budgets
        if len(sizes[budget]) < fewest.PARABOLA_SIZES or n_runs[budget] < fewest.PARABOLA_RUNS
    }


def _unjudged(study: Study, points: Sequence[Point]) -> Iterator[str]:
    """Approaches that answer, but from too little to be certified."""
    n_budgets = len(study.budgets) - len(_few(study, points))
    if fewest.PARABOLA_BUDGETS <= n_budgets < fewest.JUDGED_BUDGETS:
        yield (
            f"isoflop: parabolas at {n_budgets} budgets; it is certified from "
            f"{fewest.JUDGED_BUDGETS} on"
        )
    yield from _unsure_envelope(points)


def _unsure_envelope(points: Sequence[Point]) -> list[str]:
    """That an envelope has enough sizes, but not enough between the smallest and the largest."""
    n_sizes = len({point.params.total for point in points})
    if not fewest.ENVELOPE_SIZES <= n_sizes < fewest.CERTIFIED_ENVELOPE_SIZES:
        return []
    return [
        f"envelope: {n_sizes} sizes; it is certified from {fewest.CERTIFIED_ENVELOPE_SIZES} on, "
        "for the smallest and the largest are never on it"
    ]


def _no_minimum(study: Study, points: Sequence[Point]) -> Iterator[tuple[bool, str]]:
    """Of one budget why its best size, and why what lies beyond it, will not be known."""
    for few in _few(study, points).values():
        needed = f"{fewest.PARABOLA_RUNS} runs at {fewest.PARABOLA_SIZES} sizes"
        yield True, f"the best size: {few}, it needs {needed}"
    if study.forecast_budgets:
        yield False, "a forecast: one budget tells nothing of others"


def _too_few(study: Study, points: Sequence[Point]) -> Iterator[tuple[bool, str]]:
    """Approaches that these points are too few for: whether at every budget, and a sentence."""
    few = _few(study, points)
    needed = f"{fewest.PARABOLA_RUNS} runs at {fewest.PARABOLA_SIZES} sizes"
    which = f" ({', '.join(few.values())})" if few else ""
    if len(study.budgets) - len(few) < fewest.PARABOLA_BUDGETS:
        said = (
            f"isoflop: {len(study.budgets) - len(few)} of {len(study.budgets)} budgets have a "
            f"parabola, it needs {fewest.PARABOLA_BUDGETS} that have, each of {needed}{which}"
        )
        yield True, said
    elif few:
        said = f"isoflop: no parabola at {len(few)} of {len(study.budgets)} budgets"
        yield False, f"{said}, which needs {needed}{which}"
    all_sizes = len({point.params.total for point in points})
    if all_sizes < fewest.ENVELOPE_SIZES:
        yield True, f"envelope: {all_sizes} sizes, it needs {fewest.ENVELOPE_SIZES}"
    n_configurations = len({(point.params.total, point.n_tokens) for point in points})
    for law, n_parameters in fewest.SURFACE_PARAMETERS.items():
        n_needed = n_parameters + fewest.SPARE_CONFIGURATIONS
        if n_configurations < n_needed:
            said = f"{n_configurations} different (N, D), it needs {n_needed}"
            yield True, f"surface ({law}): {said}"
