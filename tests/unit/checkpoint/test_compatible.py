"""What may change from one start of a run to the next, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from mrpo.checkpoint import compatible
from mrpo.checkpoint.compatible import FREE, describe, differences, fingerprint, is_free, matches, require_compatible
from mrpo.config.checkpoint import CheckpointConfig, InterruptConfig, ResumeConfig
from mrpo.config.load import validate
from mrpo.errors import ConfigError

pytestmark = pytest.mark.unit

REWARDS = "def correct(prompt, response, truth, extra):\n    return 1.0  # always\n"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "rewards.py").write_text(REWARDS)
    for name in ("train", "test"):
        (tmp_path / f"{name}.parquet").write_bytes(name.encode())
    return tmp_path


def described(recipe: Path, **changes: Any) -> dict[str, Any]:
    """The description of a run; ``changes``: sections merged over the config."""
    content = content_of(recipe)
    for section, values in changes.items():
        content[section] = {**content.get(section, {}), **values} if isinstance(values, dict) else values
    config = validate(content)
    return describe(config, dict.fromkeys(config.rewards, recipe / "rewards.py"))


def content_of(recipe: Path) -> dict[str, Any]:
    return {
        "recipe": "r",
        "model": {"path": "m"},
        "data": {
            "train_files": [str(recipe / "train.parquet")],
            "val_files": [str(recipe / "test.parquet")],
            "train_batch_size": 8,
        },
        "rewards": {"correct": {"function": "rewards.py:correct"}},
    }


def changed(recipe: Path, before: dict[str, Any], **changes: Any) -> list[str]:
    return [difference.field for difference in differences(before, described(recipe, **changes))]


def test_same_run_has_no_differences(recipe: Path) -> None:
    assert changed(recipe, described(recipe)) == []


def test_another_tool_is_another_run(recipe: Path) -> None:
    tools = recipe / "tools.py"

    def with_tool(code: str) -> dict[str, Any]:
        tools.write_text(code)
        rewards = {"correct": recipe / "rewards.py"}
        return describe(validate(content_of(recipe)), rewards, {"tools.py:look_up": tools})

    before = with_tool("def look_up(): return 1")
    assert differences(before, with_tool("def look_up(): return 1  # as before")) == []
    (found,) = differences(before, with_tool("def look_up(): return 2"))
    assert found.field == "rollout.agent.code.tools.py:look_up"


def test_where_how_long_and_how_wide_a_run_is_may_change(recipe: Path) -> None:
    before = described(recipe)
    trainer = {"total_training_steps": 999, "test_freq": 5, "logger": ["wandb"], "n_gpus_per_node": 4, "nnodes": 2}
    rewards = {"correct": {"function": "rewards.py:correct", "timeout": 5}}
    rollout = {"replicas": 3, "agent_workers": 2}
    assert changed(recipe, before, run_dir="x", trainer=trainer, rewards=rewards, rollout=rollout) == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"actor": {"learning_rate": 1e-3}}, "actor.learning_rate"),
        ({"seed": 1}, "seed"),
        ({"data": {"train_batch_size": 16}}, "data.train_batch_size"),
        ({"model": {"path": "other"}}, "model.path"),
        ({"verl": {"actor": {"lr": 1}}}, "verl.actor.lr"),
        ({"rewards": {"correct": {"function": "rewards.py:correct", "weight": 2}}}, "rewards.correct.weight"),
        ({"rewards": {"correct": {"function": "rewards.py:other"}}}, "rewards.correct.function"),
    ],
)
def test_what_decides_what_is_learned_may_not_change(recipe: Path, change: dict, field: str) -> None:
    assert changed(recipe, described(recipe), **change) == [field]


def test_new_reward_is_a_difference_in_each_of_its_fields(recipe: Path) -> None:
    fields = changed(recipe, described(recipe), rewards={"other": {"function": "rewards.py:correct"}})
    assert "rewards.other.weight" in fields
    assert all(field.startswith("rewards.other.") for field in fields)


def test_data_is_compared_by_content_not_by_place(recipe: Path, tmp_path: Path) -> None:
    before = described(recipe)
    moved = tmp_path / "moved.parquet"
    moved.write_bytes(b"train")
    assert changed(recipe, before, data={"train_files": [str(moved)]}) == []
    moved.write_bytes(b"Train")
    assert changed(recipe, before, data={"train_files": [str(moved)]}) == ["data.train_files"]


def test_a_helper_that_a_reward_imports_is_compared_with_it(recipe: Path) -> None:
    source = (recipe / "rewards.py").read_text()
    (recipe / "rewards.py").write_text(f"from helpers import LIMIT\n{source}")
    (recipe / "helpers.py").write_text("LIMIT = 1")
    saved = described(recipe)
    (recipe / "helpers.py").write_text("# as before\nLIMIT = 1")
    (recipe / "other.py").write_text("LIMIT = 3")
    assert differences(saved, described(recipe)) == []
    (recipe / "helpers.py").write_text("LIMIT = 2")
    found = differences(saved, described(recipe))
    assert found
    assert all("rewards.py:" in str(one) and "helpers.py " in str(one) for one in found)


def test_rewards_are_compared_by_code_not_by_comments(recipe: Path) -> None:
    before = described(recipe)
    (recipe / "rewards.py").write_text("# a comment\n" + REWARDS)
    assert changed(recipe, before) == []
    (recipe / "rewards.py").write_text(REWARDS.replace("1.0", "0.5"))
    assert changed(recipe, before) == ["rewards.correct.function"]


def test_refusal_shows_the_differences_and_what_would_let_them_pass(recipe: Path) -> None:
    before = described(recipe) | {"versions.torch": "2.0", "versions.apex": "1"}
    now = described(recipe, actor={"learning_rate": 1e-3})
    with pytest.raises(ConfigError) as raised:
        require_compatible(before, now, ["seed", "versions.apex"])
    lines = str(raised.value).splitlines()
    assert "  actor.learning_rate: was 1e-06, is 0.001" in lines
    assert "  versions.apex: was '1', is not set" not in lines
    allow = lines[-1].rpartition("resume.allow=")[2]
    assert allow == "[versions.apex,actor.learning_rate,versions.torch]"
    passed = require_compatible(before, now, allow.strip("[]").split(","))
    assert [difference.field for difference in passed] == ["actor.learning_rate", "versions.apex", "versions.torch"]


def test_allowed_section_covers_what_lies_below_it_only(recipe: Path) -> None:
    before, now = described(recipe), described(recipe, actor={"learning_rate": 1e-3})
    assert len(require_compatible(before, now, ["actor"])) == 1
    for other in ("act", "actor.learn", "versions"):
        with pytest.raises(ConfigError, match=r"resume\.allow=\[actor\.learning_rate\]"):
            require_compatible(before, now, [other])


def test_same_command_goes_on_once_the_difference_is_saved(recipe: Path) -> None:
    now = described(recipe)
    assert require_compatible(now, now, ["rewards.gone.weight", "actor.learning_rate"]) == []


def test_every_free_field_is_one(recipe: Path) -> None:
    served = {"correct": {"function": "rewards.py:correct", "model": {"path": "m"}}}
    fields = list(described(recipe, rewards=served))
    for section, config in (("checkpoint", CheckpointConfig), ("resume", ResumeConfig), ("interrupt", InterruptConfig)):
        fields += [f"{section}.{field}" for field in config.model_fields]
    fields.append("observe.alarms.truncated")  # switched off
    for pattern in FREE:
        assert any(matches(field, pattern) for field in fields), pattern


def test_nothing_of_what_is_observed_keeps_a_run_from_going_on(recipe: Path) -> None:
    fields = [field for field in described(recipe) if field.startswith("observe.")]
    assert "observe.alarms.truncated.at" in fields
    assert [field for field in (*fields, "observe.alarms", "observe.alarms.truncated") if not is_free(field)] == []


def test_free_name_says_nothing_about_what_lies_below_it() -> None:
    assert is_free("rewards.correct.timeout")
    assert not is_free("rewards.correct.options.timeout")
    assert not is_free("rewards.correct.timeout.soft")


def test_fingerprint_is_computed_once_while_the_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "data.parquet"
    file.write_bytes(b"a")
    first = fingerprint(file)
    with monkeypatch.context() as patch:
        patch.setattr(compatible, "measure", None)
        assert fingerprint(file) == first
    file.write_bytes(b"b")
    os.utime(file, ns=(1, 1))
    assert fingerprint(file) != first
