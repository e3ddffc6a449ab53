"""``mrpo sample``: a small model's responses, each with the recipe's rewards, and why one shows a dash."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from mrpo.cli.main import invoke
from mrpo.errors import ConfigError
from mrpo.evaluation.responses import Sampling, respond
from mrpo.prepare.tiny_model import byte_tokenizer, save, tiny_qwen2
from mrpo.record import jsonl

pytestmark = pytest.mark.unit

RECIPE = """
recipe: {folder}
model: {{path: {model}}}
data: {{train_files: [a.parquet], val_files: [b.parquet], train_batch_size: 2, max_response_length: 12}}
trainer: {{n_gpus_per_node: 1}}
rollout: {{dtype: float32}}
rewards:
  length: {{function: "rewards.py:length"}}
  right: {{function: "rewards.py:right"}}
  polite: {{function: "rewards.py:polite"}}
  served: {{model: {{path: nowhere/judge}}}}
"""
REWARDS = """
def length(prompt, response, ground_truth, extra): return extra["response_tokens"] / 100
def right(prompt, response, ground_truth, extra): return float(response == ground_truth)
def polite(prompt, response, ground_truth, extra): return None
"""
Shown = Callable[..., str]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models with fresh weights, ``one`` and ``two``."""
    folder, tokenizer = tmp_path_factory.mktemp("models"), byte_tokenizer()
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        save(tiny_qwen2(tokenizer, layers=1), tokenizer, folder / name)
    return folder


