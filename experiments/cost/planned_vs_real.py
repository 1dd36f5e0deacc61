# SPDX-License-Identifier: Apache-2.0
"""What was planned against what came out: device-time, energy and money, by run and in total."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from experiments.cost.estimate import HOUR, Terms, beyond_name
from experiments.cost.planned_cost import Planned
from experiments.ledger.result import Trunk
from experiments.terminal.table import amount, number_table
from scaling.tables.units import power

_COLUMNS = ("role", "budget", "d_model", "runs", "s planned", "s real", "real/planned")


@dataclass(frozen=True, kw_only=True, slots=True)
class Real:
    """What a finished run cost.

    Attributes:
      run_id, role, budget, d_model: which run it is.
      device_seconds: of all its attempts.
      joules: of the devices, by a counter, in the attempt that finished; None without one.
      joules_source: see experiments/machine/provenance.py.
    """

    run_id: str
    role: str
    budget: float
    d_model: int
    device_seconds: float
    joules: float | None = None
    joules_source: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """A finished run whose time was planned."""

    real: Real
    planned_seconds: float

    @property
    def ratio(self) -> float:
        """Real over planned device-seconds."""
        return self.real.device_seconds / self.planned_seconds


def compare(planned: Planned, runs: Sequence[Real]) -> list[Compared]:
    """Those of the finished runs for which a time was planned before, in their order."""
    rows = []
    for run in runs:
        name = beyond_name(run.budget) if run.role == "forecast" else run.run_id
        seconds = planned.device_seconds.get(name)
        if seconds is not None:
            rows.append(Compared(real=run, planned_seconds=seconds))
    return rows


def of_trunks(trunks: Mapping[str, Trunk], sizes: Mapping[str, tuple[float, int]]) -> list[Real]:
    """What trunks cost, by their records; ``sizes``: cluster -> (budget, d_model) of a branch."""
    return [
        Real(
            run_id=name,
            role="trunk",
            budget=sizes[cluster][0],
            d_model=sizes[cluster][1],
            device_seconds=trunk.costs.device_seconds,
        )
        for name, trunk in trunks.items()
        for cluster in trunk.clusters[:1]
        if cluster in sizes
    ]


def totals(planned: Planned, rows: Sequence[Compared]) -> list[tuple[str, str]]:
    """What was planned for the runs of ``rows``, beside what they took."""
    if not planned.basis:
        return [("planned against real", "no speed was known when the study was planned")]
    if not rows:
        return [("planned against real", "no run that was planned has finished yet")]
    terms = planned.terms
    before, after = _seconds(rows)
    pairs = [
        ("planned for", f"{planned.device}, {planned.n_devices} at once; {planned.basis}"),
        ("runs compared", f"{len(rows)} of {len(planned.device_seconds)}"),
        ("device-hours", _against(before / HOUR, after / HOUR)),
        *_energy(terms, rows),
    ]
    if terms.price is not None:
        cost = _against(terms.money(before), terms.money(after))
        pairs.append((f"cost at {terms.price:g} per device-hour", cost))
    return pairs


def _seconds(rows: Sequence[Compared]) -> tuple[float, float]:
    """Planned and real device-seconds."""
    return sum(r.planned_seconds for r in rows), sum(r.real.device_seconds for r in rows)


def _energy(terms: Terms, rows: Sequence[Compared]) -> list[tuple[str, str]]:
    """Energy of the site; planned at nominal power, real by the counters of the devices.

    Nothing without counters: an estimate is made from the time, which is compared already.
    """
    counted = [row for row in rows if _is_counted(row.real)]
    if not counted:
        return []
    joules = sum(row.real.joules or 0.0 for row in counted)
    sources = ", ".join(sorted({row.real.joules_source for row in counted}))
    both = _against(terms.kwh(_seconds(counted)[0]), terms.site_kwh(joules))
    return [("energy, kWh", f"{both}, {len(counted)} runs by {sources}, PUE {terms.pue:g} in both")]


def _is_counted(run: Real) -> bool:
    return run.joules is not None and not run.joules_source.startswith("estimate")


def _against(before: float | None, after: float | None) -> str:
    ratio = f" (x{after / before:.2f})" if before and after else ""
    return f"{amount(before)} planned, {amount(after)} real{ratio}"


def by_size(rows: Sequence[Compared]) -> Table:
    """Mean seconds at each budget and size, and the ratio with its range over the runs there."""
    groups: Mapping[tuple, list[Compared]] = defaultdict(list)
    for row in rows:
        groups[row.real.role, row.real.budget, row.real.d_model].append(row)
    table = number_table(*_COLUMNS)
    for (role, budget, d_model), group in groups.items():
        before, after = _seconds(group)
        ratios = sorted(row.ratio for row in group)
        spread = f" ({ratios[0]:.2f} to {ratios[-1]:.2f})" if len(group) > 1 else ""
        each = (f"{seconds / len(group):.3g}" for seconds in (before, after))
        table.add_row(
            *(role, power(budget), str(d_model), str(len(group))),
            *each,
            f"{after / before:.2f}{spread}",
        )
    return table


def run_rows(planned: Planned, rows: Sequence[Compared]) -> list[dict[str, str]]:
    """Every run of its own, for the report."""
    terms = planned.terms
    table = []
    for row in rows:
        run = row.real
        kwh = terms.site_kwh(run.joules or 0.0) if _is_counted(run) else None
        cells = {
            "run": run.run_id,
            "role": run.role,
            "C asked": power(run.budget),
            "d_model": str(run.d_model),
            "device-seconds planned": f"{row.planned_seconds:.4g}",
            "real": f"{run.device_seconds:.4g}",
            "real/planned": f"{row.ratio:.2f}",
            "kWh planned": amount(terms.kwh(row.planned_seconds)),
            "kWh real": amount(kwh),
        }
        if terms.price is not None:
            cells["cost planned"] = amount(terms.money(row.planned_seconds))
            cells["cost real"] = amount(terms.money(run.device_seconds))
        table.append(cells)
    return table
