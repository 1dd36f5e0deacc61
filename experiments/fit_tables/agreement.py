# SPDX-License-Identifier: Apache-2.0
"""What other approaches say of the same table, beside the fit that was made."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console

from experiments.terminal.table import plain_table
from scaling.intervals import Estimated
from scaling.tables.units import power

if TYPE_CHECKING:
    from scaling.answers.agreement import Agreement
    from scaling.fit import Fit
    from scaling.tables.runs import Runs

# Of the other approaches: enough to see whether intervals overlap.
N_REPLICATES = 200


def agreement_with_others(runs: Runs, found: Fit) -> Agreement | None:
    """A surface beside the other form and Approach 2; None where neither can answer."""
    from scaling.answers.agreement import agreement
    from scaling.approaches.approach2 import approach2
    from scaling.approaches.surface.fit import fit_surface
    from scaling.fit import FitError

    form = "additive" if found.law == "curved" else "curved"
    level, others = found.level, [found]
    tries: tuple[Callable[[], Fit], ...] = (
        lambda: fit_surface(runs, form, n_bootstrap=N_REPLICATES, level=level, replicate_starts=1),
        lambda: approach2(runs, n_bootstrap=N_REPLICATES, level=level),
    )
    for attempt in tries:
        try:
            others.append(attempt())
        except FitError:
            continue
    return agreement(others, float(found.fitted_runs.flops.max())) if len(others) > 1 else None


def print_agreement(console: Console, found: Agreement) -> None:
    """A row per approach, then what does not overlap."""
    console.print(f"other approaches ({N_REPLICATES} replicates):")
    table = plain_table("approach", "a", f"N* at {power(found.flops)} FLOPs", "")
    rows = zip(
        found.approaches, found.exponent_a, found.n_params_opt, found.is_certified, strict=True
    )
    for name, a, n_params, is_certified in rows:
        shown = (_shown(a, "{:.3f}"), _shown(n_params, "{:.3g}"))
        table.add_row(name, *shown, "" if is_certified else "not certified")
    console.print(table)
    apart = [sentence for sentence in found.findings if "do not all overlap" in sentence]
    for sentence in apart or ["their intervals overlap."]:
        console.print(f"- {sentence}" if apart else sentence)


def _shown(one: Estimated, form: str) -> str:
    ends = one.interval
    if not ends.is_known:
        return form.format(one.value)
    return f"{form} ({form} to {form})".format(one.value, ends.lower, ends.upper)
