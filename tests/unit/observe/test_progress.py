"""Where a run stands, from its events and metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrpo.observe.progress import Progress, change, clock, direction, in_order, sparkline
from mrpo.observe.report import read_progress

from .runs import REWARDS, recorded_run

pytestmark = pytest.mark.unit


def _fed(*records: dict[str, Any]) -> Progress:
    progress = Progress()
    for record in records:
        progress.feed(record)
    return progress


def _event(time: float, phase: str, step: int | None = None, **more: Any) -> dict[str, Any]:
    return {"time": time, "phase": phase, "step": step, "detail": "", **more}


def _steps(seconds: list[float], start: float = 100.0, first: int = 1) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    for step, length in enumerate(seconds, first):
        records.append(_event(start, "rollout", step))
        start += length
        records.append({"step": step, "time": start, "reward/a/mean": step / 10})
    return records


PLAN = _event(90.0, "plan", total_steps=20, rewards=["a"])


def test_run_is_read_from_its_folder(tmp_path: Path) -> None:
    progress = read_progress(recorded_run(tmp_path, steps=12, total=40))
    assert (progress.step, progress.total_steps, progress.rewards) == (12, 40, list(REWARDS))
    assert progress.end is not None
    assert progress.end.name == "done"
    assert [phase.name for phase in progress.startup] == ["start ray", "load model", "start vLLM"]


def test_startup_phases_are_timed_and_the_last_one_is_running() -> None:
    progress = _fed(PLAN, _event(90, "start ray"), _event(98, "load model"))
    told = [(phase.name, seconds, running) for phase, seconds, running in progress.startup_seconds(now=105)]
    assert told == [("start ray", 8, False), ("load model", 7, True)]


def test_time_left_follows_the_median_not_the_slow_first_step() -> None:
    progress = _fed(PLAN, *_steps([60, 2, 2, 2, 2]))
    assert progress.time_left(now=168) == 15 * 2


def test_second_step_already_corrects_the_slow_first_one() -> None:
    assert _fed(PLAN, *_steps([60, 2])).step_seconds() == 2


def test_time_left_runs_down_within_a_step_but_not_into_the_next() -> None:
    progress = _fed(PLAN, *_steps([2, 2, 2, 2]))
    lefts = [progress.time_left(now=108 + waited) for waited in (0, 0.5, 1, 2, 50)]
    assert lefts == [32, 31.5, 31, 30, 30]


def test_steps_without_a_line_are_counted_as_the_next_begins() -> None:
    steps = [record for record in _steps([60, 2, 2, 2, 3, 2]) if record.get("step") in (1, 6) or "phase" in record]
    progress = _fed(PLAN, *steps[:-1])
    assert (progress.step, progress.last_step_seconds(), progress.current("reward/a/mean")) == (5, 3, 0.1)
    assert progress.time_left(now=169) == 15 * 2
    progress.feed(steps[-1])
    assert (progress.step, progress.last_step_seconds(), progress.current("reward/a/mean")) == (6, 2, 0.6)
    assert progress.history("reward/a/mean") == [0.1, 0.6]


def test_a_line_that_comes_after_the_next_step_has_begun_is_not_another_step() -> None:
    first, second = _steps([2, 2])[1], _event(102.0, "rollout", 2)
    first["time"] = 102.5  # written in the background
    progress = _fed(PLAN, _event(100.0, "rollout", 1), second, first)
    assert (progress.step, progress.last_step_seconds(), progress.current("reward/a/mean")) == (1, 2, 0.1)
    progress.feed(_event(105.0, "rollout", 3))
    assert (progress.step, progress.last_step_seconds()) == (2, 3)


def test_nobody_knows_the_time_left_before_a_step_or_without_a_plan() -> None:
    assert _fed(PLAN, _event(100, "rollout", 1)).time_left(now=101) is None
    assert _fed(*_steps([2, 2])).time_left(now=105) is None


def test_last_step_leaves_nothing() -> None:
    plan = {**PLAN, "total_steps": 3}
    assert _fed(plan, *_steps([2, 2, 2])).time_left(now=106) == 0


def test_reward_missing_from_the_plan_is_shown_all_the_same() -> None:
    progress = _fed(PLAN, {"step": 1, "time": 101.0, "reward/a/mean": 1.0, "reward/b/mean": 0.5})
    assert progress.rewards == ["a", "b"]


def test_reward_missing_from_the_last_step_is_unknown_not_old() -> None:
    progress = _fed(PLAN, *_steps([2, 2]), {"step": 3, "time": 110.0})
    assert progress.current("reward/a/mean") is None
    assert progress.history("reward/a/mean") == [0.1, 0.2]


def test_resumed_run_starts_up_again_and_replaces_what_it_repeats() -> None:
    again = _event(500.0, "plan", total_steps=20, rewards=["a"], first_step=3)
    progress = _fed(PLAN, *_steps([2, 2, 2, 2]), again, _event(500, "start ray"))
    assert not progress.training
    assert [phase.name for phase in progress.startup] == ["start ray"]
    assert progress.step == 2
    for record in _steps([2], start=510, first=3):
        progress.feed({**record, "reward/a/mean": 0.9} if "phase" not in record else record)
    assert progress.history("reward/a/mean") == [0.1, 0.2, 0.9, 0.4]
    assert progress.time_left(now=512) == 17 * 2


def test_run_that_goes_on_after_its_end_has_not_ended() -> None:
    progress = _fed(PLAN, *_steps([2]), _event(103, "failed"), _event(200, "plan", total_steps=20))
    assert progress.end is None
    assert not progress.startup


def test_failure_keeps_its_place_and_cause() -> None:
    progress = _fed(PLAN, *_steps([2, 2]), _event(104, "update_actor", 3), _event(105, "failed") | {"detail": "boom"})
    assert progress.where() == "step 3, update_actor"
    assert progress.end is not None
    assert progress.end.detail == "boom"
    assert _fed(PLAN, _event(91, "start vLLM"), _event(99, "failed")).where() == "start-up, start vLLM"


def test_metrics_come_before_the_end_of_the_same_moment() -> None:
    end, metrics = _event(100.0, "done"), {"step": 1, "time": 100.0}
    assert in_order([end, metrics]) == [metrics, end]


def test_change_compares_the_last_five_with_the_five_before() -> None:
    assert change([9, 9, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1]) == 1
    assert change([0.25, 0.75]) == 0.5
    assert change([1]) is None


def test_small_wiggles_have_no_direction() -> None:
    ramp = [step / 20 for step in range(20)]
    assert (direction(ramp), direction(ramp[::-1]), direction([0.5] * 20), direction([])) == (1, -1, 0, 0)
    assert direction([0.0, 1.0, *([0.5, 0.51] * 10)]) == 0


@given(st.lists(st.floats(-1e6, 1e6), max_size=200), st.integers(0, 50))
def test_sparkline_fits_and_spans_low_to_high(values: list[float], width: int) -> None:
    line = sparkline(values, width)
    assert len(line) == min(width, len(values))
    if len(line) == len(values) and values and max(values) - min(values) > 1:
        assert line[values.index(max(values))] == "█"
        assert line[values.index(min(values))] == "▁"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (7.4, "0:07"), (59.6, "1:00"), (751, "12:31"), (3723, "1:02:03"), (-3, "0:00")]
)
def test_clock(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


def test_a_long_run_is_remembered_by_what_is_drawn_of_it() -> None:
    progress = Progress()
    for step in range(1, 401):
        more = {f"some/metric/{number}": step + number / 7 for number in range(300)}
        progress.feed({"step": step, "time": float(step), "reward/a/mean": 0.5, "time/step": 1.0, **more})
    assert progress.current("some/metric/6") == 400 + 6 / 7
    assert progress.history("reward/a/mean") == [0.5] * 400
    assert len(progress.steps) == 400
    assert all(record.keys() == {"step", "time", "time/step", "reward/a/mean"} for record in progress.steps.values())
