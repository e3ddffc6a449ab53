"""A run as a RayJob of KubeRay: a head pod with ``mrpo train``, and a group of pods for each part of the run.

A RayCluster is the same without the job.

Each attempt is a Ray cluster of its own; ``backoffLimit`` starts the next one, and the same entrypoint goes on from the
newest checkpoint on the volume. The recipe travels along as a ConfigMap, so that it needn't be in the image.
"""

from __future__ import annotations

import importlib.metadata
import shlex
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from mrpo.config.cluster import KubernetesCluster
from mrpo.config.placement import by_group
from mrpo.errors import ConfigError, usable
from mrpo.launch.capacity import on_cpu, resources, slots
from mrpo.launch.job import Job
from mrpo.launch.pods import HEAD_PORTS, WORKDIR, pod_labels, ray_pod, submitter_pod

MAX_RECIPE_BYTES = 900_000
"""A ConfigMap holds at most 1 MiB."""


def render_kubernetes(job: Job, cluster: KubernetesCluster) -> dict[str, str]:
    """The manifests, a ConfigMap, a NetworkPolicy and a RayJob or RayCluster, in one file, by its name."""
    if cluster.kind == "RayJob":
        resource, then = ray_job(job, cluster), "Submit it again with: kubectl replace --force -f THIS_FILE"
    else:
        resource, then = ray_cluster(job, cluster), f"Once its pods are ready: {_exec(job, cluster)}"
    resources = [config_map(job, cluster), network_policy(job, cluster), resource]
    text = yaml.safe_dump_all(resources, sort_keys=False, allow_unicode=True, width=120)
    comment = "".join(f"# {line}\n" for line in f"Written by: mrpo launch kubernetes. {then}".splitlines())
    return {f"{job.label}.yaml": comment + text}


def ray_job(job: Job, cluster: KubernetesCluster) -> dict[str, Any]:
    spec = {
        "entrypoint": _command(job, cluster),
        "backoffLimit": cluster.attempts - 1,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": cluster.ttl_seconds,
        "submitterPodTemplate": submitter_pod(cluster, _name(job, cluster)),
        "rayClusterSpec": _cluster_spec(job, cluster),
    }
    return _resource("RayJob", job, cluster, spec)


def ray_cluster(job: Job, cluster: KubernetesCluster) -> dict[str, Any]:
    return _resource("RayCluster", job, cluster, _cluster_spec(job, cluster))


def _resource(kind: str, job: Job, cluster: KubernetesCluster, spec: dict[str, Any]) -> dict[str, Any]:
    metadata: dict[str, Any] = _metadata(job, cluster)
    metadata["labels"] |= _queue_labels(cluster)
    suspend = {"suspend": True} if cluster.queue == "kueue" else {}  # until Kueue has room for all pods, and says so
    return {"apiVersion": "ray.io/v1", "kind": kind, "metadata": metadata, "spec": spec | suspend}


def _command(job: Job, cluster: KubernetesCluster) -> str:
    cpu = on_cpu(cluster.groups) and job.config.trainer.device == "auto"
    return shlex.join(job.command("trainer.ray=join", *(["trainer.device=cpu"] if cpu else [])))


def _exec(job: Job, cluster: KubernetesCluster) -> str:
    """How to run the training on the head of a RayCluster."""
    kubectl = "kubectl" if cluster.namespace is None else f"kubectl -n {cluster.namespace}"
    head = f"$({kubectl} get pod -o name -l ray.io/node-type=head,ray.io/cluster={_name(job, cluster)})"
    return f"{kubectl} exec -it {head} -- {_command(job, cluster)}"


def _cluster_spec(job: Job, cluster: KubernetesCluster) -> dict[str, Any]:
    return {
        "rayVersion": importlib.metadata.version("ray"),
        "authOptions": {"mode": "token"},
        "headGroupSpec": {
            "rayStartParams": {"num-gpus": "0"},
            "template": ray_pod(cluster, "head", cluster.head, _recipe_mount(job, cluster)),
        },
        "workerGroupSpecs": _workers(job, cluster, on_cpu(cluster.groups)),
    }


