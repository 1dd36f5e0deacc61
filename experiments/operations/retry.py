# SPDX-License-Identifier: Apache-2.0
"""isoflop retry: failed runs may be tried again. What has a result stays as it is."""

from collections.abc import Mapping, Sequence

from rich.console import Console

from experiments.ledger.asked_points import asked_points
from experiments.ledger.claims import Limits
from experiments.ledger.ledger import Ledger
from experiments.ledger.verdict import Judge, Verdict

_WHY_NOT = {
    "done": "has its result.",
    "diverged": "diverged, and would again: a result is never replaced. Ask for a new point: "
    "another seed (seeds=...) or another learning rate.",
    "stopped": "was stopped early: a result is never replaced. Ask for a new point, or train it "
    "without --stop-early under another name.",
    "damaged": "has a result that cannot be read: `isoflop doctor STUDY` says what to do.",
    "running": "is running.",
}


def retry(
    study_name: str, ids: Sequence[str], ledger: Ledger, console: Console, *, limits: Limits
) -> None:
    """Forgives failed jobs, all of the plan or those of the points named, and names them.

    Args:
      limits: by which its jobs are judged.

    Raises:
      ValueError: if a point that was named is none, or did not fail: then nothing is forgiven.
    """
    judge = Judge(ledger, limits)
    verdicts = {point.id: judge.point(point.id) for point in asked_points(ledger, study_name)}
    chosen = list(dict.fromkeys(ids)) or [n for n, v in verdicts.items() if v.state == "failed"]
    for name in ids:
        _check(name, verdicts, study_name)
    failed = [job_id for name in chosen for job_id in verdicts[name].failed_jobs]
    for job_id in dict.fromkeys(failed):
        ledger.job(job_id).forgive()
    for name in chosen:
        console.print(f"{name} may be tried again; it had failed: {verdicts[name].reason}")
    end = f"`isoflop run {study_name}` trains them." if chosen else "No run has failed."
    console.print(end)


def _check(name: str, verdicts: Mapping[str, Verdict], study: str) -> None:
    if name not in verdicts:
        raise ValueError(
            f"no run {name[:80]!r} in the plan. `isoflop retry {study}` takes all that failed."
        )
    state = verdicts[name].state
    if state != "failed":
        why = _WHY_NOT.get(state, "has not failed: `isoflop run` tries it again by itself.")
        raise ValueError(f"run {name} {why} Nothing was changed.")
