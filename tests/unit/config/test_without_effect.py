"""What nothing would read is refused: options that another turns off, Hydra's own settings, other kinds of value."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from mrpo.advantages import compute_advantages
from mrpo.config.advantage import as_config
from mrpo.config.base import StrictModel
from mrpo.config.checked_run import CheckedRun
from mrpo.config.load import load_run_config, validate
from mrpo.config.trackers import TRACKERS, require_installed
from mrpo.config.verl import merge_known
from mrpo.errors import ConfigError

pytestmark = pytest.mark.unit

CONTENT: Mapping[str, Any] = {
    "model": {"path": "some/model"},
    "data": {"train_files": ["train.parquet"], "val_files": ["test.parquet"], "train_batch_size": 4},
    "rewards": {"good": {"function": "exact_match"}},
}


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("train", "test"):
        (tmp_path / f"{name}.parquet").touch()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.yaml").write_text(yaml.safe_dump(dict(CONTENT)))
    return tmp_path / "mine" / "config.yaml"


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        CheckedRun.load(["recipe=./mine", *overrides])
    return str(caught.value)


MODULATION, OFF_POLICY = "algorithm.token_modulation", "algorithm.off_policy"
UNREAD = [
    ("algorithm={estimator: gd2po, mode: hard}", "algorithm.tau", 0.5, 0.8, "mode=hard"),
    ("algorithm={estimator: grpo, std: false}", "algorithm.ddof", 0, 1, "std=false"),
    ("algorithm={estimator: corr_grpo, form: grpo}", "algorithm.ddof", 0, 1, "form=grpo"),
    *(
        (f"{MODULATION}={{lambda_min: 1}}", f"{MODULATION}.{name}", given, default, "lambda_min=1.0")
        for name, given, default in (
            ("gamma", 5.0, 50.0), ("tau", 0.5, 0.99), ("clip_ratio_low", 0.1, 0.2), ("clip_ratio_high", 0.3, 0.2)
        )
    ),
    (f"{OFF_POLICY}={{rollout_is: none}}", f"{OFF_POLICY}.rollout_is_threshold", 3.0, 2.0, "rollout_is=none"),
    (f"{OFF_POLICY}={{rollout_is: none}}", f"{OFF_POLICY}.rollout_is_batch_normalize", True, False, "rollout_is=none"),
    (f"{OFF_POLICY}={{}}", f"{OFF_POLICY}.rollout_rs_threshold", 0.5, None, "rollout_rs=none"),
    ("algorithm.shrinkage={predictor: cumulative}", "algorithm.shrinkage.decay", 0.9, 0.98, "predictor=cumulative"),
    ("budget.predictor=cumulative", "budget.decay", 0.9, 0.995, "predictor=cumulative"),
    ("budget.predictor=decayed", "budget.prior", [2.0, 1.0], [1.0, 1.0], "predictor=decayed"),
    ("rollout.placement=colocated", "rollout.replicas", 2, 1, "placement=colocated"),
    ("rollout.placement=colocated", "rollout.nnodes", 2, 1, "placement=colocated"),
    ("rollout.ahead=0", "rollout.on_sync", "continue", "finish", "ahead=0"),
    ("rollout.val_kwargs.temperature=0", "rollout.val_kwargs.top_p", 0.5, 1.0, "temperature=0.0"),
    ("rollout.val_kwargs.temperature=0", "rollout.val_kwargs.top_k", 5, -1, "temperature=0.0"),
    ("checkpoint.best_metric=null", "checkpoint.best_mode", "min", "max", "best_metric=null"),
    ("resume.mode=never", "resume.step", 3, None, "mode=never"),
    ("resume.mode=never", "resume.allow", ["data"], [], "mode=never"),
]  # fmt: skip


@pytest.mark.parametrize(("turned_off", "option", "given", "default", "by"), UNREAD, ids=[row[1] for row in UNREAD])
def test_an_option_that_another_turns_off_is_refused(
    recipe: Path, turned_off: str, option: str, given: Any, default: Any, by: str
) -> None:
    """By the command line even at its default; by a file only otherwise, as the config of a run has every option."""

    def expected(value: Any) -> str:
        shown = yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
        other, name = by.partition("=")[0], option.rpartition(".")[2]
        return f"{option}: given {shown}, which has no effect with {by}. Allowed: another {other}, or no {name}."

    text = "null" if default is None else str(default)
    assert refusal(turned_off, f"{option}={text}") == expected(default)
    config, _ = load_run_config(["recipe=./mine", turned_off])
    content = yaml.safe_load(config.as_yaml())
    assert validate(content) == config
    *path, name = option.split(".")
    section = content
    for part in path:
        section = section[part]
    assert section[name] == default
    section[name] = given
    with pytest.raises(ConfigError) as caught:
        validate(content)
    assert str(caught.value) == expected(given)


def test_every_such_option_is_tested() -> None:
    models: list[type[StrictModel]] = StrictModel.__subclasses__()
    for model in models:
        models += model.__subclasses__()
    declared = {(name, other) for model in models for name, (other, _) in model.WITHOUT_EFFECT.items()}
    assert declared == {(option.rpartition(".")[2], by.partition("=")[0]) for _, option, _, _, by in UNREAD}
    for model in models:
        for name, (other, values) in model.WITHOUT_EFFECT.items():
            assert {name, other} <= model.model_fields.keys()
            assert values


def test_a_library_call_refuses_it_too() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(ConfigError, match=r"^tau: given 0\.3, which has no effect with mode=hard\."):
        compute_advantages(
            torch.zeros(2, 1), torch.zeros(2), {"estimator": "gd2po", "mode": "hard", "tau": 0.3, "names": ["a"]}
        )


def test_another_estimator_takes_over_what_has_an_effect_in_it(recipe: Path) -> None:
    config = as_config({"estimator": "gdpo", "ddof": 0, "clip": 2.0, "names": ["a"]})
    assert config.for_estimator("corr_grpo").algorithm.model_dump(exclude_unset=True) == {
        "estimator": "corr_grpo",
        "clip": 2.0,
    }
    recipe.write_text(yaml.safe_dump({**CONTENT, "algorithm": {"ddof": 0, "clip": 2.0}}))
    notes: list[str] = []
    load_run_config(["recipe=./mine", "algorithm.estimator=corr_grpo"], notes.append)
    assert notes == ["algorithm: corr_grpo has no ddof (the recipe's, for gdpo): left out"]
    assert refusal("algorithm.estimator=corr_grpo", "algorithm.ddof=0").startswith("algorithm.ddof: given 0, which has")


HYDRA = (
    "Hydra only composes the settings: set run_dir for the folder, and trainer.experiment_name for the run's name; "
    "logs lie in the run folder; mrpo compare runs several."
)


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("hydra.run.dir=/tmp/x", "hydra.run.dir"),
        ("+hydra.job.name=x", "hydra.job.name"),
        ("hydra={run: {dir: x}}", "hydra"),
        ("hydra/job_logging=none", "hydra/job_logging"),
        ("~hydra", "hydra"),
    ],
)
def test_hydras_own_settings_are_refused_with_what_to_use(recipe: Path, override: str, key: str) -> None:
    assert refusal(override) == f"{key}: given {override!r}, which has no effect here. {HYDRA}"


def test_so_are_they_in_a_recipe(recipe: Path) -> None:
    recipe.write_text(recipe.read_text() + "hydra: {run: {dir: x}}\n")
    message = f"{recipe}: hydra: has no effect here. {HYDRA}"
    assert refusal() == message
    recipe.with_name("more.yaml").write_text("defaults: [config, _self_]\nseed: 3\n")
    with pytest.raises(ConfigError) as caught:
        load_run_config(["recipe=./mine/more"])
    assert str(caught.value) == message


@pytest.fixture(scope="module")
def verls() -> DictConfig:
    """verl's configuration, composed once."""
    folder = Path(importlib.util.find_spec("verl").submodule_search_locations[0], "trainer", "config")  # type: ignore[union-attr, index]
    with initialize_config_dir(str(folder), version_base=None):
        found = compose("ppo_trainer")
    OmegaConf.set_struct(found, False)
    return found


