# SPDX-License-Identifier: Apache-2.0
"""isoflop status: what is done, running, preempted, diverged, failed or waiting, and its cost."""

import collections
import functools
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from experiments.cost import planned_cost, planned_vs_real
from experiments.cost.planned_vs_real import Real
from experiments.files.checked_json import Damaged
from experiments.ledger.asked_points import Asked, asked_points
from experiments.ledger.claims import Limits
from experiments.ledger.flags import FLAGS
from experiments.ledger.ledger import Ledger
from experiments.ledger.progress import PointState, running_trunks, survey
from experiments.ledger.result import Trunk
from experiments.ledger.verdict import FINAL
from experiments.operations.running import running_table, seconds_left
from experiments.plan.point import to_json
from experiments.study.study import Study, shown_axes
from experiments.terminal.table import duration, number_table, wrapped
from scaling.tables.units import power

_COLUMNS = ("done", "running", "preempted", "diverged", "failed", "waiting")
_MOST_NAMED = 20


class Look(NamedTuple):
    """The states now, and what tells them: in a line, by size, what workers do, all else."""

    states: dict[str, PointState]
    totals: str
    counts: Table
    now: RenderableType
    rest: RenderableType


def status(
    study: Study,
    ledger: Ledger,
    console: Console,
    *,
    name: str,
    limits: Limits,
    watch: float | None = None,
    as_json: bool = False,
) -> None:
    """Prints the state of a study, once or until everything has ended.

    Args:
      name: what the command line calls the study.
      limits: by which its jobs are judged.
      watch: seconds from one look to the next; None for one look.
      as_json: one look, as one object.

    Raises:
      ValueError: if the study was never run, or ``watch`` is no time.
    """
    if watch is not None and not 0.1 <= watch <= 86400:
        raise ValueError(f"--watch {watch:g}: must be 0.1 to 86400 seconds.")
    look = functools.partial(_look, study, ledger, name, limits, console.width)
    if as_json:
        console.print(json.dumps({"study": study.name, "runs": _as_objects(look({}).states)}))
    elif watch is None:
        seen = look({})
        console.print(Group(seen.counts, seen.now, _line(seen.totals), seen.rest))
    else:
        _watch(look, console, watch)


def _as_objects(states: Mapping[str, PointState]) -> list[dict[str, Any]]:
    """Of every run its id, state, reason, attempt, device-seconds, FLOPs spent, and flags."""
    told = ("state", "reason", "attempt", "device_seconds", "flops", "flags")
    return [
        {
            "id": name,
            "host": "" if state.worker is None else state.worker.host,
            **{key: getattr(state, key) for key in told},
        }
        for name, state in states.items()
    ]


def _look(
    study: Study,
    ledger: Ledger,
    name: str,
    limits: Limits,
    width: int,
    known: Mapping[str, PointState],
) -> Look:
    """A look; ``known``: from the one before."""
    asked = asked_points(ledger, name)  # The plan grows when a forecast is made.
    points = {point.id: point for point in asked}
    n_devices = math.prod(study.mesh)
    states = survey(ledger, asked, n_devices=n_devices, limits=limits, known=known)
    running = running_table(points, states, running_trunks(ledger, asked, limits), width)
    return Look(
        states=states,
        totals=_totals(states) + _left(seconds_left(points, states, n_devices)),
        counts=_counts(asked, states),
        now=Group() if running is None else Group(Text(), running),
        rest=_rest(ledger, study, asked, states, is_at_work=running is not None),
    )


def _watch(
    look: Callable[[Mapping[str, PointState]], Look], console: Console, pause: float
) -> None:
    """Redraws until every run has ended, or Ctrl-C. Where there is no terminal a line for each
    look, and the page at the end.

    What workers do stands first: a screen may be too short for the rest.
    """
    states: dict[str, PointState] = {}
    is_drawn = console.is_terminal
    console.soft_wrap = not is_drawn  # A page that is redrawn is cut where it is soft.
    try:
        with Live(console=console, auto_refresh=False) if is_drawn else nullcontext() as live:
            while True:
                seen = look(states)
                states = seen.states
                line = f"{time.strftime('%H:%M:%S')} {seen.totals}"
                page = Group(seen.now, Text(), seen.counts, seen.rest)
                if live is None:
                    console.print(line)
                else:
                    live.update(Group(_line(line), page), refresh=True)
                if all(state.state in FINAL for state in states.values()):
                    break
                time.sleep(pause)
        if not is_drawn:
            console.print(page)
    except KeyboardInterrupt:
        pass  # Watching stops; what is watched goes on.


def _rest(
    ledger: Ledger,
    study: Study,
    asked: Sequence[Asked],
    states: Mapping[str, PointState],
    *,
    is_at_work: bool,
) -> RenderableType:
    """Troubles, costs, and what else is to be known."""
    points = {point.id: point for point in asked}
    parts: list[RenderableType] = [_line(said) for said in _troubles(points, states)]
    trunks = list(ledger.trunks({point.cluster_id for point in asked}).values())
    parts += [_line(said) for said in _costs(asked, states, trunks)]
    parts += _against_plan(ledger, points, states)
    if not is_at_work and any(state.state not in FINAL for state in states.values()):
        parts.append(Text("No worker runs now; `isoflop run STUDY` goes on."))
    parts += [_line(said) for said in _remarks(ledger, study, asked, states)]
    return Group(*parts)


def _line(said: str) -> Text:
    return Text(wrapped(said, indent="  "))


