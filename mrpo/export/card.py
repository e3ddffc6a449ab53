"""The model card: ``README.md`` in the hub's form, of what the run folder and the checkpoint say."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from mrpo.checkpoint.store import Found
from mrpo.config.run import RunConfig
from mrpo.record import jsonl
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder
from mrpo.rewards.wire import SCORE

SECRET = re.compile(r"(api_?key|access_?key|token|secrets?|password|headers?|credentials?)\b", re.IGNORECASE)
"""A setting in which this occurs has its value left out: a card is made to be published."""


class Validation(NamedTuple):
    """The mean of each reward over the responses to the validation prompts, after a step; 0: before the first."""

    step: int
    responses: int
    means: dict[str, float]


def model_card(run: RunFolder, config: RunConfig, found: Found, dtype: str, adapter: bool) -> str:
    """The whole file, metadata first.

    Args:
        found: the checkpoint that was exported.
        dtype: of the exported weights.
        adapter: whether they are a LoRA adapter rather than a model.
    """
    first, last = validations(run, list(config.rewards), found.step)
    local = Path(config.model.path).expanduser().exists()
    name = f"{run.name}-step-{found.step}"
    data = ModelCardData(
        base_model=None if local else config.model.path,
        library_name="peft" if adapter else "transformers",
        pipeline_tag="text-generation",
        tags=["mrpo", "reinforcement-learning", config.algorithm.estimator],
        model_name=name,
        eval_results=_results(last),
    )
    rewards = [(f"`{n}`", f"{reward.weight:g}", f"`{reward.function}`") for n, reward in config.rewards.items()]
    text = f"""
# {name}

Trained by mrpo with {len(rewards)} reward{"s" * (len(rewards) > 1)}{" at once" * (len(rewards) > 1)}.

{table(("", ""), _facts(config, found, local, f"{dtype}, {'a LoRA adapter' if adapter else 'the whole model'}"))}

## Rewards

{table(("reward", "weight", "function"), rewards)}

## Validation

{_validation_table(first, last)}

## Command

```
{command(run, config)}
```

## Use

```python
{_USE_ADAPTER if adapter else _USE}
```
"""
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n{text}"))


def _facts(config: RunConfig, found: Found, local: bool, weights: str) -> Iterator[tuple[str, str]]:
    """``local``: the base model is a folder. Paths of this machine are no one else's concern: only names are shown."""
    path, recipe = config.model.path, config.recipe
    yield "base model", f"`{Path(path).name}`, a local folder" if local else f"[{path}](https://huggingface.co/{path})"
    yield "recipe", f"`{Path(recipe).name if Path(recipe).is_absolute() else recipe}`"
    yield "advantage estimator", f"`{config.algorithm.estimator}`"
    yield "budget", f"`{config.budget.method}`, {config.budget.rollouts_per_prompt} rollouts per prompt on average"
    yield "steps", f"{found.step} of {config.trainer.total_training_steps}"
    yield "prompts per step", str(config.data.train_batch_size)
    if options := config.data.apply_chat_template_kwargs:
        yield "chat template's arguments", f"`{options}`"
    yield "weights", weights
    yield "versions", ", ".join(f"{package} {version}" for package, version in found.manifest.packages.items())


_USE = """from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("FOLDER")
model = AutoModelForCausalLM.from_pretrained("FOLDER")"""
_USE_ADAPTER = """from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("BASE MODEL"), "FOLDER")"""


def validations(run: RunFolder, rewards: Sequence[str], until: int) -> tuple[Validation | None, Validation | None]:
    """The first and the last validation of the run that are no later than step ``until``; None where there is none."""
    # Earlier runs left verl's own dump.
    folder = run.validation_rollouts if run.validation_rollouts.is_dir() else run.path / "validation"
    found = sorted(int(file.stem) for file in folder.glob("*.jsonl") if file.stem.isdigit())
    steps = [step for step in found if step <= until]
    if not steps:
        return None, None
    first, last = (_validation(folder / f"{step}.jsonl", step, rewards) for step in (steps[0], steps[-1]))
    return (None if steps[0] == steps[-1] else first), last


def _validation(file: Path, step: int, rewards: Sequence[str]) -> Validation:
    rows = jsonl.read(file)
    means = {}
    for name in rewards:
        found = (row["rewards"].get(name) if "rewards" in row else row.get(SCORE + name, row.get(name)) for row in rows)
        if scores := [score for score in found if isinstance(score, int | float) and math.isfinite(score)]:
            means[name] = fmean(scores)
    return Validation(step, len(rows), means)


def _validation_table(first: Validation | None, last: Validation | None) -> str:
    if last is None:
        return "The run has not validated."
    shown = [v for v in (first, last) if v is not None]
    headings = ["mean reward", *("before training" if v.step == 0 else f"after step {v.step}" for v in shown)]
    rows = [(f"`{n}`", *(f"{v.means[n]:.4g}" if n in v.means else "–" for v in shown)) for n in last.means]
    return table(headings, rows) + f"\n\nOver {last.responses} responses to the validation prompts."


def _results(last: Validation | None) -> list[EvalResult] | None:
    """For the hub's own table. A reward is no metric of a public data set, so the type is the general one."""
    if last is None or not last.means:
        return None
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type="validation",
            dataset_name="the run's validation prompts",
            metric_type="reward",
            metric_name=name,
            metric_value=round(value, 6),
        )
        for name, value in last.means.items()
    ]


def command(run: RunFolder, config: RunConfig) -> str:
    """The command that began the run, without its folder and without the values of secrets."""
    events = run.events() if run.events_file.exists() else []
    words = next((e["command"] for e in events if e["phase"] == Phase.ATTEMPT and "command" in e), None)
    if words is None:  # a run from before commands were recorded
        words = ["train", f"recipe={config.recipe}"]
    shown = [_without_secret(word) for word in words if not word.startswith("run_dir=")]
    return shlex.join(["mrpo", *shown])


def _without_secret(word: str) -> str:
    key, equals, _ = word.partition("=")
    return f"{key}=HIDDEN" if equals and SECRET.search(word) else word


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown.

    >>> print(table(("a", "b"), [("1", "x|y")]))
    | a | b |
    |---|---|
    | 1 | x\\\\|y |
    """
    lines = [[cell.replace("|", "\\|") for cell in row] for row in (headings, *rows)]
    lines.insert(1, [])
    return "\n".join("|" + "---|" * len(headings) if not line else f"| {' | '.join(line)} |" for line in lines)
