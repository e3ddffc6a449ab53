"""A grid on a cluster: what is submitted, that nothing is submitted twice, and what is said of cells that failed.

Programs of a scheduler's name stand for it: they keep what they are given, and answer what a test says.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from mrpo.cli.main import invoke
from mrpo.compare.grid import cells_of
from mrpo.compare.sweep import plan
from mrpo.config.cluster import SlurmCluster
from mrpo.errors import ConfigError, MrpoError
from mrpo.record import jsonl
from mrpo.record.run_folder import RunFolder

pytestmark = pytest.mark.unit

GRID = ["recipe=quickstart", "seed=0,1", "trainer.total_training_steps=2"]
THREE = [*GRID[:1], "seed=0,1,2", GRID[2]]
KUBERNETES = {"image": "registry.example.com/mrpo:0.1", "volume": "mrpo"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")  # and no scheduler that this machine may have
    for name in ("sbatch", "squeue", "kubectl"):
        answer(name, "exit 0")
    return tmp_path


def answer(name: str, code: str) -> None:
    """A program that stands for a scheduler's, and answers so."""
    program = Path("bin", name)
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/bash\nprintf "%s\\n" "$*" >> {Path.cwd()}/bin/{name}.calls\n{code}\n')
    program.chmod(0o755)


def calls(name: str) -> list[str]:
    file = Path("bin", f"{name}.calls")
    return file.read_text().splitlines() if file.exists() else []


def compare(content: Mapping[str, Any], *more: str, grid: list[str] = GRID, out: str = "out") -> int:
    Path("cluster.yaml").write_text(yaml.safe_dump(dict(content)))
    return invoke(["compare", *grid, "cluster=cluster.yaml", "--out", out, *more])


def commands(script: str) -> dict[str, list[str]]:
    """What the shell makes of the command of each task."""
    found = {}
    for number in re.findall(r"^  (\d+)\) train=", script, re.MULTILINE):
        lines = script[script.index("case $SLURM_ARRAY") :].partition("esac\n")[0] + "esac\n"
        code = f'{lines}printf "%s\\n" "${{train[@]}}"'
        done = subprocess.run(
            ["/bin/bash", "-c", code], capture_output=True, check=True, env={"SLURM_ARRAY_TASK_ID": number}
        )
        found[number] = done.stdout.decode().splitlines()
    return found


def submitted() -> list[dict[str, Any]]:
    return jsonl.read(Path("out/submitted.jsonl"))


def end(cell: str, phase: str, detail: str = "", steps: int = 2) -> None:
    """A cell's folder as a run leaves it that ends so."""
    planned = {one.cell.name: one for one in plan(cells_of(THREE), Path("out").absolute(), None, SlurmCluster())}
    folder = RunFolder(planned[cell].folder.path)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.config.write_text(planned[cell].checked.config.as_yaml())
    folder.announce(2, ["correct"])
    for step in range(1, steps + 1):
        folder.write_metrics(step, {"reward/correct/mean": 0.5, "budget/rollouts": 8})
    folder.event(phase, detail=detail)


