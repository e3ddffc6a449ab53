"""``mrpo plan``: what it prints and exits with, what it refuses and how, and what it leaves alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from mrpo.cli.main import invoke
from mrpo.config.load import load_run_config, validate
from mrpo.errors import ConfigError
from mrpo.record import jsonl
from tests.unit.config.test_model_size import QWEN_1_5B
from tests.unit.config.test_plan import RECIPES

pytestmark = pytest.mark.unit

ROW = {"data_source": "made", "prompt": [{"role": "user", "content": "2+2"}], "reward_model": {"ground_truth": "4"}}


def main(arguments: list[str]) -> int:
    return invoke(["plan", *arguments])


def write_rows(file: Path, count: int, **changed: Any) -> None:
    row = {name: value for name, value in {**ROW, **changed}.items() if value is not None}
    pq.write_table(pa.Table.from_pylist([row] * count), file)


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe with data and a model's config.json, in the working directory's ``recipes``."""
    folder = tmp_path / "recipes" / "mine"
    folder.mkdir(parents=True)
    write_rows(folder / "train.parquet", 100)
    write_rows(folder / "test.parquet", 10)
    (folder / "config.json").write_text(json.dumps(QWEN_1_5B))
    (folder / "rewards.py").write_text("def good(prompt, response, truth, extra, bar=0):\n    return 1.0\n")
    content = {
        "model": {"path": str(folder)},
        "data": {
            "train_files": [str(folder / "train.parquet")],
            "val_files": [str(folder / "test.parquet")],
            "train_batch_size": 8,
        },
        "rewards": {"good": {"function": "rewards.py:good", "options": {"bar": 2}}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "cluster.yaml").write_text("trainer: {nodes: 2, gpus_per_node: 4, cpus_per_node: 32, gpu_memory: 80}\n")
    monkeypatch.chdir(tmp_path)
    return folder


def test_it_shows_what_the_run_would_be(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe=mine", "cluster=cluster.yaml", "checkpoint.every=10"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for told in (
        "data.train_batch_size 8",
        "data.train_files[0] 100 rows not counted (no tokenizer here)",
        "good rewards.py:good 1.0 bar=2",
        "Actors: 3 GPU devices, at most 3 on a node",
        "node 1 3 11 trainer ranks 0-1, rollout engine, controller, 2 × TransferQueue, agent worker, reward worker",
        "node 2 0 0 reward worker",
        "rollouts per step 64 8 prompts × 8",
        "steps per epoch 12 floor(100 rows / 8)",
        "1,543,714,304 28 layers ×",
        "AdamW's two moments, float32 5.8 GiB 8 × 1,543,714,304 / 2",
        "one 17.3 GiB 12 × 1,543,714,304",
    ):
        assert told in shown
    assert "problem" not in shown


def test_the_full_configuration_is_the_one_that_trains(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe=mine", "--full", "trainer.total_training_steps=7"]) == 0
    text = capsys.readouterr().out.split("\n\n")[0]
    config, _ = load_run_config(["recipe=mine", "trainer.total_training_steps=7"])
    assert validate(yaml.safe_load(text)) == config


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (
            ["trainer.n_gpus_per_node=8"],
            "problem: trainer.n_gpus_per_node: given 8, allowed: 4 or fewer",
        ),
        (["actor.ppo_max_token_len_per_gpu=100000"], "problem: trainer: a rank takes about"),
        (["rollout.gpu_memory_utilization=0.01"], "problem: rollout: 0 GiB of room beside 2.9 of weights"),
        (["data.train_batch_size=128"], "problem: data.train_batch_size: given 128, allowed: at most the 100 rows"),
    ],
)
def test_what_speaks_against_the_run_ends_with_1(
    recipe: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], problem: str
) -> None:
    assert main(["recipe=mine", "cluster=cluster.yaml", *overrides]) == 1
    assert problem in capsys.readouterr().out


