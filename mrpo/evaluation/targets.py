"""What ``mrpo evaluate`` and ``mrpo sample`` may be given: a run, one of its checkpoints, or a model.

A model is a Hugging Face folder, or a name on the hub. Everything that can be refused is refused here, before anything
starts.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mrpo.checkpoint.storage import step_of
from mrpo.checkpoint.store import CheckpointStore, Found
from mrpo.config.load import load_saved_config
from mrpo.config.model_files import find_model_file
from mrpo.config.run import RunConfig
from mrpo.errors import ConfigError, unknown_name
from mrpo.record.metrics import number
from mrpo.record.run_folder import RunFolder

MODEL_FOLDER = "model"
"""In a run's folder: the model that it leaves at its end."""
BASE = "base"
"""The model that a run began with, unless something else is called so."""
WEIGHTS = ("*.safetensors", "*.bin")
TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")
VOLATILE = ("transformers_version", "_name_or_path", "dtype", "torch_dtype", "use_cache", "_from_model_config")
"""Entries of a model's config.json and generation_config.json that don't change what it computes here."""

Step = int | Literal["last", "best"]


@dataclass(frozen=True)
class Target:
    """One thing to evaluate."""

    name: str
    """What tables call it."""
    model: str
    """The Hugging Face folder or hub name that has its weights; with a checkpoint, only its architecture and
    tokenizer."""
    checkpoint: Path | None = None
    step: int = 0
    """The checkpoint's; 0 without one."""


def run_of(given: str) -> RunFolder | None:
    """The run that ``given`` is, or is a part of: its folder or name, a checkpoint of it, or its model."""
    path = Path(given).expanduser()
    for folder in (path, Path("runs") / given):
        if (folder / "config.yaml").is_file():
            return RunFolder(folder.resolve())
    path = path.resolve()
    if step_of(path.name) is not None and (path.parents[1] / "config.yaml").is_file():
        return RunFolder(path.parents[1])
    run = RunFolder(path.parent)  # or a recipe, whose folder has a config.yaml as well
    return run if path.name == MODEL_FOLDER and run.config.is_file() and run.events_file.is_file() else None


def resolve(given: str, step: Step | None = None, home: tuple[RunFolder, RunConfig] | None = None) -> Target:
    """The target that a word of the command line stands for.

    Args:
        given: a run's folder or name, a checkpoint's folder, a model's folder, ``owner/name`` on the hub, or ``base``.
        step: which of a run's checkpoints; None is the newest, or the run's model if it has no checkpoints.
        home: the run that the command is about, and its config; its own parts are named without it.

    Raises:
        ConfigError: it is none of these, or lacks what it must have; one sentence.
        CheckpointError: the run's checkpoints are damaged.
    """
    path, run = Path(given).expanduser(), run_of(given)
    if run is not None:
        same = home is not None and run.path == home[0].path
        config = home[1] if home is not None and same else load_saved_config(run.config, [])
        prefix = "" if same else f"{run.name} "
        if path.resolve() == (run.path / MODEL_FOLDER).resolve():
            return Target(f"{prefix}{MODEL_FOLDER}", _model_folder(given, path))
        within = step_of(path.name) if path.resolve().parent == run.checkpoints.resolve() else None
        return of_run(run, config, within or step, prefix)
    if given == BASE and home is not None and not path.exists():
        return Target(BASE, of_model(home[1].model.path).model)
    if path.exists() or (given.count("/") == 1 and not path.parent.is_dir() and not given.startswith((".", "~"))):
        return of_model(given)
    raise unknown_name(
        "target (a run, a checkpoint, a model's folder, or OWNER/NAME on the hub)", given, _run_names(), noun="target"
    )


def of_model(given: str, made: bool = False) -> Target:
    """A model's folder, or a name on the hub; ``made``: it is still to be made, and can't be looked at. Raises as
    ``resolve``."""
    path = Path(given).expanduser()
    if made and path.is_absolute() and not path.exists():
        return Target(path.name, given)
    return Target(given, _model_folder(given, path)) if path.exists() else Target(given, _on_hub(given))


