"""Train on SLURM or Kubernetes, or here, with restarts.

The recipe and the cluster's file are checked, a plain file is written that can be read and submitted by hand, and it is
submitted. Settings are as for mrpo train.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from mrpo.cli._app import Overrides, examples, new_app, show_notes
from mrpo.config.cluster import KubernetesCluster, SlurmCluster
from mrpo.errors import ConfigError, MrpoError, usable
from mrpo.exit_code import ExitCode
from mrpo.launch.check import check_kubernetes, check_slurm, check_writable
from mrpo.launch.cluster_file import load_cluster, take_cluster
from mrpo.launch.job import make_job
from mrpo.launch.kubernetes import render_kubernetes
from mrpo.launch.local import keep_running, render_local
from mrpo.launch.slurm import render_slurm

KEPT = Path("launched")

app = new_app(help=__doc__)

DryRun = Annotated[bool, typer.Option("--dry-run", help="Submit nothing; show the files, unless --out says where to.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help=f"Where the files go, else {KEPT}/.")]


@app.command(epilog=examples("mrpo launch slurm recipe=quickstart cluster=slurm.yaml --dry-run"))
def slurm(overrides: Overrides = None, dry_run: DryRun = False, out: Out = None) -> ExitCode:
    """Submit a batch script to SLURM.

    It makes a Ray cluster over the job's nodes, and is requeued when it is preempted. cluster=FILE.yaml describes the
    cluster.
    """
    file, settings = take_cluster(overrides)
    cluster, workdir = load_cluster(file, SlurmCluster), Path.cwd()
    job = make_job(settings, workdir / "runs", cluster.groups)
    check_slurm(job, cluster, workdir)
    show_notes(job.notes)
    files = render_slurm(job, cluster, workdir, Path(sys.prefix))
    written = _write(files, dry_run, out)
    if not dry_run:
        # SLURM doesn't make the folder of its logs, and a job that can't write there ends without a message.
        (workdir / cluster.logs).mkdir(parents=True, exist_ok=True)
        _submit(["sbatch"], written)
    return ExitCode.DONE


@app.command(epilog=examples("mrpo launch kubernetes recipe=quickstart cluster=kubernetes.yaml --dry-run"))
def kubernetes(overrides: Overrides = None, dry_run: DryRun = False, out: Out = None) -> ExitCode:
    """Apply a RayJob of KubeRay to Kubernetes, by kubectl.

    cluster=FILE.yaml describes the cluster.
    """
    file, settings = take_cluster(overrides)
    cluster = load_cluster(file, KubernetesCluster)
    mount = Path(cluster.mount)
    job = make_job(settings, mount / "runs", cluster.groups, volume=mount)
    check_kubernetes(job, cluster)
    show_notes(job.notes)
    written = _write(render_kubernetes(job, cluster), dry_run, out)
    if not dry_run:
        _submit(["kubectl", "apply", "-f"], written)
    return ExitCode.DONE


@app.command(epilog=examples("mrpo launch local recipe=quickstart"))
def local(overrides: Overrides = None, dry_run: DryRun = False, out: Out = None) -> int:
    """Train on this machine, and again while there is more to do.

    Exit codes are those of mrpo train.
    """
    file, settings = take_cluster(overrides)
    if file is not None:
        raise ConfigError(f"cluster: given {file}, allowed with local: none.")
    job = make_job(settings, Path.cwd() / "runs")
    check_writable("run_dir", Path(job.run_dir).absolute())
    show_notes(job.notes)
    written = _write(render_local(job, Path.cwd(), Path(sys.prefix)), dry_run, out)
    return ExitCode.DONE if dry_run else keep_running(["bash", str(written[0])])


def _write(files: dict[str, str], dry_run: bool, out: Path | None) -> list[Path]:
    """Write the files and return where they are; a dry run without a folder shows them instead."""
    if dry_run and out is None:
        print(*files.values(), sep="", end="")
        return []
    folder = out or KEPT
    written = [folder / name for name in files]
    with usable("--out", folder):
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in zip(written, files.values(), strict=True):
            path.write_text(text, encoding="utf-8")
    if dry_run:
        print(*written, sep="\n")
    return written


def _submit(command: list[str], files: list[Path]) -> None:
    """Raises MrpoError if the scheduler refuses, or its program isn't here."""
    for file in files:
        whole = [*command, str(file)]
        print(" ".join(whole), flush=True)
        try:
            code = subprocess.run(whole, check=False).returncode
        except FileNotFoundError:
            raise MrpoError(f"no {command[0]} here. Where there is one: {' '.join(whole)}") from None
        if code != 0:
            raise MrpoError(f"{command[0]} exited with code {code}. The file is {file}.")
