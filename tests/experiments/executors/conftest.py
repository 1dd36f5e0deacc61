# SPDX-License-Identifier: Apache-2.0
"""A Slurm of the tests' own: munged, slurmctld and two slurmd on this machine, without systemd.

Everything lies in one folder, sockets and key included, and listens on loopback at free ports: it
neither needs nor touches a Slurm that is installed here. Root, because slurmd changes users.
"""

import collections
import contextlib
import datetime
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

FIGURES = pytest.StashKey[collections.Counter[str]]()
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue")
MAX_ARRAY_SIZE = 5
GRACE_SECONDS = 10
# How long Slurm holds back a job that was requeued, and what of it we let pass.
HELD_SECONDS, SETTLE_SECONDS = 120, 5

# No cgroups: containers and small virtual machines do not delegate them. Jobs of the partition
# "high" preempt those of "low". Two CPUs a node are said whatever the machine has.
CONFIGURATION = """
ClusterName=isoflop
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
ReturnToService=2
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=0,bf_interval=1,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=5
MinJobAge=600
InactiveLimit=0
MaxArraySize={max_array_size}
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=4096
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=4096
PartitionName=low Nodes=n1,n2 Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime={grace}
PartitionName=high Nodes=n1,n2 PriorityTier=10 PreemptMode=OFF
"""


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Cluster"]:
    """A cluster of two nodes, started once."""
    if reason := missing():
        pytest.skip(reason)
    with pytest.MonkeyPatch.context() as patch, running(tmp_path_factory.mktemp("slurm")) as one:
        patch.setenv("SLURM_CONF", str(one.folder / "slurm.conf"))
        yield one


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> collections.Counter[str]:
    """Counts that are printed when all tests are done."""
    return request.config.stash.setdefault(FIGURES, collections.Counter())


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    if counts := config.stash.get(FIGURES, None):
        terminalreporter.section("on a real Slurm")
        for name, count in counts.items():
            terminalreporter.write_line(f"| {name} | {count:g} |")


def missing() -> str:
    """Why there can be no cluster here, or nothing."""
    if os.geteuid() != 0:
        return "a Slurm of our own needs root"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"no {', '.join(absent)} here: make test-slurm installs them by apt" if absent else ""


