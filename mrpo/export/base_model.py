"""What a run started from: the config that its tensors must fit, and the files beside them (tokenizer, templates).

Nothing of the model is loaded: it is made on torch's ``meta`` device, where tensors have a shape and no content.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping

from mrpo.config.run import RunConfig
from mrpo.export.error import ExportError
from mrpo.export.settings import lora_rank, model_settings
from mrpo.export.shards import Layout

COPIED = ("*.json", "*.jinja", "additional_chat_templates/*.jinja", "*.model", "*.txt", "*.tiktoken", "LICENSE*")
NOT_COPIED = ("config.json", "*.index.json", "adapter_config.json")
TOKENIZER = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.jinja",
    "*.model",
)
CODE = "*.py"
"""Copied too where the run trusts the model's own code."""


@dataclass(frozen=True)
class BaseModel:
    """The model that a run started from.

    Attributes:
        name: as the run's config has it, a folder or a name on the hub.
        folder: its files, apart from weights.
        config: its own, with what the run overrides.
        settings: verl's settings of the model that the run changes (``verl.actor_rollout_ref.model``).
    """

    name: str
    folder: Path
    config: PretrainedConfig
    settings: Mapping[str, Any]

    @property
    def trusts_code(self) -> bool:
        return bool(self.settings.get("trust_remote_code"))

    @property
    def lora_rank(self) -> int:
        return lora_rank(self.settings)

    @classmethod
    def of(cls, config: RunConfig) -> BaseModel:
        """Raises ExportError if its files aren't here and can't be had."""
        settings = model_settings(config)
        trust = bool(settings.get("trust_remote_code"))
        folder = files_of(config.model.path, with_code=trust)
        try:
            own = AutoConfig.from_pretrained(folder, trust_remote_code=trust)
        except (OSError, ValueError) as error:
            raise ExportError(f"model.path: {config.model.path}: {str(error).splitlines()[0]}") from None
        override = dict(settings.get("override_config") or {})
        for key, value in dict(override.get("model_config", override)).items():
            if key != "attn_implementation":
                setattr(own, key, value)
        return cls(config.model.path, folder, own, settings)

    def on_meta(self) -> PreTrainedModel:
        """The model without content. Raises ExportError if its tensors would have other names in a file."""
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(
                self.config, trust_remote_code=self.trusts_code, attn_implementation="eager"
            )
        if get_model_conversion_mapping(model, add_legacy=False):
            kind = self.config.model_type
            raise ExportError(
                f"models of type {kind} have other tensors in files than in memory; they aren't exported yet"
            )
        return model

    def copy_files(self, target: Path) -> None:
        """Tokenizer, chat template, generation config and the like; ``config.json`` is written by ``write_config``."""
        patterns = (*COPIED, CODE) if self.trusts_code else COPIED
        _copy(self.folder, target, patterns)
        if tokenizer := self.settings.get("tokenizer_path"):
            _copy(files_of(tokenizer, with_code=False), target, TOKENIZER)
        if template := self.settings.get("custom_chat_template"):
            (target / "chat_template.jinja").write_text(template, encoding="utf-8")

    def write_config(self, target: Path, dtype: torch.dtype, architecture: str) -> None:
        """``config.json``, for weights of this type."""
        self.config.dtype = dtype
        self.config.architectures = [architecture]
        self.config.save_pretrained(target)


def layouts_of(model: torch.nn.Module) -> dict[str, Layout]:
    """Shape and type of each tensor of a model's state; tied ones once, as in a checkpoint and in a file."""
    found, seen = {}, set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            found[name] = Layout(tuple(tensor.shape), tensor.dtype)
    return found


def files_of(model: str, with_code: bool) -> Path:
    """A folder with a model's files apart from its weights: its own, the hub's local cache, or fetched from the hub."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    patterns = [*COPIED, CODE] if with_code else list(COPIED)
    try:
        return Path(snapshot_download(model, allow_patterns=patterns))
    except Exception as error:  # of many kinds: no network, no such name, no permission
        why = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise ExportError(
            f"model.path: {model} is needed for its config and tokenizer, and isn't here ({why})"
        ) from None


def _copy(source: Path, target: Path, patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        for file in source.glob(pattern):
            if file.is_file() and not any(file.match(other) for other in NOT_COPIED):
                copy = target / file.relative_to(source)
                copy.parent.mkdir(exist_ok=True)
                shutil.copyfile(file, copy)
