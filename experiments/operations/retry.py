# SPDX-License-Identifier: Apache-2.0
"""isoflop retry: failed runs may be tried again. What has a result stays as it is."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from experiments.ledger.ledger import Ledger
from experiments.ledger.point_states import PointState, asked_points, jobs_by_point, survey

_WHY_NOT = {
    "done": "has its result.",
    "diverged": "diverged, and would again: a result is never replaced. Ask for a new point: "
    "another seed (seeds=...) or another learning rate.",
    "damaged": "has a result that cannot be read: `isoflop doctor STUDY` says what to do.",
    "running": "is running.",
}


def retry(options: Any, ids: Sequence[str], ledger: Ledger, console: Console) -> None:
    """Forgives failed jobs, all of the plan or those of the points named, and names them.

    Raises:
      ValueError: if a point that was named is none, or did not fail: then nothing is forgiven.
    """
    asked = asked_points(ledger, options.study)
    states = survey(
        ledger,
        asked,
        n_devices=1,
        lease_seconds=options.lease_seconds,
        max_attempts=options.max_attempts,
    )
    chosen = list(dict.fromkeys(ids)) or [n for n, s in states.items() if s.state == "failed"]
    for name in ids:
        _check(name, states, options.study)
    jobs = jobs_by_point(ledger)
    for job_id in dict.fromkeys(jobs.get(name, name) for name in chosen):
        ledger.job(job_id).forgive()
    for name in chosen:
        console.print(f"{name} may be tried again; it had failed: {states[name].reason}")
    end = f"`isoflop run {options.study}` trains them." if chosen else "No run has failed."
    console.print(end)


def _check(name: str, states: dict[str, PointState], study: str) -> None:
    if name not in states:
        raise ValueError(
            f"no run {name[:80]!r} in the plan. `isoflop retry {study}` takes all that failed."
        )
    state = states[name]
    if state.state != "failed":
        why = _WHY_NOT.get(state.state, "has not failed: `isoflop run` tries it again by itself.")
        raise ValueError(f"run {name} {why} Nothing was changed.")