@dataclass(frozen=True)
class Cluster:
    """A running cluster; Slurm's commands find it through ``SLURM_CONF``."""

    folder: Path

    def ask(self, *command: str) -> str:
        """Output of a command; its complaint as RuntimeError."""
        environment = os.environ | {"SLURM_CONF": str(self.folder / "slurm.conf")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
        return done.stdout

    def queued(self) -> list[dict[str, str]]:
        """What squeue shows, one row per array task."""
        fields = {"id": "%i", "name": "%j", "state": "%T", "start": "%S", "reason": "%r"}
        text = self.ask("squeue", "--noheader", "--array", "--format", "|".join(fields.values()))
        return [dict(zip(fields, line.split("|"), strict=True)) for line in text.splitlines()]

    def job(self, job_id: str) -> dict[str, str]:
        """What the controller remembers of a job or array task, finished ones included."""
        words = self.ask("scontrol", "--oneliner", "show", "job", job_id).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def hurry(self) -> None:
        """Starts requeued jobs within seconds: Slurm holds them back for about two minutes.

        Not at once: for a moment the orders that ended them would end them again.
        """
        now = datetime.datetime.now()
        for row in self.queued():
            if row["state"] == "PENDING" and row["reason"] == "BeginTime":
                start = datetime.datetime.fromisoformat(row["start"])
                if (start - now).total_seconds() < HELD_SECONDS - SETTLE_SECONDS:
                    # Between the question and the order the job may have started.
                    with contextlib.suppress(RuntimeError):
                        self.ask("scontrol", "update", f"JobId={row['id']}", "StartTime=now")

    def wait(self, what: Callable[[], object], seconds: float = 120, *, hurry: bool = True) -> None:
        """Until ``what()`` is true, hurrying requeued jobs on; AssertionError with the queue."""
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, f"not within {seconds} s: {self.queued()}"
            if hurry:
                self.hurry()
            time.sleep(0.2)

    def wait_until_empty(self, seconds: float = 300) -> None:
        self.wait(lambda: not self.queued(), seconds)

    def pids(self, **variables: str) -> list[int]:
        """Processes of tasks with these environment variables."""
        variables["SLURM_CONF"] = str(self.folder / "slurm.conf")
        wanted = {f"{name}={value}" for name, value in variables.items()}
        return _pids(lambda process: wanted <= set((process / "environ").read_text().split("\0")))

    def lose(self, node: str) -> None:
        """Everything on a node is gone at once, and Slurm has noticed.

        Daemons first: they would tell the controller how the tasks ended.
        """
        log = str(self.folder / f"slurmd-{node}.log")
        _kill(_pids(lambda process: log in _open_files(process)))
        _kill(self.pids(SLURMD_NODENAME=node))
        self.ask("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=lost")

    def bring_back(self, node: str) -> None:
        """Starts its daemon again; ReturnToService does the rest."""
        self.ask("slurmd", "-N", node)

    def preempt(self) -> None:
        """Takes both nodes for a moment."""
        size = ("--nodes=2", "--ntasks=2", "--cpus-per-task=2", "--mem=512M")
        self.ask("sbatch", "--partition=high", *size, "--output=/dev/null", "--wrap=sleep 1")

    def clear(self) -> None:
        """Ends every job."""
        self.ask("scancel", "--user", "root")
        self.wait(lambda: not self.queued(), hurry=False)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """A cluster of two nodes in a folder, for as long as the block lasts."""
    ports = _free_ports(3)
    text = CONFIGURATION.format(
        folder=folder,
        ports=ports,
        host=socket.gethostname().split(".")[0],
        max_array_size=MAX_ARRAY_SIZE,
        grace=GRACE_SECONDS,
    )
    (folder / "state").mkdir()
    (folder / "slurm.conf").write_text(text)
    cluster = Cluster(folder)
    try:
        _start(cluster)
        yield cluster
        cluster.clear()
    finally:
        _stop(folder)


def _start(cluster: Cluster) -> None:
    folder = cluster.folder
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    munge = {name: folder / f"munged.{name}" for name in ("pid", "log", "seed")}
    flags = [f"--{name}-file={path}" for name, path in munge.items()]
    socket_flag = f"--socket={folder / 'munge.socket'}"
    cluster.ask("munged", "--force", f"--key-file={key}", socket_flag, *flags)
    cluster.ask("slurmctld", "-c")
    for node in ("n1", "n2"):
        (folder / f"spool-{node}").mkdir()
        cluster.ask("slurmd", "-N", node)
    count = ("sinfo", "--noheader", "--states=idle", "--format=%D")
    end = time.monotonic() + 60
    while cluster.ask(*count).strip() != "2":
        assert time.monotonic() < end, cluster.ask("sinfo", "--long")
        time.sleep(0.2)


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _pids(is_meant: Callable[[Path], bool]) -> list[int]:
    """Of the processes with ``is_meant(/proc/PID)``."""
    pids = []
    for process in Path("/proc").glob("[0-9]*"):
        # It may have ended meanwhile.
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if is_meant(process):
                pids.append(int(process.name))
    return pids


def _open_files(process: Path) -> set[str]:
    names = set()
    for file in (process / "fd").iterdir():
        with contextlib.suppress(OSError):
            names.add(os.readlink(file))
    return names


def _free_ports(n: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _stop(folder: Path) -> None:
    """Ends the daemons by their own process ids."""
    for path in (*folder.glob("slurmd-*.pid"), folder / "slurmctld.pid", folder / "munged.pid"):
        if not path.exists():
            continue
        pid = int(path.read_text())
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
            for _ in range(100):
                os.kill(pid, 0)
                time.sleep(0.1)
            os.kill(pid, signal.SIGKILL)
