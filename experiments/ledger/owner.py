# SPDX-License-Identifier: Apache-2.0
"""Which process holds a claim, and whether the kernel or an engine knows that it is gone."""

import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


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
