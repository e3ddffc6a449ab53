"""A run as a RayJob of KubeRay: a head pod with ``mrpo train``, and a group of pods for each part of the run.

Each attempt is a Ray cluster of its own; ``backoffLimit`` starts the next one, and the same entrypoint goes on from the
newest checkpoint on the volume. The recipe travels along as a ConfigMap, so that it needn't be in the image.
"""

from __future__ import annotations

import importlib.metadata
import json
import shlex
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from mrpo.config.cluster import KubernetesCluster
from mrpo.config.placement import by_group
from mrpo.errors import ConfigError
from mrpo.launch.capacity import on_cpu, slots
from mrpo.launch.job import Job
from mrpo.launch.pods import WORKDIR, ray_pod, submitter_pod

MOST_RECIPE_BYTES = 900_000
"""A ConfigMap holds at most 1 MiB."""
ROLES = ("trainer", "rollout", "reward")


def render_kubernetes(job: Job, cluster: KubernetesCluster) -> dict[str, str]:
    """The manifests, a ConfigMap and a RayJob, in one file, by its name."""
    documents = [config_map(job, cluster), ray_job(job, cluster)]
    note = "# Written by: mrpo launch kubernetes. Submit it again with: kubectl replace --force -f THIS_FILE\n"
    text = yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True, width=120)
    return {f"{job.label}.yaml": note + text}


def ray_job(job: Job, cluster: KubernetesCluster) -> dict[str, Any]:
    cpu = on_cpu(cluster.groups)
    more = ["trainer.device=cpu"] if cpu and job.config.trainer.device == "auto" else []
    metadata: dict[str, Any] = _metadata(job, cluster)
    metadata["labels"] |= _queue_labels(cluster)
    spec: dict[str, Any] = {
        "entrypoint": shlex.join(job.command(*more)),
        "backoffLimit": cluster.attempts - 1,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": cluster.ttl_seconds,
        "submitterPodTemplate": submitter_pod(cluster),
        "rayClusterSpec": {
            "rayVersion": importlib.metadata.version("ray"),
            "authOptions": {"mode": "token"},
            "headGroupSpec": {
                "rayStartParams": {"num-gpus": "0"},
                "template": ray_pod(cluster, "head", cluster.head, _recipe_mount(job, cluster)),
            },
            "workerGroupSpecs": _workers(job, cluster, cpu),
        },
    }
    if cluster.queue == "kueue":
        spec["suspend"] = True  # Kueue lifts this once there is room for all pods
    return {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": metadata, "spec": spec}


def _workers(job: Job, cluster: KubernetesCluster, cpu: bool) -> list[dict[str, Any]]:
    workers = []
    for role, held in by_group(job.config, cluster.groups).items():
        group = cluster.groups[role]
        roles = [role] if role != "trainer" else [r for r in ROLES if r == "trainer" or r not in cluster.groups]
        gpus = slots(held, group.nodes) if cpu else group.gpus_per_node
        start = {
            "num-gpus": str(gpus),
            "resources": "'" + json.dumps({f"mrpo_{name}": 1 for name in roles}) + "'",  # quoted for a shell
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
    if size > MOST_RECIPE_BYTES:
        raise ConfigError(f"recipe: the files of {job.recipe.folder} have {size} bytes, allowed: {MOST_RECIPE_BYTES}.")
    data = {file.name: file.read_text(encoding="utf-8") for file in files}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(job, cluster), "data": data}


def _recipe_mount(job: Job, cluster: KubernetesCluster) -> tuple[str, str]:
    """ConfigMap, and the folder where ``recipe=…`` as given finds it: a path from the working folder, or a name."""
    given = PurePosixPath(job.recipe_given)
    variant = given.name == job.recipe.variant and job.recipe.folder.name != given.name
    folder = given.parent if variant else given
    is_path = (Path.cwd() / folder).resolve() == job.recipe.folder
    return _name(job, cluster), str(PurePosixPath(WORKDIR) / (folder if is_path else PurePosixPath("recipes") / folder))
