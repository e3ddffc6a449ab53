"""Which checkpoints are kept, counted by what is on disk and whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrpo.checkpoint.retention import kept
from mrpo.checkpoint.store import CheckpointStore
from mrpo.config.checkpoint import CheckpointConfig

from .checkpoints import NAMES, Damage, flip_a_bit, hidden, publish, remove, require_whole, stored

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"keep_last": 1}, {60}),
        ({"keep_last": 9}, {10, 20, 30, 40, 50, 60}),
        ({"keep_last": 2, "keep_every": 20}, {20, 40, 50, 60}),
        ({"keep_last": 1, "keep_best": 2, "best_metric": "score"}, {20, 40, 60}),
        ({"keep_last": 1, "keep_best": 2, "best_metric": "score", "best_mode": "min"}, {30, 50, 60}),
        ({"keep_last": 1, "keep_best": 2, "best_metric": "unknown"}, {60}),
    ],
)
def test_the_newest_the_multiples_and_the_best_are_kept(config: dict, expected: set[int]) -> None:
    scores = {10: 0.9, 20: 0.9, 30: 0.1, 40: 0.95, 50: 0.5}
    metrics = {step: {"score": score} for step, score in scores.items()} | {60: {}}
    assert kept(metrics, CheckpointConfig(**config)) == expected


def test_best_is_found_in_manifests_of_an_earlier_process(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for step, score in ((1, 0.2), (2, 0.9), (3, 0.3), (4, 0.1)):
        publish(store, step, score=score)
    config = CheckpointConfig(keep_last=1, keep_best=1, best_metric="score")
    assert CheckpointStore(tmp_path).retain(config) == [1, 3]
    assert (store.steps(), hidden(tmp_path)) == ([2, 4], [])


def test_a_checkpoint_whose_metric_has_no_value_doesnt_compete(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for step, metrics in ((1, {"score": 0.2}), (2, {"score": float("nan")}), (3, {"other": 0.9}), (4, {"score": 0.1})):
        publish(store, step, **metrics)
    publish(store, 5)
    assert store.retain(CheckpointConfig(keep_last=1, keep_best=2, best_metric="score")) == [2, 3]
    assert store.retain(CheckpointConfig(keep_last=1, keep_best=1, best_metric="score", best_mode="min")) == [1]


@pytest.mark.parametrize("damage", [remove, flip_a_bit])
def test_damaged_checkpoint_does_not_count_and_is_left(tmp_path: Path, damage: Damage) -> None:
    stored(tmp_path, 4, 8, 12)
    damage(tmp_path / "step-00000012" / NAMES[0])
    store = CheckpointStore(tmp_path)
    assert store.retain(CheckpointConfig(keep_last=1)) == [4]
    assert store.steps() == [8, 12]
    found, _ = store.newest_whole()
    assert found is not None
    require_whole(found)
