"""Code that comes with a model is executed only if the run asks for it, in its own field, for each model."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from mrpo.config.model_code import check_trust
from mrpo.config.run import RunConfig
from mrpo.config.verl import to_verl
from mrpo.errors import ConfigError

pytestmark = pytest.mark.unit
ROOT = Path(__file__).parents[3]
LOADS = {"from_pretrained", "from_config", "hf_tokenizer", "hf_processor", "HFModelConfig"}
NO_CODE = {"LoraConfig"}
"""Classes whose from_pretrained reads JSON alone."""


def model(folder: Path, **config: object) -> str:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def run_config(**changes: object) -> RunConfig:
    data = {"train_files": ["a"], "val_files": ["b"], "train_batch_size": 4}
    return RunConfig.model_validate(
        {
            "recipe": "mine",
            "model": {"path": "any"},
            "data": data,
            "rewards": {"good": {"function": "exact_match"}},
            **changes,
        }
    )


CODE = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnModel"}


@pytest.mark.parametrize("field", ["model", "rewards.judge.model"])
def test_a_model_of_unknown_type_is_refused_by_the_field_that_would_allow_it(tmp_path: Path, field: str) -> None:
    own = model(tmp_path / "own", model_type="own", auto_map=CODE)
    with pytest.raises(ConfigError) as refused:
        check_trust(field, own, trusted=False)
    assert str(refused.value).startswith(f"{field}.trust_remote_code: given false, allowed: true, since {own} is of")
    check_trust(field, own, trusted=True)


@pytest.mark.parametrize(
    "config", [{"model_type": "qwen2", "auto_map": CODE}, {"model_type": "own"}, {}], ids=["known", "no code", "empty"]
)
def test_a_model_that_loads_without_its_code_or_not_at_all_is_left_to_its_loader(
    tmp_path: Path, config: dict[str, object]
) -> None:
    check_trust("model", model(tmp_path / "model", **config), trusted=False)


def test_a_broken_config_or_none_is_left_to_its_loader(tmp_path: Path) -> None:
    broken = Path(model(tmp_path / "broken"))
    (broken / "config.json").write_bytes(b"\xff{")
    check_trust("model", str(broken), trusted=False)
    check_trust("model", "nobody/nowhere", trusted=False)


@pytest.mark.parametrize("trusted", [False, True])
def test_verl_and_what_it_starts_get_what_the_field_says(tmp_path: Path, trusted: bool) -> None:
    config = run_config(model={"path": "any", "trust_remote_code": trusted})
    verl = to_verl(config, tmp_path, tmp_path, "cpu")
    assert verl.actor_rollout_ref.model.trust_remote_code is trusted


@pytest.mark.parametrize(
    "section", [{"actor_rollout_ref": {"model": {"trust_remote_code": True}}}, {"data": {"trust_remote_code": True}}]
)
def test_verls_own_settings_are_refused_with_ours(tmp_path: Path, section: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"trust_remote_code: given true.*Set model\.trust_remote_code instead"):
        to_verl(run_config(verl=section), tmp_path, tmp_path, "cpu")


def test_the_default_is_off_for_every_model() -> None:
    config = run_config(rewards={"judge": {"model": {"path": "any"}}})
    assert config.model.trust_remote_code is False
    assert config.rewards["judge"].model is not None
    assert config.rewards["judge"].model.trust_remote_code is False


def loads() -> list[tuple[str, ast.Call]]:
    found = []
    for file in [*ROOT.glob("mrpo/**/*.py"), *ROOT.glob("recipes/**/*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute | ast.Name):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            owner = (
                node.func.value.id
                if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name)
                else ""
            )
            if name in LOADS and owner not in NO_CODE:
                found.append((f"{file.relative_to(ROOT)}:{node.lineno}", node))
    return found


def test_every_load_of_a_model_or_tokenizer_says_whether_it_trusts_code() -> None:
    """Left out, transformers asks at a terminal, and verl's default is another one in each place."""
    calls = loads()
    assert len(calls) > 10
    assert [at for at, call in calls if "trust_remote_code" not in {word.arg for word in call.keywords}] == []
