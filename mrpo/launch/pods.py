"""The pods of a RayJob: Ray's head and workers, and the submitter, none of which needs root."""

from __future__ import annotations

from typing import Any, Literal

from mrpo.config.cluster import KubernetesCluster, KubernetesNodes

AGENT_PORT = 52365
"""Where each Ray node says whether it is well; the head's answer covers the cluster's store."""
WORKDIR = "/opt/mrpo"
"""The image's working folder: a recipe given by name or by a relative path is looked up from here."""
HEAD_PORTS = {"gcs": 6379, "dashboard": 8265, "client": 10001}


def ray_pod(
    cluster: KubernetesCluster, kind: Literal["head", "worker"], nodes: KubernetesNodes, recipe: tuple[str, str]
) -> dict[str, Any]:
    """Template of a pod that is a Ray node. ``recipe`` is the name of its ConfigMap and where to mount it."""
    container = _container(cluster, f"ray-{kind}", nodes)
    container |= {
        "env": [{"name": name, "value": value} for name, value in environment(cluster).items()],
        "volumeMounts": [
            {"name": "data", "mountPath": cluster.mount},
            {"name": "shared-memory", "mountPath": "/dev/shm"},
            {"name": "recipe", "mountPath": recipe[1], "readOnly": True},
        ],
        "readinessProbe": probe(period=5, failures=12),
        "livenessProbe": probe(period=10, failures=30),
        "lifecycle": {"preStop": {"exec": {"command": ["python", "-m", "mrpo.launch.pre_stop", kind]}}},
    }
    if cluster.secrets:
        container["envFrom"] = [{"secretRef": {"name": name}} for name in cluster.secrets]
    if kind == "head":
        container["ports"] = [{"name": name, "containerPort": port} for name, port in HEAD_PORTS.items()]
    spec = _spec(cluster, container)
    spec |= {
        "terminationGracePeriodSeconds": cluster.grace_seconds + 30,  # and half a minute to end after the preStop hook
        "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": cluster.volume}},
            {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": nodes.shared_memory}},
            {"name": "recipe", "configMap": {"name": recipe[0]}},
        ],
    }
    if nodes.node_selector:
        spec["nodeSelector"] = nodes.node_selector
    if nodes.tolerations:
        spec["tolerations"] = nodes.tolerations
    return {"metadata": {"labels": pod_labels(recipe[0])}, "spec": spec}


def pod_labels(run: str) -> dict[str, str]:
    """By which the pods of a run, named as its resources are, know each other."""
    return {"app.kubernetes.io/name": "mrpo", "app.kubernetes.io/instance": run}


def submitter_pod(cluster: KubernetesCluster, run: str) -> dict[str, Any]:
    """Template of the pod that hands the entrypoint to Ray and shows what it prints."""
    container = _container(cluster, "ray-job-submitter", KubernetesNodes(cpus_per_node=1, memory="1Gi"))
    container["env"] = [{"name": "HOME", "value": "/tmp"}]
    spec = {**_spec(cluster, container), "restartPolicy": "Never"}
    return {"metadata": {"labels": pod_labels(run)}, "spec": spec}


def environment(cluster: KubernetesCluster) -> dict[str, str]:
    """Caches on the volume, which all pods share; what the cluster's file says wins."""
    values = {
        "MRPO_CACHE": f"{cluster.mount}/cache/mrpo",
        "HF_HOME": f"{cluster.mount}/cache/huggingface",
        "HOME": "/tmp",  # the pod's user may not be the image's, and has no home then
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # what must end in order ends in the preStop hooks
        "RAY_JOB_STOP_WAIT_TIME_S": str(cluster.grace_seconds),  # 3 s by default, then Ray kills what it stops
        "MRPO_GRACE_SECONDS": str(cluster.grace_seconds),
    }
    return values | cluster.env


def _container(cluster: KubernetesCluster, name: str, nodes: KubernetesNodes) -> dict[str, Any]:
    resources = {"cpu": str(nodes.cpus_per_node), "memory": nodes.memory}
    if nodes.gpus_per_node:
        resources[cluster.gpu_resource] = str(nodes.gpus_per_node)
    return {
        "name": name,
        "image": cluster.image,
        "workingDir": WORKDIR,
        "resources": {"requests": resources, "limits": dict(resources)},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }


def _spec(cluster: KubernetesCluster, container: dict[str, Any]) -> dict[str, Any]:
    own = {"runAsUser": cluster.user, "runAsGroup": cluster.user, "fsGroup": cluster.user}
    spec: dict[str, Any] = {
        "securityContext": {"runAsNonRoot": True, **own, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    if cluster.service_account is not None:
        spec["serviceAccountName"] = cluster.service_account
    if cluster.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in cluster.image_pull_secrets]
    return spec


def probe(period: int, failures: int) -> dict[str, Any]:
    """Ask Ray every ``period`` seconds; ``failures`` bad answers in a row count."""
    return {
        "httpGet": {"path": "/api/healthz", "port": AGENT_PORT},
        "initialDelaySeconds": 20,
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }
