"""Who is registered survives; who is missing on either side is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mrpo.checkpoint.manifest import CheckpointError
from mrpo.checkpoint.owners import Owners

pytestmark = pytest.mark.unit


class Counter:
    def __init__(self, count: int = 0):
        self.count = count

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = state["count"]


def owners(**counts: int) -> tuple[Owners, dict[str, Counter]]:
    registered, counters = Owners(), {name: Counter(count) for name, count in counts.items()}
    for name, counter in counters.items():
        registered.register(name, counter)
    return registered, counters


def save(registered: Owners, folder: Path) -> None:
    registered.save(folder, registered.states())


def test_everyone_gets_the_own_state_back(tmp_path: Path) -> None:
    save(owners(prompts=3, history=5)[0], tmp_path / "state")
    later, counters = owners(history=0, prompts=0)
    later.load(tmp_path / "state")
    assert {name: counter.count for name, counter in counters.items()} == {"prompts": 3, "history": 5}
    assert later.names() == ["history", "prompts"]


def test_states_of_an_earlier_moment_are_saved_as_they_were(tmp_path: Path) -> None:
    registered, counters = owners(prompts=3)
    states = registered.states()
    counters["prompts"].count = 4
    registered.save(tmp_path, states)
    registered.load(tmp_path)
    assert counters["prompts"].count == 3


def test_missing_owners_and_missing_states_are_named_and_nobody_is_changed(tmp_path: Path) -> None:
    save(owners(prompts=3, history=5)[0], tmp_path)
    later, counters = owners(prompts=0, sampler=0)
    with pytest.raises(CheckpointError, match="sampler has no saved state; history is saved and nobody here owns it"):
        later.load(tmp_path)
    assert counters["prompts"].count == 0


def test_folder_that_is_not_there_lacks_everyones_state(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="prompts has no saved state"):
        owners(prompts=0)[0].load(tmp_path / "none")


def test_nobody_is_changed_when_one_state_is_damaged(tmp_path: Path) -> None:
    save(owners(prompts=3, history=5)[0], tmp_path)
    (tmp_path / "prompts.npz").write_bytes(b"torn")
    later, counters = owners(history=0, prompts=0)
    with pytest.raises(CheckpointError, match=r"prompts\.npz: not a state file"):
        later.load(tmp_path)
    assert counters["history"].count == 0


def test_name_is_taken_once(tmp_path: Path) -> None:
    registered, _ = owners(prompts=0)
    with pytest.raises(ValueError, match="'prompts' is registered already"):
        registered.register("prompts", Counter())


@pytest.mark.parametrize("name", ["", "a/b", "..", "a.b", "ä"])
def test_name_must_do_as_a_files(name: str) -> None:
    with pytest.raises(ValueError, match="letters, digits and underscores"):
        owners()[0].register(name, Counter())


def test_state_that_cannot_be_saved_is_named_with_its_owner(tmp_path: Path) -> None:
    registered, counters = owners(prompts=0)
    counters["prompts"].count = {1}  # type: ignore[assignment]
    with pytest.raises(TypeError, match=r"prompts\.count: can't save a set"):
        save(registered, tmp_path)
