# SPDX-License-Identifier: Apache-2.0
"""Tools that draw metrics. They are filled from the ledger afterwards, and never read back."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from model.training.outcome import CurvePoint

# What is drawn of a line of metrics.
TRAIN = ("loss_nats", "grad_norm", "n_tokens")
_SUFFIX = ".isoflop"


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """The metrics of a run.

    Attributes:
      id, name: of the point; a name says what it is.
      settings: flat.
      train: lines of metrics in the order of their steps; wall_seconds over all attempts.
      validation: of the curve: step, n_tokens, loss_nats; empty before there is a result.
    """

    id: str
    name: str
    settings: dict[str, Any]
    train: Sequence[dict[str, Any]]
    validation: Sequence[CurvePoint]

    def scalars(self) -> dict[int, dict[str, float]]:
        """Step -> values by name, steps ascending."""
        found: dict[int, dict[str, float]] = {}
        for row in self.train:
            known = {name: row[name] for name in TRAIN if row[name] is not None}
            found[row["step"]] = {f"train/{name}": value for name, value in known.items()}
        for point in self.validation:
            found.setdefault(point.step, {})["validation/loss_nats"] = point.loss_nats
        return dict(sorted(found.items()))


class Sink(Protocol):
    def write(self, run: Exported) -> None:
        """Writes a run; one that was written before is there once all the same."""
        ...


def open_sink(name: str, place: str) -> Sink:
    """The sink of that name.

    Args:
      place: folder (tensorboard) or project (wandb).

    Raises:
      ValueError: if there is none of that name, or its package is not installed.
    """
    if name == "tensorboard":
        return _TensorBoard(_package("tensorboardX", name), Path(place))
    if name == "wandb":
        return _WandB(_package("wandb", name), place)
    raise ValueError(f"--to {name}: must be tensorboard or wandb.")


def _package(package: str, sink: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise ValueError(
            f"--to {sink} needs the package {package}, which is not installed: "
            f"`pip install {package}`."
        ) from None


class _TensorBoard:
    """A folder of events per run; times are seconds of work since the run began."""

    def __init__(self, package: Any, folder: Path):
        self._package, self._folder = package, folder

    def write(self, run: Exported) -> None:
        folder = self._folder / run.name
        for old in folder.glob(f"events.out.tfevents.*{_SUFFIX}"):
            old.unlink()
        seconds = {row["step"]: row["wall_seconds"] for row in run.train}
        now = 0.0
        with self._package.SummaryWriter(str(folder), filename_suffix=_SUFFIX) as writer:
            for step, values in run.scalars().items():
                now = seconds.get(step, now)
                for name, value in values.items():
                    writer.add_scalar(name, value, global_step=step, walltime=now)


class _WandB:
    """A run per run, under the id of its point; one that is there goes on after its last step."""

    def __init__(self, package: Any, project: str):
        self._package, self._project = package, project

    def write(self, run: Exported) -> None:
        opened = self._package.init(
            project=self._project, id=run.id, name=run.name, config=run.settings, resume="allow"
        )
        for step, values in run.scalars().items():
            opened.log(values, step=step)
        opened.finish()
