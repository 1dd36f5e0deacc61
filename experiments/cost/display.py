# SPDX-License-Identifier: Apache-2.0
"""The cost of a plan as a table and the sentences that it rests on."""

import collections
from collections.abc import Sequence

from rich.console import Group
from rich.text import Text

from experiments.cost.accuracy import Accuracy
from experiments.cost.estimate import HOUR, Estimate, Work, known_sum
from experiments.cost.target import CARBON, CARBON_SOURCE, PUE, PUE_SOURCE
from experiments.plan.plan import Plan
from experiments.study.study import shown_axes
from experiments.terminal.table import amount, duration, number_table
from scaling.tables.units import power

COLUMNS = (*("budget", "d_model", "runs", "FLOPs", "device-hours"), *("kWh", "kg CO2", "cost"))


def cost_table(plan: Plan, planned: Estimate, accuracy: Accuracy | None) -> Group:
    """Cost of one run at each budget and size, of all together, and what that rests on."""
    if planned.speed is None:
        text = (
            "time, energy and cost unknown: `isoflop calibrate STUDY` measures this machine, "
            "or name another --device."
        )
        return Group(Text(text))
    table = number_table(*COLUMNS)
    for head, works in _rows(plan, planned):
        table.add_row(*head, str(len(works)), *_cells(planned, works, len(works)))
    n_works = len(planned.works)
    table.add_row("total", "", str(n_works), *_cells(planned, planned.works, 1), style="bold")
    return Group(
        Text("cost of each run, on average where several share a line:"),
        table,
        *(Text(line) for line in sentences(planned, accuracy)),
    )


def _rows(plan: Plan, planned: Estimate) -> list[tuple[tuple[str, str], list[Work]]]:
    """The works by budget, size and axes, in the order of the plan; the rest one by one."""
    rows: dict[tuple, list[Work]] = collections.defaultdict(list)
    points = {point.id: point for point in plan.points}
    for work in planned.works:
        if (point := points.get(work.name)) is None:
            rows[work.name, ""].append(work)
            continue
        axes = f" {shown_axes(point.axes)}" * bool(point.axes)
        rows[power(point.budget), f"{point.spec.model.d_model}{axes}"].append(work)
    return list(rows.items())


def _cells(planned: Estimate, works: Sequence[Work], share: int) -> list[str]:
    """FLOPs, device-hours, energy, CO2 and money of some works, over ``share``."""
    seconds = known_sum([planned.device_seconds[work.name] for work in works])
    each = None if seconds is None else seconds / share
    kwh = planned.terms.kwh(each)
    return [
        amount(sum(work.flops for work in works) / share),
        amount(None if each is None else each / HOUR),
        amount(kwh),
        amount(planned.terms.co2_kg(kwh)),
        amount(planned.terms.money(each)),
    ]


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
    each = planned.speed.compile_seconds
    if each is None:
        return f"compilation of {n_programs} programs: time unknown, not included."
    carried = "" if planned.speed.is_measured else ", ASSUMED as where speeds were measured"
    return (
        f"compilation: {n_programs} programs, each once, {each:.1f} s{carried} "
        "(less with a warm cache)."
    )


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
