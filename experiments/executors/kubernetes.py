# SPDX-License-Identifier: Apache-2.0
"""Jobs -> a manifest of Indexed Jobs for ``kubectl create -f``, as JSON, which YAML contains.

Needs Kubernetes 1.29 (backoffLimitPerIndex, podReplacementPolicy), and a volume that every pod and
this machine share, with the results on it. Each short job or group of short jobs is one index; the
ids of index i are the file i of a ConfigMap. A job of several processes is a Job of its own with
one index per process.

What becomes of a pod that did not finish, by the worker's exit code:
  preempted, evicted replaced, and not counted: it was preempted
  owned              the same: somebody alive has the job; each replacement waits twice as long, up
                     to ten minutes, until the owner is done or its lease has run out
  refused, disk      its index fails at once: a bad spec or a full disk needs a person
  failed, killed     replaced RETRIES times; the worker itself gives a job up after its attempts
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.executors import exit_codes
from experiments.executors.base import QueuedJob, Resources, Watcher
from experiments.executors.batches import Batch, Tree, batches, new_folder, trees
from experiments.executors.worker_settings import MODULE

RETRIES = 3
HOPELESS = [exit_codes.REFUSED, exit_codes.DISK]
AGAIN = [exit_codes.OWNED, exit_codes.PREEMPTED]
# A ConfigMap is also an annotation of itself after `kubectl apply`, and those hold 256 KiB; an id
# has at most 64 characters, and each index is a file in every pod.
MAX_TASKS, MAX_JOBS = 1000, 3000
COORDINATOR_PORT = 8476
# Where pods see the results folder and the ids.
RESULTS, IDS = "/results", "/etc/isoflop/jobs"
# Of compiled programs: beside the studies, so that all pods of all of them share it.
COMPILED = Path(RESULTS) / ".cache" / "jax"
# From SIGTERM to SIGKILL: two dispatches and a checkpoint.
GRACE_SECONDS = 120
_GENERATED = "batch.kubernetes.io/"
_TPU = "cloud.google.com/gke-tpu-"

Object = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Kubernetes:
    """Writes manifests; submits nothing.

    Attributes:
      image: with this project and its Python.
      volume_claim: PersistentVolumeClaim with the results folder at its top, writable by many pods.
      namespace: of all objects; kubectl's own when empty.
      queue: LocalQueue of Kueue, which then decides when a Job starts; none when empty.
      max_concurrent: pods of one Job at once, or None.
      node_selector: "label=value" of nodes that pods may run on.
      tpu: "accelerator,topology,chips per host", such as "tpu-v5-lite-podslice,4x4,4"; each job
        takes such a slice, one process per host. Empty for GPUs and CPUs.
      worker: command of the worker inside the image, without --root and ids.
    """

    image: str
    volume_claim: str
    namespace: str = ""
    queue: str = ""
    max_concurrent: int | None = None
    node_selector: tuple[str, ...] = ()
    tpu: str = ""
    worker: tuple[str, ...] = ("python", *MODULE)

    def __post_init__(self) -> None:
        if not self.image or not self.volume_claim:
            raise ValueError("pods need --image and --volume-claim: they see no other files.")
        if self.max_concurrent is not None and self.max_concurrent < 1:
            raise ValueError(f"max_concurrent={self.max_concurrent}: must be at least 1.")
        for text in self.node_selector:
            if not re.fullmatch(r"[\w./-]+=[\w.-]*", text):
                raise ValueError(f"node_selector={text!r}: must be label=value.")
        if self.tpu and not re.fullmatch(r"[a-z0-9-]+,\d+(x\d+)+,[1-9]\d*", self.tpu):
            raise ValueError(
                f"tpu={self.tpu!r}: must be accelerator,topology,chips per host, for instance "
                "tpu-v5-lite-podslice,4x4,4."
            )

    def run(self, root: Path, jobs: Sequence[QueuedJob], watcher: Watcher) -> str | None:
        """Writes the manifest under <study>/kubernetes/ and says how to start it."""
        if not jobs:
            return None
        folder = new_folder(root / "kubernetes")
        asked = trees(jobs)
        items = self.objects(root, folder.name, asked)
        path = folder / "manifest.json"
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=2)
        path.write_text(text + "\n")
        n_jobs = sum(item["kind"] == "Job" for item in items)
        return f"{len(asked)} jobs in {n_jobs} Indexed Jobs. Start them: kubectl create -f {path}"

    def objects(self, root: Path, number: str, jobs: Sequence[Tree]) -> list[Object]:
        """ConfigMaps, Services and Jobs, in the order in which they are to be made."""
        digest = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:8]
        study = re.sub("[^a-z0-9]+", "-", root.name.lower()).strip("-")[:20].strip("-")
        names = (f"isoflop-{study}-{digest}-{int(number)}-{n}" for n in range(len(jobs)))
        objects: list[Object] = []
        for batch in batches(jobs, MAX_TASKS, MAX_JOBS):
            if batch.needs.n_processes == 1:
                objects += self._independent(next(names), root, batch)
            else:
                for task in batch.tasks:
                    objects += self._together(next(names), root, batch.needs, task)
        return objects

    def _independent(self, name: str, root: Path, batch: Batch) -> Iterator[Object]:
        """A Job whose indexes have nothing to do with each other."""
        yield self._ids(name, {str(i): task for i, task in enumerate(batch.tasks)})
        n = len(batch.tasks)
        pod = self._pod(name, root, batch.needs, "$(ISOFLOP_INDEX)")
        yield self._job(name, n, min(n, self.max_concurrent or n), pod, "FailIndex")

    def _together(
        self, name: str, root: Path, needs: Resources, task: tuple[str, ...]
    ) -> Iterator[Object]:
        """A Job whose indexes are the processes of one training run, and find each other by DNS."""
        yield self._ids(name, {"all": task})
        yield self._object("v1", "Service", name) | {
            "spec": {
                "clusterIP": "None",
                "selector": {f"{_GENERATED}job-name": name},
                # They look for each other before any of them is ready.
                "publishNotReadyAddresses": True,
            }
        }
        pod = self._pod(name, root, needs, "all")
        pod["subdomain"] = name
        pod["containers"][0]["env"] += [
            {"name": "JAX_COORDINATOR_ADDRESS", "value": f"{name}-0.{name}:{COORDINATOR_PORT}"},
            {"name": "JAX_NUM_PROCESSES", "value": str(needs.n_processes)},
            {"name": "JAX_PROCESS_ID", "value": "$(ISOFLOP_INDEX)"},
        ]
        if self.tpu:
            pod["affinity"] = _one_slice(name)
        yield self._job(name, needs.n_processes, needs.n_processes, pod, "FailJob")

    def _ids(self, name: str, tasks: dict[str, tuple[str, ...]]) -> Object:
        data = {key: "".join(f"{job}\n" for job in task) for key, task in tasks.items()}
        return self._object("v1", "ConfigMap", name) | {"immutable": True, "data": data}

    def _job(self, name: str, n: int, at_once: int, pod: Object, hopeless: str) -> Object:
        job = self._object("batch/v1", "Job", name)
        if self.queue:
            job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = self.queue
        spec = {
            "completionMode": "Indexed",
            "completions": n,
            "parallelism": at_once,
            "backoffLimitPerIndex": RETRIES,
            # A pod that is still writing its checkpoint has no successor yet.
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                "rules": [
                    {"action": hopeless, "onExitCodes": {"operator": "In", "values": HOPELESS}},
                    {"action": "Ignore", "onExitCodes": {"operator": "In", "values": AGAIN}},
                    {
                        "action": "Ignore",
                        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                    },
                ]
            },
            "template": {"metadata": {"labels": _labels()}, "spec": pod},
        }
        # Kueue takes a Job that is suspended when it comes, and starts it in its turn.
        return job | {"spec": {"suspend": True} | spec if self.queue else spec}

    def _pod(self, name: str, root: Path, needs: Resources, ids: str) -> Object:
        # Kubernetes expands $(NAME) in arguments; $$ is a dollar.
        fixed = (*self.worker, "--root", f"{RESULTS}/{root.name}")
        container = {
            "name": "worker",
            "image": self.image,
            "command": [*(word.replace("$", "$$") for word in fixed), "--jobs", f"{IDS}/{ids}"],
            "env": _identity(),
            "resources": self._resources(needs),
            "volumeMounts": [
                {"name": "results", "mountPath": RESULTS},
                {"name": "ids", "mountPath": IDS, "readOnly": True},
            ],
        }
        return {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "nodeSelector": self._node_selector(),
            "containers": [container],
            "volumes": [
                {"name": "results", "persistentVolumeClaim": {"claimName": self.volume_claim}},
                {"name": "ids", "configMap": {"name": name}},
            ],
        }

    def _resources(self, needs: Resources) -> Object:
        """Memory is a limit, CPUs are not: a throttled process only wastes its accelerator."""
        limits = {"memory": f"{needs.memory_bytes // 2**20}Mi"}
        if self.tpu:
            _, topology, chips = self.tpu.split(",")
            n_chips = math.prod(int(size) for size in topology.split("x"))
            if n_chips != int(chips) * needs.n_processes:
                raise ValueError(
                    f"tpu={self.tpu!r} has {n_chips} chips, {chips} on a host; the job has "
                    f"{needs.n_processes} processes and needs {n_chips / int(chips):g}."
                )
            limits["google.com/tpu"] = chips
        elif needs.n_gpus:
            limits["nvidia.com/gpu"] = str(needs.n_gpus)
        return {"requests": limits | {"cpu": str(needs.n_cpus)}, "limits": limits}

    def _node_selector(self) -> dict[str, str]:
        selector = dict(text.split("=", 1) for text in self.node_selector)
        if self.tpu:
            accelerator, topology, _ = self.tpu.split(",")
            selector |= {f"{_TPU}accelerator": accelerator, f"{_TPU}topology": topology}
        return selector

    def _object(self, version: str, kind: str, name: str) -> Object:
        metadata = {"name": name, "labels": _labels()}
        if self.namespace:
            metadata["namespace"] = self.namespace
        return {"apiVersion": version, "kind": kind, "metadata": metadata}


def _labels() -> dict[str, str]:
    return {"app.kubernetes.io/name": "isoflop"}


def _identity() -> list[Object]:
    """Variables from which the worker's claim is made (experiments/ledger/claims.py).

    Every replacement of a pod raises one of the two counts, so that it may take over at once from
    the one before; the count of ignored failures is absent until there is one.
    """

    def field(name: str, path: str) -> Object:
        return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": f"metadata.{path}"}}}

    return [
        field("ISOFLOP_JOB_UID", f"labels['{_GENERATED}controller-uid']"),
        field("ISOFLOP_INDEX", f"annotations['{_GENERATED}job-completion-index']"),
        field("ISOFLOP_FAILED", f"annotations['{_GENERATED}job-index-failure-count']"),
        field("ISOFLOP_IGNORED", f"annotations['{_GENERATED}job-index-ignored-failure-count']"),
        {"name": "ISOFLOP_ENGINE", "value": "kubernetes"},
        {"name": "ISOFLOP_ENGINE_JOB", "value": "$(ISOFLOP_JOB_UID)_$(ISOFLOP_INDEX)"},
        {"name": "ISOFLOP_ENGINE_RESTARTS", "value": "$(ISOFLOP_FAILED)+$(ISOFLOP_IGNORED)"},
    ]


def _one_slice(name: str) -> Object:
    """All pods in one node pool, which on GKE is one slice, and no other run's pods in it."""
    key = f"{_GENERATED}job-name"
    ours: Object = {"key": key, "operator": "In", "values": [name]}
    others: list[Object] = [
        {"key": "app.kubernetes.io/name", "operator": "In", "values": ["isoflop"]},
        {"key": key, "operator": "NotIn", "values": [name]},
    ]

    def required(*expressions: Object) -> Object:
        term = {
            "labelSelector": {"matchExpressions": list(expressions)},
            "topologyKey": "cloud.google.com/gke-nodepool",
        }
        return {"requiredDuringSchedulingIgnoredDuringExecution": [term]}

    return {"podAffinity": required(ours), "podAntiAffinity": required(*others)}
