"""A wait looks for finished rollouts when there is something to find, and looks up meanwhile."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
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


class PilotsOf:
    """What has been said of prompts that wait, and what was decided on them."""

    def __init__(self, **waiting: float):
        self.waiting, self.decided = waiting, list[Mapping[str, int]]()

    def pilots(self) -> dict[str, float]:
        return dict(self.waiting)

    def commit(self, more: Mapping[str, int]) -> None:
        self.decided.append(more)
        self.waiting.clear()


def looked_at(pilots: PilotsOf, unfinished: set[str], ends: list[float], commit: Any, partition: str = "train") -> int:
    """How many pauses a wait has taken."""
    verls: Any = SimpleNamespace(
        filter_groups_metric=None,
        pending_keys=defaultdict(set, {"train": unfinished}),
        running_keys=defaultdict(set),
        partitions=defaultdict(dict),
        _sync_metadata_from_transfer_queue=lambda: None,
        _wait_for_next_poll=lambda partition, last: last,
    )
    steps = StepBuffer(verls, 1, True, lambda partition, count: None)
    steps.wait_for_end, steps.pilots, steps.commit = lambda seconds: ends.pop(0), pilots, commit
    before = len(ends)
    verls._wait_for_next_poll(partition, 1.5)
    return before - len(ends)


def test_prompts_go_on_when_all_of_the_step_s_pilots_are_there() -> None:
    pilots = PilotsOf(a=0.5, b=0.0, of_another_step=0.3)
    assert looked_at(pilots, {"a", "b"}, [1, 1, 1], lambda of: {uid: int(10 * v) for uid, v in of.items()}) == 2
    assert pilots.decided == [{"a": 5, "b": 0}]


def test_until_then_those_without_a_pilot_are_waited_for() -> None:
    pilots = PilotsOf(a=0.5, b=0.0)
    assert looked_at(pilots, {"a", "b", "c"}, [1, 1, 1], None) == 3  # nothing is to be decided
    assert looked_at(pilots, {"a", "b", "c"}, [1, 1, 1], lambda of: pytest.fail("decided too early")) == 1
    assert looked_at(PilotsOf(), set(), [1, 1], lambda of: pytest.fail("nobody waits")) == 1


def test_while_a_validation_is_waited_for_nothing_is_decided() -> None:
    decide = lambda of: pytest.fail("decided in a validation")  # noqa: E731
    assert looked_at(PilotsOf(a=0.5), {"a"}, [1], decide, partition="val") == 1
