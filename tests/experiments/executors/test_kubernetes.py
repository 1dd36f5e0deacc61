# SPDX-License-Identifier: Apache-2.0
"""The manifest against what the API server checks, and against what a kubelet makes of it."""

import json
import re
import string

import pytest

from experiments.executors.base import QueuedJob, Resources
from experiments.executors.kubernetes import MAX_JOBS, MAX_TASKS, RETRIES, Kubernetes
from experiments.ledger.owner import engine_identity

ONE = Resources(n_processes=1, n_cpus=4, n_gpus=1, memory_bytes=3 * 2**30, seconds=None)
FOUR = Resources(n_processes=4, n_cpus=8, n_gpus=8, memory_bytes=2**36, seconds=1e5)
SHORT = Resources(n_processes=1, n_cpus=1, n_gpus=0, memory_bytes=2**30, seconds=1.0)
SLICE = "tpu-v5-lite-podslice,4x4,4"
WORKER = ("python", "-m", "experiments.worker", "--cache", "/tmp/$USER/$(ISOFLOP_INDEX)$$")


def engine(**options) -> Kubernetes:
    return Kubernetes(**({"image": "registry/isoflop:1", "volume_claim": "results"} | options))


def written(tmp_path, jobs, **options):
    """Objects of the manifest of a study with an awkward name, by kind."""
    queue = [QueuedJob(id=name, needs=needs, flops=1.0) for name, needs in jobs]
    told = engine(**options).run(tmp_path / "My_Study-", queue, None)
    manifest = json.loads((tmp_path / told.split(f"{tmp_path}/")[1]).read_text())
    assert (manifest["apiVersion"], manifest["kind"]) == ("v1", "List")
    kinds = {}
    for item in manifest["items"]:
        kinds.setdefault(item["kind"], []).append(item)
    return kinds


def worker(job):
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return container


def expand(text: str, variables: dict[str, str]) -> str:
    """As a kubelet does it: $(NAME) when NAME is known, and $$ for a dollar."""
    known = lambda m: "$" if m[0] == "$$" else variables.get(m[1], m[0])  # noqa: E731
    return re.sub(r"\$\$|\$\((\w+)\)", known, text)


def environment(job, index: int, *, failed: int = 0, ignored: int = 0) -> dict[str, str]:
    """Variables of the worker in the pod of an index, after some failures."""
    fields = {
        "metadata.labels['batch.kubernetes.io/controller-uid']": "some-uid",
        "metadata.annotations['batch.kubernetes.io/job-completion-index']": str(index),
        "metadata.annotations['batch.kubernetes.io/job-index-failure-count']": str(failed),
    }
    if ignored:
        key = "metadata.annotations['batch.kubernetes.io/job-index-ignored-failure-count']"
        fields[key] = str(ignored)
    variables = {}
    for entry in worker(job)["env"]:
        if "value" in entry:
            variables[entry["name"]] = expand(entry["value"], variables)
        else:
            path = entry["valueFrom"]["fieldRef"]["fieldPath"]
            # An annotation that is not there is empty; anything else must be a name we know.
            assert path in fields or "ignored" in path, path
            variables[entry["name"]] = fields.get(path, "")
    return variables


@pytest.mark.parametrize("options", [{}, {"queue": "team", "namespace": "ml"}, {"tpu": SLICE}])
def test_every_job_keeps_the_rules_that_a_schema_cannot_say(tmp_path, options):
    jobs = [("wide", FOUR)] if "tpu" in options else [("a", ONE), ("b", ONE), ("wide", FOUR)]
    kinds = written(tmp_path, jobs, **options)
    names = [item["metadata"]["name"] for item in kinds["Job"]]
    assert names == [item["metadata"]["name"] for item in kinds["ConfigMap"]]
    for job in kinds["Job"]:
        spec, pod = job["spec"], job["spec"]["template"]["spec"]
        # A pod is named like its job and index; host names have 63 characters at most.
        assert re.fullmatch("[a-z][a-z0-9-]{0,56}[a-z0-9]", job["metadata"]["name"])
        assert job["metadata"].get("namespace", "") == options.get("namespace", "")
        assert spec["completionMode"] == "Indexed", "backoffLimitPerIndex needs it"
        assert pod["restartPolicy"] == "Never", "so does podFailurePolicy"
        assert spec["backoffLimitPerIndex"] == RETRIES
        assert spec["podReplacementPolicy"] == "Failed", "nothing else goes with a failure policy"
        assert spec["parallelism"] <= spec["completions"] <= 100_000
        for rule in spec["podFailurePolicy"]["rules"]:
            assert len(rule) == 2, "an action, and exit codes or conditions"
            values = rule.get("onExitCodes", {}).get("values", [1])
            assert values == sorted(set(values))
            assert 0 not in values
        assert spec.get("suspend", False) == ("queue" in options)
        queue = job["metadata"]["labels"].get("kueue.x-k8s.io/queue-name", "")
        assert queue == options.get("queue", "")
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert volumes == {mount["name"] for mount in worker(job)["volumeMounts"]}
        assert pod["volumes"][1]["configMap"]["name"] == job["metadata"]["name"]