def of_run(run: RunFolder, config: RunConfig, step: Step | None, prefix: str = "") -> Target:
    """A checkpoint of a run, or its model if it has none and no step is asked for. Raises as ``resolve``."""
    store = CheckpointStore(config.checkpoint.folder or run.checkpoints, run.scratch)
    steps = store.steps()
    if not steps and step is None and (run.path / MODEL_FOLDER / "config.json").is_file():
        return Target(f"{prefix}{MODEL_FOLDER}", str(run.path / MODEL_FOLDER))
    if not steps:
        raise ConfigError(f"run: {store.root} has no checkpoint. Allowed: a run that saved one (checkpoint.every).")
    if step == "best":
        step = _best(run, config, steps)
    if isinstance(step, int) and step not in steps:
        raise ConfigError(f"step: given {step}, allowed: the step of a checkpoint ({', '.join(map(str, steps))}).")
    found: Found | None = store.load(step) if isinstance(step, int) else store.newest_whole().found
    assert found is not None  # there are checkpoints: one is whole, or newest_whole raises
    return Target(f"{prefix}step {found.step}", config.model.path, found.folder, found.step)


def require_distinct(targets: Sequence[Target]) -> None:
    """Raises ConfigError if two would have the same name in the table."""
    names = [target.name for target in targets]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"targets: {twice!r} is given twice. Allowed: each once.")


def groups(targets: Iterable[Target]) -> list[list[Target]]:
    """The targets by what one start of the stack can hold: the same architecture, tokenizer and chat template.

    One whose files can't be read here, such as a model that is still to be downloaded, is a group of its own.
    """
    found: dict[str, list[Target]] = {}
    for target in targets:
        found.setdefault(signature(target.model) or target.name, []).append(target)
    return list(found.values())


def signature(model: str) -> str | None:
    """A hash of all that two models must share to be loaded into the same engines; None if it isn't known here."""
    parts: dict[str, Any] = {}
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        file = find_model_file(model, name)
        content = None if file is None else json.loads(file.read_text(encoding="utf-8"))
        parts[name] = {k: v for k, v in content.items() if k not in VOLATILE} if content else None
    if parts["config.json"] is None or parts["tokenizer.json"] is None:
        return None
    settings = parts.pop("tokenizer_config.json") or {}
    template = find_model_file(model, "chat_template.jinja")
    parts["chat_template"] = settings.get("chat_template") if template is None else template.read_text(encoding="utf-8")
    parts["generation_config.json"] = (parts["generation_config.json"] or {}).get("eos_token_id")
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def slug(name: str) -> str:
    """A name as a part of a file's name.

    >>> slug("HuggingFaceTB/SmolLM2 135M"), slug("step 7")
    ('HuggingFaceTB-SmolLM2-135M', 'step-7')
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:80]


def _best(run: RunFolder, config: RunConfig, steps: Sequence[int]) -> int:
    metric, sign = config.checkpoint.best_metric, {"max": 1, "min": -1}[config.checkpoint.best_mode]
    if metric is None:
        raise ConfigError("step: given best, allowed: a number or last. This run has no checkpoint.best_metric.")
    values = {record["step"]: number(record, metric) for record in run.metrics()}
    measured = {step: value for step in steps if (value := values.get(step)) is not None}
    if not measured:
        raise ConfigError(f"step: given best, allowed: {', '.join(map(str, steps))}. None of them has {metric}.")
    return max(measured, key=lambda step: (sign * measured[step], step))


def _model_folder(given: str, path: Path) -> str:
    """A folder that transformers can load."""
    if not (path / "config.json").is_file():
        adapter = " It is a PEFT adapter: export it with --merge." if (path / "adapter_config.json").is_file() else ""
        raise ConfigError(
            f"target: given {given}, which has no config.json.{adapter} Allowed: a run or a model's folder."
        )
    for what, names in (("weights", WEIGHTS), ("tokenizer", TOKENIZERS)):
        if not any(next(path.glob(name), None) for name in names):
            raise ConfigError(f"target: given {given}, a model's folder without {what} ({', '.join(names)}).")
    return str(path.resolve())


def _on_hub(name: str) -> str:
    """A name on the hub whose config can be read, from the local cache or over the network."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    if find_model_file(name, "config.json") is None:
        try:
            hf_hub_download(name, "config.json")
        except (HfHubHTTPError, OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ConfigError(
                f"target: given {name}, which is no folder here and no model that the hub gives: {reason}"
            ) from None
    return name


def _run_names() -> list[str]:
    runs = Path("runs")
    return [entry.name for entry in runs.iterdir() if entry.is_dir()] if runs.is_dir() else []