def other_kind(verls: DictConfig, name: str, value: Any) -> str:
    content = value
    for part in reversed(name.split(".")):
        content = {part: content}
    with pytest.raises(ConfigError) as caught:
        merge_known(verls, content, "verl")
    return str(caught.value)


SECTIONS = [
    *("data", "trainer", "actor_rollout_ref", "actor_rollout_ref.rollout", "reward", "algorithm"),
    *("actor_rollout_ref.rollout.engine_kwargs", "actor_rollout_ref.actor.optim", "transfer_queue.backend"),
]


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize(("value", "shown"), [(5, "5"), (None, "null"), ([], "[]"), ("text", "text")])
def test_a_section_of_verls_is_no_value(verls: DictConfig, section: str, value: Any, shown: str) -> None:
    names = ", ".join(OmegaConf.select(verls, section))
    message = f"verl.{section}: given {shown}, allowed: settings of its own ({names}), as verl.{section}.NAME=VALUE."
    assert other_kind(verls, section, value) == message


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("trainer.nnodes", {"a": 1}, "trainer.nnodes: given {a: 1}, allowed: a number."),
        ("trainer.nnodes", "two", "trainer.nnodes: given two, allowed: a number."),
        ("trainer.nnodes", True, "trainer.nnodes: given true, allowed: a number."),
        ("data.shuffle", 1, "data.shuffle: given 1, allowed: true or false."),
        ("trainer.logger", {"a": 1}, "trainer.logger: given {a: 1}, allowed: a list."),
        ("data.prompt_key", {"a": 1}, "data.prompt_key: given {a: 1}, allowed: a text."),
    ],
)
def test_a_value_of_verls_keeps_its_kind(verls: DictConfig, name: str, value: Any, message: str) -> None:
    assert other_kind(verls, name, value) == f"verl.{message}"


