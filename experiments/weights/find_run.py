# SPDX-License-Identifier: Apache-2.0
"""The run that somebody names, and the ledger that it lies in. No JAX."""

from pathlib import Path

from experiments.ledger.ledger import Ledger
from experiments.plan.point import Point, is_id
from model.data.manifest import Manifest

_FORMS = "Give the folder of a run, results/STUDY/runs/ID, or STUDY:ID, of ID the beginning."
_MOST_NAMED = 4


def find_run(name: str, results: Path = Path("results")) -> tuple[Ledger, Point]:
    """The run and the ledger of its study.

    Args:
      name: the folder of the run, or STUDY:ID. STUDY is the study's name, which is its folder
        below ``results``; of ID the beginning is enough where no other run of the study has it.

    Raises:
      ValueError: one line, if no run or more than one is named so, or its spec is damaged.
    """
    folder = Path(name).absolute()
    if folder.is_dir() and folder.parent.name == "runs":
        study, run_id = folder.parents[1], folder.name
        ledger = Ledger(study.parent, study.name)
    else:
        study_name, colon, beginning = name.rpartition(":")
        if not colon or not study_name:
            raise ValueError(f"no run {name[:200]!r}. {_FORMS}")
        ledger = Ledger(results, study_name)
        run_id = _only(ledger, beginning)
    ledger.require_version()
    return ledger, ledger.read_point(run_id)


def manifest_of(ledger: Ledger, point: Point) -> Manifest:
    """What is known of a run's data; raises ValueError where the study has come to have others."""
    manifest = Manifest.read(ledger.manifest)
    if manifest.fingerprint != point.spec.data_fingerprint:
        raise ValueError(
            f"{ledger.manifest} describes other data than those of run {point.id}. Ask the study "
            "for these again: `isoflop data STUDY`."
        )
    return manifest


def require_objective(point: Point, *able: str) -> str:
    """What a run was trained for; raises ValueError where it is none of these."""
    objective = point.spec.train.objective
    if objective not in able:
        raise ValueError(
            f"run {point.id} was trained for {objective}: this needs a network that was trained "
            f"for {' or '.join(able)}."
        )
    return objective


def _only(ledger: Ledger, beginning: str) -> str:
    """The one run whose id begins so."""
    runs = [run_id for run_id in ledger.storage.names("runs") if is_id(run_id)]
    if not runs:
        raise ValueError(f"{ledger.folder} has no runs. {_FORMS}")
    found = [run_id for run_id in runs if run_id.startswith(beginning)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise ValueError(
            f"no run of the {len(runs)} in {ledger.folder} begins with {beginning[:80]!r}: the "
            "column run_id of its table.csv lists them."
        )
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    named = ", ".join(found[:_MOST_NAMED])
    raise ValueError(
        f"{len(found)} runs begin with {beginning[:80]!r}: {named}{more}. Give more of the id."
    )
