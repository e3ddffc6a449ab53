"""The cluster that ``mrpo launch`` starts a run on and ``mrpo plan`` measures it by, in a YAML file of its own.

Nodes come in up to three groups. ``trainer`` holds the trainer ranks and whatever has no group of its own; ``rollout``
and ``reward`` are nodes for the rollout engines and for the reward workers and their models.
"""

from __future__ import annotations

import posixpath
import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from mrpo.config.base import StrictModel
from mrpo.errors import ConfigError

_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|(^|_)(AUTH|PASS|PAT|CREDS?)(_|$)", re.IGNORECASE)
_SECRET_VALUE = re.compile(
    r"://[^/@\s]*:[^/@\s]+@|^(Bearer |Basic |hf_|sk-|gh[pousr]_|github_pat_|glpat-)", re.IGNORECASE
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# What a string may be: each becomes a part of a line of a script, or of a name that Kubernetes has rules for.
Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$")]
"""No line break or other control character."""
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.,@+-]*$")]
"""Letters, digits and ``_.,@+-``: what schedulers take in names of accounts and partitions."""
Folder = Annotated[str, Field(pattern=r'^[^\x00-\x1f\x7f"%\\]+$')]
"""A path that a line of ``#SBATCH`` can hold: no line break, double quote, percent sign or backslash."""
Mount = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f,]+$")]
"""A path, or two joined by a colon; several are joined by commas."""
DnsName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=253)]
"""A name of something in Kubernetes."""
Label = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?$", max_length=63)]
"""A label's value in Kubernetes."""
LabelKey = Annotated[str, Field(pattern=r"^([a-z0-9.-]+/)?[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$", max_length=317)]
"""A label's name, or a resource's, in Kubernetes."""


def _time(given: Any) -> Any:
    """YAML reads an unquoted 24:00:00 as the number 86400, and SLURM a bare number as minutes: ask for quotes."""
    if isinstance(given, int):
        raise ConfigError(f'given {given}, allowed: a quoted time such as "24:00:00" or "2-00:00:00"')
    return given


def _environment(given: Any) -> Any:
    for name, value in given.items() if isinstance(given, dict) else ():
        if not _VARIABLE.fullmatch(str(name)):
            raise ConfigError(f"given a value for {name!r}, allowed: names of letters, digits and underscores")
        if _SECRET.search(str(name)) or _SECRET_VALUE.search(str(value)):
            raise ConfigError(
                f"given a value for {name}, which would lie in the launched file for anyone to read. Allowed: a "
                "Kubernetes secret named under secrets, or with SLURM the environment of sbatch, which the job inherits"
            )
    return given


Environment = Annotated[dict[str, Annotated[str, Field(pattern=r"^[^\x00]*$")]], BeforeValidator(_environment)]


class NodeGroup(StrictModel):
    """Nodes of one kind."""

    nodes: int = Field(default=1, ge=1)
    """How many."""
    gpus_per_node: int = Field(default=0, ge=0)
    """GPUs of each. 0 in ``trainer``: the whole run is on CPU."""
    gpu_memory: float | None = Field(default=None, gt=0)
    """GiB of each GPU, which ``mrpo plan`` compares with what a run takes. Unset: it doesn't."""
    cpus_per_node: int | None = Field(default=None, ge=1)
    """Cores of each. Unset: not known."""


class SlurmNodes(NodeGroup):
    """Nodes of one kind in a SLURM job."""

    cpus_per_node: int | None = Field(default=None, ge=1)
    """Cores of each. Unset: whole nodes (``--exclusive``), however many cores they have."""
    memory: str = Field(default="0", pattern=r"^[0-9]+[KMGT]?$")
    """Memory of each, in SLURM's words (``64G``). ``0``: all that the node has."""
    partition: Word | None = None
    """Unset: the cluster's default."""
    options: list[Annotated[str, Field(pattern=r"^-[^\x00-\x1f\x7f]+$")]] = Field(default_factory=list)
    """Further options of sbatch for these nodes, say ``--constraint=a100``."""


