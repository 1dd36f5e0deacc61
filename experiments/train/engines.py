# SPDX-License-Identifier: Apache-2.0
"""`isoflop run --on ENGINE`: what a study's jobs need there, and the executor that gets them."""

import dataclasses
import math
import sys
from dataclasses import dataclass
from typing import Literal

from experiments.executors.base import Executor, QueuedJob, Resources
from experiments.executors.kubernetes import COMPILED, Kubernetes
from experiments.executors.slurm import Slurm
from experiments.executors.worker_settings import MODULE, WorkerSettings
from experiments.machine.jax_setup import cache_folder
from experiments.plan.jobs import PlannedJob, host_memory_bytes
from experiments.speed.calibration import Calibration

Name = Literal["local", "slurm", "kubernetes"]
_OTHERS: tuple[Name, ...] = ("slurm", "kubernetes")
_ONLY_FOR: dict[str, tuple[Name, ...]] = {
    **dict.fromkeys(("hours", "setup", "partition", "account", "qos", "sbatch"), ("slurm",)),
    **dict.fromkeys(("image", "volume_claim", "namespace", "queue"), ("kubernetes",)),
    **dict.fromkeys(("node_selector", "tpu"), ("kubernetes",)),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine:
    """Where runs are trained, and what an engine other than this machine must be told.

    Attributes:
      name: of the engine; local is this machine.
      gpus_per_process: 0 trains on CPUs.
      cpus_per_process: at least 1.
      hours: most of a task, or None; longer runs go on after a checkpoint.
      max_concurrent: tasks at once, or None.
      setup, partition, account, qos, sbatch: of Slurm (executors/slurm.py).
      image, volume_claim, namespace, queue, node_selector, tpu: of Kubernetes
        (executors/kubernetes.py).
    """

    name: Name = "local"
    gpus_per_process: int = 0
    cpus_per_process: int = 1
    hours: float | None = None
    max_concurrent: int | None = None
    setup: str = ""
    partition: str = ""
    account: str = ""
    qos: str = ""
    sbatch: tuple[str, ...] = ()
    image: str = ""
    volume_claim: str = ""
    namespace: str = ""
    queue: str = ""
    node_selector: tuple[str, ...] = ()
    tpu: str = ""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            engines = _ONLY_FOR.get(field.name, _OTHERS)
            value = getattr(self, field.name)
            if field.name != "name" and value != field.default and self.name not in engines:
                option = "--" + field.name.replace("_", "-")
                raise ValueError(
                    f"{option}: only with --on {' or '.join(engines)}, not with {self.name}."
                )
        if self.hours is not None and not 0 < self.hours < math.inf:
            raise ValueError(f"--hours {self.hours:g}: must be positive.")
        if self.max_concurrent is not None and self.max_concurrent < 1:
            raise ValueError(f"--max-concurrent {self.max_concurrent}: must be at least 1.")
        if self.gpus_per_process < 0 or self.cpus_per_process < 1:
            raise ValueError(
                "--gpus-per-process must be at least 0 and --cpus-per-process at least 1."
            )

    @property
    def is_here(self) -> bool:
        return self.name == "local"

    @property
    def has_accelerators(self) -> bool:
        return bool(self.gpus_per_process or self.tpu)

    @property
    def devices_per_process(self) -> int:
        """GPUs, the chips of a host of TPUs, or one CPU device."""
        if self.tpu and self.name == "kubernetes":  # Which has looked at its form.
            return int(self.tpu.rpartition(",")[2])
        return 1 if self.is_here else self.gpus_per_process or 1


def remote_executor(engine: Engine, settings: WorkerSettings) -> Executor:
    """The executor of an engine other than this machine.

    Raises:
      ValueError: if the engine is not told what it needs.
    """
    if not engine.has_accelerators:
        settings = dataclasses.replace(settings, threads=engine.cpus_per_process)
    if engine.name == "kubernetes":
        settings = dataclasses.replace(settings, cache=COMPILED)
        return Kubernetes(
            image=engine.image,
            volume_claim=engine.volume_claim,
            namespace=engine.namespace,
            queue=engine.queue,
            max_concurrent=engine.max_concurrent,
            node_selector=engine.node_selector,
            tpu=engine.tpu,
            worker=("python", *MODULE, *settings.to_arguments()),
        )
    settings = dataclasses.replace(settings, cache=cache_folder())
    return Slurm(
        partition=engine.partition,
        account=engine.account,
        qos=engine.qos,
        time_limit_seconds=None if engine.hours is None else 3600 * engine.hours,
        max_concurrent=engine.max_concurrent,
        options=engine.sbatch,
        setup=engine.setup,
        worker=(sys.executable, *MODULE, *settings.to_arguments()),
    )


def queued_jobs(
    planned_jobs: list[PlannedJob], mesh: tuple[int, ...], engine: Engine, known: Calibration | None
) -> list[QueuedJob]:
    """What an executor is told of jobs: the mesh's devices in processes of so many GPUs, of the
    chips of a host of TPUs, or of one CPU device each.

    Args:
      planned_jobs: parents before those that begin from them.
      known: speeds, for the time that is asked for; None where nothing was measured.

    Raises:
      ValueError: if processes do not divide the devices.
    """
    n_devices = math.prod(mesh)
    per_process = engine.devices_per_process
    if n_devices % per_process:
        option = f"--tpu {engine.tpu}" if engine.tpu else f"--gpus-per-process {per_process}"
        raise ValueError(
            f"{option}: must divide the {n_devices} devices of the study's "
            f"mesh {'x'.join(map(str, mesh))}."
        )
    ids = {planned_job.job.id for planned_job in planned_jobs}
    jobs = []
    for planned_job in planned_jobs:
        after = planned_job.job.parent if planned_job.job.parent in ids else None
        seconds = None
        if known is not None:
            # What begins from another job is trained by its worker, whose program is compiled.
            seconds = known.job_seconds(planned_job) + (known.compile_seconds if not after else 0)
        n_processes = n_devices // per_process
        needs = Resources(
            n_processes=n_processes,
            n_cpus=engine.cpus_per_process,
            n_gpus=engine.gpus_per_process,
            memory_bytes=host_memory_bytes(
                planned_job.points[0],
                mesh,
                len(planned_job.points),
                n_processes,
                has_accelerators=engine.has_accelerators,
            ),
            seconds=seconds,
        )
        jobs.append(
            QueuedJob(
                id=planned_job.job.id,
                needs=needs,
                flops=planned_job.flops["matmul_full"],
                program=planned_job.program,
                after=after,
            )
        )
    return jobs