@pytest.mark.parametrize(
    ("code", "alone", "together"),
    [
        (1, "Count", "Count"),
        (2, "FailIndex", "FailJob"),
        (3, "Ignore", "Ignore"),
        (74, "FailIndex", "FailJob"),
        (75, "Ignore", "Ignore"),
        (137, "Count", "Count"),
    ],
)
def test_each_exit_code_has_its_consequence(tmp_path, code, alone, together):
    kinds = written(tmp_path, [("a", ONE), ("wide", FOUR)])
    for job, expected in zip(kinds["Job"], (alone, together), strict=True):
        rules = job["spec"]["podFailurePolicy"]["rules"]
        found = [r["action"] for r in rules if code in r.get("onExitCodes", {}).get("values", [])]
        assert (found or ["Count"]) == [expected]
        (evicted,) = [r for r in rules if "onPodConditions" in r]
        assert evicted["action"] == "Ignore"
        assert evicted["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]


def test_a_pod_works_on_the_ids_of_its_index(tmp_path):
    jobs = [(f"job-{n}", ONE) for n in range(3)]
    kinds = written(tmp_path, jobs, worker=WORKER)
    (job,), (ids,) = kinds["Job"], kinds["ConfigMap"]
    assert job["spec"]["completions"] == 3
    mounts = {mount["name"]: mount for mount in worker(job)["volumeMounts"]}
    assert mounts["results"] == {"name": "results", "mountPath": "/results"}
    for index, (name, _) in enumerate(jobs):
        variables = environment(job, index)
        command = [expand(word, variables) for word in worker(job)["command"]]
        assert command[: len(WORKER)] == list(WORKER), "dollars of the worker's own stay"
        root, path = command[-3], command[-1]
        assert command[len(WORKER) :: 2] == ["--root", "--jobs"]
        assert root == "/results/My_Study-"
        assert path.rpartition("/")[0] == mounts["ids"]["mountPath"]
        assert ids["data"][path.rpartition("/")[2]].split() == [name]


def test_a_replaced_pod_has_the_same_job_and_a_higher_count(tmp_path):
    (job,) = written(tmp_path, [("a", ONE), ("b", ONE)])["Job"]
    claims = [
        engine_identity(environment(job, 1, failed=failed, ignored=ignored))
        for failed, ignored in ((0, 0), (0, 1), (1, 1), (1, 12))
    ]
    assert claims == [("kubernetes", "some-uid_1", n) for n in (0, 1, 2, 13)]


def test_resources_are_asked_for_by_each_pod(tmp_path):
    (job,) = written(tmp_path, [("a", ONE)])["Job"]
    limits = {"memory": "3072Mi", "nvidia.com/gpu": "1"}
    assert worker(job)["resources"] == {"limits": limits, "requests": limits | {"cpu": "4"}}
    (job,) = written(tmp_path, [("a", SHORT)])["Job"]
    assert worker(job)["resources"]["limits"] == {"memory": "1024Mi"}


def test_processes_of_one_run_find_each_other(tmp_path):
    kinds = written(tmp_path, [("wide", FOUR), ("wider", FOUR)])
    assert len(kinds["Job"]) == len(kinds["Service"]) == 2
    for job, service, ids in zip(kinds["Job"], kinds["Service"], kinds["ConfigMap"], strict=True):
        name = job["metadata"]["name"]
        assert job["spec"]["completions"] == job["spec"]["parallelism"] == 4
        assert job["spec"]["template"]["spec"]["subdomain"] == service["metadata"]["name"]
        assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": name}
        assert service["spec"]["clusterIP"] == "None"
        assert service["spec"]["publishNotReadyAddresses"] is True
        for index in range(4):
            variables = environment(job, index)
            # Pod 0 of an Indexed Job has the host name <job>-0.
            assert variables["JAX_COORDINATOR_ADDRESS"] == f"{name}-0.{name}:8476"
            assert variables["JAX_NUM_PROCESSES"] == "4"
            assert variables["JAX_PROCESS_ID"] == str(index)
        assert worker(job)["command"][-1].endswith("/all")
        assert ids["data"]["all"].split() in (["wide"], ["wider"])


def test_a_slice_of_tpus_is_named_and_filled(tmp_path):
    (job,) = written(tmp_path, [("wide", FOUR)], tpu=SLICE, node_selector=("pool=a",))["Job"]
    pod = job["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {
        "pool": "a",
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "4x4",
    }
    assert worker(job)["resources"]["limits"]["google.com/tpu"] == "4"
    assert "nvidia.com/gpu" not in worker(job)["resources"]["limits"]
    (term,) = pod["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["topologyKey"] == "cloud.google.com/gke-nodepool"
    with pytest.raises(ValueError, match="16 chips, 4 on a host; the job has 1 processes"):
        written(tmp_path, [("a", ONE)], tpu=SLICE)


def test_long_lists_are_split_below_the_limits_of_a_config_map(tmp_path):
    letters = string.ascii_lowercase * 3
    jobs = [(f"{n:06d}{letters}"[:64], SHORT) for n in range(2 * MAX_JOBS + 1)]
    jobs += [(f"{n}-alone", ONE) for n in range(MAX_TASKS + 1)]
    kinds = written(tmp_path, jobs)
    maps = kinds["ConfigMap"]
    assert all(len(json.dumps(ids)) < 2**18 for ids in maps), "what kubectl apply annotates"
    assert all(len(ids["data"]) <= MAX_TASKS for ids in maps)
    listed = [name for ids in maps for text in ids["data"].values() for name in text.split()]
    assert sorted(listed) == sorted(name for name, _ in jobs)
    assert [job["spec"]["completions"] for job in kinds["Job"]] == [len(m["data"]) for m in maps]
    names = [item["metadata"]["name"] for item in maps]
    assert len(set(names)) == len(names)


def test_each_manifest_has_a_number_and_names_of_its_own(tmp_path):
    names = [written(tmp_path, [("a", ONE)])["Job"][0]["metadata"]["name"] for _ in range(2)]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    names.append(written(elsewhere, [("a", ONE)])["Job"][0]["metadata"]["name"])
    assert len(set(names)) == 3
    assert engine().run(tmp_path / "My_Study-", [], None) is None


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"image": ""}, "--image"),
        ({"max_concurrent": 0}, "max_concurrent=0"),
        ({"node_selector": ("gpu",)}, "label=value"),
        ({"tpu": "v5e-16"}, "accelerator,topology,chips"),
    ],
)
def test_bad_options_are_named(options, what):
    with pytest.raises(ValueError, match=what):
        engine(**options)


@pytest.mark.kubernetes
@pytest.mark.parametrize("version", ["1.29.0", "1.33.0", "1.37.0"])
def test_manifests_keep_to_the_published_schema(tmp_path, version):
    reason = "no published schemas here: make test-kubernetes installs them"
    validate = pytest.importorskip("kubernetes_validate", reason=reason).validate
    manifests = [
        written(tmp_path, [("a", ONE), ("wide", FOUR)], queue="team", namespace="ml"),
        written(tmp_path, [("wide", FOUR)], tpu=SLICE, node_selector=("a=b",)),
    ]
    items = [item for kinds in manifests for found in kinds.values() for item in found]
    assert len(items) == 8
    for item in items:
        # Strict: a field that the schema does not know is refused.
        assert version.startswith(validate(item, version, strict=True))
    job = items[-1] | {"spec": items[-1]["spec"] | {"unheard": "of"}}
    with pytest.raises(Exception, match="unheard"):
        validate(job, version, strict=True)
