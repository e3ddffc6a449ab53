"""A model trained by LoRA: its adapter in PEFT's format, or merged into the weights that it adapts.

A checkpoint holds PEFT's names, the adapted weights among them::

    base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight    W
    base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight
    base_model.model.model.layers.0.self_attn.q_proj.lora_B.default.weight

Merged is ``W + scaling · B A``, computed in float32 (LoRA, arXiv 2106.09685, section 4.1).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, TaskType, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import PreTrainedModel

from mrpo.export.base_model import BaseModel, layouts_of
from mrpo.export.error import ExportError

ROOT, ADAPTED = "base_model.model.", ".base_layer"
Read = Callable[[str], torch.Tensor]


class LoraModel:
    """The adapted model on torch's ``meta`` device, as verl makes it of the run's settings.

    Attributes:
        layouts: what a checkpoint of it holds.
    """

    def __init__(self, base: BaseModel, model: PreTrainedModel):
        with torch.device("meta"):
            self.peft: Any = get_peft_model(model, _config(base))
        self.layouts = layouts_of(self.peft)
        self._scaling = {
            name.removeprefix(ROOT): module.scaling["default"]
            for name, module in self.peft.named_modules()
            if isinstance(module, LoraLayer)
        }

    # ---- the adapter ----

    def adapter_names(self) -> dict[str, str]:
        """The adapter's tensors: the name in a checkpoint by the name in PEFT's file."""
        return {name.replace(".default.", "."): name for name in self.layouts if ".lora_" in name}

    def write_config(self, target: Path, base: BaseModel) -> None:
        """``adapter_config.json``."""
        config = self.peft.peft_config["default"]
        config.base_model_name_or_path, config.inference_mode = base.name, True
        config.save_pretrained(target)

    # ---- merged ----

    def merged(self, name: str, read: Read) -> torch.Tensor:
        """A tensor of the plain model; ``read`` reads a saved one. Raises ExportError for a layer that isn't linear."""
        module, _, kind = name.rpartition(".")
        if module not in self._scaling:
            return read(ROOT + name)
        tensor = read(f"{ROOT}{module}{ADAPTED}.{kind}")
        if kind != "weight":
            return tensor
        a, b = self._pair(module, read)
        return tensor.float().addmm_(b, a, alpha=self._scaling[module]).to(tensor.dtype)

    def _pair(self, module: str, read: Read) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = (f"{ROOT}{module}.lora_{which}.default.weight" for which in "AB")
        if a not in self.layouts:
            raise ExportError(
                f"{module}: this kind of layer can't be merged here. Export the adapter, without --merge."
            )
        return read(a).float(), read(b).float()


def _config(base: BaseModel) -> LoraConfig:
    """What verl makes the adapter of: an adapter that the run started from, or its settings with verl's defaults."""
    if start := base.settings.get("lora_adapter_path"):
        return LoraConfig.from_pretrained(start)
    names = base.settings.get("target_modules", "all-linear")
    return LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=base.lora_rank,
        lora_alpha=base.settings.get("lora_alpha", 16),
        target_modules=names,
        exclude_modules=base.settings.get("exclude_modules"),
        bias="none",
    )
