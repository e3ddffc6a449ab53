"""A wait looks for finished rollouts when there is something to find, and looks up meanwhile."""

from __future__ import annotations

import math
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest

from mrpo.verl_seam import buffer as module
from mrpo.verl_seam.buffer import StepBuffer

pytestmark = pytest.mark.unit


def waiting(ends: list[float], unfinished: int = 3, mini_batches: int = 1, metric: str | None = None) -> list[int]:
    """The numbers of prompts without an end that were looked up with, in one wait; ``ends``: what each pause tells."""
    verls: Any = SimpleNamespace(
        filter_groups_metric=metric,
        pending_keys={"train": set(range(unfinished))},
        running_keys=defaultdict(set),
        partitions=defaultdict(dict),
        _sync_metadata_from_transfer_queue=lambda: None,
        _wait_for_next_poll=lambda partition, last: last,
    )
    looks: list[int] = []
    steps = StepBuffer(verls, mini_batches, False, lambda partition, count: looks.append(count))
    steps.wait_for_end = lambda seconds: ends.pop(0)
    assert verls._wait_for_next_poll("train", 1.5) == 1.5
    return looks


def test_it_waits_until_all_have_ended() -> None:
    assert waiting([1, 0, 1, 1]) == [3, 2, 2, 1]
    assert waiting([3]) == [3]


@pytest.mark.parametrize("eager", [{"metric": "reward"}, {"mini_batches": 2}])
def test_it_looks_at_each_end_where_groups_are_filtered_or_the_first_to_end_are_taken(eager: dict[str, Any]) -> None:
    assert waiting([0, 1], **eager) == [3, 3]


def test_it_looks_at_once_where_nobody_tells() -> None:
    assert waiting([math.inf]) == [3]


def test_it_never_spins(monkeypatch: pytest.MonkeyPatch) -> None:
    assert waiting([1], unfinished=0) == [0]
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    assert waiting([], unfinished=2) == []
