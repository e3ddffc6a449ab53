"""How much of a disk a run may take."""

from __future__ import annotations

from typing import Any

import pytest

from mrpo.config.model_size import Quantity

from .test_plan import P, planned, run_config

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("kept", "most"),
    [
        ({"keep_last": 1}, 2),
        ({"keep_last": 2}, 3),
        ({"keep_last": 100}, 12),
        ({"keep_last": 2, "keep_every": 20}, 3 + 2),  # 55, 60; 20, 40; the one being written
        ({"keep_last": 1, "keep_best": 3, "best_metric": "reward/good/mean"}, 5),
    ],
)
def test_the_disk_holds_what_is_kept_and_one_more(kept: dict[str, Any], most: int) -> None:
    config = run_config(**{f"checkpoint__{key}": value for key, value in kept.items()}, checkpoint__every=5)
    assert planned(config).checkpoints["on disk, most"].value == most * 12 * P


def test_what_recorded_tokens_take_is_planned_if_any_are() -> None:
    name = "recorded tokens, on disk, most"
    assert name not in planned(run_config()).batch
    found = planned(run_config(observe__tokens=4, observe__rollouts={"every": 20})).batch[name]
    assert found == Quantity(4 * 4 * 300 * 10, "4 steps × 4 × 300 × about 10", "B")
    assert planned(run_config(observe__tokens=9999)).batch[name].value == 60 * 256 * 300 * 10
