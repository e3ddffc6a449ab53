"""The text of a new recipe's ``config.yaml`` and ``rewards.py``, from what ``mrpo init`` was told. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mrpo.rewards.source import library_bounds

REWARDS = '''"""The rewards of this recipe: each scores one response.

Try them on responses that there are: mrpo rewards check FILE --recipe {recipe}
"""


def correct(prompt, response, ground_truth, extra):
    """1 if the last line of the response is the ground truth. Change it to what your data need."""
    lines = response.strip().splitlines()
    return float(bool(lines) and lines[-1].strip() == str(ground_truth).strip())
'''
"""Where no reward was named."""


@dataclass(frozen=True)
class NewRecipe:
    """What a recipe is made of."""

    folder: Path
    model: str
    train_file: Path
    val_file: Path
    columns: Mapping[str, str]
    rewards: Mapping[str, Mapping[str, Any]]
    """Name to its settings: ``function``, and ``options`` if it has any."""
    batch: int = 16
    """Prompts a step."""
    rollouts: int = 8
    """Rollouts a prompt."""
    prompt_length: int = 512
    response_length: int = 512
    counted: str = ""
    """What is known of the prompts' lengths."""

    def within(self, positions: int | None) -> NewRecipe:
        """With lengths that a model of so many positions takes. None: its positions aren't known."""
        if positions is None or self.prompt_length + self.response_length <= positions:
            return self
        prompt = min(self.prompt_length, positions // 2) if not self.counted else self.prompt_length
        return replace(self, prompt_length=prompt, response_length=max(1, positions - prompt))

    def config(self) -> str:
        """``config.yaml``, with a comment where a newcomer would ask."""
        name = self.folder.name
        columns = f"  columns: {_flow(self.columns)}  # of the files\n" if self.columns else ""
        counted = f"; {self.counted}" if self.counted else ""
        return f"""\
# {name}. Look before you train: mrpo plan recipe={self.folder}. Then: mrpo train recipe={self.folder}
# Every setting there is: mrpo/config/run.py; what isn't set here has its default.

model:
  path: {_flow(self.model)}

data:
  train_files: [{_flow(str(self.train_file))}]
  val_files: [{_flow(str(self.val_file))}]
{columns}\
  train_batch_size: {self.batch}  # prompts a step
  max_prompt_length: {self.prompt_length}  # tokens{counted}
  overlong: refuse  # a longer prompt; or drop, or truncate_left
  max_response_length: {self.response_length}  # tokens; a longer rollout is cut off

rewards:  # mrpo rewards list has the library
{self._rewards()}
algorithm:
  estimator: gdpo  # each reward normalized in its group by itself; docs/advantages.md has the others

budget:
  rollouts_per_prompt: {self.rollouts}  # times data.train_batch_size: rollouts a step

trainer:
  total_training_steps: 100
  test_freq: 20  # steps from one validation to the next
  val_before_train: true
"""

    def _rewards(self) -> str:
        return "".join(self._reward(name, settings) for name, settings in self.rewards.items())

    def _reward(self, name: str, settings: Mapping[str, Any]) -> str:
        lines = [f"  {_flow(name)}:", *(f"    {key}: {_flow(value)}" for key, value in settings.items())]
        if "range" not in settings:
            bounds = library_bounds(settings["function"], settings.get("options", {}))
            of_ones_own = "    # range: [0, 1]  # its bounds, which estimators that compare scales need"
            lines.append(of_ones_own if bounds is None else f"    range: {_flow(list(bounds))}")
        if "weight" not in settings:
            lines.append("    weight: 1.0")
        return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    """A value in one line of YAML that OmegaConf reads as it is."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, str):
        plain = value.replace("_", "").replace("-", "").replace("/", "")
        simple = plain.isalnum() and plain.isascii() and not plain[0].isdigit() and value.lower() not in WORDS
        return value if simple else json.dumps(value.replace("${", "\\${"), ensure_ascii=False)
    return json.dumps(value)


WORDS = ("null", "true", "false", "yes", "no", "on", "off", "y", "n")
"""What YAML takes for something else than a text, in small letters."""
