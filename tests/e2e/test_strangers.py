"""Strangers try to get into a run while it goes on: another user of this host, and one of another (a network
namespace)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mrpo.record.run_folder import RunFolder

from .conftest import Train
from .strangers import ASK_NOBODY
from .watched import VISITED

pytestmark = pytest.mark.proof


@pytest.fixture(scope="session")
def visited_run(train: Train) -> RunFolder:
    return train("visited", "trainer.total_training_steps=20")


def stranger(run: RunFolder, which: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run.path.with_name("watched.json").read_text())["strangers"][which]
    if "skipped" in found:
        pytest.skip(found["skipped"])
    return found


def test_another_user_of_this_host_gets_neither_row_nor_weight_reward_job_or_folder(visited_run: RunFolder) -> None:
    """He was there while it ran (``tests/e2e/stranger.py``), and has to be refused by name, not merely unheard."""
    found = stranger(visited_run, "user")
    assert found["breaches"] == []
    assert set(found["refused"]) >= VISITED - ASK_NOBODY


def test_another_host_reaches_none_of_its_ports(visited_run: RunFolder) -> None:
    found = stranger(visited_run, "network")
    assert found["reaches_the_host"]  # so that a port that was closed by the cable proves nothing
    assert found["breaches"] == []
