"""What a start goes on from, by mode; and the settings that make no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mrpo.checkpoint.manifest import CheckpointError
from mrpo.checkpoint.resume import choose, saved_identity
from mrpo.checkpoint.store import CheckpointStore, Skipped
from mrpo.config.checkpoint import CheckpointConfig, InterruptConfig, ResumeConfig
from mrpo.errors import ConfigError

from .checkpoints import IDENTITY, NAMES, flip_a_bit, stored

pytestmark = pytest.mark.unit


def chosen(root: Path, **settings: Any) -> int | None:
    found = choose(CheckpointStore(root), ResumeConfig(**settings)).found
    return None if found is None else found.step


@pytest.mark.parametrize("mode", ["auto", "never"])
def test_without_checkpoints_a_run_begins(tmp_path: Path, mode: str) -> None:
    assert chosen(tmp_path, mode=mode) is None


@pytest.mark.parametrize("mode", ["auto", "require"])
def test_with_checkpoints_the_newest_whole_one_or_the_one_named_is_taken(tmp_path: Path, mode: str) -> None:
    stored(tmp_path, 4, 8, 12)
    flip_a_bit(tmp_path / "step-00000012" / NAMES[0])
    assert chosen(tmp_path, mode=mode) == 8
    assert chosen(tmp_path, mode=mode, step=4) == 4
    with pytest.raises(CheckpointError, match=r"step-00000012: .* is damaged"):
        chosen(tmp_path, mode=mode, step=12)


MISSING = "manifest.json is not that of a run: extra.identity is missing"


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({}, MISSING),
        ({"identity": None}, "manifest.json is not that of a run: extra.identity is None"),
        ({"identity": [1]}, "manifest.json is not that of a run: extra.identity is [1]"),
        ({"identity": "x"}, "manifest.json is not that of a run: extra.identity is 'x'"),
    ],
)
def test_a_checkpoint_that_does_not_say_of_which_run_is_skipped(
    tmp_path: Path, extra: dict[str, Any], reason: str
) -> None:
    store = stored(tmp_path, 4)
    staging = store.staging(8)
    store.publish(staging, 8, extra=extra)
    found, skipped = choose(store, ResumeConfig())
    assert found is not None
    assert (found.step, saved_identity(found.manifest)) == (4, IDENTITY)
    assert skipped == [Skipped("step-00000008", reason)]
    with pytest.raises(CheckpointError, match=rf"^{tmp_path}: step-00000008: manifest\.json is not that of a run"):
        choose(store, ResumeConfig(step=8))
    store.rewind(0)
    store.publish(store.staging(8), 8, extra=extra)
    with pytest.raises(CheckpointError, match="no checkpoint is whole"):
        choose(store, ResumeConfig())


def test_mode_that_does_not_go_with_what_there_is_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"resume\.mode: given require, but .* has no checkpoint"):
        chosen(tmp_path, mode="require")
    stored(tmp_path, 4)
    with pytest.raises(ConfigError, match=r"resume\.mode: given never, but .* has checkpoints of steps \[4\]"):
        chosen(tmp_path, mode="never")


def test_only_damaged_checkpoints_never_mean_step_0(tmp_path: Path) -> None:
    stored(tmp_path, 4)
    flip_a_bit(tmp_path / "step-00000004" / NAMES[0])
    with pytest.raises(CheckpointError, match="no checkpoint is whole"):
        chosen(tmp_path)


@pytest.mark.parametrize(
    ("section", "settings", "field"),
    [
        (CheckpointConfig, {"every": 0}, "checkpoint.every"),
        (CheckpointConfig, {"every": -2}, "every"),
        (CheckpointConfig, {"keep_last": 0}, "keep_last"),
        (CheckpointConfig, {"keep_best": 1}, "checkpoint.best_metric"),
        (CheckpointConfig, {"best_metric": "a"}, "checkpoint.best_metric"),
        (CheckpointConfig, {"keep": 1}, "Did you mean 'keep_last'"),
        (ResumeConfig, {"mode": "never", "step": 4}, "step: given 4, which has no effect with mode=never"),
        (ResumeConfig, {"step": 0}, "step"),
        (InterruptConfig, {"grace": 0}, "grace"),
    ],
)
def test_settings_that_make_no_sense_are_refused(section: type, settings: dict, field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        section(**settings)