def _workers(job: Job, cluster: KubernetesCluster, cpu: bool) -> list[dict[str, Any]]:
    workers = []
    for role, held in by_group(job.config, cluster.groups).items():
        group = cluster.groups[role]
        gpus = slots(held, group.nodes) if cpu else group.gpus_per_node
        start = {
            "num-gpus": str(gpus),
            "resources": f"'{resources(role, cluster.groups)}'",  # quoted for a shell
        }
        if cpu:  # logical ones: verl asks for a CPU per worker, and most of them wait
            start["num-cpus"] = str(16 + 4 * gpus + job.config.scoring.workers)
        workers.append(
            {
                "groupName": role,
                "replicas": group.nodes,
                "minReplicas": group.nodes,
                "maxReplicas": group.nodes,
                "rayStartParams": start,
                "template": ray_pod(cluster, "worker", group, _recipe_mount(job, cluster)),
            }
        )
    return workers


def _queue_labels(cluster: KubernetesCluster) -> dict[str, str]:
    labels: dict[str, str | None] = {}
    if cluster.queue == "kueue":
        labels = {"kueue.x-k8s.io/queue-name": cluster.queue_name, "kueue.x-k8s.io/priority-class": cluster.priority}
    elif cluster.queue == "volcano":
        labels = {
            "ray.io/scheduler-name": "volcano",
            "volcano.sh/queue-name": cluster.queue_name,
            "ray.io/priority-class-name": cluster.priority,
        }
    return {name: value for name, value in labels.items() if value is not None}


def _name(job: Job, cluster: KubernetesCluster) -> str:
    return cluster.name or job.label


def _metadata(job: Job, cluster: KubernetesCluster) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": _name(job, cluster), "labels": {"app.kubernetes.io/name": "mrpo"}}
    return metadata | ({"namespace": cluster.namespace} if cluster.namespace is not None else {})


def config_map(job: Job, cluster: KubernetesCluster) -> dict[str, Any]:
    """The recipe's files. Raises ConfigError if they are too large for a ConfigMap."""
    files = [file for file in sorted(job.recipe.folder.iterdir()) if file.suffix in (".py", ".yaml")]
    size = sum(file.stat().st_size for file in files)
    if size > MAX_RECIPE_BYTES:
        raise ConfigError(f"recipe: the files of {job.recipe.folder} have {size} bytes, allowed: {MAX_RECIPE_BYTES}.")
    with usable("recipe", job.recipe.folder):
        data = {file.name: file.read_text(encoding="utf-8") for file in files}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(job, cluster), "data": data}


def network_policy(job: Job, cluster: KubernetesCluster) -> dict[str, Any]:
    """The run's pods are reached by each other alone, and Ray's job server by KubeRay, too.

    TransferQueue and torch's stores ask nobody who he is. It takes a network plugin that knows policies.
    """
    operator = {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}}}

    def own() -> dict[str, Any]:  # each time anew, as YAML would refer from one to the other
        return {"podSelector": {"matchLabels": pod_labels(_name(job, cluster))}}

    ingress = [
        {"from": [own()]},
        {"from": [operator], "ports": [{"protocol": "TCP", "port": HEAD_PORTS["dashboard"]}]},
    ]
    spec = {**own(), "policyTypes": ["Ingress"], "ingress": ingress}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(job, cluster),
        "spec": spec,
    }


def _recipe_mount(job: Job, cluster: KubernetesCluster) -> tuple[str, str]:
    """ConfigMap, and the folder where ``recipe=…`` as given finds it: a path from the working folder, or a name."""
    given = PurePosixPath(job.recipe_given)
    variant = given.name == job.recipe.variant and job.recipe.folder.name != given.name
    folder = given.parent if variant else given
    is_path = (Path.cwd() / folder).resolve() == job.recipe.folder
    return _name(job, cluster), str(PurePosixPath(WORKDIR) / (folder if is_path else PurePosixPath("recipes") / folder))
