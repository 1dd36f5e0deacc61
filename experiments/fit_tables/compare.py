# SPDX-License-Identifier: Apache-2.0
"""Laws compared on one table, and recipes on two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.fit_tables.fit_law import fit_table, read_table, surface_settings
from experiments.fit_tables.output import Output
from experiments.fit_tables.settings import Fitting, Reading
from model.data.manifest import Manifest

if TYPE_CHECKING:
    from scaling.fit import Fit
    from scaling.tables.runs import Runs


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
    is_shared: bool,
    fitting: Fitting,
    output: Output,
) -> None:
    """Compute that recipe A needs over that of B for equal loss.

    Args:
      flops: of A; None for those that `compute_multiplier` chooses.
      is_shared: both recipes have the exponents and the irreducible loss of one additive law.
    """
    from experiments.fit_tables.display import print_multiplier, status_line
    from scaling.answers.compute_multiplier import compute_multiplier
    from scaling.answers.shared_exponents import fit_shared_exponents
    from scaling.plots.holdout import figure_multiplier

    tables = [read_table(path, reading) for path in paths]
    if is_shared:
        asked: dict[str, Any] = fitting.intervals.given()
        if fitting.objective is not None:
            asked["objective"] = fitting.objective
        a, b = fit_shared_exponents(tables[0], tables[1], **asked)
    else:
        a, b = (_fit(path, runs, fitting) for path, runs in zip(paths, tables, strict=True))
    for name, path, one in zip("AB", paths, (a, b), strict=True):
        output.console.print(
            f"{name}: {path}, {one.name}, {len(one.fitted_runs)} runs; {status_line(one)}"
        )
    found = compute_multiplier(a, b, flops=flops, paired=is_shared)
    found = replace(found, findings=(*_of_other_text(paths), *found.findings))
    print_multiplier(output.console, found)
    output.write(found.to_dict())
    if output.figures:
        output.save(figure_multiplier(found), "multiplier")


def _fit(path: str, runs: Runs, fitting: Fitting) -> Fit:
    from scaling.fit import FitError

    try:
        return fit_table(runs, fitting)
    except FitError as error:
        raise FitError(f"{path}: {error}") from None


def _of_other_text(paths: tuple[str, str]) -> list[str]:
    """That two studies are of other data, as the manifests beside their tables say.

    Tables of others have none, and nothing is known of theirs.
    """
    try:
        a, b = (Manifest.read(Path(path).with_name("manifest.json")) for path in paths)
    except ValueError:
        return []
    if a.fingerprint == b.fingerprint:
        return []
    said = (
        f"A and B are of different data ({a.kind}, {a.fingerprint[:8]}; {b.kind}, "
        f"{b.fingerprint[:8]}): their losses compare only where the validation text is the same"
    )
    if (a.vocab_size, a.tokenizer) != (b.vocab_size, b.tokenizer):
        said += (
            ", and in bits per byte, for their tokens differ (--columns "
            "loss_nats=bits_per_byte:bits)"
        )
    return [f"{said}."]
