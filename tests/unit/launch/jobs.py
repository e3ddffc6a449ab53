"""Jobs and clusters that the tests of this folder share."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from mrpo.config.cluster import KubernetesCluster, SlurmCluster
from mrpo.launch.job import Job, make_job
from mrpo.launch.slurm import render_slurm

GPUS = {"nodes": 2, "gpus_per_node": 8}


@functools.cache  # composing a recipe takes a fraction of a second, and a job never changes
def make(*overrides: str, runs: str = "/shared/runs") -> Job:
    recipe = [] if any(given.startswith("recipe=") for given in overrides) else ["recipe=quickstart"]
    return make_job([*recipe, *overrides], Path(runs))


def slurm_script(job: Job | None = None, **cluster: Any) -> str:
    [text] = render_slurm(job or make(), SlurmCluster(**cluster), Path("/shared/lab"), Path("/shared/venv")).values()
    return text


def kubernetes(**settings: Any) -> KubernetesCluster:
    return KubernetesCluster(**{"image": "registry.example.com/mrpo:0.1", "volume": "mrpo", **settings})
