"""A run as a SLURM batch script: a Ray cluster over the job's nodes, and ``mrpo train`` on the first of them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mrpo.config.cluster import SlurmCluster, SlurmNodes
from mrpo.config.overrides import override
from mrpo.config.placement import by_group
from mrpo.launch.capacity import on_cpu, resources, slots
from mrpo.launch.job import ARRAY_TASK, Job
from mrpo.launch.template import render


def render_slurm(
    job: Job, cluster: SlurmCluster, workdir: Path, venv: Path, cells: Sequence[Job] = ()
) -> dict[str, str]:
    """The script by its file's name.

    Args:
        cells: of a grid, whose script is a job array with a task for each; ``job`` is the first of them.
        workdir: folder that the run starts in, on all nodes.
        venv: the virtual environment to use if the cluster names none.
    """
    file, logs = f"{job.label}.sbatch", workdir / cluster.logs
    cpu = on_cpu(cluster.groups)
    needs = _most_slots(cells or [job], cluster)
    workers = max(one.config.scoring.workers for one in cells or [job])
    groups = [
        {
            "nodes": group.nodes,
            "nodelist": f"SLURM_JOB_NODELIST_HET_GROUP_{index}" if len(cluster.groups) > 1 else "SLURM_JOB_NODELIST",
            "options": _options(group),
            "ray": _ray_options(role, needs[role] if cpu else group.gpus_per_node, cluster),
        }
        for index, (role, group) in enumerate(cluster.groups.items())
    ]
    in_step, on_head = _container(job, cluster, workdir, logs)
    values: dict[str, Any] = {
        "file": file,
        "name": cluster.name or job.recipe_slug,
        "logs": shlex.quote(str(logs)),
        "output": _sbatch_value(f"{logs}/%x-%j.log"),
        "workdir": shlex.quote(str(workdir)),
        "scratch": shlex.quote(f"{cluster.scratch}/mrpo"),
        "cluster": cluster,
        "groups": groups,
        "setup": _setup(cluster, venv),
        "command": shlex.join(_command(job, cluster, cpu)),
        "tasks": [shlex.join(_command(cell, cluster, cpu)) for cell in cells],
        "array": ",".join(map(str, range(len(cells)) if cells else cluster.seeds)) + _at_once(cluster),
        "logical_cpus": 16 + 4 * max(needs.values()) + workers if cpu else None,
        "in_step": in_step,
        "on_head": on_head,
        "het": lambda index: f"--het-group={index} " if len(groups) > 1 else "",
    }
    return {file: render("slurm.sbatch.j2", values)}


def _most_slots(jobs: Sequence[Job], cluster: SlurmCluster) -> dict[str, int]:
    """For each role, the slots of a node in the job that needs the most."""
    needs: dict[str, int] = {}
    for job in jobs:
        for role, held in by_group(job.config, cluster.groups).items():
            needs[role] = max(needs.get(role, 0), slots(held, cluster.groups[role].nodes))
    return needs


def _at_once(cluster: SlurmCluster) -> str:
    return "" if cluster.at_once is None else f"%{cluster.at_once}"


def _sbatch_value(text: str) -> str:
    """The value of an option in a line of ``#SBATCH``, which has double quotes but no escapes: see ``check_slurm``."""
    return text if re.fullmatch(r"[\w./%,:@+-]+", text, re.ASCII) else f'"{text}"'


def _options(group: SlurmNodes) -> list[str]:
    """What sbatch is asked for: one task a node, which starts that node's Ray."""
    size = "--exclusive" if group.cpus_per_node is None else f"--cpus-per-task={group.cpus_per_node}"
    options = [f"--nodes={group.nodes}", "--ntasks-per-node=1", size, f"--mem={group.memory}"]
    if group.gpus_per_node:
        options.append(f"--gpus-per-node={group.gpus_per_node}")
    if group.partition is not None:
        options.append(f"--partition={group.partition}")
    return options + group.options


def _ray_options(role: str, gpus: int, cluster: SlurmCluster) -> str:
    return f"--num-gpus={gpus} --resources={shlex.quote(resources(role, cluster.groups))}"


def _setup(cluster: SlurmCluster, venv: Path) -> list[str]:
    activate = (
        [f"export PATH={shlex.quote(f'{cluster.venv or venv}/bin')}:$PATH"] if cluster.container == "none" else []
    )
    return [*activate, *cluster.setup, *(f"export {name}={shlex.quote(v)}" for name, v in cluster.env.items())]


def _command(job: Job, cluster: SlurmCluster, cpu: bool) -> list[str]:
    more = ["trainer.ray=join", *(["trainer.device=cpu"] if cpu and job.config.trainer.device == "auto" else [])]
    if not cluster.seeds:
        return job.command(*more)
    return [*job.command(*more, f"seed={ARRAY_TASK}")[:-1], override("run_dir", f"{job.run_dir}-seed-{ARRAY_TASK}")]


def _container(job: Job, cluster: SlurmCluster, workdir: Path, logs: Path) -> tuple[str, str]:
    """What stands before a command in a step of srun, and before one on the head node."""
    run = Path(job.run_dir).absolute().parent
    mounts = ",".join(dict.fromkeys([*map(str, (workdir, logs, run, cluster.scratch)), *cluster.mounts]))
    image = shlex.quote(cluster.image or "")
    if cluster.container == "apptainer":
        gpus = "" if on_cpu(cluster.groups) else "--nv "
        inside = f"apptainer exec {gpus}--pwd {shlex.quote(str(workdir))} --bind {shlex.quote(mounts)} {image} "
        return inside, inside
    if cluster.container == "pyxis":
        pairs = ",".join(mount if ":" in mount else f"{mount}:{mount}" for mount in mounts.split(","))
        options = f"--container-image={image} --container-mounts={shlex.quote(pairs)} "
        options += f"--container-workdir={shlex.quote(str(workdir))} "
        het = "--het-group=0 " if len(cluster.groups) > 1 else ""
        return options, f'srun {het}-N1 -n1 -w "$head" --overlap --cpu-bind=none {options}'
    return "", ""