def test_data_that_could_not_be_used_is_a_problem(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(recipe / "train.parquet", 50, reward_model={"style": "rule"})
    assert main(["recipe=mine"]) == 1
    problem = "train.parquet: row 1: has no reward_model.ground_truth. Its columns: data_source, prompt, reward_model."
    assert problem in capsys.readouterr().out
    (recipe / "train.parquet").write_text("not parquet")
    assert main(["recipe=mine"]) == 1
    shown = capsys.readouterr().out
    assert "problem: data.train_files[0]: " in shown
    assert "is no parquet file" in shown


def test_an_unknown_model_is_said_to_be(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (recipe / "config.json").unlink()
    assert main(["recipe=mine"]) == 0
    assert f"unknown: config.json of {recipe} not found locally" in " ".join(capsys.readouterr().out.split())


def test_a_step_is_timed_by_the_latest_run_of_the_recipe(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Path("runs/latest")
    run.mkdir(parents=True)
    for step, seconds in enumerate((100, 130, 160), 1):
        jsonl.append(run / "metrics.jsonl", {"step": step, "time": seconds})
    for name, told in (("mine", "× 3600 / (5 × 30)"), ("other", "unknown: no run of this recipe")):
        (run / "config.yaml").write_text(f"recipe: {name}\n")
        assert main(["recipe=mine", "checkpoint.every=5"]) == 0
        assert told in capsys.readouterr().out


def test_the_models_writing_is_timed_by_it_as_well(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Path("runs/latest")
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("recipe: mine\n")
    for step, seconds in enumerate((100, 130, 160), 1):
        jsonl.append(run / "metrics.jsonl", {"step": step, "time": seconds})
    for seconds, phase in ((170, "export"), (175, "failed"), (200, "export"), (210, "export"), (223, "done")):
        jsonl.append(run / "events.jsonl", {"time": seconds, "phase": phase})
    assert main(["recipe=mine"]) == 0
    assert "writing the model at the end took 23 s there" in capsys.readouterr().out
    assert main(["recipe=mine", "trainer.export=none"]) == 0
    assert "writing the model" not in capsys.readouterr().out


def test_verls_own_settings_are_named_as_not_counted(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe=mine", "verl.actor_rollout_ref.actor.fsdp_config.param_offload=true"]) == 0
    assert "verl.actor_rollout_ref.actor.fsdp_config.param_offload" in capsys.readouterr().out


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_planned_before_it_is_prepared(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MRPO_CACHE", str(tmp_path / "cache"))
    for model in ("MRPO_HELPFUL_MODEL", "MRPO_HARMLESS_MODEL"):  # the one thing that a recipe can't say where it is
        monkeypatch.setenv(model, "someone/model")
    monkeypatch.chdir(tmp_path)
    assert main([f"recipe={name}"]) == 0
    shown = capsys.readouterr().out
    assert "rollouts of the run" in shown
    assert list(tmp_path.iterdir()) == []


BROKEN = [
    (["trainer.total_steps=3"], "trainer: unknown key 'total_steps'. Did you mean 'total_training_steps'?"),
    (["traner.nnodes=1"], "unknown key 'traner'. Did you mean 'trainer'?"),
    (["algorithm.estimator=gdp"], "Did you mean 'gdpo'?"),
    (["budget.method=nyman"], "budget.method: unknown name 'nyman'. Did you mean 'neyman'?"),
    (["budget.low=9"], "budget.rollouts_per_prompt: given 8, allowed low=9"),
    (["data.train_files=[/none.parquet]"], "data.train_files[0]: no such file: /none.parquet"),
    (["data.val_files=[]"], "data.val_files"),
    (["model.path=./nowhere"], "model.path: no such file"),
    (["model.dtype=float16"], "model.dtype: given 'float16'"),
    (["trainer.n_gpus_per_node=7"], "7 ranks can't share the 64 rollouts"),
    (["actor.ppo_mini_batch_size=3"], "a divisor of data.train_batch_size (8)"),
    (["actor.ppo_max_token_len_per_gpu=10"], "actor.ppo_max_token_len_per_gpu: given 10, allowed: 1024 or more"),
    (["rollout.gpu_memory_utilization=1"], "rollout.gpu_memory_utilization"),
    (
        ["rollout.placement=colocated", "rollout.tensor_model_parallel_size=3"],
        "rollout.tensor_model_parallel_size: given 3",
    ),
    (["rewards.good.function=rewards.py:god"], "Did you mean 'good'?"),
    (["rewards.good.requires={better: 1}"], "rewards.good.requires: unknown name 'better'"),
    (["rewards.good.processes=0"], "rewards.good.processes"),
    (["scoring.wokers=3"], "scoring: unknown key 'wokers'. Did you mean 'workers'?"),
    (["verl.trainer.nodes=1"], "verl.trainer.nodes: unknown name 'nodes'. Did you mean 'nnodes'?"),
    (["verl.algorithm.use_kl_in_reward=true"], "verl.algorithm.use_kl_in_reward: given true, allowed: false"),
    (["trainer.n_gpus_per_node=1,2"], "given a sweep"),
    (["recipe=mien"], "recipe: unknown name 'mien'"),
    (["cluster=none.yaml"], "cluster: given none.yaml"),
    (["cluster=typo.yaml"], "cluster.trainer: unknown key 'gpu_per_node'. Did you mean 'gpus_per_node'?"),
    (["cluster=lacks.yaml"], "cluster.image: is required and not set"),
    (["cluster=list.yaml"], "cluster: list.yaml holds no mapping"),
]


@pytest.mark.parametrize(("overrides", "tells"), BROKEN, ids=lambda given: given[0] if isinstance(given, list) else "")
def test_a_broken_configuration_is_one_message(
    recipe: Path, overrides: list[str], tells: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in (("typo", "trainer: {gpu_per_node: 8}"), ("lacks", "volume: mrpo"), ("list", "[1, 2]")):
        Path(f"{name}.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        main(["recipe=mine", *overrides])
    assert tells in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert capsys.readouterr().out == ""


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "mrpo.cli.main", "plan", *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_says_by_its_exit_code_how_it_went(recipe: Path) -> None:
    before = sorted(Path().rglob("*"))
    good, bad = command("recipe=mine", "cluster=cluster.yaml"), command("recipe=mine", "trainer.nodes=1")
    assert (good.returncode, good.stderr) == (0, "")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.startswith("mrpo: trainer: unknown key 'nodes'. Did you mean 'nnodes'?")
    assert command("recipe=mine", "cluster=cluster.yaml", "trainer.n_gpus_per_node=8").returncode == 1
    assert sorted(Path().rglob("*")) == before
    assert command("--help").stdout.startswith("Usage: mrpo plan [OPTIONS] [recipe=NAME|key=value]...")
    assert command().returncode == 2


def test_planning_imports_neither_torch_nor_ray_nor_verl(recipe: Path) -> None:
    code = (
        "import sys; from mrpo.cli.main import invoke; invoke(['plan', 'recipe=mine', 'cluster=cluster.yaml']);"
        "print({'torch', 'ray', 'verl', 'vllm', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