@pytest.fixture
def shown(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shown:
    """The command's output, in a folder that has the recipe ``mine`` of the model ``one``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.yaml").write_text(RECIPE.format(folder=tmp_path / "mine", model=models / "one"))
    (tmp_path / "mine" / "rewards.py").write_text(REWARDS)

    def run(*arguments: str) -> str:
        assert invoke(["sample", *arguments]) == 0
        return capsys.readouterr().out

    return run


def cells(shown: str, row: str) -> list[list[str]]:
    """The cells behind each row of this name."""
    rows = [re.split(r" {2,}", line.strip()) for line in shown.splitlines()]
    return [found[1:] for found in rows if found[0] == row]


def test_a_response_has_every_reward_beside_it_and_a_dash_says_why(shown: Shown, models: Path) -> None:
    out = shown(str(models / "one"), "[b]hello", "--recipe", "mine")
    (tokens,), (length,), (right,) = (cells(out, row)[0] for row in ("tokens", "length", "right"))
    assert 0 < int(tokens) <= 12  # data.max_response_length
    assert float(length) == int(tokens) / 100
    assert right == "–"  # never a 0 for want of something to compare with
    assert "right: – ground truth: there is none for this prompt. Give it by --ground-truth TEXT" in out
    assert "polite: – not applicable" in out
    assert "served: not scored: only a run serves its model" in out
    assert "[b]hello" in out


def test_a_ground_truth_is_compared_with(shown: Shown, models: Path) -> None:
    ((text,),) = respond(str(models / "one"), ["hello"], Sampling(max_tokens=12))
    for truth, score in ((text.text, "1"), ("something else", "0")):
        out = shown(str(models / "one"), "hello", "--recipe", "mine", "--ground-truth", truth)
        assert cells(out, "right") == [[score]]
    with pytest.raises(ConfigError, match="--ground-truth: given for 2 prompts"):
        shown(str(models / "one"), "a", "b", "--ground-truth", "x")


@pytest.mark.parametrize(("row", "score"), [({"answer": 3}, "1"), ({"answer": "3"}, "0")])
def test_a_ground_truth_is_of_the_kind_that_the_rows_have(
    row: dict[str, Any], score: str, shown: Shown, models: Path
) -> None:
    """A reward of numbers is given a number here, too."""
    jsonl.replace(Path("rows.jsonl"), [{"prompt": "a", **row}])
    recipe = yaml.safe_load(Path("mine", "config.yaml").read_text())
    recipe["data"] |= {"train_files": [str(Path("rows.jsonl").resolve())], "columns": {"ground_truth": "answer"}}
    Path("mine", "config.yaml").write_text(yaml.safe_dump(recipe))
    Path("mine", "rewards.py").write_text(REWARDS.replace("response == ground_truth", "ground_truth == 3"))
    out = shown(str(models / "one"), "hello", "--recipe", "mine", "--ground-truth", "3")
    assert cells(out, "right") == [[score]]
    if score == "1":
        with pytest.raises(ConfigError, match="--ground-truth: given 'three', allowed: JSON, as in"):
            shown(str(models / "one"), "hello", "--recipe", "mine", "--ground-truth", "three")


def test_another_models_response_is_in_the_next_column(shown: Shown, models: Path) -> None:
    one, two = str(models / "one"), str(models / "two")
    out = shown(one, "hello", "--recipe", "mine", "--against", two, "--max-tokens", "5")
    (counts,) = cells(out, "tokens")
    wanted = [respond(model, ["hello"], Sampling(max_tokens=5))[0][0].tokens for model in (one, two)]
    assert [int(count) for count in counts] == wanted
    assert one.rpartition("/")[2] in out.splitlines()[2]


def test_a_run_is_asked_by_its_model_and_compared_with_the_base(shown: Shown, models: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "r1"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text((tmp_path / "mine" / "config.yaml").read_text())
    with pytest.raises(ConfigError, match=r"mrpo export .*/runs/r1 --out FOLDER"):
        shown("r1", "hello")
    (run / "model").symlink_to(models / "two")
    out = shown("r1", "hello", "--against", "base", "--temperature", "0.7", "--seed", "3")
    wanted = [
        respond(str(models / name), ["hello"], Sampling(temperature=0.7, seed=3, max_tokens=12))[0][0].tokens
        for name in ("two", "one")
    ]
    assert [[int(count) for count in row] for row in cells(out, "tokens")] == [wanted]


def test_prompts_are_lines_of_standard_input(shown: Shown, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("first\n\nsecond\n"))
    out = shown(str(models / "one"), "--n", "2", "--max-tokens", "3")
    assert out.index("first") < out.index("second")
    assert len(cells(out, "tokens")) == 4
    assert "no rewards: name whose with --recipe NAME" in out
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    with pytest.raises(ConfigError, match="prompt: none given"):
        shown(str(models / "one"))


@pytest.mark.parametrize(
    ("arguments", "tells"),
    [
        (["nowhere", "hello"], "unknown target 'nowhere'"),
        (["owner/nowhere", "hello"], "no model that the hub gives"),
        (["{one}", "hello", "--n", "2", "--temperature", "0"], "--n: given 2 with temperature 0"),
        (["{one}", "hello", "--against", "nowhere"], "unknown target 'nowhere'"),
        (["{one}", "hello", "--recipe", "nowhere"], "unknown recipe|recipe: unknown"),
        (["{one}", "47*83", "--recipe", "calculator"], "rollout.agent.loop: given tool_agent, allowed: single_turn"),
    ],
)
def test_it_says_what_is_wrong(shown: Shown, models: Path, arguments: list[str], tells: str) -> None:
    with pytest.raises(ConfigError, match=tells):
        shown(*(argument.format(one=models / "one") for argument in arguments))


def test_responses_follow_from_the_seed_and_each_has_its_own(models: Path) -> None:
    def texts(prompts: list[str], seed: int) -> list[list[str]]:
        asked = Sampling(n=2, temperature=1.0, max_tokens=8, seed=seed)
        return [[one.text for one in of] for of in respond(str(models / "one"), prompts, asked)]

    again = texts(["a", "a"], 1)
    assert again == texts(["a", "a"], 1)
    assert again != texts(["a", "a"], 9)
    assert len({text for of in again for text in of}) == 4


def test_a_greedy_response_is_the_models_likeliest_and_ends_where_the_model_ends_it(models: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = str(models / "one")
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    chat = [{"role": "user", "content": "hello"}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    start = ids.shape[1]
    for _ in range(12):
        ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], dim=1)
        if ids[0, -1] == tokenizer.eos_token_id:
            break
    ((found,),) = respond(folder, ["hello"], Sampling(max_tokens=12))
    assert found.tokens == ids.shape[1] - start
    assert found.text == tokenizer.decode(ids[0, start:], skip_special_tokens=True)


def test_a_model_that_lacks_a_weight_is_refused_and_never_asked(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "torn"
    shutil.copytree(models / "one", folder)
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.0.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=r"lack 1 weights: model\.layers\.0\.mlp\.up_proj\.weight"):
        respond(str(folder), ["hello"], Sampling(max_tokens=2))
