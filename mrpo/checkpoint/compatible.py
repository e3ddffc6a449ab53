"""Is it still the same run? What it is made of, as one flat mapping, and in what two such mappings differ.

A run may go on with more steps, on other machines, with other intervals. With another learning rate, other data or
another reward it is another run: then it goes on only if the user says so.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from mrpo.checkpoint.files import measure
from mrpo.checkpoint.manifest import packages
from mrpo.config.data_files import files_of, split_of
from mrpo.config.flatten import flatten
from mrpo.config.run import RunConfig
from mrpo.errors import ConfigError
from mrpo.rewards.imports import imported_files, is_own, own_folders

FREE = {
    "recipe": "only a name; what it sets is compared",
    "run_dir": "only a place",
    "prepare": "what it makes is compared",
    "model.gradient_checkpointing": "time and memory",
    "data.val_batch_size": "memory",
    "rewards.*.timeout": "how long to wait",
    "rewards.*.processes": "processes",
    "rewards.*.memory": "memory",
    "rewards.*.model.replicas": "on how many devices",
    "rewards.*.model.gpu_memory_utilization": "memory",
    "rewards.*.model.max_num_seqs": "memory",
    "scoring.workers": "processes",
    "scoring.max_failure_rate": "when to stop",
    "rollout.replicas": "on how many devices",
    "rollout.nnodes": "on how many nodes",
    "rollout.gpu_memory_utilization": "memory",
    "rollout.max_num_seqs": "memory",
    "rollout.max_num_batched_tokens": "memory",
    "rollout.cpu_threads": "processes",
    "rollout.agent_workers": "processes",
    "rollout.agent.tool_processes": "processes",
    "rollout.agent.tool_memory": "memory",
    "rollout.agent.tool_timeout": "how long to wait",
    "rollout.max_probs_diff": "when to stop",
    "rollout.val_kwargs.*": "how to look",
    "actor.ppo_max_token_len_per_gpu": "memory",
    "trainer.nnodes": "on how many nodes; the state is read by any number of ranks",
    "trainer.n_gpus_per_node": "on how many devices; the state is read by any number of ranks",
    "trainer.fork_workers": "processes",
    "trainer.ray": "where",
    "trainer.total_training_steps": "how far, not which way",
    "trainer.test_freq": "when to look",
    "trainer.val_before_train": "when to look",
    "trainer.export": "what is written at the end",
    "trainer.logger": "whom to tell",
    "trainer.project_name": "whom to tell",
    "trainer.experiment_name": "whom to tell",
    "checkpoint.*": "when to save, and where",
    "resume.*": "how to go on",
    "interrupt.*": "when to stop",
    "watchdog.*": "when to give up",
    "observe.*": "what is recorded",
    "observe.rollouts.*": "what is recorded",
    "observe.metrics.*": "what is recorded",
    "observe.alarms.*": "what is said",
    "observe.alarms.*.*": "what is said",
}
"""Fields that may change without a word, and why they don't change what is learned. ``*``: any one part of a name."""

NOT_SET = "not set"
"""What a difference shows for a field that one side lacks."""


class Difference(NamedTuple):
    """One field that isn't what it was."""

    field: str
    saved: Any
    current: Any

    def __str__(self) -> str:
        was, now = (value if value is NOT_SET else repr(value) for value in (self.saved, self.current))
        return f"{self.field}: was {was}, is {now}"


