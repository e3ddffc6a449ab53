"""The batch script: what SLURM is asked for, that the shell sees the command as it was given, and that it is sound."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrpo.config.cluster import SlurmCluster
from mrpo.launch.cluster_file import load_cluster
from mrpo.launch.job import Job
from mrpo.launch.slurm import render_slurm
from mrpo.launch.template import FOLDER

from .jobs import GPUS, make, slurm_script

pytestmark = pytest.mark.unit

VARIANTS: dict[str, dict[str, Any]] = {
    "one CPU node": {},
    "two GPU nodes": {"trainer": GPUS, "account": "mine", "time": "2-00:00:00"},
    "rollout and reward nodes": {"trainer": GPUS, "rollout": {"nodes": 3, "gpus_per_node": 4}, "reward": {}},
    "seeds": {"seeds": [3, 5], "trainer": {**GPUS, "partition": "gpu", "options": ["--constraint=a100"]}},
    "apptainer": {"container": "apptainer", "image": "/images/mrpo.sif", "trainer": GPUS, "mounts": ["/data"]},
    "pyxis": {"container": "pyxis", "image": "registry#mrpo:0.1", "trainer": GPUS, "mounts": ["/scratch:/data"]},
    "environment": {"env": {"MESSAGE": "it's $HOME"}, "setup": ["module load cuda/13.0"]},
}


def directives(script: str) -> list[list[str]]:
    """The #SBATCH options, a list for each component of the job."""
    options = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH ")]
    components: list[list[str]] = [[]]
    for option in options:
        if option == "hetjob":
            components.append([])
        else:
            components[-1].append(option)
    return components


def arguments(script: str, **variables: str) -> list[str]:
    """What the shell makes of the script's training command."""
    lines = script[script.index("train=(") :].partition("\nattempt=")[0]
    code = f"{lines}\nprintf '%s\\0' \"${{train[@]}}\""
    done = subprocess.run(["bash", "-c", code], capture_output=True, check=True, env=variables)
    return done.stdout.decode().split("\0")[:-1]  # as bytes: reading text would turn "\r" into "\n"


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_script_is_sound(variant: str) -> None:
    script = slurm_script(**VARIANTS[variant])
    assert "{{" not in script
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    command = [str(Path(sys.executable).with_name("shellcheck")), "--severity=warning", "-"]
    done = subprocess.run(command, input=script, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout


def test_slurm_is_asked_to_requeue_to_signal_and_to_append() -> None:
    [options] = directives(slurm_script(save_seconds=900, trainer=GPUS))
    assert {"--requeue", "--open-mode=append", "--signal=B:USR1@900", "--output=/shared/lab/logs/%x-%j.log"} <= {
        *options
    }
    assert {"--nodes=2", "--ntasks-per-node=1", "--exclusive", "--gpus-per-node=8", "--mem=0"} <= {*options}


def test_rollout_nodes_make_a_heterogeneous_job_with_a_resource_for_each_role() -> None:
    script = slurm_script(**VARIANTS["rollout and reward nodes"])
    trainer, rollout, reward = directives(script)
    assert "--nodes=2" in trainer
    assert {"--nodes=3", "--gpus-per-node=4"} <= {*rollout}
    assert "--nodes=1" in reward
    assert not any("gpus" in option for option in reward)
    starts = re.findall(
        r"^ *start_nodes \"(.*?)\".*(?:\\\n.*)?--num-gpus=(\d+) --resources='(.*)'$", script, re.MULTILINE
    )
    assert starts == [
        ("--het-group=0 -N1 -n1 -w $head", "8", '{"mrpo_trainer": 1}'),
        ("--het-group=0 -N1 -n1 -x $head", "8", '{"mrpo_trainer": 1}'),
        ("--het-group=1 -N3 -n3", "4", '{"mrpo_rollout": 1}'),
        ("--het-group=2 -N1 -n1", "0", '{"mrpo_reward": 1}'),
    ]


def test_nodes_without_groups_of_their_own_serve_every_role() -> None:
    script = slurm_script(trainer=GPUS)
    assert script.count('\'{"mrpo_trainer": 1, "mrpo_rollout": 1, "mrpo_reward": 1}\'') == 2


def test_on_cpu_the_run_is_told_so_and_gpus_are_slots() -> None:
    script = slurm_script(make("trainer.n_gpus_per_node=2", "rollout.replicas=2"))
    assert "trainer.device=cpu" in arguments(script)
    assert "--num-gpus=5 " in script  # 2 ranks and 2 engines, and one for any order of placing them
    assert "trainer.device=cpu" not in arguments(slurm_script(trainer=GPUS))


def test_each_seed_gets_a_run_folder_of_its_own() -> None:
    script = slurm_script(make(runs="/shared/my runs"), seeds=[3, 5])
    assert "--array=3,5" in directives(script)[0]
    for seed in ("3", "5"):
        *_, given_seed, run_dir = arguments(script, SLURM_ARRAY_TASK_ID=seed)
        assert given_seed == f"seed={seed}"
        assert re.fullmatch(rf"run_dir='/shared/my runs/quickstart-\d+-\d+-seed-{seed}'", run_dir)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1, max_size=20), max_size=3))
def test_overrides_reach_mrpo_train_verbatim(texts: list[str]) -> None:
    job = make()
    odd = Job(job.recipe_slug, job.label, ("recipe=quickstart", *texts), job.run_dir, job.config, job.recipe)
    assert arguments(slurm_script(odd, trainer=GPUS)) == [
        "mrpo",
        "train",
        "recipe=quickstart",
        *texts,
        "trainer.ray=join",
        f"run_dir={job.run_dir}",
    ]


def test_the_containers_see_run_folder_logs_and_scratch() -> None:
    apptainer = slurm_script(make(runs="/runs"), **VARIANTS["apptainer"])
    inside = (
        "apptainer exec --nv --pwd /shared/lab --bind /shared/lab,/shared/lab/logs,/runs,/tmp,/data /images/mrpo.sif"
    )
    assert f'{inside} bash -c "$ray_node"' in apptainer
    assert f'{inside} "${{train[@]}}"' in apptainer
    pyxis = slurm_script(make(runs="/runs"), **VARIANTS["pyxis"])
    assert "--container-mounts=/shared/lab:/shared/lab" in pyxis
    assert "/scratch:/data" in pyxis
    assert re.search(
        r'^srun -N1 -n1 -w "\$head" --overlap .*--container-image=.* "\$\{train\[@\]\}"', pyxis, re.MULTILINE
    )


def test_the_environment_is_quoted() -> None:
    script = slurm_script(**VARIANTS["environment"])
    line = next(line for line in script.splitlines() if line.startswith("export MESSAGE="))
    done = subprocess.run(["bash", "-c", f'{line}; printf %s "$MESSAGE"'], capture_output=True, text=True, check=True)
    assert done.stdout == "it's $HOME"


def test_the_script_in_the_folder_launch_is_what_is_rendered_now() -> None:
    cluster = load_cluster(str(FOLDER / "slurm.yaml"), SlurmCluster)
    [text] = render_slurm(make(), cluster, Path("/shared/lab"), Path("/shared/venv")).values()
    kept = (FOLDER / "examples" / "quickstart.sbatch").read_text()
    same = [re.sub(r"\d{8}-\d{6}", "TIME", script) for script in (kept, text)]
    assert same[0] == same[1]
