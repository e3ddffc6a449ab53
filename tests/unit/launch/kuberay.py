"""What KubeRay takes as a RayJob: the schema of its own CRD, closed.

``kuberay_rayjob_1.7.0.json.gz`` is version v1 of ``ray-operator/config/crd/bases/ray.io_rayjobs.yaml`` in KubeRay 1.7.0
(Apache-2.0, https://github.com/ray-project/kuberay), without its descriptions.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any


def closed(schema: Any) -> Any:
    """The schema with unknown fields refused, which the API server would silently drop."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items()}
    if isinstance(result.get("properties"), dict) and "additionalProperties" not in result:
        result["additionalProperties"] = bool(result.get("x-kubernetes-preserve-unknown-fields"))
    if result.get("x-kubernetes-int-or-string"):
        result.pop("type", None)
    return result


RAY_JOB = closed(json.loads(gzip.decompress(Path(__file__).with_name("kuberay_rayjob_1.7.0.json.gz").read_bytes())))
# An API object's metadata is described by Kubernetes, not by the CRD.
RAY_JOB["properties"]["metadata"] = {"type": "object", "required": ["name"]}
RAY_CLUSTER = RAY_JOB["properties"]["spec"]["properties"]["rayClusterSpec"]
