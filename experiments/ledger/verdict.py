# SPDX-License-Identifier: Apache-2.0
"""What has become of a point, in a word: the one place where it is decided.

Tables, status, export, retry, report and gc all ask here. How many failures make a run a failed
one, and how long an attempt may be silent, is what the last `isoflop run` was told; the ledger
keeps it (Limits).
"""

import functools
import math
from dataclasses import dataclass
from typing import Literal

from experiments.files.checked_json import Damaged, intact
from experiments.ledger.claims import JobFolder, Limits
from experiments.ledger.ledger import Ledger
from experiments.ledger.owner import Owner, is_alive, is_dead, this_process
from experiments.ledger.result import Result
from experiments.plan.jobs import TRUNK

State = Literal[
    "done", "running", "preempted", "diverged", "stopped", "failed", "waiting", "damaged"
]
# Without a person nothing more will happen to these.
FINAL = ("done", "diverged", "stopped", "failed", "damaged")
# Ends that say nothing against the run itself.
_TAKEN = ("preempted", "killed")
_TRACES = {"claims", "hb", "attempts", "retries"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What has become of a point.

    Attributes:
      state: "done", "diverged" and "stopped" have a result, "damaged" has one that cannot be read;
        "running" has an attempt that lives; "preempted" had one that was killed or asked to go;
        "failed" is left alone until it is forgiven, as is what it begins from; "waiting" is
        everything else.
      reason: in a sentence, of whatever ended last; "" where there is nothing to tell.
      attempt: number of the newest; 0 without any.
      result: of "done", "diverged" and "stopped".
      failed_jobs: ids of the jobs that have to be forgiven before it can be tried again.
    """

    state: State
    reason: str = ""
    attempt: int = 0
    result: Result | None = None
    failed_jobs: tuple[str, ...] = ()


class Judge:
    """Tells what has become of points and jobs, by one look at who is alive.

    Args:
      limits: see there; those of the ledger where none are given.
    """

    def __init__(self, ledger: Ledger, limits: Limits | None = None):
        self.ledger = ledger
        self.limits = ledger.limits() if limits is None else limits
        self._me = this_process()

    def point(self, point_id: str) -> Verdict:
        """The verdict on a point; raises OtherVersion."""
        try:
            return self.outcome(point_id)
        except Damaged:
            return Verdict(state="damaged", reason=f"runs/{point_id}/result.json is damaged")

    def outcome(self, point_id: str) -> Verdict:
        """The verdict on a point, but for a damaged result: raises Damaged, with the way out."""
        if (result := self.ledger.read_result(point_id)) is None:
            return self._without_result(self.ledger.job(self.job_id(point_id)))
        return Verdict(
            state="done" if result.status == "ok" else result.status,
            reason=result.reason,
            attempt=result.provenance.attempt,
            result=result,
        )

    def _without_result(self, job: JobFolder) -> Verdict:
        state: State = "waiting"
        reason, newest = "", 0
        if not _TRACES.isdisjoint(job.storage.names(job.key)):
            newest = job.newest()
            state, reason = self.job(job, newest)
        failed = [job.id] if state == "failed" else []
        if state != "running" and (trunk := self._failed_trunk(job)) is not None:
            state, reason = "failed", reason or f"{trunk} failed: {self._failed_trunks[trunk]}"
            failed.append(trunk)
        return Verdict(state=state, reason=reason, attempt=newest, failed_jobs=tuple(failed))

    def job(self, job: JobFolder, newest: int) -> tuple[State, str]:
        """State and reason of a job without a result; ``newest``: number of its last attempt."""
        endings = job.endings()
        ending = endings.get(newest)
        is_claimed = job.storage.exists(f"{job.key}/claims/{newest:06d}.json")
        is_open = ending is None and is_claimed
        if is_open and _is_held(job, newest, self._me, self.limits.lease_seconds):
            return "running", ""
        # Most jobs have ended too seldom to have failed so often.
        most = self.limits.max_attempts
        failures = job.failures() if len(endings) >= most else []
        if len(failures) >= most:
            return "failed", failures[-1].reason
        if is_open:
            return "preempted", "ended without a word"
        if ending is None:
            return "waiting", ""
        return ("preempted" if ending.how in _TAKEN else "waiting"), ending.reason

    def _failed_trunk(self, job: JobFolder) -> str | None:
        """The failed trunk that a job begins from, itself or through others."""
        if not self._failed_trunks:
            return None
        trunk = _parent(job)
        while trunk is not None and not self.ledger.has_trunk(trunk):
            if trunk in self._failed_trunks:
                return trunk
            trunk = _parent(self.ledger.job(trunk))
        return None

    @functools.cached_property
    def _failed_trunks(self) -> dict[str, str]:
        """Trunk -> the reason of its last failure."""
        found = {}
        for name in self.ledger.job_ids():
            if name.startswith(TRUNK) and not self.ledger.has_trunk(name):
                job = self.ledger.job(name)
                state, reason = self.job(job, job.newest())
                if state == "failed":
                    found[name] = reason
        return found

    @functools.cached_property
    def _shared_jobs(self) -> dict[str, list[str]]:
        """Point -> the packs that it was ever arranged in; their ids are none of its own."""
        runs = set(self.ledger.storage.names("runs"))
        found: dict[str, list[str]] = {}
        for name in self.ledger.job_ids():
            if name in runs:
                continue
            job = intact(self.ledger.job(name).job)
            for point_id in job.results if job else ():
                found.setdefault(point_id, []).append(name)
        return found

    def job_id(self, point_id: str) -> str:
        """The job that trains a point: of all that ever did, the one heard of last."""
        packs = self._shared_jobs.get(point_id, [])
        return min((*reversed(packs), point_id), key=self._silence) if packs else point_id

    def _silence(self, job_id: str) -> float:
        job = self.ledger.job(job_id)
        newest = job.newest()
        return job.silence_seconds(newest) if newest else math.inf


def _parent(job: JobFolder) -> str | None:
    record = intact(job.job)
    return record.parent if record else None


def _is_held(job: JobFolder, number: int, me: Owner, lease_seconds: float) -> bool:
    """Whether an attempt that has not ended may still be at work.

    The kernel's word counts first; where it has none, the heartbeat's.
    """
    owner = intact(job.owner, number)
    if owner is not None and is_dead(owner, me):
        return False
    if owner is not None and is_alive(owner, me):
        return True
    return job.silence_seconds(number) <= lease_seconds
