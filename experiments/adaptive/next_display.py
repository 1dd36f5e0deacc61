# SPDX-License-Identifier: Apache-2.0
"""How proposed runs look on the terminal."""

from rich.console import Console

from experiments.adaptive.next_record import FILE, IDLE, NextRuns
from experiments.files import checked_json
from experiments.files.checked_json import Damaged
from experiments.ledger.ledger import Ledger
from experiments.terminal.table import number_table
from scaling.tables.units import power

MOST_SHOWN = 20
_LABEL = {
    "loss": "loss at the optimum",
    "n_params_opt": "N*, parameters",
    "exponent": "exponent a of N* ~ C^a",
    "all": "all parameters",
}


def show(found: NextRuns, console: Console) -> None:
    table = number_table("budget", "d_model", "seed", "FLOPs", "share of the gain")
    for run in found.proposed:
        cells = (power(run.budget), str(run.d_model), str(run.seed))
        table.add_row(*cells, power(run.flops), f"{run.share:.1%}")
    console.print(table)
    console.print(sentence(found))
    if found.remaining:
        console.print(
            f"{len(found.remaining)} planned runs are not finished; {len(found.idle)} of them "
            f"would alone give less than {IDLE:.0%} of what all would: their outcome cannot matter."
        )
    for finding in found.findings:
        console.print(f"- {finding}")


def sentence(found: NextRuns) -> str:
    """What is expected of the proposal."""
    what = _what(found)
    spent = f"{len(found.proposed)} runs, {power(found.flops)} FLOPs"
    if found.before is None or found.after is None:
        ratio = found.width_after_over_before
        times = "" if ratio is None else f"; expected width {ratio:.2f} times that of now"
        return f"{what}: no interval yet; {spent}{times}."
    form = "{:.3g}" if found.target == "n_params_opt" else "{:.4f}"
    before, after = (" to ".join(map(form.format, ends)) for ends in (found.before, found.after))
    return f"{what}: {found.level:.0%} interval {before}; expected after {spent}: {after}."


def _what(found: NextRuns) -> str:
    return f"{_LABEL[found.target]} at {power(found.target_flops)} FLOPs"


def marks(ledger: Ledger) -> list[str]:
    """What the last `isoflop next` said of runs that are left; for `isoflop plan`."""
    way_out = "Delete it; `isoflop next` writes it again."
    try:
        found = checked_json.read(ledger.storage, FILE, NextRuns, way_out=way_out)
    except Damaged as error:
        return [str(error)]
    if found is None:
        return []
    left = [run for run in found.remaining if not ledger.has_result(run.id)]
    idle = [run for run in left if run.is_idle]
    lines = [
        f"{len(left)} runs left; isoflop next, for {_what(found)}: share of what all would tell:"
    ]
    for run in sorted(left, key=lambda run: -run.gain)[:MOST_SHOWN]:
        mark = "  cannot matter" if run.is_idle else ""
        lines.append(f"  {run.gain:6.1%}  {power(run.budget)} d{run.d_model} seed {run.seed}{mark}")
    if len(left) > MOST_SHOWN:
        lines.append(f"  and {len(left) - MOST_SHOWN} more, in {FILE}")
    lines.append(f"{len(idle)} of {len(left)} cannot matter (less than {IDLE:.0%} each).")
    return lines if left else []
