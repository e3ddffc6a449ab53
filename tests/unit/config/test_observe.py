"""A run may record a part of its rollouts: whole groups, the same ones each time, and it says which part."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrpo.config.load import validate
from mrpo.config.observe import ObserveConfig, RolloutRecord, StepRecord
from mrpo.errors import ConfigError

pytestmark = pytest.mark.unit

SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=12)


def rows(sizes: list[int]) -> list[dict[str, Any]]:
    return [{"uid": f"u{g}", "sample": i} for g, n in enumerate(sizes) for i in range(n)]


def test_by_default_everything_is_recorded() -> None:
    record = RolloutRecord()
    assert all(record.has(step, 100) for step in range(1, 101))
    assert record.of(rows([3, 4])) == rows([3, 4])
    assert str(record) == ""


@settings(deadline=None)
@given(SIZES, st.integers(1, 30))
def test_a_sample_is_of_whole_groups_in_their_order_and_of_its_size(sizes: list[int], sample: int) -> None:
    found = RolloutRecord(sample=sample).of(rows(sizes))
    uids = {row["uid"] for row in found}
    assert found == [row for row in rows(sizes) if row["uid"] in uids]
    assert uids
    assert len(found) <= sample or len(uids) == 1
    left_out = [n for g, n in enumerate(sizes) if f"u{g}" not in uids]
    assert all(n > sample - len(found) for n in left_out)  # else it would have fitted


@settings(deadline=None)
@given(SIZES, st.integers(1, 30), st.randoms())
def test_which_groups_does_not_depend_on_who_finished_first(sizes: list[int], sample: int, draw: Any) -> None:
    shuffled = rows(sizes)
    draw.shuffle(shuffled)
    chosen = {row["uid"] for row in RolloutRecord(sample=sample).of(shuffled)}
    assert chosen == {row["uid"] for row in RolloutRecord(sample=sample).of(rows(sizes))}


@settings(deadline=None)
@given(SIZES, st.integers(0, 30), st.integers(1, 4), st.randoms())
def test_rollouts_with_tokens_are_whole_groups_but_the_last_however_a_step_comes_in_parts(
    sizes: list[int], tokens: int, parts: int, draw: Any
) -> None:
    observe, keys = ObserveConfig(tokens=tokens), [(row["uid"], row["sample"]) for row in rows(sizes)]
    chosen = observe.with_tokens(keys)
    assert len(chosen) == min(tokens, len(keys))
    left_out = set(keys) - set(chosen)
    assert len({uid for uid, _ in chosen} & {uid for uid, _ in left_out}) <= 1
    draw.shuffle(keys)
    of_parts = [key for part in range(parts) for key in observe.with_tokens(keys[part::parts])]
    assert observe.with_tokens(of_parts) == chosen


def test_what_is_left_out_is_said() -> None:
    assert str(RolloutRecord(every=10, sample=64)) == "every 10 steps, about 64 rollouts of a step"


def test_metrics_are_bounded_as_rollouts_are() -> None:
    content = {
        "recipe": "test",
        "model": {"path": "m"},
        "data": {"train_files": ["t"], "val_files": ["v"]},
        "rewards": {"correct": {"function": "r.py:c"}},
    }
    assert ObserveConfig().metrics.has(7, 100)
    bounded = ObserveConfig(metrics=StepRecord(every=10)).metrics
    assert [step for step in range(1, 26) if bounded.has(step, 25)] == [1, 10, 20, 25]
    with pytest.raises(ConfigError, match=r"observe\.metrics\.every"):
        validate({**content, "observe": {"metrics": {"every": 0}}})
    with pytest.raises(ConfigError, match="sample"):
        validate({**content, "observe": {"metrics": {"sample": 8}}})
