"""What KubeRay takes of a RayJob, for the fields that mrpo uses: written from its API reference, and closed.

The real CRD is larger; ``KUBERAY_CRD=…/ray.io_rayjobs.yaml`` makes the tests use that one as well.
"""

from __future__ import annotations

from typing import Any

TEXT = {"type": "string"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
COUNT = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
POD_TEMPLATE = {"type": "object", "required": ["spec"], "properties": {"metadata": {}, "spec": {"type": "object"}}}


def closed(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


METADATA = closed(
    ["name"], name={**TEXT, "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 47}, namespace=TEXT, labels=TEXTS
)
HEAD = closed(["template", "rayStartParams"], rayStartParams=TEXTS, template=POD_TEMPLATE)
WORKERS = closed(
    ["groupName", "template", "rayStartParams", "minReplicas", "maxReplicas"],
    groupName=TEXT,
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    rayStartParams=TEXTS,
    template=POD_TEMPLATE,
)
CLUSTER = closed(
    ["headGroupSpec"],
    rayVersion=TEXT,
    authOptions=closed([], mode={"enum": ["disabled", "token"]}),
    headGroupSpec=HEAD,
    workerGroupSpecs={"type": "array", "items": WORKERS},
)
SPEC = closed(
    ["entrypoint", "rayClusterSpec"],
    entrypoint=TEXT,
    backoffLimit=COUNT,
    shutdownAfterJobFinishes={"type": "boolean"},
    ttlSecondsAfterFinished=COUNT,
    suspend={"type": "boolean"},
    submitterPodTemplate=POD_TEMPLATE,
    rayClusterSpec=CLUSTER,
)
RAY_JOB = closed(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=METADATA,
    spec=SPEC,
)


def close_all(schema: Any) -> Any:
    """A CRD's schema with unknown fields refused, which the API server would silently drop."""
    if isinstance(schema, list):
        return [close_all(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: close_all(value) for key, value in schema.items()}
    if isinstance(result.get("properties"), dict) and "additionalProperties" not in result:
        result["additionalProperties"] = bool(result.get("x-kubernetes-preserve-unknown-fields"))
    if result.get("x-kubernetes-int-or-string"):
        result.pop("type", None)
    return result