def describe(
    config: RunConfig, reward_sources: Mapping[str, Path], agent_sources: Mapping[str, Path] = MappingProxyType({})
) -> dict[str, Any]:
    """What a run is made of, by field; plain JSON.

    The config's fields by path, with the content of data files in place of their names, and beside a reward function's
    name the hashes of its file's code, comments and layout apart, and of each file of the user's own that it imports
    (``mrpo.rewards.imports``). And ``versions.<package>``.

    Args:
        reward_sources: the file that defines each reward's function, by the reward's name.
        agent_sources: the file that defines each tool and agent loop, as ``FILE.py:NAME``.

    Raises:
        OSError: a file can't be read.
    """
    fields = {field: value for field, value in flatten(config.model_dump(mode="json")) if value != {}}
    for name in ("train_files", "val_files"):
        fields[f"data.{name}"] = [_of_data(given) for given in getattr(config.data, name)]
    for name, reward in config.rewards.items():
        fields[f"rewards.{name}.function"] = f"{reward.function} with {_code_of(reward_sources[name])}"
    for name, source in agent_sources.items():
        fields[f"rollout.agent.code.{name}"] = _code_of(source)
    return fields | {f"versions.{name}": version for name, version in packages().items()}


def differences(saved: Mapping[str, Any], current: Mapping[str, Any]) -> list[Difference]:
    """Fields of two descriptions that differ and may not change freely (``FREE``), by name."""
    fields = sorted(saved.keys() | current.keys())
    pairs = [Difference(field, saved.get(field, NOT_SET), current.get(field, NOT_SET)) for field in fields]
    return [pair for pair in pairs if pair.saved != pair.current and not is_free(pair.field)]


def is_free(field: str) -> bool:
    return any(matches(field, pattern) for pattern in FREE)


def matches(field: str, pattern: str) -> bool:
    parts, wanted = field.split("."), pattern.split(".")
    return len(parts) == len(wanted) and all(want in ("*", part) for part, want in zip(parts, wanted, strict=True))


def require_compatible(saved: Mapping[str, Any], current: Mapping[str, Any], allow: list[str]) -> list[Difference]:
    """Refuse to go on with another run than the saved one. Returns the differences that ``allow`` lets pass.

    ``allow`` holds names of fields, or of what they lie below: ``rewards`` covers ``rewards.correct.weight``. A name
    that covers nothing is no error, as the same command must do once the difference is in the newest checkpoint.

    Raises:
        ConfigError: there are other differences. The message shows them, and what ``allow`` would have to be.
    """
    found = differences(saved, current)
    refused = [difference for difference in found if not any(_covers(name, difference.field) for name in allow)]
    if refused:
        needed = [name for name in allow if any(_covers(name, difference.field) for difference in found)]
        wanted = ",".join([*needed, *(difference.field for difference in refused)])
        shown = "".join(f"\n  {difference}" for difference in refused)
        raise ConfigError(
            f"resume: this is not the run that saved the checkpoint:{shown}\n"
            f"Undo that, start a new run in another run_dir, or go on with the difference: resume.allow=[{wanted}]"
        )
    return found


def _of_data(given: str) -> str | list[str]:
    """The content of a data file; of a split its name and the files that decide its rows."""
    found = list(map(fingerprint, files_of(given)))
    return [given, *found] if split_of(given) is not None else found[0]


def fingerprint(file: Path) -> str:
    """Size and content hash of a file; remembered in this process while its size and times stay as they are."""
    status = file.stat()
    return _fingerprint(file.resolve(), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _fingerprint(file: Path, size: int, modified: int) -> str:
    record = measure(file.parent, [file.name])[file.name]
    return f"{record.size} bytes, {record.checksum[:16]}"


def _covers(name: str, field: str) -> bool:
    return field == name or field.startswith(f"{name}.")


def _code_of(source: Path) -> str:
    """Hashes of a reward's code: of its file, and unless it is installed of the files that it imports."""
    files = imported_files(source, own_folders()) if is_own(source) else {}
    return ", ".join(["code " + _code_hash(source), *(f"{name} {_code_hash(files[name])}" for name in sorted(files))])


def _code_hash(source: Path) -> str:
    content = source.read_bytes()
    with suppress(SyntaxError, ValueError, RecursionError):  # it is another one as soon as it can be loaded
        content = ast.dump(ast.parse(content)).encode()
    return hashlib.sha256(content).hexdigest()[:16]
