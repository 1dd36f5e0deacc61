# SPDX-License-Identifier: Apache-2.0
"""figures/: the figures of a study, and of what, so that the same ones are not drawn again."""

import hashlib
import importlib.metadata
from pathlib import Path

import msgspec

from experiments.files import checked_json
from experiments.files.checked_json import intact
from experiments.ledger.ledger import Ledger
from experiments.report.build import Report
from scaling.json_values import encode

CAPTIONS = {
    "isoflop": "Loss against size at fixed compute, with fitted minima where there are any.",
    "settings": "Loss against each number that was varied, a line per size or named setting.",
    "side_by_side": "Frontier of each setting, and the compute that it is worth beside the first.",
    "domains": "Loss of each budget and setting on each domain.",
    "contexts": "Loss by how many tokens of its window a prediction sees.",
    "vocabulary": "Lowest loss of any size against the vocabulary; stars: the best of a budget.",
    "frontier": "Compute-optimal parameters and tokens by every approach.",
    "forecast": "Forecasts made before the run beyond the grid, and what came out.",
    "surface": "Fitted loss surface with the efficient frontier (approach 3).",
    "residuals": "Residuals of the surface.",
    "agreement": "Exponents and optima of the approaches side by side.",
    "curves": "Validation loss during training.",
    "collapse": "Normalised curves of the runs near the optimum, and how far they are from one.",
    "trajectory": "The whole curve of the run beyond the grid as it was forecast, and what came.",
    "cost": "Device-seconds of every run as they were planned, and as they came out.",
}
_KEY = "figures/made.json"


class _Made(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``of``: digest of what is shown, and of the code; ``files``: their digests, by name."""

    of: str
    files: dict[str, str]


def draw(ledger: Ledger, report: Report) -> dict[str, Path]:
    """Every figure that the fits allow, as PNG with SVG and caption beside it; name -> PNG.

    Figures that are there, of the same report by the same code, stay as they are.
    """
    of = _digest(report)
    names = _kept(ledger, of)
    if names is None:
        from experiments.report.figures.drawing import drawn
        from scaling.plots.style import save

        ledger.figures.mkdir(parents=True, exist_ok=True)
        made = drawn(report)
        names = [name for name in CAPTIONS if name in made]
        for name in names:
            save(made[name], ledger.figures / name)
        files = [f"{name}.{kind}" for name in names for kind in ("png", "svg", "txt")]
        digests = {file: ledger.storage.sha256(f"figures/{file}") or "" for file in files}
        ledger.storage.replace(_KEY, checked_json.encode(_Made(of=of, files=digests)))
    return {name: ledger.figures / f"{name}.png" for name in names}


def _digest(report: Report) -> str:
    """Of all that is drawn: ``Analysis.of`` stands for the runs, the curves, the fits, the code."""
    analysis = report.analysis
    budgets = [front.flops.tolist() for front in analysis.frontiers.values()]
    about = (
        analysis.of,
        encode(analysis.sweeps),
        analysis.matrix,
        budgets,
        report.main,
        report.forecasts,
        report.compared,
        report.contexts,
    )
    shown = repr((about, importlib.metadata.version("matplotlib")))
    return hashlib.sha256(shown.encode()).hexdigest()


def _kept(ledger: Ledger, of: str) -> list[str] | None:
    """Names of the figures; None where those there are of something else, gone or damaged."""
    record = intact(lambda: checked_json.read(ledger.storage, _KEY, _Made, way_out=""))
    if record is None or record.of != of:
        return None
    if any(ledger.storage.sha256(f"figures/{n}") != sha for n, sha in record.files.items()):
        return None
    return [name for name in CAPTIONS if f"{name}.png" in record.files]
