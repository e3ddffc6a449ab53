"""What a script or manifest says reaches the run as it was given, whatever its letters."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from mrpo.config.cluster import KubernetesCluster, SlurmCluster
from mrpo.config.load import load_run_config
from mrpo.config.overrides import override, take
from mrpo.errors import ConfigError
from mrpo.launch.check import check_kubernetes, check_slurm, check_writable
from mrpo.launch.cluster_file import load_cluster
from mrpo.launch.job import Job
from mrpo.launch.kubernetes import render_kubernetes
from mrpo.launch.local import render_local
from mrpo.launch.slurm import render_slurm

from .jobs import kubernetes, make, slurm_script
from .test_slurm import arguments, directives

pytestmark = pytest.mark.unit

LETTERS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
ODD = st.text("a/. '\"\\${}:()[],=~*#%&;|!?<>\n\t\r", max_size=12)
PATHS = st.one_of(LETTERS, ODD).map("/runs/{}".format)


def read_by_train(arguments: list[str]) -> str | None:
    """The run folder that ``mrpo train`` with these arguments has."""
    assert arguments[:2] == ["mrpo", "train"]
    return load_run_config(arguments[2:])[0].run_dir


def with_run_dir(run_dir: str) -> Job:
    job = make()
    return Job(job.recipe_slug, job.label, ("recipe=quickstart",), run_dir, job.config, job.recipe)


@settings(max_examples=200, deadline=None)
@given(st.one_of(LETTERS, ODD))
@example("null")
@example("1e3")
@example("ends with \\")
@example("\\${oc.env:HOME}")
def test_any_text_is_a_value_of_hydras_grammar(text: str) -> None:
    taken, _ = take([override("key", text)], "key")
    assert OmegaConf.to_container(OmegaConf.create(taken), resolve=True) == {"key": text}


@settings(max_examples=12, deadline=None)
@given(PATHS)
@example("/tmp/ünï/my runs")
@example('/runs/it\'s "${oc.env:HOME}"\\')
@example("/runs/a\nb")
def test_a_run_folder_is_read_as_it_was_rendered(run_dir: str) -> None:
    job = with_run_dir(run_dir)
    on_slurm = arguments(slurm_script(job, trainer={"gpus_per_node": 1}))
    [manifest] = render_kubernetes(job, kubernetes(trainer={"gpus_per_node": 1})).values()
    on_kubernetes = shlex.split(list(yaml.safe_load_all(manifest))[-1]["spec"]["entrypoint"])
    [script] = render_local(job, Path("/work"), Path("/venv")).values()
    code = script.replace("cd /work || exit 2", "mrpo() { printf '%s\\0' mrpo \"$@\"; }").replace("\nexec ", "\n")
    here = subprocess.run(["bash", "-c", code], capture_output=True, check=True).stdout.decode().split("\0")[:-1]
    joins = "trainer.ray=join"  # the scheduler has started it
    assert [word for word in on_slurm if word != joins] == [word for word in on_kubernetes if word != joins] == here
    assert joins in on_slurm
    assert read_by_train(on_slurm) == run_dir


@pytest.mark.parametrize("logs", ["logs", "my logs", "it's", "$(touch /tmp/x)", "a;b", "ünï"])
def test_slurm_and_the_shell_find_the_same_folder_of_logs(logs: str) -> None:
    script = slurm_script(logs=logs)
    [output] = [line.removeprefix("--output=") for line in directives(script)[0] if line.startswith("--output=")]
    assert output.strip('"') == f"/shared/lab/{logs}/%x-%j.log"
    [line] = [line for line in script.splitlines() if line.startswith("job_log=")]
    code = f'SLURM_JOB_NAME=n SLURM_JOB_ID=7; {line}; printf %s "$job_log"'
    done = subprocess.run(["bash", "-uc", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"/shared/lab/{logs}/n-7"


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"account": "a\ntouch /tmp/x"}, "account"),
        ({"trainer": {"partition": "p\nx"}}, "trainer.partition"),
        ({"trainer": {"memory": "64G\nx"}}, "trainer.memory"),
        ({"trainer": {"options": ["--constraint=a\nx"]}}, "trainer.options.0"),
        ({"trainer": {"options": ["touch /tmp/x"]}}, "trainer.options.0"),
        ({"env": {"A=1;touch /tmp/x;B": "1"}}, "env"),
        ({"env": {"DATABASE": "postgres://me:secret@db/x"}}, "env"),
        ({"env": {"HF_PASS": "x"}}, "env"),
        ({"env": {"AUTH": "x"}}, "env"),
        ({"env": {"HEADER": "Bearer abc"}}, "env"),
        ({"logs": "a\nb"}, "logs"),
        ({"logs": 'a"b'}, "logs"),
        ({"mounts": ["a,b"]}, "mounts.0"),
        ({"scratch": "/tmp\n"}, "scratch"),
        ({"venv": "a\nb"}, "venv"),
    ],
)
def test_a_value_that_would_become_another_line_is_refused(
    tmp_path: Path, settings: dict[str, Any], field: str
) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(yaml.safe_dump(settings))
    with pytest.raises(ConfigError, match=rf"^cluster\.{field}: "):
        load_cluster(str(file), SlurmCluster)


@pytest.mark.parametrize(
    "field",
    ["namespace", "volume", "image", "mount", "gpu_resource", "service_account", "priority"],
)
def test_a_name_that_kubernetes_does_not_have_is_refused(tmp_path: Path, field: str) -> None:
    file = tmp_path / "cluster.yaml"
    given = {"image": "registry/mrpo:1", "volume": "mrpo", field: "x\nkind: Pod"}
    file.write_text(yaml.safe_dump(given))
    with pytest.raises(ConfigError, match=rf"^cluster\.{field}: "):
        load_cluster(str(file), KubernetesCluster)


def test_a_working_folder_that_sbatch_reads_otherwise_is_refused(tmp_path: Path) -> None:
    workdir = tmp_path / "100%"
    workdir.mkdir()
    with pytest.raises(ConfigError, match=r"cluster\.logs: given .*100%/logs, allowed: a path without '%'"):
        check_slurm(make(), SlurmCluster(), workdir)


def test_the_comment_of_a_manifest_stays_one() -> None:
    odd = with_run_dir("/data/runs/a\nkind: Pod\u2028x\x85y")
    [text] = render_kubernetes(odd, kubernetes(kind="RayCluster")).values()
    assert [document["kind"] for document in yaml.safe_load_all(text)] == ["ConfigMap", "NetworkPolicy", "RayCluster"]


def test_a_run_folder_that_climbs_out_of_the_volume_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"run_dir: given /data/\.\./etc/r"):
        check_kubernetes(with_run_dir("/data/../etc/r"), kubernetes())


def test_pods_are_reached_by_the_runs_own_and_by_the_operator_alone() -> None:
    [text] = render_kubernetes(make(runs="/data/runs"), kubernetes()).values()
    _, policy, job = yaml.safe_load_all(text)
    own = policy["spec"]["podSelector"]["matchLabels"]
    assert policy["spec"]["ingress"][0] == {"from": [{"podSelector": {"matchLabels": own}}]}
    cluster = job["spec"]["rayClusterSpec"]
    templates = [cluster["headGroupSpec"]["template"], job["spec"]["submitterPodTemplate"]]
    templates += [group["template"] for group in cluster["workerGroupSpecs"]]
    assert all(template["metadata"]["labels"] == own for template in templates)
    assert own["app.kubernetes.io/instance"] == job["metadata"]["name"]


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_a_folder_that_no_system_has_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="run_dir: given"):
        check_writable("run_dir", tmp_path / name)


def test_a_loop_of_links_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ConfigError, match="run_dir: given"):
        check_writable("run_dir", tmp_path / "loop" / "run")


def test_the_seed_of_an_array_replaces_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cluster\.seeds"):
        check_slurm(with_run_dir(str(tmp_path / "ARRAY_TASK")), SlurmCluster(seeds=[1]), tmp_path)


def test_the_script_of_a_folder_with_a_space_runs(tmp_path: Path) -> None:
    workdir = tmp_path / "my runs"
    workdir.mkdir()
    [script] = render_slurm(make(), SlurmCluster(), workdir, tmp_path).values()
    head, _, _ = script.partition("mapfile")
    code = f'{head}\n[ -d "$log" ] && printf %s "$scratch"'
    environment = {"SLURM_JOB_NAME": "n", "SLURM_JOB_ID": "7", "PATH": "/usr/bin:/bin"}
    done = [
        subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True, env=environment).stdout
        for _ in range(2)
    ]
    assert all(scratch.startswith("/tmp/mrpo-7-") and len(scratch) == len("/tmp/mrpo-7-") + 16 for scratch in done)
    assert done[0] != done[1]
