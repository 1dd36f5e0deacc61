# SPDX-License-Identifier: Apache-2.0
"""The cost of a plan as a table and the sentences that it rests on."""

import collections
import itertools
from collections.abc import Sequence

from rich.console import Group
from rich.text import Text

from experiments.cost.accuracy import Accuracy
from experiments.cost.estimate import HOUR, Estimate, Work, known_sum
from experiments.cost.target import CARBON, CARBON_SOURCE, PUE, PUE_SOURCE
from experiments.plan.plan import Plan
from experiments.study.study import axis_cells
from experiments.terminal.table import COLUMNS, amount, duration, fitting_table, wrapped
from scaling.tables.units import power


def cost_table(
    plan: Plan, planned: Estimate, accuracy: Accuracy | None, left: Estimate | None
) -> Group:
    """Cost of one run at each budget and size, of all together, and what that rests on.

    Args:
      left: of the runs without a result; None where none has one.
    """
    if planned.speed is None:
        text = (
            "time, energy and cost unknown: `isoflop calibrate STUDY` measures this machine, "
            "or name another --device."
        )
        return Group(Text(wrapped(text, "  ")))
    names = ["budget", "d_model", *axis_cells(plan.points[0].axes)]
    rows = [_row(names, head, planned, works, len(works)) for head, works in _rows(plan, planned)]
    rows.append(_row(names, ("total",), planned, planned.works, 1))
    first, *others = sentences(planned, accuracy)
    return Group(
        Text("cost of each run, on average where several share a line:"),
        fitting_table(rows, COLUMNS, justify="right"),
        *(Text(wrapped(line, "  ")) for line in (first, *_left(plan, left), *others)),
    )


def _rows(plan: Plan, planned: Estimate) -> list[tuple[tuple[str, ...], list[Work]]]:
    """The works by budget, size and axes, in the order of the plan; the rest one by one."""
    rows: dict[tuple[str, ...], list[Work]] = collections.defaultdict(list)
    points = {point.id: point for point in plan.points}
    for work in planned.works:
        if (point := points.get(work.name)) is None:
            rows[work.name,].append(work)
            continue
        setting = axis_cells(point.axes).values()
        rows[power(point.budget), str(point.spec.model.d_model), *setting].append(work)
    return list(rows.items())


def _row(
    names: Sequence[str],
    head: Sequence[str],
    planned: Estimate,
    works: Sequence[Work],
    share: int,
) -> dict[str, str]:
    """What works are of, how many, and what each costs or, with a share of 1, all together."""
    cells = dict(itertools.zip_longest(names, head, fillvalue=""))
    return cells | {"runs": str(len(works))} | _cells(planned, works, share)


def _left(plan: Plan, left: Estimate | None) -> list[str]:
    """What is trained, and what the rest takes; nothing where nothing is trained."""
    if left is None or left.total_device_seconds is None or left.wall_seconds is None:
        return []
    names, n = {work.name for work in left.works}, len(plan.points)
    n_trained = sum(point.id not in names for point in plan.points)
    hours = f"{left.total_device_seconds / HOUR:.3g} device-hours"
    return [
        f"trained: {n_trained} of {n} runs of the grid; left: {hours}, about "
        f"{duration(left.wall_seconds)}."
    ]


def _cells(planned: Estimate, works: Sequence[Work], share: int) -> dict[str, str]:
    """Device-hours, money, energy, CO2 and FLOPs of some works, over ``share``: by rank."""
    seconds = known_sum([planned.device_seconds[work.name] for work in works])
    each = None if seconds is None else seconds / share
    kwh = planned.terms.kwh(each)
    return {
        "device-hours": amount(None if each is None else each / HOUR),
        "cost": amount(planned.terms.money(each)),
        "kWh": amount(kwh),
        "kg CO2": amount(planned.terms.co2_kg(kwh)),
        "FLOPs": amount(sum(work.flops for work in works) / share),
    }


def sentences(planned: Estimate, accuracy: Accuracy | None) -> list[str]:
    """The totals, and everything that they rest on; for a plan whose speed is known."""
    assert planned.speed is not None
    return [
        _total(planned, accuracy),
        f"speed: {planned.speed.basis}.",
        _error(planned, accuracy),
        _compilation(planned),
        _energy(planned),
        "FLOPs of training steps (matmul_full); device-hours hold evaluations too. Not included: "
        "starting processes, attempts that fail, idle devices.",
    ]


def summary(planned: Estimate) -> str:
    """The totals on one line."""
    terms, seconds = planned.terms, planned.total_device_seconds
    if seconds is None or planned.wall_seconds is None:
        return "planned: time, energy and cost unknown"
    kwh = terms.kwh(seconds)
    devices = f"{planned.n_devices} device{'s' * (planned.n_devices > 1)}"
    price = "" if terms.price is None else f" ({terms.price:g} per device-hour)"
    return (
        f"planned: {seconds / HOUR:.3g} device-hours, about {duration(planned.wall_seconds)} with "
        f"{devices}, {amount(kwh)} kWh, {amount(terms.co2_kg(kwh))} kg CO2, "
        f"cost {amount(terms.money(seconds))}{price}"
    )


def _total(planned: Estimate, accuracy: Accuracy | None) -> str:
    seconds, wall = planned.total_device_seconds, planned.wall_seconds
    assert seconds is not None
    assert wall is not None
    held = f"{wall * planned.n_devices / HOUR:.3g} device-hours if all are held until the last ends"
    between = ""
    if accuracy is not None:
        low, high = (seconds * ratio / HOUR for ratio in (accuracy.lowest, accuracy.highest))
        between = f"; {low:.3g} to {high:.3g} device-hours by the error below"
    return f"{summary(planned)}; {held}{between}."


def _error(planned: Estimate, accuracy: Accuracy | None) -> str:
    if accuracy is not None:
        return f"error: {accuracy.sentence}."
    assert planned.speed is not None
    where = f"on {planned.speed.device}"
    if planned.speed.is_measured:
        return f"error: unknown until runs of this study have finished {where}."
    return f"error: unknown, as nothing has been measured {where}."


def _compilation(planned: Estimate) -> str:
    assert planned.speed is not None
    n_programs = len({work.program for work in planned.works})
    programs = f"{n_programs} program{'s' * (n_programs > 1)}"
    each = planned.speed.compile_seconds
    if each is None:
        return f"compilation of {programs}: time unknown, not included."
    carried = "" if planned.speed.is_measured else ", ASSUMED as where speeds were measured"
    return f"compilation: {each:.1f} s for each of {programs}{carried} (less with a warm cache)."


def _energy(planned: Estimate) -> str:
    terms = planned.terms
    assert planned.speed is not None
    if terms.watts is None:
        return f"energy: unknown, as no power of {planned.speed.device} is; --watts says it."
    pue = f" ({PUE_SOURCE})" if terms.pue == PUE else ""
    carbon = f" ({CARBON_SOURCE})" if terms.carbon == CARBON else ""
    return (
        f"energy: {terms.watts:g} W per device all the time ({terms.watts_source}), hosts not "
        f"counted; PUE {terms.pue:g}{pue}; {terms.carbon:g} g CO2 per kWh{carbon}."
    )
