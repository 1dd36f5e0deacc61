# SPDX-License-Identifier: Apache-2.0
"""Who works on a job: numbered claims that nobody deletes or changes.

  jobs/<job id>/job.json               what is to be done; created once
                claims/000001.json     who took it; created once; the number is the fencing token
                hb/000001              touched while that attempt lives
                attempts/000001.json   how it ended without a result; created once
                retries/000001         failures up to this attempt are forgiven

The highest number owns the job. The next one may be taken when that attempt has ended, when the
kernel or the engine says that its owner is dead, or when its heartbeat is older than the lease.
"""

import dataclasses
import time
from dataclasses import dataclass
from typing import Literal, TypeVar

from experiments.executors.worker_settings import LEASE_SECONDS, MAX_ATTEMPTS, check_limits
from experiments.files import checked_json
from experiments.files.checked_json import Damaged
from experiments.files.storage import Storage
from experiments.ledger.owner import Owner, is_dead
from experiments.plan.jobs import Job

How = Literal["exception", "oom", "killed", "disk", "refused", "preempted"]
T = TypeVar("T")
# Not the job's own fault: it was asked to go, cannot be trained at all, or had no disk.
NO_FAILURE = ("disk", "refused", "preempted")


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """When a job counts as abandoned, and when as failed.

    Attributes:
      lease_seconds: silence after which an attempt elsewhere is taken for dead.
      max_attempts: failures without progress after which a job is left alone.
    """

    lease_seconds: float = LEASE_SECONDS
    max_attempts: int = MAX_ATTEMPTS

    def __post_init__(self) -> None:
        check_limits(self.lease_seconds, self.max_attempts)


class Owned(Exception):
    """Somebody alive works on the job."""


class GaveUp(Exception):
    """The job has failed too often."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How an attempt ended without a result.

    Attributes:
      how: in a word.
      reason: in a sentence.
      step: of the newest checkpoint then; 0 without one.
      time: Unix seconds.
    """

    how: How
    reason: str
    step: int
    time: float


