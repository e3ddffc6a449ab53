"""``mrpo launch slurm|kubernetes|local recipe=NAME [cluster=FILE.yaml] …``: train on a cluster, with restarts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from mrpo.config.cluster import KubernetesCluster, SlurmCluster
from mrpo.errors import ConfigError, unknown_name
from mrpo.launch.check import check_kubernetes, check_slurm, check_writable
from mrpo.launch.cluster_file import load_cluster
from mrpo.launch.job import make_job
from mrpo.launch.kubernetes import render_kubernetes
from mrpo.launch.local import keep_running, render_local
from mrpo.launch.slurm import render_slurm

USAGE = """usage: mrpo launch slurm|kubernetes|local recipe=NAME [cluster=FILE] [key=value ...] [--dry-run [FOLDER]]

  mrpo launch slurm recipe=quickstart cluster=slurm.yaml --dry-run    show the script, submit nothing
  mrpo launch slurm recipe=quickstart cluster=slurm.yaml              sbatch it
  mrpo launch kubernetes recipe=quickstart cluster=kubernetes.yaml    kubectl apply it
  mrpo launch local recipe=quickstart                                 mrpo train here, again while there is more to do

The files that are submitted are kept in the folder launched/, or go into FOLDER. key=value is as in mrpo train.
"""
SUBMIT = {"slurm": ["sbatch"], "kubernetes": ["kubectl", "apply", "-f"]}
KEPT = Path("launched")
Rendered = tuple[dict[str, str], list[Path]]
"""Files by name, and folders that must exist before they are submitted."""


def main(argv: list[str]) -> int:
    """Exit codes: 0 submitted or shown, 1 the scheduler refused, 2 bad input; ``local``: those of ``mrpo train``."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if argv else 2
    scheduler, *arguments = argv
    if scheduler not in RENDER:
        raise unknown_name("scheduler", scheduler, RENDER)
    overrides, cluster, dry_run, folder = parse(arguments)
    files, folders = RENDER[scheduler](overrides, cluster)
    if dry_run and folder is None:
        for text in files.values():
            print(text, end="")
        return 0
    for needed in folders:
        needed.mkdir(parents=True, exist_ok=True)
    written = write(files, folder or KEPT)
    if dry_run:
        print("\n".join(map(str, written)))
        return 0
    if scheduler == "local":
        return keep_running(["bash", str(written[0])])
    return submit(scheduler, written)


def parse(arguments: list[str]) -> tuple[list[str], str | None, bool, Path | None]:
    """Overrides for ``mrpo train``, the cluster's file, whether to submit nothing, and where to put files."""
    overrides: list[str] = []
    cluster, dry_run, folder = None, False, None
    rest = iter(arguments)
    for argument in rest:
        if argument == "--dry-run":
            dry_run = True
        elif argument.startswith("cluster="):
            cluster = argument.removeprefix("cluster=")
        elif dry_run and folder is None and "=" not in argument and not argument.startswith("-"):
            folder = Path(argument)
        else:
            overrides.append(argument)
    return overrides, cluster, dry_run, folder


def slurm(overrides: list[str], cluster_file: str | None) -> Rendered:
    cluster, workdir = load_cluster(cluster_file, SlurmCluster), Path.cwd()
    job = make_job(overrides, workdir / "runs")
    check_slurm(job, cluster, workdir)
    logs = workdir / cluster.logs  # SLURM doesn't make it, and a job that can't write there ends without a word
    return render_slurm(job, cluster, workdir, Path(sys.prefix)), [logs]


def kubernetes(overrides: list[str], cluster_file: str | None) -> Rendered:
    cluster = load_cluster(cluster_file, KubernetesCluster)
    mount = Path(cluster.mount)
    job = make_job(overrides, mount / "runs", volume=mount)
    check_kubernetes(job, cluster)
    return render_kubernetes(job, cluster), []


def local(overrides: list[str], cluster_file: str | None) -> Rendered:
    if cluster_file is not None:
        raise ConfigError(f"cluster: given {cluster_file}, allowed with local: none.")
    job = make_job(overrides, Path.cwd() / "runs")
    check_writable("run_dir", Path(job.run_dir).absolute())
    return render_local(job, Path.cwd(), Path(sys.prefix)), []


RENDER: dict[str, Callable[[list[str], str | None], Rendered]] = {
    "slurm": slurm,
    "kubernetes": kubernetes,
    "local": local,
}


def write(files: dict[str, str], folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in files]
    for path, text in zip(paths, files.values(), strict=True):
        path.write_text(text, encoding="utf-8")
    return paths


def submit(scheduler: str, written: list[Path]) -> int:
    for path in written:
        command = [*SUBMIT[scheduler], str(path)]
        print(" ".join(command), flush=True)
        try:
            if subprocess.run(command, check=False).returncode != 0:
                return 1
        except FileNotFoundError:
            print(f"mrpo launch: no {command[0]} here. Where there is one: {' '.join(command)}", file=sys.stderr)
            return 1
    return 0