def _counts(asked: Sequence[Asked], states: Mapping[str, PointState]) -> Table:
    """Runs by budget and size."""
    table = number_table("role", "budget", "d_model", *_COLUMNS)
    rows: dict[tuple, collections.Counter] = collections.defaultdict(collections.Counter)
    for point in asked:
        rows[point.role, point.budget, point.d_model][states[point.id].state] += 1
    for (role, budget, d_model), counts in rows.items():
        numbers = [str(counts[kind] or "") for kind in _COLUMNS]
        table.add_row(role, power(budget), str(d_model), *numbers)
    return table


def _troubles(points: Mapping[str, Asked], states: Mapping[str, PointState]) -> list[str]:
    """Runs without a loss, with the reason: failed, ended early, damaged, or waiting again."""
    kinds = ("damaged", "failed", "diverged", "stopped", "waiting")
    bad = [
        (kind, name, state)
        for kind in kinds
        for name, state in states.items()
        if state.state == kind and state.reason
    ]
    lines = [f"{kind} {_name(points[name])}: {s.reason}" for kind, name, s in bad[:_MOST_NAMED]]
    if len(bad) > _MOST_NAMED:
        left = collections.Counter(kind for kind, _, _ in bad[_MOST_NAMED:])
        lines.append("and " + ", ".join(f"{n} more {kind}" for kind, n in left.items()))
    return lines


def _name(point: Asked) -> str:
    axes = f" {shown_axes(point.axes)}" * bool(point.axes)
    return f"{point.id} ({power(point.budget)} d{point.d_model} seed {point.seeds}{axes})"


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f" About {duration(seconds)} left."


def _totals(states: Mapping[str, PointState]) -> str:
    counts: collections.Counter[str] = collections.Counter(state.state for state in states.values())
    kinds = [f"{counts[kind]} {kind}" for kind in (*_COLUMNS, "stopped", "damaged") if counts[kind]]
    n_results = counts["done"] + counts["diverged"] + counts["stopped"]
    return f"{n_results} of {len(states)} runs have a result: {', '.join(kinds)}."


def _costs(
    asked: Sequence[Asked], states: Mapping[str, PointState], trunks: Sequence[Trunk]
) -> list[str]:
    """Device time, FLOPs and energy so far."""
    on_trunks = sum(trunk.costs.device_seconds for trunk in trunks)
    seconds = sum(state.device_seconds for state in states.values()) + on_trunks
    flops = sum(state.flops for state in states.values())
    planned = sum(point.flops[point.convention] for point in asked)
    conventions = ", ".join(sorted({point.convention for point in asked}))
    shared = f", {on_trunks / 3600:.2f} of them on {len(trunks)} trunks" if trunks else ""
    lines = [
        f"cost so far: {seconds / 3600:.2f} device hours{shared}, {power(flops)} of "
        f"{power(planned)} FLOPs ({conventions})"
    ]
    joules: dict[str, float] = collections.defaultdict(float)
    n_runs: collections.Counter = collections.Counter()
    for state in states.values():
        if state.joules is not None:
            joules[state.joules_source] += state.joules
            n_runs[state.joules_source] += 1
    lines += [
        f"energy of the attempts that finished {n_runs[source]} runs: {amount / 3.6e6:.3g} kWh "
        f"({source})"
        for source, amount in joules.items()
    ]
    return lines


def _against_plan(
    ledger: Ledger, points: Mapping[str, Asked], states: Mapping[str, PointState]
) -> list[RenderableType]:
    """What was planned for the runs that are done, beside what they took."""
    try:
        planned = planned_cost.read(ledger)
    except Damaged as error:
        return [Text(str(error))]
    if planned is None:
        return []
    done = [
        Real(
            run_id=name,
            role=points[name].role,
            budget=points[name].budget,
            d_model=points[name].d_model,
            device_seconds=state.device_seconds,
            joules=state.joules,
            joules_source=state.joules_source,
        )
        for name, state in states.items()
        if state.state == "done" and state.device_seconds > 0
    ]
    sizes = {point.cluster_id: (point.budget, point.d_model) for point in points.values()}
    done += planned_vs_real.of_trunks(ledger.trunks(sizes), sizes)
    rows = planned_vs_real.compare(planned, done)
    lines = [_line(f"{name}: {text}") for name, text in planned_vs_real.totals(planned, rows)]
    return [Text(), planned_vs_real.by_size(rows), *lines] if rows else [*lines]


def _remarks(
    ledger: Ledger, study: Study, asked: Sequence[Asked], states: Mapping[str, PointState]
) -> list[str]:
    kinds = {state.state for state in states.values()}
    lines = []
    if n_torn := sum(state.n_torn for state in states.values()):
        lines.append(f"{n_torn} torn or damaged lines of metrics were passed over.")
    counts = {flag: sum(flag in s.flags for s in states.values()) for flag in FLAGS}
    if said := ", ".join(f"{flag} {n}" for flag, n in counts.items() if n):
        lines.append(f"flags: {said}; by run in table.csv, at the end.")
    if "failed" in kinds:
        lines.append("`isoflop retry STUDY` lets failed runs be tried again.")
    if "damaged" in kinds:
        lines.append("`isoflop doctor STUDY` says what to do about damaged files.")
    ids = {point.id for point in asked}
    if others := ledger.other_runs(ids):
        lines.append(
            f"{len(others)} runs in the folder are no longer asked for (isoflop gc STUDY)."
        )
    if not ledger.is_study(to_json(study)):
        lines.append("This is the plan of the last `isoflop run`; the study now asks otherwise.")
    return lines
