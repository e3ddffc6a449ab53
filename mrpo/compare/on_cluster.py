"""The cells of a grid on a cluster: a SLURM job array with a task for each, or a RayJob for each.

::

    FOLDER/submitted.jsonl  a line as a cell is submitted: cell, job, and its task in the array
    FOLDER/launched/        the scripts and manifests that were

Nobody waits. The same command, given again, asks the scheduler which of these jobs still are under way, looks at the
run folders, names the cells that failed, and submits what is neither done nor under way. A line is written before its
job is submitted, and jobs are found by names that no others have: so a cell is never in the queue twice.
"""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from mrpo.compare.equal import EqualBudget
from mrpo.compare.find import read_cell
from mrpo.compare.sweep import Planned
from mrpo.config.cluster import KubernetesCluster, SlurmCluster
from mrpo.errors import ConfigError, MrpoError
from mrpo.launch.check import check_kubernetes, check_slurm
from mrpo.launch.job import MAX_SLUG_LETTERS, Job
from mrpo.launch.kubernetes import render_kubernetes
from mrpo.launch.slurm import render_slurm
from mrpo.record import jsonl
from mrpo.record.phase import Phase

Cluster = SlurmCluster | KubernetesCluster
SUBMITTED, LAUNCHED = "submitted.jsonl", "launched"
State = Literal["new", "under way", "failed", "interrupted", "done"]


class Task(NamedTuple):
    """Where a cell is run: a job's name, and which of its tasks (0 of a RayJob)."""

    job: str
    number: int


@dataclass(frozen=True)
class ClusterCell:
    """A cell, and what has become of it."""

    planned: Planned
    state: State
    detail: str = ""
    """Of one that failed: why. Of one under way: its job, and what the scheduler says of it."""

    @property
    def is_left(self) -> bool:
        return self.state not in ("done", "under way")


def require_suitable(cluster: Cluster, budget: EqualBudget | None, out: Path) -> None:
    """Raises ConfigError, naming the field, for what a grid can't be run with there."""
    if budget is not None and budget.unit != "rollouts":
        raise ConfigError(
            f"--budget: given {budget}, which takes somebody who watches. Allowed on a cluster: rollouts=N."
        )
    if isinstance(cluster, SlurmCluster):
        if cluster.seeds:
            raise ConfigError("cluster.seeds: given with a grid. Allowed: seed=A,B,… among the grid's settings.")
        if cluster.rollout or cluster.reward:
            raise ConfigError(
                "cluster.rollout, cluster.reward: given with a grid, which is a job array; SLURM has no arrays of "
                "heterogeneous jobs. Allowed: trainer's nodes alone."
            )
        return
    if cluster.kind != "RayJob":
        raise ConfigError(f"cluster.kind: given {cluster.kind}, allowed with a grid: RayJob.")
    if cluster.name is not None:
        raise ConfigError(f"cluster.name: given {cluster.name}, but a grid has many RayJobs. Allowed: none.")
    if not out.is_relative_to(cluster.mount):
        raise ConfigError(f"--out: given {out}, which no pod sees. Allowed: below cluster.mount ({cluster.mount}).")


def look(planned: Sequence[Planned], out: Path, cluster: Cluster) -> list[ClusterCell]:
    """What has become of each cell.

    Raises:
        MrpoError: the scheduler must be asked, and doesn't answer.
    """
    last = {
        line["cell"]: Task(line["job"], line["task"]) for line in jsonl.read(out / SUBMITTED, ("cell", "job", "task"))
    }
    asked = any(one.state != "done" and one.cell.name in last for one in planned)
    said = (_squeue() if isinstance(cluster, SlurmCluster) else _ray_jobs(cluster)) if asked else {}
    return [_cell(one, last.get(one.cell.name), said, cluster) for one in planned]


def _cell(one: Planned, task: Task | None, said: dict[Task, str], cluster: Cluster) -> ClusterCell:
    state = said.get(task) if task is not None else None
    if one.state == "done" or state == "SUCCEEDED":
        return ClusterCell(one, "done")
    if task is None:
        return ClusterCell(one, one.state)
    where = f"{task.job}_{task.number}" if isinstance(cluster, SlurmCluster) else task.job
    if state is not None and state != "FAILED":
        return ClusterCell(one, "under way", f"{where}: {state}")
    if not one.folder.events_file.is_file():
        logs = f"{cluster.logs}/{task.job}-*" if isinstance(cluster, SlurmCluster) else "kubectl describe rayjob"
        return ClusterCell(one, "failed", f"it has left no run; {logs} may say why")
    run = read_cell(one.folder, None)
    is_failed = state == "FAILED" or run.state == Phase.FAILED
    return ClusterCell(one, "failed" if is_failed else "interrupted", run.detail or f"{where} has ended")