class SlurmCluster(StrictModel):
    """A SLURM job: one Ray cluster over its nodes, requeued until the run is done."""

    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9._-]+$")
    """The job's name. Unset: the recipe's."""
    time: Annotated[str, BeforeValidator(_time)] = "24:00:00"
    """Limit of one attempt, in SLURM's words: ``hours:minutes:seconds`` or ``days-hours:minutes:seconds``."""
    save_seconds: int = Field(default=600, ge=1)
    """Seconds before that limit at which the run is asked to save and end. SLURM may do so up to a minute sooner."""
    trainer: SlurmNodes = Field(default_factory=SlurmNodes)
    """Nodes of the trainer ranks, and of all that has no nodes of its own. The first one runs Ray's head."""
    rollout: SlurmNodes | None = None
    """Nodes of the rollout engines: the job becomes a heterogeneous one."""
    reward: SlurmNodes | None = None
    """Nodes of the reward workers and their models: likewise."""
    account: Word | None = None
    """Whom the time is charged to."""
    seeds: list[int] = Field(default_factory=list)
    """One run for each of these seeds, as a job array; each fills a run folder of its own."""
    at_once: int | None = Field(default=None, ge=1)
    """Tasks of a job array (``seeds``, or the cells of a grid) that run at the same time. Unset: as many as find
    room."""
    attempts: int = Field(default=20, ge=1)
    """Times that the job may start before it stays ended."""
    join_seconds: int = Field(default=300, ge=1)
    """Seconds that nodes have to join the Ray cluster. One that doesn't is named, and left out of later attempts."""
    venv: Line | None = None
    """Folder of the virtual environment to use, on a file system that all nodes share. Unset: the one that ``mrpo
    launch`` runs in."""
    container: Literal["none", "apptainer", "pyxis"] = "none"
    """What runs the commands: the virtual environment, or ``image`` by one of these."""
    image: Line | None = None
    """Image of the container, which has mrpo installed."""
    mounts: list[Mount] = Field(default_factory=list)
    """Folders that the container sees, ``OUTSIDE:INSIDE`` or one path for both. Run folder and working folder always
    are."""
    setup: list[str] = Field(default_factory=list)
    """Shell lines to run first, say ``module load cuda/13``."""
    env: Environment = Field(default_factory=dict)
    """Environment variables of the run."""
    scratch: Mount = "/tmp"
    """Folder that each node has to itself, for Ray's session. A short path: sockets lie in it."""
    logs: Folder = "logs"
    """Folder of the jobs' logs: ``NAME-JOB/attempt-N/``."""

    @model_validator(mode="after")
    def _consistent(self) -> SlurmCluster:
        if self.container != "none" and self.image is None:
            raise ConfigError(f"image: not given, but container is {self.container}. Allowed: an image to run.")
        if self.seeds and (self.rollout or self.reward):
            raise ConfigError(
                "seeds: given with rollout or reward nodes, allowed: without. SLURM has no arrays of such."
            )
        return self

    @property
    def groups(self) -> dict[str, SlurmNodes]:
        return {role: group for role in ("trainer", "rollout", "reward") if (group := getattr(self, role)) is not None}


class KubernetesNodes(NodeGroup):
    """Pods of one kind, each as good as a node."""

    cpus_per_node: int = Field(default=8, ge=1)
    """Cores of each."""
    memory: str = Field(default="32Gi", pattern=r"^[0-9.]+(Ki|Mi|Gi|Ti|k|M|G|T)?$")
    """Memory of each."""
    shared_memory: str = Field(default="8Gi", pattern=r"^[0-9.]+(Ki|Mi|Gi|Ti|k|M|G|T)?$")
    """Part of it that may be shared (/dev/shm): Ray's objects and the ranks' messages lie there."""
    node_selector: dict[LabelKey, Label] = Field(default_factory=dict)
    """Labels that the Kubernetes nodes must have."""
    tolerations: list[dict[str, Any]] = Field(default_factory=list)
    """Taints that they may have, as in a pod's ``tolerations``."""