class JobFolder:
    """What lies under jobs/<job id>/ of a study.

    Args:
      storage: of the study's folder.
      job_id: [a-z0-9-].
    """

    def __init__(self, storage: Storage, job_id: str):
        self.storage, self.id = storage, job_id
        self.key = f"jobs/{job_id}"

    def job(self) -> Job | None:
        """The job, None if it was never made; raises Damaged."""
        return self._read("job.json", Job, way_out="Run the study again: it is written anew.")

    def newest(self) -> int:
        """Number of the newest attempt, 0 without any; a deleted claim leaves other traces."""
        folders = ("claims", "hb", "attempts", "retries")
        names = [name for folder in folders for name in self.storage.names(f"{self.key}/{folder}")]
        return max((int(n[:6]) for n in names if n[:6].isdecimal()), default=0)

    def owner(self, number: int) -> Owner | None:
        """Who made a claim; None if it is missing; raises Damaged."""
        return self._read(f"claims/{number:06d}.json", Owner)

    def ending(self, number: int) -> Ending | None:
        """How an attempt ended; None while it has not, or when it had a result; raises Damaged."""
        return self._read(f"attempts/{number:06d}.json", Ending)

    def end(self, number: int, how: How, reason: str, step: int) -> bool:
        """Records how an attempt ended, once; False if that was known."""
        ending = Ending(how=how, reason=reason, step=step, time=time.time())
        key = f"{self.key}/attempts/{number:06d}.json"
        return self.storage.create(key, checked_json.encode(ending))

    def beat(self, number: int) -> None:
        """Says that an attempt lives."""
        self.storage.touch(f"{self.key}/hb/{number:06d}")

    def age_seconds(self, number: int) -> float:
        """Time since an attempt began, by the file server's clock."""
        age = self.storage.age_seconds(f"{self.key}/claims/{number:06d}.json")
        return float("inf") if age is None else max(age, 0.0)

    def silence_seconds(self, number: int) -> float:
        """Time since an attempt was last heard of, by the file server's clock."""
        keys = (f"{self.key}/hb/{number:06d}", f"{self.key}/claims/{number:06d}.json")
        ages = [age for key in keys if (age := self.storage.age_seconds(key)) is not None]
        return min(ages, default=float("inf"))

    def is_superseded(self, number: int) -> bool:
        """Whether somebody took the job after us."""
        return self.storage.exists(f"{self.key}/claims/{number + 1:06d}.json")

    def newest_step(self) -> int:
        """The newest step with a checkpoint (model/training/checkpoints/), 0 without one."""
        names = self.storage.names(f"{self.key}/checkpoints")
        steps = [name.split("-")[0] for name in names if name.endswith(".sha256")]
        return max((int(step) for step in steps if step.isdecimal()), default=0)

    def endings(self) -> dict[int, Ending]:
        """Every ended attempt by its number; a damaged record counts as a failure without words."""
        endings = {}
        for name in self.storage.names(f"{self.key}/attempts"):
            if not name[:6].isdecimal():
                continue
            try:
                ending = self.ending(int(name[:6]))
            except Damaged as error:
                ending = Ending(how="exception", reason=str(error), step=0, time=0.0)
            if ending is not None:
                endings[int(name[:6])] = ending
        return endings

    def failures(self) -> list[Ending]:
        """Failed attempts since the job last got further, or was forgiven; oldest first.

        One that leaves a newer checkpoint than the attempts before it did not fail in vain: ten
        lost nodes do not end a long run, three crashes at one step do.
        """
        retries = self.storage.names(f"{self.key}/retries")
        forgiven = max((int(name) for name in retries if name.isdecimal()), default=0)
        failures: list[Ending] = []
        furthest = 0
        for number, ending in sorted(self.endings().items()):
            if ending.step > furthest:
                furthest, failures = ending.step, []
            if number > forgiven and ending.how not in NO_FAILURE:
                failures.append(ending)
        return failures

    def forgive(self) -> None:
        """Lets the job be tried again."""
        self.storage.create(f"{self.key}/retries/{self.newest():06d}", b"")

    def claim(self, me: Owner, *, lease_seconds: float, max_attempts: int) -> int:
        """Takes the job; returns the number of the claim.

        Raises:
          Owned: if somebody alive has it, or took it this moment.
          GaveUp: after ``max_attempts`` failures.
        """
        newest = self.newest()
        if newest and not self.storage.exists(f"{self.key}/attempts/{newest:06d}.json"):
            self._bury(newest, me, lease_seconds)
        failures = self.failures()
        if len(failures) >= max_attempts:
            raise GaveUp(f"failed {len(failures)} times, last: {failures[-1].reason}")
        claim = checked_json.encode(dataclasses.replace(me, time=time.time()))
        if not self.storage.create(f"{self.key}/claims/{newest + 1:06d}.json", claim):
            raise Owned("another process took it this moment")
        self.beat(newest + 1)
        return newest + 1

    def _bury(self, number: int, me: Owner, lease_seconds: float) -> None:
        """Ends an attempt on behalf of its dead owner; raises Owned if it may live."""
        try:
            owner = self.owner(number)
            who = f"process {owner.pid} on {owner.host}" if owner else "an unknown process"
        except Damaged as error:
            owner, who = None, f"an unknown process ({error})"  # The heartbeat decides.
        silence = self.silence_seconds(number)
        if owner is not None and is_dead(owner, me):
            reason = f"{who} ended without a word"
        elif silence > lease_seconds:
            reason = f"{who} was silent for {silence:.0f} s"
        else:
            raise Owned(f"{who} has it, last heard of {max(silence, 0.0):.0f} s ago")
        self.end(number, "killed", reason, self.newest_step())

    def _read(self, name: str, kind: type[T], *, way_out: str = "") -> T | None:
        return checked_json.read(self.storage, f"{self.key}/{name}", kind, way_out=way_out)
