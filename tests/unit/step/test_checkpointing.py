"""A checkpoint holds the end of a step, whenever it is written, and every step is saved once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mrpo.checkpoint.owners import Owners
from mrpo.checkpoint.store import CheckpointStore
from mrpo.config.checkpoint import CheckpointConfig
from mrpo.step.checkpointing import OWNERS_FOLDER, RANKS_FOLDER, RunCheckpoints

pytestmark = pytest.mark.unit


class Counter:
    """An owner whose state is how often it was counted up."""

    def __init__(self) -> None:
        self.count = 0

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = state["count"]


class FakeRanks:
    """Stands in for trainer ranks, to test when they are asked for what; writes a file for their state."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def save_state(self, folder: str, asynchronous: bool) -> list[float]:
        self.asked.append("copy" if asynchronous else "save")
        Path(folder).mkdir()
        Path(folder, "weights").write_text("1")
        return [0.0]

    def wait_saved(self) -> list[None]:
        self.asked.append("wait")
        return [None]


@pytest.fixture
def counter() -> Counter:
    return Counter()


@pytest.fixture
def checkpoints(tmp_path: Path, counter: Counter) -> RunCheckpoints:
    owners = Owners()
    owners.register("counter", counter)
    config = CheckpointConfig(every=2, keep_last=9)
    store = CheckpointStore(tmp_path / "checkpoints")
    return RunCheckpoints(config, store, owners, identity={"seed": 1}, attempt=2, start=0)


def test_what_is_saved_in_the_middle_of_a_step_is_the_end_of_the_one_before(
    checkpoints: RunCheckpoints, counter: Counter
) -> None:
    counter.count = 1
    checkpoints.remember(1, {"reward": 0.5})
    counter.count = 2  # the next step has begun
    assert checkpoints.save(FakeRanks()) == 1
    found = checkpoints.store.load(1)
    assert (found.folder / RANKS_FOLDER / "weights").read_text() == "1"
    checkpoints.owners.load(found.folder / OWNERS_FOLDER)
    assert counter.count == 1
    assert (found.manifest.attempt, found.manifest.metrics) == (2, {"reward": 0.5})
    assert found.manifest.extra == {"identity": {"seed": 1}}


def test_a_step_that_is_saved_is_not_saved_again_nor_is_the_one_that_was_loaded(checkpoints: RunCheckpoints) -> None:
    ranks = FakeRanks()
    checkpoints.remember(0, {})
    assert checkpoints.save(ranks) == 0
    assert checkpoints.store.steps() == []
    checkpoints.remember(1, {})
    checkpoints.save(ranks)
    checkpoints.save(ranks)
    assert ranks.asked == ["save", "wait"]
    assert checkpoints.store.steps() == [1]


def test_an_asynchronous_save_is_published_once_the_ranks_have_written_it(checkpoints: RunCheckpoints) -> None:
    ranks = FakeRanks()
    checkpoints.remember(2, {})
    checkpoints.save(ranks, asynchronous=True)
    assert (ranks.asked, checkpoints.store.steps()) == (["copy"], [])
    checkpoints.settle(ranks, wait=True)
    assert (ranks.asked, checkpoints.store.steps()) == (["copy", "wait"], [2])


def test_a_stop_during_an_asynchronous_save_keeps_both_steps(checkpoints: RunCheckpoints) -> None:
    ranks = FakeRanks()
    checkpoints.remember(2, {})
    checkpoints.save(ranks, asynchronous=True)
    checkpoints.remember(3, {})
    checkpoints.save(ranks)
    assert checkpoints.store.steps() == [2, 3]


def test_saves_are_due_every_so_often_and_at_the_end(checkpoints: RunCheckpoints) -> None:
    assert [step for step in range(8) if checkpoints.is_due(step, last=7)] == [2, 4, 6, 7]
    for every, final, due in ((-1, True, [7]), (-1, False, []), (2, False, [2, 4, 6]), (7, False, [7])):
        checkpoints.config = CheckpointConfig(every=every, final=final)
        assert [step for step in range(8) if checkpoints.is_due(step, last=7)] == due


def test_the_time_that_saving_takes_is_told_once(checkpoints: RunCheckpoints) -> None:
    checkpoints.remember(1, {})
    checkpoints.save(FakeRanks())
    assert checkpoints.take_blocked_seconds() > 0
    assert checkpoints.take_blocked_seconds() == 0
