# SPDX-License-Identifier: Apache-2.0
"""Laws compared on one table, and recipes on two."""

from collections.abc import Sequence

from experiments.fit_tables.fit_law import fit_table, read_table, surface_settings
from experiments.fit_tables.output import Output
from experiments.fit_tables.settings import Fitting, Reading


def compare_laws(
    path: str,
    reading: Reading,
    *,
    laws: Sequence[str] | None,
    below: float | None,
    fitting: Fitting,
    output: Output,
) -> None:
    """Laws by how well they predict the runs above so many FLOPs from those below.

    Args:
      laws: None for those that `hold_out` compares by itself; below: likewise.
    """
    from experiments.fit_tables.display import print_hold_out
    from scaling.answers.holdout import DEFAULT_LAWS, hold_out
    from scaling.plots.holdout import figure_hold_out

    settings = fitting.intervals.given() | surface_settings(fitting)
    found = hold_out(read_table(path, reading), laws or DEFAULT_LAWS, below=below, **settings)
    print_hold_out(output.console, found)
    output.write(found.to_dict())
    if output.figures:
        output.save(figure_hold_out(found), "holdout")


def compare_recipes(
    paths: tuple[str, str],
    reading: Reading,
    *,
    flops: Sequence[float] | None,
    fitting: Fitting,
    output: Output,
) -> None:
    """Compute that recipe B needs over that of A for equal loss.

    Args:
      flops: of A; None for those that `compute_multiplier` chooses.
    """
    from experiments.fit_tables.display import print_multiplier, status_line
    from scaling.answers.compute_multiplier import compute_multiplier
    from scaling.plots.holdout import figure_multiplier

    tables = [read_table(path, reading) for path in paths]
    a, b = (fit_table(runs, fitting) for runs in tables)
    for name, path, one in zip("AB", paths, (a, b), strict=True):
        output.console.print(
            f"{name}: {path}, {one.name}, {len(one.fitted_runs)} runs; {status_line(one)}"
        )
    found = compute_multiplier(a, b, flops=flops)
    print_multiplier(output.console, found)
    output.write(found.to_dict())
    if output.figures:
        output.save(figure_multiplier(found), "multiplier")