class KubernetesCluster(StrictModel):
    """A Ray cluster by KubeRay: made for the run and taken away after it, or one that stays."""

    kind: Literal["RayJob", "RayCluster"] = "RayJob"
    """A RayJob runs the training, and again after a failure. A RayCluster only waits for commands, the first of which
    stands at the beginning of the written file: for trying things out."""
    image: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9./:@_-]*$")
    """Image with mrpo installed, with its tag or digest."""
    volume: DnsName
    """A PersistentVolumeClaim that many pods can write (ReadWriteMany): run folders, caches, data."""
    mount: Line = "/data"
    """Where pods see it."""
    name: str | None = Field(default=None, pattern=r"^[a-z]([a-z0-9-]*[a-z0-9])?$", max_length=47)
    """The RayJob's name. Unset: the recipe's, and the time."""
    namespace: DnsName | None = None
    """Unset: kubectl's current one."""
    head: KubernetesNodes = Field(default_factory=lambda: KubernetesNodes(cpus_per_node=4, memory="16Gi"))
    """The pod that holds Ray's head and ``mrpo train``; it has no ranks and no engines."""
    trainer: KubernetesNodes = Field(default_factory=KubernetesNodes)
    """Pods of the trainer ranks, and of all that has no pods of its own."""
    rollout: KubernetesNodes | None = None
    """Pods of the rollout engines."""
    reward: KubernetesNodes | None = None
    """Pods of the reward workers and their models."""
    gpu_resource: LabelKey = "nvidia.com/gpu"
    """What a GPU is called."""
    queue: Literal["none", "kueue", "volcano"] = "none"
    """Who starts all pods at once or none of them."""
    queue_name: DnsName | None = None
    """The queue there: a LocalQueue of Kueue, or a Queue of Volcano."""
    priority: DnsName | None = None
    """Priority class: a WorkloadPriorityClass with Kueue, else a PriorityClass."""
    attempts: int = Field(default=20, ge=1)
    """Times that the run may start. Each attempt gets a new Ray cluster and goes on from the newest checkpoint."""
    grace_seconds: int = Field(default=600, ge=1)
    """Seconds that pods get to save and end before they are killed."""
    ttl_seconds: int = Field(default=3600, ge=0)
    """Seconds that the pods stay, for their logs, after the run's end."""
    secrets: list[DnsName] = Field(default_factory=list)
    """Secrets whose entries become environment variables (WANDB_API_KEY, HF_TOKEN, …)."""
    image_pull_secrets: list[DnsName] = Field(default_factory=list)
    """Secrets of the image's registry."""
    service_account: DnsName | None = None
    """Unset: the namespace's default."""
    user: int = Field(default=1000, ge=1)
    """User and group that everything runs as."""
    env: Environment = Field(default_factory=dict)
    """Environment variables of the run."""

    @model_validator(mode="after")
    def _consistent(self) -> KubernetesCluster:
        if not re.search(r":[\w.-]+$|@sha256:", self.image) or self.image.endswith(":latest"):
            raise ConfigError(
                f"image: given {self.image}, allowed: an image with a tag other than latest, or a digest."
            )
        if (self.queue != "none") != (self.queue_name is not None):
            raise ConfigError(f"queue_name: given {self.queue_name} with queue {self.queue}, allowed: both or neither.")
        if not self.mount.startswith("/") or posixpath.normpath(self.mount) != self.mount or self.mount == "/":
            raise ConfigError(f"mount: given {self.mount}, allowed: an absolute path, written plainly, other than /.")
        return self

    @property
    def groups(self) -> dict[str, KubernetesNodes]:
        return {role: group for role in ("trainer", "rollout", "reward") if (group := getattr(self, role)) is not None}
