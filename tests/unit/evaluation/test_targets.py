"""What a word of the command line stands for, and what is said of a wrong one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from mrpo.checkpoint.store import CheckpointStore
from mrpo.config.load import load_saved_config
from mrpo.errors import ConfigError
from mrpo.evaluation.targets import Target, groups, require_distinct, resolve, run_of, signature, slug
from mrpo.record.run_folder import RunFolder
from tests.unit.checkpoint.checkpoints import publish

pytestmark = pytest.mark.unit

CONFIG = """
recipe: quickstart
model: {{path: {model}}}
data: {{train_files: [a.parquet], val_files: [b.parquet], train_batch_size: 4}}
rewards: {{short: {{function: "rewards.py:short"}}}}
checkpoint: {{{checkpoint}}}
"""


def make_model(folder: Path, **more: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2", "hidden_size": 8, **more}))
    (folder / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0}}}')
    (folder / "model.safetensors").touch()
    return folder


def make_run(folder: Path, *steps: int, checkpoint: str = "", **metrics: float) -> RunFolder:
    run = RunFolder(folder)
    folder.mkdir(parents=True)
    base = folder.parent / "base"
    run.config.write_text(CONFIG.format(model=base if base.exists() else make_model(base), checkpoint=checkpoint))
    run.event("done")
    store = CheckpointStore(run.checkpoints)
    for step in steps:
        publish(store, step)
    for name, value in metrics.items():
        run.write_metrics(int(name.removeprefix("step_")), {"reward/short/mean": value})
    return run


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_a_run_is_its_newest_checkpoint_or_that_of_a_step(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "mine", 2, 4)
    newest = resolve("mine")
    assert newest == Target("mine step 4", str(tmp_path / "runs" / "base"), newest.checkpoint, 4)
    assert newest.checkpoint is not None
    assert newest.checkpoint.name == "step-00000004"
    assert resolve("runs/mine", 2).step == 2
    assert resolve("runs/mine", "last").step == 4
    assert resolve("runs/mine/checkpoints/step-00000002").step == 2


def test_best_goes_by_the_runs_own_metric(tmp_path: Path) -> None:
    best = "best_metric: reward/short/mean, keep_best: 1"
    make_run(tmp_path / "max", 2, 4, 6, checkpoint=best, step_2=0.1, step_4=0.9, step_5=2.0)
    assert resolve("max", "best").step == 4
    make_run(tmp_path / "min", 2, 4, checkpoint=f"{best}, best_mode: min", step_2=0.1, step_4=0.9)
    assert resolve("min", "best").step == 2
    make_run(tmp_path / "plain", 2)
    with pytest.raises(ConfigError, match=r"no checkpoint\.best_metric"):
        resolve("plain", "best")


def test_a_run_without_checkpoints_is_its_model(tmp_path: Path) -> None:
    run = make_run(tmp_path / "mine")
    with pytest.raises(ConfigError, match="has no checkpoint"):
        resolve("mine")
    make_model(run.path / "model")
    assert resolve("mine") == resolve("mine/model") == Target("mine model", str(run.path / "model"))
    with pytest.raises(ConfigError, match="has no checkpoint"):
        resolve("mine", 3)


def test_parts_of_the_run_that_the_command_is_about_are_named_without_it(tmp_path: Path) -> None:
    run = make_run(tmp_path / "mine", 2)
    make_model(run.path / "model")
    home = run, load_saved_config(run.config, [])
    assert [resolve(word, None, home).name for word in ("mine", "mine/model")] == ["step 2", "model"]


def test_a_model_is_a_folder_or_a_name_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve(str(make_model(tmp_path / "exported"))).model == str(tmp_path / "exported")
    with pytest.raises(
        ConfigError, match="given owner/nowhere, which is no folder here and no model that the hub gives"
    ):
        resolve("owner/nowhere")
    snapshot = tmp_path / "hub" / "models--owner--there" / "snapshots" / "abc"
    make_model(snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert resolve("owner/there") == Target("owner/there", "owner/there")


@pytest.mark.parametrize(
    ("missing", "tells"),
    [
        ("config.json", "has no config.json"),
        ("model.safetensors", "without weights"),
        ("tokenizer.json", "without tokenizer"),
    ],
)
def test_a_folder_that_is_no_whole_model_is_refused(tmp_path: Path, missing: str, tells: str) -> None:
    (make_model(tmp_path / "exported") / missing).unlink()
    with pytest.raises(ConfigError, match=tells):
        resolve("exported")


def test_an_adapter_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").touch()
    with pytest.raises(ConfigError, match="PEFT adapter: export it with --merge"):
        resolve("adapter")


@pytest.mark.parametrize("word", ["mien", "runs/mien", "./mien"])
def test_a_misspelt_run_is_told_which_there_are(tmp_path: Path, word: str) -> None:
    make_run(tmp_path / "runs" / "mine", 2)
    with pytest.raises(ConfigError, match=r"Allowed: base, mine"):
        resolve(word)


def test_a_recipe_with_a_model_in_its_folder_is_no_run(tmp_path: Path) -> None:
    make_model(tmp_path / "recipe" / "model")
    (tmp_path / "recipe" / "config.yaml").write_text("rewards: {}")
    assert run_of("recipe/model") is None
    assert resolve("recipe/model").name == "recipe/model"


def test_models_of_one_kind_share_a_start(tmp_path: Path) -> None:
    base = make_model(tmp_path / "base", transformers_version="4", dtype="float32")
    same = make_model(tmp_path / "same", transformers_version="5", dtype="bfloat16")
    wider = make_model(tmp_path / "wider", hidden_size=16)
    spelt = make_model(tmp_path / "spelt")
    (spelt / "tokenizer.json").write_text('{"model": {"vocab": {"b": 0}}}')
    talks = make_model(tmp_path / "talks")
    (talks / "chat_template.jinja").write_text("{{ messages }}")
    targets = [Target(folder.name, str(folder)) for folder in (base, wider, same, spelt, talks)]
    targets.append(Target("unknown", "owner/not-here"))
    assert [[target.name for target in group] for group in groups(targets)] == [
        ["base", "same"],
        ["wider"],
        ["spelt"],
        ["talks"],
        ["unknown"],
    ]
    assert signature("owner/not-here") is None


def test_a_chat_template_is_the_same_wherever_it_stands(tmp_path: Path) -> None:
    inside, beside = make_model(tmp_path / "inside"), make_model(tmp_path / "beside")
    (inside / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}", "model_max_length": 9}')
    (beside / "chat_template.jinja").write_text("{{ messages }}")
    assert signature(str(inside)) == signature(str(beside))


def test_the_same_target_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="'a' is given twice"):
        require_distinct([Target("a", "a"), Target("b", "b"), Target("a", "a")])


def test_a_name_becomes_part_of_a_files_name() -> None:
    assert slug("HuggingFaceTB/SmolLM2 135M") == "HuggingFaceTB-SmolLM2-135M"
    assert slug("../..") == ""
