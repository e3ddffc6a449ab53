"""The safe_alignment recipe: configs of all variants, prompts from the public files, and reward models converted."""

from __future__ import annotations

import gzip
import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen2Config, Qwen2ForSequenceClassification

from mrpo.config.check import check_files
from mrpo.config.load import load_run_config, prepared_folder
from mrpo.config.run import RunConfig
from mrpo.errors import ConfigError
from mrpo.prepare.rows import check, make_row
from tests.unit.rewards.library.rows import real_file

pytestmark = pytest.mark.unit

RECIPE = Path(__file__).parents[3] / "recipes" / "safe_alignment"
VARIANTS = ("safe_alignment", "safe_alignment/multi_node", "safe_alignment/cpu")
COUNTS = {"train": 51490, "alpaca": 512, "hh_rlhf": 8520, "pku_saferlhf": 8211}


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    return runpy.run_path(str(RECIPE / "prepare.py"))


@pytest.fixture(autouse=True)
def reward_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names on the hub, so that no folder has to be there."""
    monkeypatch.setenv("MRPO_HELPFUL_MODEL", "someone/helpful")
    monkeypatch.setenv("MRPO_HARMLESS_MODEL", "someone/harmless")


def load(variant: str, *overrides: str) -> RunConfig:
    config, recipe = load_run_config([f"recipe={variant}", *overrides])
    check_files(config, recipe, prepared_folder(recipe, config.prepare, config.seed))
    return config


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_loads_and_serves_two_models(variant: str) -> None:
    config = load(variant)
    assert list(config.rewards) == ["helpful", "harmless", "length"]
    for name in ("helpful", "harmless"):
        reward = config.rewards[name]
        assert reward.function == "reward_model"
        assert reward.model is not None
        assert reward.model.max_model_len >= config.data.max_prompt_length + config.data.max_response_length


@pytest.mark.parametrize(
    ("variant", "rollouts", "optimizer_steps", "devices"),
    [("safe_alignment", 2048, 4, 8), ("safe_alignment/multi_node", 2048, 4, 24), ("safe_alignment/cpu", 32, 1, 4)],
)
def test_batches_are_the_papers_and_devices_add_up(
    variant: str, rollouts: int, optimizer_steps: int, devices: int
) -> None:
    config = load(variant)
    assert config.rollouts_per_step == rollouts
    assert config.data.train_batch_size // config.mini_batch_size == optimizer_steps
    served = sum(r.model.replicas * r.model.tensor_model_parallel_size for r in config.rewards.values() if r.model)
    assert config.ranks + served == devices


def test_a_reward_model_that_isnt_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MRPO_HELPFUL_MODEL")
    with pytest.raises(ValueError, match=r"rewards\.helpful\.model\.path: no such file"):
        load("safe_alignment")


def test_the_public_files_become_as_many_rows_in_verls_schema(data: dict[str, Any]) -> None:
    source = real_file("gd2po_safe_alignment/alpaca_prompt_only/train.parquet").parents[2]
    for name, count in COUNTS.items():
        rows = data["rows_of"](name, source)
        check(rows, name)  # raises where a prompt doesn't end with a question
        assert len(rows) == count
        assert {row["data_source"] for row in rows} == {"alpaca" if name == "train" else name}
        for row in rows:
            assert row["reward_model"] == {"style": "model", "ground_truth": ""}
            assert row["extra_info"].keys() == {"index", "split"}


def test_held_out_instructions_are_none_of_the_training_ones(data: dict[str, Any]) -> None:
    source = real_file("gd2po_safe_alignment/alpaca_prompt_only/train.parquet").parents[2]
    train = {row["prompt"][0]["content"] for row in data["rows_of"]("train", source)}
    held_out = {row["prompt"][0]["content"] for row in data["rows_of"]("alpaca", source)}
    assert len(train & held_out) <= 0.02 * len(held_out)


def test_hh_rlhfs_own_file_is_read_where_it_is_all_there_is(data: dict[str, Any], tmp_path: Path) -> None:
    file = real_file("hh-rlhf/harmless-base_test.jsonl.gz")
    (tmp_path / file.name).symlink_to(file)
    rows = data["rows_of"]("hh_rlhf", tmp_path)
    assert len(rows) == 2312
    assert any(len(row["prompt"]) > 1 for row in rows)


def test_a_dialogue_becomes_messages(data: dict[str, Any], tmp_path: Path) -> None:
    text = "\n\nHuman: Hi\n\nthere\n\nAssistant: Hello!\n\nHuman: Bye\n\nAssistant: See you"
    with gzip.open(tmp_path / "harmless-base_test.jsonl.gz", "wt") as content:
        content.write(json.dumps({"chosen": text, "rejected": text}) + "\n")
    (row,) = data["rows_of"]("hh_rlhf", tmp_path)
    assert row["prompt"] == [
        {"role": "user", "content": "Hi\n\nthere"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Bye"},
    ]


def test_a_missing_file_is_reported_in_a_line_with_where_to_get_it(data: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"pku_saferlhf: not in .*MRPO_DATA.*pku-saferlhf/test.parquet.*https://"
    ) as error:
        data["rows_of"]("pku_saferlhf", tmp_path)
    assert "\n" not in str(error.value)


def test_a_prompt_without_a_question_is_named_by_its_row(data: dict[str, Any], tmp_path: Path) -> None:
    row = make_row("hh_rlhf", [{"role": "assistant", "content": "Hello!"}], None, index=3, split="test")
    with pytest.raises(
        ConfigError, match=r"hh_rlhf 3\): prompt: given a last message of role 'assistant', allowed: user"
    ):
        data["write"]([row], tmp_path / "hh_rlhf.parquet")
    assert not list(tmp_path.iterdir())


def small(layers: int = 1) -> Qwen2ForSequenceClassification:
    torch.manual_seed(0)
    return Qwen2ForSequenceClassification(
        Qwen2Config(
            vocab_size=32,
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=layers,
            num_attention_heads=2,
            num_key_value_heads=2,
            pad_token_id=0,
            num_labels=1,  # type: ignore[call-arg]
        )
    ).eval()


def test_a_converted_reward_model_scores_as_before(tmp_path: Path) -> None:
    model, given = small(), tmp_path / "given"
    model.save_pretrained(given)
    weights = load_file(given / "model.safetensors")
    weights["score_head.weight"] = weights.pop("score.weight")
    save_file(weights, given / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((given / "config.json").read_text()) | {"architectures": ["AnotherRewardModel"]}
    for key in ("id2label", "label2id"):
        config.pop(key, None)
    (given / "config.json").write_text(json.dumps(config))
    convert = runpy.run_path(str(RECIPE / "convert_reward_model.py"))["convert"]
    convert(given, tmp_path / "out")
    read = Qwen2ForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    ids = torch.tensor([[3, 7, 11, 5]])
    with torch.no_grad():
        assert read(ids).logits.tolist() == model(ids).logits.tolist()
    assert read.config.architectures == ["Qwen2ForSequenceClassification"]


def test_a_model_without_such_a_head_isnt_converted(tmp_path: Path) -> None:
    small().model.save_pretrained(tmp_path / "given")
    convert = runpy.run_path(str(RECIPE / "convert_reward_model.py"))["convert"]
    with pytest.raises(SystemExit, match=r"has no score_head.weight"):
        convert(tmp_path / "given", tmp_path / "out")
