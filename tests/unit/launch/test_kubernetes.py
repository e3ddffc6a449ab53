"""The manifests: valid for KubeRay and Kubernetes, runnable as written, without root and without secrets in them."""

from __future__ import annotations

import re
import shlex
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from mrpo.config.cluster import KubernetesCluster
from mrpo.config.load import load_run_config
from mrpo.launch.cluster_file import load_cluster
from mrpo.launch.kubernetes import render_kubernetes
from mrpo.launch.template import FOLDER

from .jobs import GPUS, kubernetes, make
from .kuberay import RAY_CLUSTER, RAY_JOB

pytestmark = pytest.mark.unit

TOLERATION = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
VARIANTS: dict[str, dict[str, Any]] = {
    "CPU": {},
    "everything": {
        "trainer": {**GPUS, "node_selector": {"gpu": "h100"}, "tolerations": [TOLERATION]},
        "rollout": {"nodes": 3, "gpus_per_node": 4},
        "reward": {"cpus_per_node": 16},
        "queue": "kueue",
        "queue_name": "team",
        "priority": "high",
        "namespace": "mrpo",
        "secrets": ["keys"],
        "image_pull_secrets": ["registry"],
        "service_account": "trainer",
        "env": {"NCCL_DEBUG": "INFO"},
    },
    "Volcano": {"trainer": GPUS, "queue": "volcano", "queue_name": "team", "priority": "high"},
}