def test_a_value_of_verls_kind_is_taken(verls: DictConfig) -> None:
    changed = verls.copy()
    merge_known(changed, {"data": {"seed": 3, "shuffle": False, "image_patch_size": 2, "train_files": ["a"]}}, "verl")
    assert changed.data.seed == 3
    assert changed.data.shuffle is False


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("verl.trainer.logger=[nope]", 'verl.trainer.logger: given ["nope"], allowed: []. Set trainer.logger instead.'),
        ("verl=5", "verl: given 5, input should be a valid dictionary."),
        ("data=5", "data: given 5, input should be a valid dictionary or instance of DataConfig."),
        ("actor=[]", "actor: given [], input should be a valid dictionary or instance of ActorConfig."),
        ("data=[]", "override: Error merging override ++data=[]: Cannot merge DictConfig with ListConfig"),
        ("recipe.x=1", "recipe: given {x: 1}, allowed: a name or a folder (recipe=NAME)."),
        ("model@here=1", "override: given 'model@here=1', allowed: key=value without a package (@here)."),
        ("seed=2147483648", "seed: given 2147483648, input should be less than 2147483648."),
        ("run_dir=''", "run_dir: given '', string should have at least 1 character."),
        ("checkpoint.folder=''", "checkpoint.folder: given '', string should have at least 1 character."),
        ("run_dir='a\0b'", r"run_dir: given 'a\x00b', allowed: text without NUL and unpaired surrogates."),
        ("model.path='a\0b'", r"model.path: given 'a\x00b', allowed: text without NUL and unpaired surrogates."),
        ("watchdog.warn_after=4000", "watchdog.warn_after: given 4000, allowed: less than timeout (3600)."),
        ("trainer.logger=nope", "trainer.logger: given 'nope', input should be a valid list."),
        (
            "trainer.logger=[tensorbord]",
            "trainer.logger.0: unknown name 'tensorbord'. Did you mean 'tensorboard'? Allowed: clearml, console, file, "
            "mlflow, rl_insight, swanlab, tensorboard, trackio, vemlp_wandb, wandb.",
        ),
    ],
)  # fmt: skip
def test_a_value_of_another_kind_is_one_message(recipe: Path, override: str, message: str) -> None:
    assert refusal(override) == message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("seed: ${prepared:}", "ConfigError raised while resolving interpolation: ${prepared:} is named by seed and "
         "prepare, so neither can refer to it"),
        ("null: 1", "ConfigCompositionException: Incompatible key type 'NoneType'"),
    ],
)  # fmt: skip
def test_a_recipe_that_cant_be_composed_says_why(recipe: Path, line: str, message: str) -> None:
    recipe.write_text(f"{recipe.read_text()}{line}\n")
    assert refusal() == f"{recipe}: {message}"


def test_a_rewards_name_that_yaml_takes_for_no_text_is_shown_as_written(recipe: Path) -> None:
    recipe.write_text(yaml.safe_dump({**CONTENT, "rewards": {True: {"function": "exact_match"}}}))
    assert refusal() == "rewards: given the name true, allowed: a text. If it is meant as one, quote it."


def test_the_trackers_are_verls() -> None:
    source = Path(importlib.util.find_spec("verl").submodule_search_locations[0], "utils", "tracking.py")  # type: ignore[union-attr, index]
    found = [
        ast.literal_eval(node.value)
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "supported_backend"
    ]
    assert [sorted(names) for names in found] == [sorted(TRACKERS)]


def test_a_tracker_whose_package_is_missing_is_refused_here(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mrpo.config.trackers.TRACKERS", {"wandb": "json", "mlflow": "no_such_package", "file": None})
    message = (
        "trainer.logger: given mlflow, whose package no_such_package is not installed. Allowed here: wandb, file; or "
        "install it."
    )
    assert refusal("trainer.logger=[wandb,mlflow]") == message
    require_installed(["wandb", "file"])
