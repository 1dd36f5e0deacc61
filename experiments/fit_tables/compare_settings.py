# SPDX-License-Identifier: Apache-2.0
"""Settings of one table compared: what each needs for the loss of the first."""

from experiments.fit_tables.fit_law import fit_table, read_table
from experiments.fit_tables.output import Output
from experiments.fit_tables.settings import Fitting, Reading


def compare_settings(
    path: str,
    reading: Reading,
    *,
    by: str,
    against: str | None,
    fitting: Fitting,
    output: Output,
) -> None:
    """A fit for each value of a column, and the compute of ``against`` over that of each.

    Args:
      against: the value that the others are compared with; None: the first of the table.

    Raises:
      ValueError: if the column or the value is not there, or has no other beside it.
    """
    from experiments.fit_tables.display import print_findings
    from experiments.report.fits.settings_apart import side_findings, side_rows
    from experiments.terminal.table import fitting_tables, wrapped
    from scaling.answers.side_by_side import side_by_side, split_by
    from scaling.json_values import encode
    from scaling.plots.side_by_side import figure_sides

    runs = read_table(path, reading)
    groups = split_by(runs, [by])
    if against is not None and against not in groups:
        raise ValueError(f"--against {against}: {by} has {', '.join(groups)}.")
    if len(groups) < 2:
        raise ValueError(f"--by {by}: all runs have {next(iter(groups))}; there is nothing beside.")
    if against is not None:
        groups = {against: groups.pop(against), **groups}
    found, refused = side_by_side(groups, lambda own: fit_table(own, fitting))
    first = found[0].name
    said = f"{by}, each beside {first}. Gain: compute of {first} over its own at equal loss"
    output.console.print(wrapped(f"{said} (above 1: it needs less)."))
    output.console.print(fitting_tables(side_rows(found), output.console.width))
    print_findings(output.console, tuple(side_findings(found, refused)))
    answers = {
        side.name: {
            "fit": side.fit.to_dict(),
            "front": encode(side.front),
            "gain": encode(side.gain),
        }
        for side in found
    }
    output.write({"by": by, "against": found[0].name, "settings": answers, "refused": refused})
    if output.figures:
        output.save(figure_sides(found), "side_by_side")
