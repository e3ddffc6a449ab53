"""A run with LoRA: its adapter loads with PEFT, and merged it is a plain model, both as the trained one was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from mrpo.checkpoint.sharded import ShardedState
from mrpo.errors import ConfigError
from mrpo.export.error import ExportError
from mrpo.record.run_folder import RunFolder
from tests.unit.checkpoint.ranks import Trainer

from .runs import exported, loaded, log_probs, make_run, save_plain

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore:torch.distributed is disabled")]

LORA = {"lora": {"rank": 4, "alpha": 12}}


def adapted(base: Path) -> Any:
    """As verl makes it, and with an adapter that does something."""
    options: dict[str, Any] = {"r": 4, "lora_alpha": 12, "target_modules": "all-linear", "bias": "none"}
    model: Any = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), LoraConfig(task_type=TaskType.CAUSAL_LM, **options)
    )
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def lora_run(folder: Path, trained: list[torch.Tensor]) -> RunFolder:
    """``trained`` gets the log-probabilities of the model that it saves."""

    def save(state: Path) -> None:
        base = folder.parent / "base"
        (base / "model.safetensors").unlink()
        torch.manual_seed(0)
        Trainer(seed=5).model.save_pretrained(base)
        model = adapted(base)
        trained.append(log_probs(model))
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
        ShardedState(model, optimizer).save(state)

    return make_run(folder, save, 4, **LORA)


def test_the_adapter_is_in_pefts_format(tmp_path: Path) -> None:
    trained: list[torch.Tensor] = []
    exported(lora_run(tmp_path / "run", trained))
    model = PeftModel.from_pretrained(loaded(tmp_path / "base"), tmp_path / "model").eval()
    assert torch.equal(log_probs(model), trained[0])
    names = load_file(tmp_path / "model" / "adapter_model.safetensors").keys()
    assert "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" in names
    assert all(".lora_" in name for name in names)
    config = json.loads((tmp_path / "model" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (4, 12, str(tmp_path / "base"))
    assert not (tmp_path / "model" / "config.json").exists()


def test_merged_it_is_a_plain_model(tmp_path: Path) -> None:
    trained: list[torch.Tensor] = []
    exported(lora_run(tmp_path / "run", trained), merge=True)
    model = loaded(tmp_path / "model")
    assert not any("lora" in name for name in model.state_dict())
    torch.testing.assert_close(log_probs(model), trained[0], rtol=1e-5, atol=1e-5)
    assert (log_probs(model) - log_probs(loaded(tmp_path / "base"))).abs().max() > 0.1


def test_an_adapter_of_other_rank_than_the_settings_say_is_refused_by_name(tmp_path: Path) -> None:
    done = lora_run(tmp_path / "run", [])
    done.config.write_text(done.config.read_text().replace("rank: 4", "rank: 8"))
    with pytest.raises(
        ExportError, match=r"lora_A.default.weight is float32 \[4, 32\] in the checkpoint, float32 \[8, 32"
    ):
        exported(done)


def test_lora_weights_of_a_run_that_says_nothing_of_lora_are_surplus(tmp_path: Path) -> None:
    done = lora_run(tmp_path / "run", [])
    content = yaml.safe_load(done.config.read_text())
    del content["model"]["lora"]
    done.config.write_text(yaml.safe_dump(content))
    with pytest.raises(ExportError, match="is in the checkpoint but not in the model"):
        exported(done)


def test_there_is_nothing_to_merge_without_lora(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--merge: given for a run that trained the whole model"):
        exported(make_run(tmp_path / "run", save_plain, 4), merge=True)