def documents(**settings: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The ConfigMap and the RayJob, as kubectl reads them."""
    [text] = render_kubernetes(make(runs="/data/runs"), kubernetes(**settings)).values()
    config_map, _, ray_job = yaml.safe_load_all(text)
    return config_map, ray_job


def pods(ray_job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The pods' specs: head, submitter and each group of workers by its name."""
    spec = ray_job["spec"]
    cluster = spec["rayClusterSpec"]
    workers = {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
    templates = {"head": cluster["headGroupSpec"]["template"], "submitter": spec["submitterPodTemplate"], **workers}
    return {name: template["spec"] for name, template in templates.items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_kuberay_takes_the_ray_job_and_drops_nothing(variant: str) -> None:
    jsonschema.validate(documents(**VARIANTS[variant])[1], RAY_JOB)


def test_a_ray_cluster_is_the_jobs_own_and_tells_how_to_train_on_it() -> None:
    given = kubernetes(kind="RayCluster", namespace="mrpo", name="lab")
    [text] = render_kubernetes(make("trainer.project_name='a b'", runs="/data/runs"), given).values()
    *_, cluster = yaml.safe_load_all(text)
    jsonschema.validate(cluster["spec"], RAY_CLUSTER)
    job = documents(namespace="mrpo", name="lab")[1]
    assert (cluster["kind"], cluster["metadata"]) == ("RayCluster", job["metadata"])
    assert cluster["spec"] == job["spec"]["rayClusterSpec"]
    head, _, command = text.splitlines()[0].partition(" -- ")
    assert "kubectl -n mrpo exec -it $(kubectl -n mrpo get pod" in head
    assert "ray.io/cluster=lab" in head
    assert shlex.split(command)[:4] == ["mrpo", "train", "recipe=quickstart", "trainer.project_name='a b'"]


def test_the_schema_refuses_what_kuberay_does_not_know() -> None:
    ray_job = documents()[1]
    ray_job["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParam"] = {}
    with pytest.raises(jsonschema.ValidationError, match="'rayStartParam' was unexpected"):
        jsonschema.validate(ray_job, RAY_JOB)


@pytest.mark.parametrize("variant", VARIANTS)
def test_kubernetes_takes_the_pods(variant: str) -> None:
    config_map, ray_job = documents(**VARIANTS[variant])
    kubernetes_validate.validate(config_map, "1.32", strict=True)
    for name, spec in pods(ray_job).items():
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        kubernetes_validate.validate(pod, "1.32", strict=True)


def test_the_entrypoint_is_the_training_command_and_runs_as_written() -> None:
    odd = ["rewards.correct.requires={tagged: 1}", "trainer.project_name='a b'"]
    job = make(*odd, runs="/data/runs")
    [text] = render_kubernetes(job, kubernetes()).values()
    program, command, *rest = shlex.split(list(yaml.safe_load_all(text))[-1]["spec"]["entrypoint"])
    assert (program, command) == ("mrpo", "train")
    assert rest == ["recipe=quickstart", *odd, "trainer.ray=join", "trainer.device=cpu", f"run_dir={job.run_dir}"]
    config, _ = load_run_config(rest)
    assert (config.trainer.project_name, config.run_dir, config.trainer.device) == ("a b", job.run_dir, "cpu")


def test_a_failed_attempt_is_followed_by_the_same_entrypoint_in_a_new_cluster() -> None:
    spec = documents(attempts=7)[1]["spec"]
    assert spec["backoffLimit"] == 6
    assert spec["shutdownAfterJobFinishes"] is True


def test_each_part_of_the_run_has_its_pods_and_its_resource() -> None:
    _, ray_job = documents(**VARIANTS["everything"])
    groups = {group["groupName"]: group for group in ray_job["spec"]["rayClusterSpec"]["workerGroupSpecs"]}
    assert {name: (g["replicas"], g["rayStartParams"]["num-gpus"]) for name, g in groups.items()} == {
        "trainer": (2, "8"),
        "rollout": (3, "4"),
        "reward": (1, "0"),
    }
    for name, group in groups.items():
        assert group["rayStartParams"]["resources"] == f"'{{\"mrpo_{name}\": 1}}'"
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert limits.get("nvidia.com/gpu", "0") == group["rayStartParams"]["num-gpus"]
    assert groups["trainer"]["template"]["spec"]["nodeSelector"] == {"gpu": "h100"}
    assert groups["trainer"]["template"]["spec"]["tolerations"] == [TOLERATION]


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_pod_needs_root(variant: str) -> None:
    for spec in pods(documents(**VARIANTS[variant])[1]).values():
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] >= 1
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }


def test_ray_pods_have_shared_memory_the_volume_probes_and_time_to_save() -> None:
    found = pods(documents(grace_seconds=900)[1])
    for name in ("head", "trainer"):
        [container] = found[name]["containers"]
        volumes = {volume["name"]: volume for volume in found[name]["volumes"]}
        assert volumes["shared-memory"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "8Gi"}
        assert volumes["data"]["persistentVolumeClaim"] == {"claimName": "mrpo"}
        assert {"/data", "/dev/shm"} <= {mount["mountPath"] for mount in container["volumeMounts"]}
        assert {"livenessProbe", "readinessProbe"} <= container.keys()
        assert found[name]["terminationGracePeriodSeconds"] > 900
        assert {"name": "MRPO_GRACE_SECONDS", "value": "900"} in container["env"]
        assert container["lifecycle"]["preStop"]["exec"]["command"][:3] == ["python", "-m", "mrpo.launch.pre_stop"]


def test_secrets_are_references() -> None:
    found = pods(documents(**VARIANTS["everything"])[1])
    assert found["head"]["containers"][0]["envFrom"] == [{"secretRef": {"name": "keys"}}]
    assert found["rollout"]["imagePullSecrets"] == [{"name": "registry"}]
    assert "envFrom" not in found["submitter"]["containers"][0]


def test_kueue_and_volcano_start_all_pods_or_none() -> None:
    kueue, volcano = (documents(**VARIANTS[name])[1] for name in ("everything", "Volcano"))
    assert kueue["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    assert kueue["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] == "high"
    assert kueue["spec"]["suspend"] is True
    assert volcano["metadata"]["labels"]["volcano.sh/queue-name"] == "team"
    assert volcano["metadata"]["labels"]["ray.io/priority-class-name"] == "high"
    assert "suspend" not in volcano["spec"]


@pytest.mark.parametrize("given", ["quickstart", "quickstart/mixed", "recipes/quickstart", "recipes/quickstart/mixed"])
def test_the_recipe_lies_where_the_entrypoint_looks_for_it(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER.parent)
    [text] = render_kubernetes(make(f"recipe={given}", runs="/data/runs"), kubernetes()).values()
    config_map, _, ray_job = yaml.safe_load_all(text)
    for name in ("head", "trainer"):
        mounts = {mount["name"]: mount["mountPath"] for mount in pods(ray_job)[name]["containers"][0]["volumeMounts"]}
        assert mounts["recipe"] == "/opt/mrpo/recipes/quickstart"
    assert {"config.yaml", "rewards.py", "prepare.py"} <= config_map["data"].keys()


def test_the_ray_job_in_the_folder_launch_is_what_is_rendered_now() -> None:
    cluster = load_cluster(str(FOLDER / "kubernetes.yaml"), KubernetesCluster)
    [text] = render_kubernetes(make(runs="/data/runs"), cluster).values()
    kept = (FOLDER / "examples" / "quickstart.rayjob.yaml").read_text()
    same = [re.sub(r"\d{8}-\d{6}", "TIME", part.partition("kind: RayJob")[2]) for part in (kept, text)]
    assert same[0] == same[1]
