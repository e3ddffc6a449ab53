"""From overrides to a checked config: what is accepted, and how what is wrong is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mrpo.config.check import check_files
from mrpo.config.load import load_run_config, prepared_folder
from mrpo.config.recipes import recipe_names
from mrpo.config.verl import to_verl
from mrpo.errors import ConfigError

pytestmark = pytest.mark.unit


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe of one's own, in a folder beside the working directory's others."""
    folder = tmp_path / "recipes" / "mine"
    folder.mkdir(parents=True)
    for name in ("train", "test"):
        (folder / f"{name}.parquet").touch()
    (folder / "rewards.py").write_text("def good(prompt, response, truth, extra):\n    return 1.0\n")
    config = {
        "model": {"path": str(folder)},
        "data": {
            "train_files": [str(folder / "train.parquet")],
            "val_files": [str(folder / "test.parquet")],
            "train_batch_size": 4,
        },
        "rewards": {"good": {"function": "rewards.py:good"}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)
    return folder


def load(*overrides: str) -> None:
    config, found = load_run_config(["recipe=mine", *overrides])
    check_files(config, found, prepared_folder(found, config.prepare, config.seed))
    to_verl(config, found.folder, Path("run"), "cpu")


def test_overrides_of_known_and_of_new_keys_are_taken(recipe: Path) -> None:
    config, _ = load_run_config(
        ["recipe=mine", "trainer.total_training_steps=7", "rewards.good.weight=0.5", "+algorithm.estimator=dvao"]
    )
    assert (config.trainer.total_training_steps, config.rewards["good"].weight) == (7, 0.5)
    assert config.algorithm.estimator == "dvao"


def test_a_recipe_is_found_by_name_by_variant_and_by_path(recipe: Path) -> None:
    (recipe / "big.yaml").write_text("defaults: [config, _self_]\ndata: {train_batch_size: 64}\n")
    assert "mine" in recipe_names()
    assert load_run_config([f"recipe={recipe}"])[0].recipe == "mine"
    config, _ = load_run_config(["recipe=mine/big"])
    assert (config.recipe, config.data.train_batch_size) == ("mine/big", 64)


def test_what_rewards_declare_reaches_the_estimator(recipe: Path) -> None:
    config, _ = load_run_config(
        [
            "recipe=mine",
            "rewards.easy={function: rewards.py:good, weight: 0.5, range: [0, 2], requires: {good: 1}}",
        ]
    )
    advantage = config.advantage
    assert advantage.names == ("good", "easy")
    assert advantage.weights == {"good": 1.0, "easy": 0.5}
    assert advantage.ranges == {"easy": (0.0, 2.0)}
    assert [(c.reward, c.requires, c.threshold) for c in advantage.conditions] == [("easy", "good", 1.0)]


@pytest.mark.parametrize(
    ("override", "field", "tells"),
    [
        ("trainer.total_trainig_steps=3", "trainer", "Did you mean 'total_training_steps'?"),
        ("traner.nnodes=1", "traner", "Did you mean 'trainer'?"),
        ("trainer.total_training_steps=many", "trainer.total_training_steps", "valid integer"),
        ("algorithm.estimator=grop", "algorithm.estimator", "Did you mean 'grpo'?"),
        ("budget.method=nyman", "budget.method", "Did you mean 'neyman'?"),
        ("data.train_files=[nowhere.parquet]", "data.train_files[0]", "no such file"),
        ("model.path=./nowhere", "model.path", "no such file"),
        ("trainer.n_gpus_per_node=3", "trainer.n_gpus_per_node", "3 ranks can't share the 32 rollouts"),
        ("actor.mini_batch_size=3", "actor.mini_batch_size", "a divisor of data.train_batch_size (4)"),
        ("actor.micro_batch_tokens=10", "actor.micro_batch_tokens", "1024 or more"),
        ("rewards.good.requires={better: 1}", "rewards.good.requires", "unknown name 'better'"),
        ("rewards.good.function=rewards.py:god", "rewards.good.function", "Did you mean 'good'?"),
        ("rewards.good.function=other.py:good", "rewards.good.function", "no such file"),
        ("rewards.good.function=rewards/good", "rewards.good.function", "FILE.py:NAME"),
        ("rewards.good.function=exact_mach", "rewards.good.function", "Did you mean 'exact_match'?"),
        ("rewards.good.options={strict: true}", "rewards.good.options", "unknown option 'strict'"),
        ("rewards.good={function: reward_model}", "rewards.good.options", "reward_model needs model, url"),
        ("rewards.good={function: tool_call, range: [0, 1]}", "rewards.good.range", "one that holds [-3, 3]"),
        ("rewards.good={function: length}", "rewards.good.options", "length needs kind"),
        ("rewards.judge.model={path: ./nowhere}", "rewards.judge.model.path", "no such file"),
        ("rewards.good.function=no.such.module:good", "rewards.good.function", "no module named"),
        ("algorithm.weights={good: 2}", "algorithm.weights", "under rewards.<name>"),
        ("rewards.good.range=[1, 0]", "ranges.good", "low < high"),
        ("rewards.good.weight=-1", "rewards.good.weight", "greater than or equal to 0"),
        ("verl.trainer.nodes=1", "verl.trainer.nodes", "Did you mean 'nnodes'?"),
        ("verl.algorithm.use_kl_in_reward=true", "use_kl_in_reward", "actor.kl_coef"),
        ("trainer.seed=1,2", "trainer.seed", "sweep"),
        ("trainer.seed", "override", "key=value"),
        ("recipe=mine/bigger", "variant of recipe mine", "Allowed: config"),
        ("recipe=qickstart", "recipe", "Did you mean 'quickstart'?"),
    ],
)
def test_one_message_names_the_field_and_what_is_allowed(recipe: Path, override: str, field: str, tells: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(override)
    message = str(caught.value)
    assert field in message
    assert tells in message


def test_several_mistakes_are_told_at_once(recipe: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load("trainer.nnodes=none", "data.train_batch_size=0")
    assert len(str(caught.value).splitlines()) == 2


def test_verls_own_options_reach_verl_and_win(recipe: Path) -> None:
    config, found = load_run_config(
        ["recipe=mine", "verl.actor_rollout_ref.actor.optim.lr_scheduler_type=cosine", "verl.data.seed=9"]
    )
    verl = to_verl(config, found.folder, Path("run"), "cuda")
    assert verl.actor_rollout_ref.actor.optim.lr_scheduler_type == "cosine"
    assert verl.data.seed == 9
    assert verl.actor_rollout_ref.rollout.checkpoint_engine.backend == "nccl"


def test_gpu_and_cpu_differ_only_in_what_a_cpu_lacks(recipe: Path) -> None:
    config, found = load_run_config(["recipe=mine"])
    cpu, gpu = (to_verl(config, found.folder, Path("run"), device) for device in ("cpu", "cuda"))
    assert cpu.actor_rollout_ref.model.use_remove_padding is False
    assert gpu.actor_rollout_ref.model.use_remove_padding is True
    assert cpu.trainer.v1 == gpu.trainer.v1
    assert cpu.data == gpu.data


def test_the_prepared_folder_follows_command_scripts_and_seed(recipe: Path) -> None:
    found = load_run_config(["recipe=mine"])[1]
    before = prepared_folder(found, None, 0)
    assert prepared_folder(found, None, 1) != before
    assert prepared_folder(found, "prepare.py --hard", 0) != before
    (recipe / "rewards.py").write_text("def good(prompt, response, truth, extra):\n    return 0.0\n")
    assert prepared_folder(found, None, 0) != before


def test_loading_a_config_imports_neither_torch_nor_ray_nor_verl() -> None:
    code = (
        "import sys; from pathlib import Path; from mrpo.config.load import load_run_config;"
        "from mrpo.config.verl import to_verl; c, r = load_run_config(['recipe=quickstart']);"
        "to_verl(c, r.folder, Path('run'), 'cpu'); print({'torch', 'ray', 'verl', 'vllm'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
