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
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from experiments.executors.worker_settings import LEASE_SECONDS as LEASE_SECONDS
from experiments.executors.worker_settings import MAX_ATTEMPTS as MAX_ATTEMPTS
from experiments.files.checked_json import Damaged, seal, unseal
from experiments.files.storage import Storage
from experiments.plan.jobs import Job, job_from_json

How = Literal["exception", "oom", "killed", "disk", "refused", "preempted"]
# Not the job's own fault: it was asked to go, cannot be trained at all, or had no disk.
NO_FAILURE = ("disk", "refused", "preempted")


class Owned(Exception):
    """Somebody alive works on the job."""


class GaveUp(Exception):
    """The job has failed too often."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """A process, so that others can tell whether it is still there.

    Attributes:
      host: its name, for people.
      boot_id, pid_namespace: only where both are ours does ``pid`` mean anything to our kernel:
        containers share a kernel, and host names repeat.
      pid, start_ticks: process number, and its start in clock ticks since boot.
      engine, engine_job, restarts: what started it ("slurm", "kubernetes" or ""), and how often
        that had started the same job before.
      time: Unix seconds on its own clock, for people.
    """

    host: str
    boot_id: str
    pid_namespace: str
    pid: int
    start_ticks: int
    engine: str
    engine_job: str
    restarts: int
    time: float


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


def this_process(environment: Mapping[str, str] = os.environ) -> Owner:
    """The Owner that this process is."""
    engine, engine_job, restarts = engine_identity(environment)
    return Owner(
        host=platform.node(),
        boot_id=_text("/proc/sys/kernel/random/boot_id"),
        pid_namespace=_pid_namespace(),
        pid=os.getpid(),
        start_ticks=_start_ticks(os.getpid()) or 0,
        engine=engine,
        engine_job=engine_job,
        restarts=restarts,
        time=time.time(),
    )


def engine_identity(environment: Mapping[str, str]) -> tuple[str, str, int]:
    """(engine, its job, how often it was restarted) as the engine's variables say."""
    if "SLURM_JOB_ID" in environment:
        array, task = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
        job = f"{array}_{task}" if array and task else environment["SLURM_JOB_ID"]
        return "slurm", job, _count(environment.get("SLURM_RESTART_COUNT"))
    if environment.get("ISOFLOP_ENGINE"):
        restarts = _count(environment.get("ISOFLOP_ENGINE_RESTARTS"))
        return environment["ISOFLOP_ENGINE"], environment.get("ISOFLOP_ENGINE_JOB", ""), restarts
    return "", "", 0


def _count(text: str | None) -> int:
    """The sum of numbers like "1" or "1+2"; anything else is 0."""
    parts = (text or "0").split("+")
    return sum(int(part) for part in parts if part.isdecimal())


def is_dead(owner: Owner, me: Owner) -> bool:
    """Whether the kernel, or the engine that started us, knows that ``owner`` is gone.

    False also where nobody can tell: another host, another container.
    """
    is_restart = owner.engine != "" and (owner.engine, owner.engine_job) == (
        me.engine,
        me.engine_job,
    )
    if is_restart and me.restarts > owner.restarts:
        return True
    is_gone = _is_ours_to_know(owner, me) and _start_ticks(owner.pid) != owner.start_ticks
    return is_gone and not _is_hidden(owner.pid)


def is_alive(owner: Owner, me: Owner) -> bool:
    """Whether the kernel knows that ``owner`` is there; False also where nobody can tell."""
    return _is_ours_to_know(owner, me) and _start_ticks(owner.pid) == owner.start_ticks


def _is_ours_to_know(owner: Owner, me: Owner) -> bool:
    """Whether a process number of ``owner`` means the same process to our kernel."""
    is_same = owner.boot_id == me.boot_id and owner.pid_namespace == me.pid_namespace
    return is_same and me.boot_id != "" and me.pid_namespace != ""


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _pid_namespace() -> str:
    """ "" also where /proc is that of another namespace: it then speaks of other processes."""
    try:
        is_ours = os.readlink("/proc/self") == str(os.getpid())
        return os.readlink("/proc/self/ns/pid") if is_ours else ""
    except OSError:
        return ""


def _start_ticks(pid: int) -> int | None:
    """When a living process began, from field 22 of /proc/<pid>/stat; None where there is none."""
    # The name may hold spaces and brackets; what follows its last bracket is regular.
    state, *rest = _text(f"/proc/{pid}/stat").rpartition(")")[2].split() or ["X"]
    return None if state in "XZ" else int(rest[18])


def _is_hidden(pid: int) -> bool:
    """Whether it is there, but another user's that /proc does not show us (hidepid)."""
    if Path(f"/proc/{pid}").exists():
        return False
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return False


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
        text = self._read("job.json", " Run the study again: it is written anew.")
        return None if text is None else job_from_json(text)

    def newest(self) -> int:
        """Number of the newest attempt, 0 without any; a deleted claim leaves other traces."""
        folders = ("claims", "hb", "attempts", "retries")
        names = [name for folder in folders for name in self.storage.names(f"{self.key}/{folder}")]
        return max((int(n[:6]) for n in names if n[:6].isdecimal()), default=0)

    def owner(self, number: int) -> Owner | None:
        """Who made a claim; None if it is missing; raises Damaged."""
        text = self._read(f"claims/{number:06d}.json")
        return None if text is None else msgspec.json.decode(text, type=Owner)

    def ending(self, number: int) -> Ending | None:
        """How an attempt ended; None while it has not, or when it had a result; raises Damaged."""
        text = self._read(f"attempts/{number:06d}.json")
        return None if text is None else msgspec.json.decode(text, type=Ending)

    def end(self, number: int, how: How, reason: str, step: int) -> bool:
        """Records how an attempt ended, once; False if that was known."""
        ending = Ending(how=how, reason=reason, step=step, time=time.time())
        key = f"{self.key}/attempts/{number:06d}.json"
        return self.storage.create(key, seal(msgspec.json.encode(ending).decode()))

    def beat(self, number: int) -> None:
        """Says that an attempt lives."""
        self.storage.touch(f"{self.key}/hb/{number:06d}")

    def silence_seconds(self, number: int) -> float:
        """Time since an attempt was last heard of, by the file server's clock."""
        keys = (f"{self.key}/hb/{number:06d}", f"{self.key}/claims/{number:06d}.json")
        ages = [age for key in keys if (age := self.storage.age_seconds(key)) is not None]
        return min(ages, default=float("inf"))

    def is_superseded(self, number: int) -> bool:
        """Whether somebody took the job after us."""
        return self.storage.exists(f"{self.key}/claims/{number + 1:06d}.json")

    def newest_step(self) -> int:
        """The newest step with a checkpoint (model/training/checkpoint.py), 0 without one."""
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
        claim = seal(msgspec.json.encode(dataclasses.replace(me, time=time.time())).decode())
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

    def _read(self, name: str, way_out: str = "") -> bytes | None:
        """A sealed file's text; None if it is missing; raises Damaged."""
        data = self.storage.read(f"{self.key}/{name}")
        if data is None:
            return None
        if (text := unseal(data)) is None:
            raise Damaged(f"{self.key}/{name} is damaged.{way_out}")
        return text
