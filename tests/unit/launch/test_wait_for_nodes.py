"""Waiting for Ray's nodes ends when all are there, or in time with the names of those that aren't."""

from __future__ import annotations

import pytest

from mrpo.launch.wait_for_nodes import wait

pytestmark = pytest.mark.unit


def test_it_ends_as_soon_as_all_have_joined() -> None:
    answers = iter([None, {"n1"}, {"n1", "n2", "other"}])
    assert wait(["n1", "n2"], lambda: next(answers), seconds=60) == []


def test_it_names_who_is_missing_when_the_time_is_over() -> None:
    assert wait(["n1", "n2", "n3"], lambda: {"n1", "n3"}, seconds=0.1) == ["n2"]


def test_without_a_head_only_the_head_is_known_to_be_missing() -> None:
    assert wait(["n1", "n2"], lambda: None, seconds=0) == ["n1"]
