"""``mrpo launch``: what it shows, keeps and submits, and what it refuses before anything is submitted."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from mrpo.cli.main import invoke
from mrpo.errors import ConfigError, MrpoError
from mrpo.launch.check import seconds

pytestmark = pytest.mark.unit

SLURM = {"trainer": {"nodes": 2, "gpus_per_node": 8}}
KUBERNETES = {"image": "registry.example.com/mrpo:0.1", "volume": "mrpo", "trainer": {"gpus_per_node": 8}}


def main(arguments: list[str]) -> int:
    return invoke(["launch", *arguments])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder; no SLURM and no Kubernetes on the PATH but what a test puts there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setattr("shutil.which", lambda name: str(p) if (p := tmp_path / "bin" / name).exists() else None)
    return tmp_path


def cluster(content: Mapping[str, object], name: str = "cluster.yaml") -> str:
    Path(name).write_text(yaml.safe_dump(dict(content)))
    return f"cluster={name}"


def command(folder: Path, name: str, code: str) -> None:
    """A program of this name that runs ``code`` in a shell: it stands for a scheduler that answers so."""
    program = folder / "bin" / name
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/bash\n{code}\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("scheduler", "content", "tells"),
    [
        ("slurm", SLURM, "#SBATCH --requeue"),
        ("kubernetes", KUBERNETES, "kind: RayJob"),
        ("local", None, "exec mrpo train"),
    ],
)
def test_a_dry_run_shows_the_files_or_puts_them_into_a_folder(
    scheduler: str, content: Mapping[str, object] | None, tells: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [scheduler, "recipe=quickstart", *([cluster(content)] if content else []), "--dry-run"]
    assert main(given) == 0
    assert tells in capsys.readouterr().out
    assert main([*given, "--out", "shown"]) == 0
    [file] = (folder / "shown").iterdir()
    assert tells in file.read_text()
    assert str(file.relative_to(folder)) in capsys.readouterr().out


def test_a_run_folder_is_decided_at_launch_so_that_every_attempt_has_the_same(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["slurm", "recipe=quickstart", "--dry-run"])
    assert f"run_dir={Path.cwd()}/runs/quickstart-2" in capsys.readouterr().out
    main(["slurm", "recipe=quickstart", "run_dir=/shared/one", "--dry-run"])
    shown = capsys.readouterr().out
    assert "run_dir=/shared/one)" in shown
    assert shown.count("run_dir=") == 1


@pytest.mark.parametrize(("scheduler", "program"), [("slurm", "sbatch"), ("kubernetes", "kubectl")])
def test_what_is_submitted_is_kept(scheduler: str, program: str, folder: Path) -> None:
    command(folder, program, 'echo "$@" > submitted; exit 0')
    content = SLURM if scheduler == "slurm" else KUBERNETES
    assert main([scheduler, "recipe=quickstart", cluster(content)]) == 0
    *_, file = (folder / "submitted").read_text().split()
    assert (folder / file).is_file()


def test_a_scheduler_that_refuses_or_is_not_there_is_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    command(folder, "sbatch", "echo 'no such account' >&2; exit 1")
    with pytest.raises(MrpoError, match="sbatch exited with code 1") as refused:
        main(["slurm", "recipe=quickstart", cluster(SLURM)])
    assert refused.value.exit_code == 1
    assert "no such account" in capfd.readouterr().err
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MrpoError, match="no sbatch here"):
        main(["slurm", "recipe=quickstart", cluster(SLURM)])


@pytest.mark.parametrize(
    ("given", "content", "tells"),
    [
        (["slrum"], None, "launch: unknown command 'slrum'. Did you mean 'slurm'?"),
        (["slurm"], None, "recipe: not given"),
        (["slurm", "recipe=qickstart"], None, "Did you mean 'quickstart'?"),
        (["slurm", "recipe=quickstart", "algorithm.estimator=grop"], None, "Did you mean 'grpo'?"),
        (["slurm", "recipe=quickstart", "verl.trainer.nodes=1"], None, "Did you mean 'nnodes'?"),
        (["slurm", "recipe=quickstart", "cluster=no.yaml"], None, "cluster: given no.yaml"),
        (["slurm", "recipe=quickstart", "trainer.n_gpus_per_node=16"], SLURM, "trainer.n_gpus_per_node: given 16"),
        (["slurm", "recipe=quickstart"], {"time": "00:05:00"}, "cluster.time: given 00:05:00, allowed: more than"),
        (["slurm", "recipe=quickstart"], {"time": "soon"}, "cluster.time: given soon"),
        (["slurm", "recipe=quickstart"], {"save_seconds": 60}, "more than interrupt.grace (120 s)"),
        (["slurm", "recipe=quickstart", "interrupt.slurm_margin=9e4"], {}, "interrupt.slurm_margin (90000 s)"),
        (["slurm", "recipe=quickstart", "run_dir=/dev/null/run"], None, "run_dir: given /dev/null/run"),
        (["slurm", "recipe=quickstart", "checkpoint.folder=/dev/null/x"], None, "checkpoint.folder: given /dev/null/x"),
        (["slurm", "recipe=quickstart"], {"logs": "/dev/null/logs"}, "cluster.logs: given /dev/null/logs"),
        (["slurm", "recipe=quickstart"], {"container": "apptainer", "image": "no.sif"}, "cluster.image: no such file"),
        (["slurm", "recipe=quickstart", "seed=1"], {"seeds": [1]}, "seed: given together with cluster.seeds"),
        (["kubernetes", "recipe=quickstart"], {"volume": "v"}, "cluster.image: is required"),
        (["kubernetes", "recipe=quickstart", "run_dir=/tmp/run"], KUBERNETES, "run_dir: given /tmp/run"),
        (
            ["kubernetes", "recipe=quickstart", "checkpoint.folder=/tmp/c"],
            KUBERNETES,
            "checkpoint.folder: given /tmp/c",
        ),
        (["kubernetes", "recipe=quickstart", "trainer.logger=[wandb]"], KUBERNETES, "cluster.secrets: none named"),
        (["kubernetes", "recipe=quickstart"], {**KUBERNETES, "grace_seconds": 60}, "cluster.grace_seconds: given 60"),
        (["local", "recipe=quickstart", "cluster=a.yaml"], None, "cluster: given a.yaml, allowed with local: none"),
        (["local", "recipe=quickstart", "run_dir=/dev/null/run"], None, "run_dir: given /dev/null/run"),
    ],
)
def test_bad_input_is_refused_before_submission(
    given: list[str], content: Mapping[str, object] | None, tells: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        main(given if content is None else [*given, cluster(content)])
    assert tells in str(caught.value)
    assert not Path("launched").exists()


def test_a_partition_is_looked_up_where_there_is_a_slurm_to_ask(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["slurm", "recipe=quickstart", cluster({"trainer": {"partition": "gpus"}}), "--dry-run"]
    assert main(given) == 0
    command(folder, "sinfo", "echo cpu; echo gpu")
    with pytest.raises(ConfigError, match=r"cluster\.trainer\.partition: unknown partition 'gpus'. Did you mean 'gpu'"):
        main(given)
    command(folder, "sinfo", "echo 'unable to contact slurm controller' >&2; exit 1")
    assert main(given) == 0
    assert "not checked, sinfo says: unable to contact" in capsys.readouterr().err


def test_files_on_the_clusters_volume_are_not_looked_for_here() -> None:
    on_volume = ["model.path=/data/model", "data.train_files=[/data/a.parquet]", "data.val_files=[/data/b.parquet]"]
    assert main(["kubernetes", "recipe=quickstart", cluster(KUBERNETES), *on_volume, "--dry-run"]) == 0
    with pytest.raises(ConfigError, match=r"data\.train_files\[0\]: no such file"):
        main(["kubernetes", "recipe=quickstart", cluster(KUBERNETES), "data.train_files=[/elsewhere/a]", "--dry-run"])


@pytest.mark.parametrize(
    ("given", "expected"),
    [("90", 5400), ("90:30", 5430), ("1:30:00", 5400), ("2-12", 216000), ("1-0:30", 88200), ("UNLIMITED", None)],
)
def test_slurms_forms_of_a_time_are_understood(given: str, expected: int | None) -> None:
    assert seconds(given) == expected


def test_launching_imports_neither_torch_nor_ray_nor_verl() -> None:
    code = (
        "import sys; from mrpo.cli.main import invoke; invoke(['launch', 'slurm', 'recipe=quickstart', '--dry-run']);"
        "print({'torch', 'ray', 'verl', 'vllm'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