def test_a_grid_is_one_job_array_with_a_task_for_each_cell(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare({"at_once": 1}) == 0
    (call,) = calls("sbatch")
    script = Path(call).read_text()
    assert call.startswith(str(Path("out/launched").absolute()))
    assert "#SBATCH --array=0,1%1" in script.splitlines()
    assert subprocess.run(["/bin/bash", "-n"], input=script, text=True, check=False).returncode == 0
    found = commands(script)
    assert sorted(found) == ["0", "1"]
    for number, words in found.items():
        assert words[:4] == ["mrpo", "train", "recipe=quickstart", f"seed={number}"]
        assert {"trainer.ray=join", "trainer.device=cpu"} <= {*words}
        assert words[-1] == f"run_dir='{Path('out/cells').absolute()}/seed={number}'"
    assert [(one["cell"], one["task"]) for one in submitted()] == [("seed=0", 0), ("seed=1", 1)]
    assert len({one["job"] for one in submitted()}) == 1
    assert f"#SBATCH --job-name={submitted()[0]['job']}" in script.splitlines()
    assert Path("logs").is_dir()
    assert "0 of 2 cells done, 2 submitted, 0 under way" in capsys.readouterr().out


def test_the_same_command_submits_what_is_neither_done_nor_under_way(capsys: pytest.CaptureFixture[str]) -> None:
    compare({}, grid=THREE)
    job = submitted()[0]["job"]
    end("seed=0", "done")
    end("seed=1", "failed", "KeyError: 'x'", steps=0)
    answer("squeue", f"echo PENDING 2 {job}; echo RUNNING 1 another; echo RUNNING N/A plain")
    capsys.readouterr()
    assert compare({}, grid=THREE) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[:3] == [
        "cell seed=0: done",
        "cell seed=1: failed, KeyError: 'x'",
        f"cell seed=2: under way, {job}_2: PENDING",
    ]
    assert "1 of 3 cells done, 1 submitted, 1 under way" in said
    assert "correct" in said  # the comparison of what is done
    assert Path("out/compare.md").is_file()
    assert [words[3] for words in commands(Path(calls("sbatch")[1]).read_text()).values()] == ["seed=1"]
    end("seed=1", "done", steps=2)
    end("seed=2", "done")
    compare({}, grid=THREE)
    assert len(calls("sbatch")) == 2
    assert "3 of 3 cells done, 0 submitted, 0 under way" in capsys.readouterr().out


def test_a_cell_whose_job_left_nothing_has_failed_and_says_where_to_look(capsys: pytest.CaptureFixture[str]) -> None:
    compare({})
    compare({})
    job = submitted()[0]["job"]
    assert f"cell seed=0: failed, it has left no run; logs/{job}-* may say why" in capsys.readouterr().out
    assert len(calls("sbatch")) == 2


@pytest.mark.parametrize("code", ["echo 'Unable to contact slurm controller' >&2; exit 1", ""])
def test_nothing_is_submitted_while_nobody_says_what_is_under_way(code: str) -> None:
    compare({})
    if code:
        answer("squeue", code)
    else:
        Path("bin/squeue").unlink()
    with pytest.raises(MrpoError, match=r"which of the cells are under way is unknown: squeue .*(Unable|No such file)"):
        compare({})
    assert len(calls("sbatch")) == 1


def test_a_dry_run_shows_the_script_and_leaves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare({}, "--dry-run") == 0
    assert compare({**KUBERNETES, "mount": str(Path.cwd())}, "--dry-run") == 0
    said = capsys.readouterr().out
    assert "#SBATCH --array=0,1\n" in said
    assert said.count("kind: RayJob") == 2
    assert (calls("sbatch"), calls("squeue"), calls("kubectl"), Path("out").exists()) == ([], [], [], False)


def test_a_grid_on_kubernetes_is_a_ray_job_for_each_cell(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = {**KUBERNETES, "mount": str(Path.cwd()), "namespace": "lab"}
    compare(cluster)
    files = [Path(call.removeprefix("apply -f ")) for call in calls("kubectl")]
    jobs = [next(one for one in yaml.safe_load_all(f.read_text()) if one["kind"] == "RayJob") for f in files]
    names = [job["metadata"]["name"] for job in jobs]
    assert names == [one["job"] for one in submitted()]
    assert len({*names}) == 2
    assert all(len(name) <= 47 for name in names)
    for seed, job in enumerate(jobs):
        assert f"recipe=quickstart seed={seed}" in job["spec"]["entrypoint"]
        assert f"out/cells/seed={seed}" in job["spec"]["entrypoint"]
    items = [
        {"metadata": {"name": names[0]}, "status": {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}},
        {"metadata": {"name": names[1]}, "status": {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED"}},
    ]
    Path("rayjobs.json").write_text(json.dumps({"items": items}))
    answer("kubectl", f'[ "$3" = get ] && /bin/cat {Path.cwd()}/rayjobs.json')
    end("seed=1", "validate", "out of memory", steps=1)
    capsys.readouterr()
    with pytest.raises(MrpoError, match="kubectl exited with code 1"):  # the stand-in knows no apply
        compare(cluster)
    said = capsys.readouterr().out
    assert said.splitlines()[:2] == ["cell seed=0: done", f"cell seed=1: failed, {names[1]} has ended"]
    assert calls("kubectl")[2].startswith("--namespace lab get rayjobs")
    items[1]["status"] = {"jobDeploymentStatus": "Retrying"}
    Path("rayjobs.json").write_text(
        json.dumps({"items": [items[0], items[1] | {"metadata": {"name": submitted()[-1]["job"]}}]})
    )
    assert compare(cluster) == 0
    told = capsys.readouterr()
    assert f"cell seed=1: under way, {submitted()[-1]['job']}: Retrying" in told.out
    assert "no comparison: runs: none is left to compare" in told.err  # seed=0 ended where this machine sees nothing


@pytest.mark.parametrize(
    ("cluster", "more", "message"),
    [
        ({"seeds": [1]}, [], r"cluster\.seeds: given with a grid"),
        ({"rollout": {}}, [], r"cluster\.rollout, cluster\.reward: given with a grid"),
        ({}, ["--budget", "tokens=5"], r"--budget: given tokens=5, .* Allowed on a cluster: rollouts=N"),
        (KUBERNETES | {"kind": "RayCluster"}, [], r"cluster\.kind: given RayCluster, allowed with a grid: RayJob"),
        (KUBERNETES | {"name": "one"}, [], r"cluster\.name: given one, but a grid has many"),
        (KUBERNETES, [], r"--out: given .*out, which no pod sees\. Allowed: below cluster\.mount"),
        ({"time": "00:05:00"}, [], r"cell seed=0: cluster\.time: given 00:05:00, allowed: more than"),
    ],
)
def test_what_a_grid_can_not_have_is_refused(cluster: dict[str, Any], more: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compare(cluster, *more)
    assert calls("sbatch") == []
