"""From overrides to a checked config: what is accepted, and how what is wrong is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mrpo.config.base import StrictModel
from mrpo.config.check import check_files
from mrpo.config.estimators import Gd2poConfig
from mrpo.config.load import load_run_config, prepared_folder, validate
from mrpo.config.recipes import recipe_names
from mrpo.config.run import RunConfig
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


def test_a_requirement_is_a_number_or_keeps_a_share_and_survives_the_run_folder(recipe: Path) -> None:
    """A plain number is the hard gate; ``{at_least, retain}`` is soft, and without at_least graded."""
    easy = "{function: rewards.py:good, requires: {good: {at_least: 1, retain: 0.2}, fair: 1, graded: {retain: 0.6}}}"
    others = ["rewards.fair={function: rewards.py:good}", "rewards.graded={function: rewards.py:good, range: [0, 2]}"]
    config, _ = load_run_config(["recipe=mine", f"rewards.easy={easy}", *others])
    for given in (config, RunConfig.model_validate(yaml.safe_load(config.as_yaml()))):
        found = [(c.requires, c.threshold, c.retain) for c in given.advantage.conditions]
        assert found == [("good", 1.0, 0.2), ("fair", 1.0, None), ("graded", None, 0.6)]
    assert yaml.safe_load(config.as_yaml())["rewards"]["easy"]["requires"]["fair"] == 1.0


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
        ("actor.ppo_mini_batch_size=3", "actor.ppo_mini_batch_size", "a divisor of data.train_batch_size (4)"),
        ("actor.ppo_max_token_len_per_gpu=10", "actor.ppo_max_token_len_per_gpu", "1024 or more"),
        ("rewards.good.requires={better: 1}", "rewards.good.requires", "unknown name 'better'"),
        ("rewards.good.requires={better: high}", "rewards.good.requires.better", "allowed: a number, or {at_least"),
        ("rewards.good.requires={better: true}", "rewards.good.requires.better", "given True"),
        ("rewards.good.requires={better: {at_least: 1}}", "rewards.good.requires.better.retain", "is required"),
        (
            "rewards.good.requires={better: {retain: 2}}",
            "rewards.good.requires.better.retain",
            "less than or equal to 1",
        ),
        ("rewards.good.requires={better: {retian: 0}}", "rewards.good.requires.better", "Did you mean 'retain'?"),
        ("rewards.easy={function: rewards.py:good, requires: {good: {retain: 0}}}", "rewards.good.range", "its bounds"),
        ("rewards.good.function=rewards.py:god", "rewards.good.function", "Did you mean 'good'?"),
        ("rewards.good.function=other.py:good", "rewards.good.function", "no such file"),
        ("rewards.good.function=rewards/good", "rewards.good.function", "FILE.py:NAME"),
        ("rewards.good.function=exact_mach", "rewards.good.function", "Did you mean 'exact_match'?"),
        ("rewards.good.strict=true", "rewards.good: unknown key 'strict'", "function itself go into options."),
        ("actor.entropy_checkpointing=true", "actor", "Those of verl go into verl.actor_rollout_ref.actor."),
        ("trainer.save_freq=3", "trainer: unknown key 'save_freq'", "Set checkpoint.every instead."),
        ("rollout.n=8", "rollout: unknown key 'n'", "Set budget.rollouts_per_prompt instead."),
        ("actor.lr=1", "actor.lr", "is now actor.learning_rate"),
        ("actor_rollout_ref.rollout.n=8", "unknown key 'actor_rollout_ref'", "Those of verl go into verl."),
        ("rewards.god.weight=2", "rewards.god.function: is required", "Did you mean rewards.good?"),
        ("rewards.good.options={strict: true}", "rewards.good.options", "unknown option 'strict'"),
        ("rewards.good={function: reward_model}", "rewards.good.options", "reward_model needs model, url"),
        ("rewards.good={function: tool_call, range: [0, 1]}", "rewards.good.range", "one that holds [-3, 3]"),
        ("rewards.good={function: length}", "rewards.good.options", "length needs kind"),
        ("rewards.judge.model={path: ./nowhere}", "rewards.judge.model.path", "no such file"),
        ("rewards.good.function=no.such.module:good", "rewards.good.function", "no module named"),
        ("algorithm.weights={good: 2}", "algorithm.weights", "under rewards.<name>"),
        ("rewards.good.range=[1, 0]", "rewards.good.range", "low < high"),
        ("algorithm.nmaes=[good]", "algorithm", "unknown key 'nmaes'. Allowed: batch_norm"),
        ("algorithm.tau=0.1", "algorithm.tau", "gdpo has no such option, only gd2po. Allowed with gdpo: batch_norm"),
        ("algorithm.tua=0.1", "algorithm.tua", "Did you mean 'tau', an option of gd2po? gdpo has none."),
        ("algorithm.form=gdpo", "algorithm.form", "only corr_grpo, dara, saw"),
        ("algorithm={estimator: papo, outcome: god}", "algorithm.outcome", "Did you mean 'good'?"),
        ("algorithm={estimator: gd2po, tau: 2}", "algorithm.tau", "given 2, input should be less than or equal to 1"),
        ("algorithm=gd2po", "algorithm", "given 'gd2po', input should be a valid dictionary"),
        ("nonsense=1", "unknown key 'nonsense'", "'. Allowed: actor, algorithm"),
        ("rewards.good.weight=-1", "rewards.good.weight", "given -1, allowed: 0 or more"),
        ("verl.trainer.nodes=1", "verl.trainer.nodes", "Did you mean 'nnodes'?"),
        ("verl.algorithm.use_kl_in_reward=true", "use_kl_in_reward", "actor.kl_loss_coef"),
        ("verl.actor_rollout_ref.rollout.n=3", "rollout.n", "budget.rollouts_per_prompt"),
        ("verl.actor_rollout_ref.rollout.calculate_log_probs=false", "calculate_log_probs", "allowed: true"),
        ("verl.algorithm.gamma=0.9", "algorithm.gamma", "no discount"),
        ("verl.reward.custom_reward_function.path=f.py", "custom_reward_function", "under rewards"),
        ("verl.skip.rollout.enable=true", "skip.rollout", "count as this policy's"),
        ("verl.trainer.total_epochs=1", "total_epochs", "trainer.total_training_steps"),
        ("verl.trainer.default_local_dir=/c", "default_local_dir", "checkpoint.folder"),
        ("rollout.val_kwargs.n=4", "rollout.val_kwargs.n", "a temperature above 0"),
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


RENAMED = [
    *[
        (f"{section}.{old}", f"{section}.{new}")
        for section in ("rollout", "rewards.good.model")
        for old, new in (
            ("tensor_parallel", "tensor_model_parallel_size"),
            ("memory_share", "gpu_memory_utilization"),
            ("max_sequences", "max_num_seqs"),
        )
    ],
    ("rewards.good.model.max_tokens", "rewards.good.model.max_model_len"),
    ("rollout.max_batched_tokens", "rollout.max_num_batched_tokens"),
    ("rollout.eager", "rollout.enforce_eager"),
    ("scoring.most_failures", "scoring.max_failure_rate"),
    ("actor.warmup_steps", "actor.lr_warmup_steps"),
    ("actor.mini_batch_size", "actor.ppo_mini_batch_size"),
    ("actor.micro_batch_tokens", "actor.ppo_max_token_len_per_gpu"),
    ("actor.epochs", "actor.ppo_epochs"),
    ("actor.lr", "actor.learning_rate"),
    ("actor.clip_low", "actor.clip_ratio_low"),
    ("actor.clip_high", "actor.clip_ratio_high"),
    ("actor.kl_coef", "actor.kl_loss_coef"),
    ("actor.loss_aggregation", "actor.loss_agg_mode"),
    ("algorithm.exclude_flat", "algorithm.exclude_zero_variance"),
    ("algorithm.token_modulation.clip_low", "algorithm.token_modulation.clip_ratio_low"),
    ("algorithm.token_modulation.clip_high", "algorithm.token_modulation.clip_ratio_high"),
    ("resume.restarts", "resume.max_restarts"),
    ("watchdog.warn", "watchdog.warn_after"),
    ("watchdog.limit", "watchdog.timeout"),
]


@pytest.mark.parametrize(("old", "new"), RENAMED, ids=lambda name: str(name))
def test_a_former_name_is_refused_with_the_present_one(recipe: Path, old: str, new: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_run_config(["recipe=mine", f"{old}=1"])
    assert str(caught.value) == f"{old}: is now {new}"


def test_every_former_name_is_tested_and_leads_to_a_field() -> None:
    models: list[type[StrictModel]] = StrictModel.__subclasses__()
    for model in models:
        models += model.__subclasses__()
    listed = {(old.rpartition(".")[2], new.rpartition(".")[2]) for old, new in RENAMED}
    for model in models:
        assert set(model.RENAMED.values()) <= model.model_fields.keys()
        assert not model.RENAMED.keys() & model.model_fields.keys()
        if model.__module__.removeprefix("mrpo.config.") in ("run", "reward_model", "checkpoint", "estimators"):
            assert listed >= set(model.RENAMED.items())


@pytest.fixture
def filtered(recipe: Path) -> Path:
    """The recipe with an estimator that has options of its own."""
    config = yaml.safe_load((recipe / "config.yaml").read_text())
    config["algorithm"] = {"estimator": "gd2po", "tau": 0.5, "mode": "snr", "clip": 3}
    (recipe / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return recipe


@pytest.mark.parametrize(
    "override", ["algorithm.estimator=dvao", "algorithm={estimator: dvao}", "+algorithm.estimator=dvao"]
)
def test_another_estimator_is_one_word_and_drops_the_options_of_the_recipes(filtered: Path, override: str) -> None:
    notes: list[str] = []
    config, _ = load_run_config(["recipe=mine", override], notes.append)
    assert config.algorithm.model_dump(exclude_unset=True) == {"estimator": "dvao", "clip": 3}
    assert notes == ["algorithm: dvao has no tau, mode (the recipe's, for gd2po): left out"]


def test_what_was_left_out_is_printed_by_default(filtered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load_run_config(["recipe=mine", "algorithm.estimator=dvao"])
    assert capsys.readouterr().err.startswith("mrpo: algorithm: dvao has no tau, mode")


@pytest.mark.parametrize("override", [["algorithm.estimator=gd2po"], ["algorithm.tau=0.6"], []])
def test_the_recipes_own_estimator_keeps_its_options(filtered: Path, override: list[str]) -> None:
    notes: list[str] = []
    config, _ = load_run_config(["recipe=mine", *override], notes.append)
    assert config.algorithm.model_dump(exclude_unset=True)["mode"] == "snr"
    assert not notes


def test_an_option_of_the_command_line_is_never_dropped(filtered: Path) -> None:
    with pytest.raises(ConfigError, match=r"^algorithm.tau: dvao has no such option, only gd2po"):
        load_run_config(["recipe=mine", "algorithm.estimator=dvao", "algorithm.tau=0.3"], print)
    with pytest.raises(ConfigError, match=r"^algorithm.mode: dvao has no such option, only gd2po"):
        load_run_config(["recipe=mine", "algorithm={estimator: dvao, mode: snr}"], print)


def test_a_recipe_that_sets_options_of_another_estimator_is_refused(filtered: Path) -> None:
    (filtered / "other.yaml").write_text("defaults: [config, _self_]\nalgorithm: {estimator: dvao}\n")
    with pytest.raises(ConfigError, match=r"algorithm.tau: dvao has no such option"):
        load_run_config(["recipe=mine/other"])


def test_the_resolved_config_keeps_the_estimators_options_when_it_is_read_again(filtered: Path) -> None:
    config, _ = load_run_config(["recipe=mine"])
    again = validate(yaml.safe_load(config.as_yaml()))
    assert again == config
    assert isinstance(again.algorithm, Gd2poConfig)
    assert again.algorithm.tau == 0.5


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


def test_a_project_name_of_verls_is_taken_without_a_complaint_about_another_setting(recipe: Path) -> None:
    config, found = load_run_config(["recipe=mine", "verl.trainer.project_name=other"])
    assert to_verl(config, found.folder, recipe / "run", "cpu").trainer.project_name == "other"


def test_gpu_and_cpu_differ_only_in_what_a_cpu_lacks(recipe: Path) -> None:
    config, found = load_run_config(["recipe=mine"])
    cpu, gpu = (to_verl(config, found.folder, Path("run"), device) for device in ("cpu", "cuda"))
    assert cpu.actor_rollout_ref.model.use_remove_padding is False
    assert gpu.actor_rollout_ref.model.use_remove_padding is True
    assert cpu.trainer.v1 == gpu.trainer.v1
    assert cpu.data == gpu.data


@pytest.mark.parametrize(("device", "wanted"), [("cuda", True), ("cpu", False)])
def test_a_strict_runs_ranks_use_kernels_that_can_be_repeated_where_there_are_others(
    recipe: Path, device: str, wanted: bool
) -> None:
    strict, found = load_run_config(["recipe=mine", "trainer.determinism=strict"])
    plain, _ = load_run_config(["recipe=mine"])
    for role in ("actor", "ref"):
        of_strict, of_plain = (to_verl(c, found.folder, Path("run"), device).actor_rollout_ref for c in (strict, plain))
        assert of_strict[role].fsdp_config.full_determinism is wanted
        assert of_plain[role].fsdp_config.full_determinism is False


def test_validation_is_greedy_unless_it_is_told_how_to_sample(recipe: Path) -> None:
    for override, wanted in (
        ("seed=0", {"n": 1, "do_sample": False, "temperature": 0.0, "top_p": 1.0, "top_k": -1}),
        (
            "rollout.val_kwargs={n: 4, temperature: 0.6, top_p: 0.9}",
            {"n": 4, "do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": -1},
        ),
    ):
        config, found = load_run_config(["recipe=mine", override])
        given = to_verl(config, found.folder, Path("run"), "cpu").actor_rollout_ref.rollout.val_kwargs
        assert {name: given[name] for name in wanted} == wanted


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
