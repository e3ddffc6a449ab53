"""What can be known of a cluster before anything is submitted to it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from os.path import normpath
from pathlib import Path

from mrpo.config.cluster import KubernetesCluster, SlurmCluster
from mrpo.config.overrides import take
from mrpo.errors import ConfigError, unknown_name
from mrpo.launch.capacity import check_capacity
from mrpo.launch.job import ARRAY_TASK, Job, check_grace


def check_slurm(job: Job, cluster: SlurmCluster, workdir: Path) -> None:
    """Raises ConfigError, naming the field, for what SLURM or the run would fail at later."""
    check_capacity(job.config, cluster.groups)
    limit = seconds(cluster.time)
    for field, margin in (
        ("cluster.save_seconds", cluster.save_seconds),
        ("interrupt.slurm_margin", job.config.interrupt.slurm_margin),
    ):
        if limit is not None and limit <= margin:
            raise ConfigError(f"cluster.time: given {cluster.time}, allowed: more than {field} ({margin:g} s).")
    check_grace("cluster.save_seconds", cluster.save_seconds, job.config)
    if cluster.seeds and take(job.overrides, "seed")[0]:
        raise ConfigError("seed: given together with cluster.seeds, allowed: one of the two.")
    for role, group in cluster.groups.items():
        if group.partition is not None:
            check_partition(f"cluster.{role}.partition", group.partition)
    image = cluster.image
    if cluster.container == "apptainer" and image and "://" not in image and not Path(image).expanduser().exists():
        raise ConfigError(f"cluster.image: no such file: {image}")
    logs = workdir / cluster.logs
    if odd := re.search(r'[\x00-\x1f\x7f"%\\]', str(logs)):
        raise ConfigError(f"cluster.logs: given {logs}, allowed: a path without {odd[0]!r}: SLURM reads it otherwise.")
    if cluster.seeds and any(ARRAY_TASK in text for text in (*job.overrides, job.run_dir)):
        raise ConfigError(f"cluster.seeds: given together with a setting that has {ARRAY_TASK} in it, allowed: others.")
    check_writable("run_dir", workdir / job.run_dir)
    check_writable("cluster.logs", logs)
    folder = job.config.checkpoint.folder
    if folder is not None and "://" not in folder:
        check_writable("checkpoint.folder", workdir / folder)


def check_kubernetes(job: Job, cluster: KubernetesCluster) -> None:
    """Raises ConfigError, naming the field, for what Kubernetes or the run would fail at later."""
    check_capacity(job.config, cluster.groups)
    check_grace("cluster.grace_seconds", cluster.grace_seconds, job.config)
    if not Path(normpath(job.run_dir)).is_relative_to(cluster.mount):
        raise ConfigError(
            f"run_dir: given {job.run_dir}, which ends with its pod. Allowed: below cluster.mount ({cluster.mount})."
        )
    folder = job.config.checkpoint.folder
    if folder is not None and "://" not in folder and not Path(normpath(folder)).is_relative_to(cluster.mount):
        raise ConfigError(
            f"checkpoint.folder: given {folder}, allowed: below cluster.mount ({cluster.mount}), or a URL."
        )
    if not cluster.secrets and "wandb" in job.config.trainer.logger and "WANDB_MODE" not in cluster.env:
        raise ConfigError(
            "cluster.secrets: none named, but trainer.logger has wandb. Allowed: a secret that holds WANDB_API_KEY, or "
            "env: {WANDB_MODE: offline}."
        )


def seconds(time: str) -> int | None:
    """SLURM's time limit in seconds; None is no limit.

    Raises:
        ConfigError: it is none of SLURM's forms.
    """
    if time.upper() in ("UNLIMITED", "INFINITE"):
        return None
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", time)
    if match is None:
        raise ConfigError(f'cluster.time: given {time}, allowed: say "24:00:00" or "2-00:00:00".')
    days, *rest = match.groups()
    first, second, third = (int(part) if part else None for part in rest)
    assert first is not None
    if days is not None:  # days-hours[:minutes[:seconds]]
        return ((int(days) * 24 + first) * 60 + (second or 0)) * 60 + (third or 0)
    if third is not None:  # hours:minutes:seconds
        return (first * 60 + (second or 0)) * 60 + third
    return first * 60 + (second or 0)  # minutes[:seconds]


def check_partition(field: str, partition: str) -> None:
    """Ask ``sinfo``, where there is one, whether SLURM has the partitions (several are joined by commas)."""
    if shutil.which("sinfo") is None:
        return
    done = subprocess.run(
        ["sinfo", "--noheader", "--format=%R"], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode != 0:
        print(f"{field}: not checked, sinfo says: {done.stderr.strip() or done.returncode}", file=sys.stderr)
        return
    known = done.stdout.split()
    for name in partition.split(","):
        if name not in known:
            raise unknown_name(field, name, known, noun="partition")


def check_writable(field: str, path: Path) -> None:
    """The folder, or the nearest one above it that exists, can be written by this user."""
    try:
        nearest = next(parent for parent in (path, *path.parents) if os.path.lexists(parent))
        inside = nearest.is_dir() and len(os.fsencode(path.name)) <= os.pathconf(nearest, "PC_NAME_MAX")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{field}: given {str(path)!r}, allowed: a folder that can be written ({error}).") from None
    if not inside or "\0" in str(path) or not os.access(nearest, os.W_OK | os.X_OK):
        raise ConfigError(f"{field}: given {path}, allowed: a folder that can be written ({nearest} can't).")
