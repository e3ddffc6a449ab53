"""The model card, as the hub's own parser reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from mrpo.checkpoint.store import CheckpointStore
from mrpo.config.load import load_saved_config
from mrpo.export.card import model_card
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder

from .runs import make_run

pytestmark = pytest.mark.unit


def card_of(run: RunFolder, step: int, adapter: bool = False) -> Any:
    found = CheckpointStore(run.checkpoints).load(step)
    text = model_card(run, load_saved_config(run.config, []), found, "float32", adapter)
    (run.path / "README.md").write_text(text, encoding="utf-8")
    return ModelCard.load(run.path / "README.md")


def nothing(folder: Path) -> None:
    folder.mkdir()


def test_it_says_what_was_trained_how_and_with_what_outcome(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", nothing, 4)
    words = ["train", "recipe=mine", "run_dir=/private/run", "rewards.judge.options.api_key=sk-123", "seed=3 4"]
    run.event(Phase.ATTEMPT, detail="1", command=words)
    run.event(Phase.ATTEMPT, detail="2", command=["train", "recipe=mine", "resume.mode=require"])
    card = card_of(run, 4)
    assert card.data.library_name == "transformers"
    assert card.data.model_name == "run-step-4"
    assert card.data.tags == ["mrpo", "reinforcement-learning", "gdpo"]
    assert [(r.metric_name, r.metric_value) for r in card.data.eval_results or []] == [("good", 0.5)]
    for told in (
        "| recipe | `mine` |",
        "| base model | `base`, a local folder |",
        "| steps | 4 of 5 |",
        "| `good` | 0.5 | `rewards.py:good` |",
        "| mean reward | before training | after step 2 |",
        "| `good` | 0.5 | 0.5 |",
        "Over 3 responses",
        "mrpo train recipe=mine rewards.judge.options.api_key=HIDDEN 'seed=3 4'",
        "torch 2.",
    ):
        assert told in card.text, f"{told} not in\n{card.text}"
    for private in ("sk-123", "/private", str(tmp_path)):
        assert private not in card.content


def test_validations_later_than_the_checkpoint_are_not_its_outcome(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", nothing, 1, 9)
    assert "after step" not in card_of(run, 1).text
    assert "| `good` | 0.5 | 1 |" in card_of(run, 9).text


def test_a_model_of_the_hub_is_linked_and_an_adapter_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", nothing, 4, model={"path": "Qwen/Qwen2.5-7B"})
    card = card_of(run, 4, adapter=True)
    assert card.data.base_model == "Qwen/Qwen2.5-7B"
    assert card.data.library_name == "peft"
    assert "a LoRA adapter" in card.text
    assert "mrpo train recipe=mine" in card.text  # of a run that recorded no command


def test_a_run_that_never_validated_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", nothing, 4)
    for file in (run.path / "validation").iterdir():
        file.unlink()
    card = card_of(run, 4)
    assert "has not validated" in card.text
    assert card.data.eval_results is None