def _squeue() -> dict[Task, str]:
    """States of the tasks of this user's arrays that are in the queue: waiting, running, or about to be requeued."""
    lines = _ask(["squeue", "--me", "--array", "--noheader", "--format=%T %K %j"]).splitlines()
    fields = (line.split(maxsplit=2) for line in lines)
    return {Task(name, int(number)): state for state, number, name in fields if number.isdecimal()}


def _ray_jobs(cluster: KubernetesCluster) -> dict[Task, str]:
    """States of the RayJobs that are there, in KubeRay's words; those that have ended as SUCCEEDED or FAILED."""
    namespace = [] if cluster.namespace is None else ["--namespace", cluster.namespace]
    answer = _ask(["kubectl", *namespace, "get", "rayjobs", "--selector=app.kubernetes.io/name=mrpo", "--output=json"])
    found = {}
    for item in json.loads(answer)["items"]:
        status = item.get("status", {})
        deployed, ended = status.get("jobDeploymentStatus") or "submitted", status.get("jobStatus")
        state = (ended if ended == "SUCCEEDED" else "FAILED") if deployed in ("Complete", "Failed") else deployed
        found[Task(item["metadata"]["name"], 0)] = state
    return found


def _ask(command: list[str]) -> str:
    """Raises MrpoError if there is no answer: not to know what is under way is not to know that nothing is."""
    unknown = f"which of the cells are under way is unknown: {' '.join(command)}"
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise MrpoError(f"{unknown}: {error}") from None
    if done.returncode != 0:
        raise MrpoError(f"{unknown}: {done.stderr.strip() or done.returncode}")
    return done.stdout


@dataclass(frozen=True)
class Submission:
    """What is to be submitted."""

    files: dict[str, str]
    """Scripts or manifests, by name."""
    tasks: dict[str, Task]
    """By cell."""
    command: tuple[str, ...]
    """That submits a file, which comes last."""
    logs: Path | None = None
    """A folder that has to be there before."""

    def submit(self, out: Path) -> None:
        """Write the files, note the cells, and hand the files over.

        Raises:
            MrpoError: the scheduler refuses, or its program isn't here.
        """
        folder = out / LAUNCHED
        for needed in (folder, *([self.logs] if self.logs else [])):
            needed.mkdir(parents=True, exist_ok=True)
        for name, text in self.files.items():
            (folder / name).write_text(text, encoding="utf-8")
        for cell, task in self.tasks.items():
            jsonl.append(out / SUBMITTED, {"cell": cell, "job": task.job, "task": task.number})
        for name in self.files:
            whole = [*self.command, str(folder / name)]
            print(" ".join(whole), flush=True)
            try:
                code = subprocess.run(whole, check=False).returncode
            except FileNotFoundError:
                raise MrpoError(f"no {whole[0]} here, so nothing was submitted.") from None
            if code != 0:
                raise MrpoError(f"{whole[0]} exited with code {code}. The file is {folder / name}.")


def prepare(cells: Sequence[ClusterCell], cluster: Cluster, workdir: Path, venv: Path) -> Submission | None:
    """What to submit for the cells that are left; None if none are.

    Raises:
        ConfigError: the cluster or the run would refuse a cell. It is named.
    """
    left = [cell.planned for cell in cells if cell.is_left]
    if not left:
        return None
    label = f"{_slug(left[0])}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    is_array = isinstance(cluster, SlurmCluster)
    jobs = [_job(one, label if is_array else f"{label}-{n}") for n, one in enumerate(left)]
    for one, job in zip(left, jobs, strict=True):
        try:
            if isinstance(cluster, SlurmCluster):
                check_slurm(job, cluster, workdir)
            else:
                check_kubernetes(job, cluster)
        except ConfigError as error:
            raise ConfigError(f"cell {one.cell.name}: {error}") from None
    names = [one.cell.name for one in left]
    if isinstance(cluster, SlurmCluster):
        name = label if cluster.name is None else f"{cluster.name}-{label}"
        named = cluster.model_copy(update={"name": name})
        files = render_slurm(jobs[0], named, workdir, venv, cells=jobs)
        tasks = {cell: Task(name, n) for n, cell in enumerate(names)}
        return Submission(files, tasks, ("sbatch",), workdir / cluster.logs)
    files = {}
    for job in jobs:
        files |= render_kubernetes(job, cluster)
    tasks = {name: Task(job.label, 0) for name, job in zip(names, jobs, strict=True)}
    return Submission(files, tasks, ("kubectl", "apply", "-f"))


def _slug(one: Planned) -> str:
    """Of the recipe; with a time, four letters and a cell's number no longer than a RayJob's name may be."""
    return re.sub(r"[^a-z0-9]+", "-", one.checked.recipe.name.lower()).strip("-")[: MAX_SLUG_LETTERS - 10]


def _job(one: Planned, label: str) -> Job:
    run = one.checked
    return Job(_slug(one), label, one.settings, str(one.folder.path), run.config, run.recipe, run.notes)
